/**
 * One execution as the report reads it. Times are milliseconds since 1970, or -1 where something has not happened.
 *
 * @param instance the job instance: an execution and its restarts have the same
 * @param restartedFrom the execution that this one restarts, or null
 * @param shared whether its lock is one for all hosts
 * @param duration how long the command has run, milliseconds, or -1
 * @param contentions after it, or null when it was not counted
 * @param outputFile where the command's output is kept, or null
 */
record ReportRow(long id, long instance, Long restartedFrom, String lockFile, boolean shared, String command, String host, String user,
                 int threshold, long requested, long acquired, long ended, long duration, String batchStatus, String exitStatus,
                 Integer processExit, Long contentions, String holder, String message, String evidence, String outputFile) {

    /** How executions are told apart in pictures: each has a word, a colour and a shape. */
    public enum Kind {
        SUCCEEDED("succeeded", "s"), FAILED("failed", "f"), TIMED_OUT("timed out", "t"), KILLED("killed", "k"), LOST("outcome lost", "k"),
        STOPPED("stopped", "x"), ABANDONED("abandoned", "x"), CONTENDED("contended", "c"), REPORTED("reported", "r"),
        RUNNING("running", "a"), WAITING("waiting", "c");

        private final String word;
        private final String symbol;

        Kind(String word, String symbol) {
            this.word = word;
            this.symbol = symbol;
        }

        public String word() {
            return word;
        }

        /** The name of its shape and of its colour in the page. */
        public String symbol() {
            return symbol;
        }

        boolean isContention() {
            return this == CONTENDED || this == REPORTED || this == WAITING;
        }

        boolean isFailure() {
            return this == FAILED || this == TIMED_OUT || this == KILLED || this == LOST;
        }
    }

    Kind kind() {
        if (ended < 0) {
            return acquired < 0 ? Kind.WAITING : Kind.RUNNING;
        }
        return switch (exitStatus == null ? "" : exitStatus) {
            case "SUCCEEDED" -> Kind.SUCCEEDED;
            case "TIMEOUT" -> Kind.TIMED_OUT;
            case "KILLED" -> Kind.KILLED;
            case "LOST" -> Kind.LOST;
            case "STOPPED" -> Kind.STOPPED;
            case "ABANDONED" -> Kind.ABANDONED;
            case "CONTENDED" -> Kind.CONTENDED;
            case "THRESHOLD_EXCEEDED" -> Kind.REPORTED;
            default -> batchStatus.equals("COMPLETED") ? Kind.SUCCEEDED : Kind.FAILED;
        };
    }

    /** The exit status in words: {@code exit 3}, {@code signal 9}, {@code lock error}. */
    String ending() {
        return exitStatus == null ? kind().word() : exitStatus.toLowerCase(java.util.Locale.ROOT).replace('_', ' ');
    }
}
