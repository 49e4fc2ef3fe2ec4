import java.util.Locale;

/** Stored text, which may be hostile, made fit to be looked at. The template escapes it besides. */
final class ReportText {
    /** The first of Unicode's pictures of the 32 control characters. */
    private static final char CONTROL_PICTURES = '\u2400';
    /** Fillers of Hangul and the blank of Braille. */
    private static final String INVISIBLE_LETTERS = "\u115f\u1160\u3164\uffa0\u2800";
    /** More marks on one letter reach into other lines. */
    private static final int MAX_MARKS = 3;

    /** One line; what is invisible or reorders text is shown as its code. @param max in characters, then … follows */
    static String line(String text, int max) {
        return visible(text, max, false);
    }

    /** As {@link #line}, but tabs and the ends of lines stay. */
    static String lines(String text, int max) {
        return visible(text, max, true);
    }

    private static String visible(String text, int max, boolean keepLines) {
        StringBuilder shown = new StringBuilder(Math.min(text.length(), max) + 16);
        int marks = 0;
        int i = 0;
        while (i < text.length() && shown.length() < max) {
            int c = text.codePointAt(i);
            i += Character.charCount(c);
            marks = c < 0x300 || !isMark(c) ? 0 : marks + 1;
            if (c >= ' ' && c < 0x7f || keepLines && (c == '\n' || c == '\t')) {
                shown.append((char) c);
            } else if (c < ' ') {
                shown.append((char) (CONTROL_PICTURES + c));
            } else if (isVisible(c) && marks <= MAX_MARKS) {
                shown.appendCodePoint(c);
            } else {
                String code = Integer.toHexString(c).toUpperCase(Locale.ROOT);
                shown.append("⟨U+").append("0".repeat(Math.max(0, 4 - code.length()))).append(code).append('⟩');
            }
        }
        return i < text.length() ? shown.append('…').toString() : shown.toString();
    }

    private static boolean isMark(int c) {
        int type = Character.getType(c);
        return type == Character.NON_SPACING_MARK || type == Character.ENCLOSING_MARK;
    }

    private static boolean isVisible(int c) {
        return INVISIBLE_LETTERS.indexOf(c) < 0 && switch (Character.getType(c)) {
            case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.LINE_SEPARATOR,
                Character.PARAGRAPH_SEPARATOR, Character.UNASSIGNED, Character.PRIVATE_USE -> false;
            default -> true;
        };
    }

    /** A word for a POSIX shell. */
    static String quoted(String word) {
        return word.matches("[\\w@%+=:,./-]+") ? word : "'" + word.replace("'", "'\\''") + "'";
    }

    /** {@code 2026-11-24 02:00:03}, UTC. */
    static String time(long millis) {
        return Text.time(millis).substring(0, 19).replace('T', ' ');
    }

    /** As {@link Text#duration}, without what is 0 at its end. */
    static String duration(long millis) {
        String text = Text.duration(millis);
        if (text.endsWith("h0m") || text.endsWith("d0h")) {
            return text.substring(0, text.length() - 2);
        }
        int end = text.length() - 1;
        if (text.indexOf('.') > 0) {
            while (text.charAt(end - 1) == '0') {
                end--;
            }
        }
        return text.substring(0, end) + text.charAt(text.length() - 1);
    }

    private ReportText() {
    }
}
