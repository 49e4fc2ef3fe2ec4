/** Stored text, which may be hostile, made fit to be looked at. The template escapes it besides. */
final class ReportText {
    private static final String CONTROL_PICTURES = "␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟";

    /** One line; what is invisible or reorders text is shown as its code. @param max in characters, the cut is marked by … */
    static String line(String text, int max) {
        return visible(text, max, false);
    }

    /** As {@link #line}, but tabs and the ends of lines stay. */
    static String lines(String text, int max) {
        return visible(text, max, true);
    }

    private static String visible(String text, int max, boolean keepLines) {
        StringBuilder shown = new StringBuilder();
        int i = 0;
        while (i < text.length() && shown.length() < max) {
            int c = text.codePointAt(i);
            i += Character.charCount(c);
            if (keepLines && (c == '\n' || c == '\t')) {
                shown.append((char) c);
            } else if (c < CONTROL_PICTURES.length()) {
                shown.append(CONTROL_PICTURES.charAt(c));
            } else if (isVisible(c)) {
                shown.appendCodePoint(c);
            } else {
                shown.append('⟨').append(String.format("U+%04X", c)).append('⟩');
            }
        }
        return i < text.length() ? shown.append('…').toString() : shown.toString();
    }

    private static boolean isVisible(int c) {
        return switch (Character.getType(c)) {
            case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR,
                Character.UNASSIGNED, Character.PRIVATE_USE -> false;
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

    private ReportText() {
    }
}
