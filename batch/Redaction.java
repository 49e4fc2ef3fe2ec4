import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/** What {@code --redact} masks before anything is stored. A pattern that backtracks is given up in time. */
final class Redaction {
    private static final String MASK = "***";
    private static final int MAX_MILLIS = 200;

    private final Pattern pattern;

    /** The text could not be judged: nothing of it may be stored. */
    static final class Undecided extends Exception {
        private static final long serialVersionUID = 1;

        Undecided(String why) {
            super(why, null, false, false);
        }
    }

    private Redaction(Pattern pattern) {
        this.pattern = pattern;
    }

    /** @return null without the option */
    static Redaction of(Arguments arguments) throws UsageException {
        try {
            return arguments.has("--redact") ? new Redaction(Pattern.compile(arguments.text("--redact"))) : null;
        } catch (PatternSyntaxException e) {
            throw arguments.refused("invalid --redact: " + e.getDescription());
        }
    }

    String mask(String text) throws Undecided {
        try {
            Matcher matcher = pattern.matcher(new Timed(text, System.nanoTime() + MAX_MILLIS * 1_000_000L));
            return matcher.find() ? matcher.replaceAll(MASK) : text;
        } catch (OutOfTime e) {
            throw new Undecided("--redact takes too long for it; write the pattern without nested repetitions");
        } catch (StackOverflowError e) {
            throw new Undecided("--redact needs too deep a stack for it; write the pattern without a group that"
                + " repeats");
        }
    }

    private static final class OutOfTime extends RuntimeException {
        private static final long serialVersionUID = 1;

        OutOfTime() {
            super(null, null, false, false);
        }
    }

    /** java.util.regex knows no time limit and no interrupt, but asks for each character. */
    private record Timed(CharSequence text, long deadline) implements CharSequence {
        @Override
        public char charAt(int index) {
            if (System.nanoTime() > deadline) {
                throw new OutOfTime();
            }
            return text.charAt(index);
        }

        @Override
        public int length() {
            return text.length();
        }

        @Override
        public CharSequence subSequence(int start, int end) {
            return text.subSequence(start, end);
        }

        @Override
        public String toString() {
            return text.toString();
        }
    }
}
