import java.time.Instant;
import java.util.Map;

/**
 * One execution as the report reads it: long texts are cut. Times are milliseconds since 1970, or -1 where something
 * has not happened.
 *
 * @param instance the job instance: an execution and its restarts have the same
 * @param restartedFrom the execution that this one restarts, or null
 * @param fleetTask the name of the task in its fleet, whose hosts share one lock, or null
 * @param duration how long the command has run, milliseconds, or -1
 * @param contentions after it, or null when it was not counted
 */
record ReportRow(long id, long instance, Long restartedFrom, String runId, String lockFile, String fleetTask,
    String command, String host, String user, long threshold, long requested, long acquired, long ended, long duration,
    String batchStatus, String exitStatus, Long exitCode, Long contentions, String holder, String message,
    String evidence) {
    static final String COLUMNS =
        "a.job_execution_id, j.jobinstanceid, a.restarted_from, a.run_id, a.lock_file, a.task,"
        + " substr(a.command, 1, 1000) AS command, a.host, a.user_name, a.threshold, a.create_time, a.acquired,"
        + " a.end_time, a.command_millis, j.batchstatus, j.exitstatus, a.exit_code, a.contentions,"
        + " substr(a.holder, 1, 500) AS holder, substr(a.message, 1, 1000) AS message,"
        + " substr(a.evidence, 1, 500) AS evidence";

    /** @param known texts that were read before, so that each is kept once */
    static ReportRow of(Row row, Map<String, String> known) {
        Long duration = row.number("command_millis");
        return new ReportRow(row.requiredNumber("job_execution_id"), row.requiredNumber("jobinstanceid"),
            row.number("restarted_from"), row.required("run_id"), once(row.required("lock_file"), known),
            once(row.text("task"), known), once(row.required("command"), known), once(row.required("host"), known),
            once(row.required("user_name"), known), row.requiredNumber("threshold"),
            millis(row.required("create_time")), millis(row.text("acquired")), millis(row.text("end_time")),
            duration == null ? -1 : duration, once(row.required("batchstatus"), known), once(row.text("exitstatus"),
            known), row.number("exit_code"), row.number("contentions"), row.text("holder"), row.text("message"),
            row.text("evidence"));
    }

    private static String once(String text, Map<String, String> known) {
        return text == null ? null : known.computeIfAbsent(text, same -> same);
    }

    private static long millis(String time) {
        return time == null ? -1 : Instant.parse(time).toEpochMilli();
    }

    /** How executions are told apart in pictures: each has a word, a colour and a shape. */
    public enum Kind {
        SUCCEEDED("succeeded", "s"), FAILED("failed", "f"), TIMED_OUT("timed out", "t"), KILLED("killed", "k"),
        LOST("outcome lost", "k"), STOPPED("stopped", "x"), ABANDONED("abandoned", "x"), CONTENDED("contended", "c"),
        REPORTED("reported", "r"), RUNNING("running", "a"), WAITING("waiting", "c");

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

    /** What names the task. */
    String task() {
        return fleetTask == null ? lockFile : fleetTask;
    }

    /** The option of other commands that names the task. */
    String taskOption() {
        return fleetTask == null ? "--lockfile " + ReportText.quoted(lockFile) : "--fleet "
            + ReportText.quoted(fleetTask);
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
