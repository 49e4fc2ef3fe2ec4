import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The values of a row by the names of its columns, in the audit repository as in a spool file. Each record below names
 * its columns once, in {@code columns()} for who writes it, and reads them again in {@code of()}.
 */
final class Row {
    private final Map<String, Object> values = new HashMap<>();

    /** The row at which the result set stands. */
    static Row of(ResultSet rows) throws SQLException {
        Row row = new Row();
        for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
            row.values.put(rows.getMetaData().getColumnLabel(i).toLowerCase(Locale.ROOT), rows.getObject(i));
        }
        return row;
    }

    static Row of(Map<String, String> texts) {
        Row row = new Row();
        row.values.putAll(texts);
        return row;
    }

    /** The text, or null. */
    String text(String column) {
        Object value = values.get(column);
        return value == null ? null : value.toString();
    }

    /** The text; a row without it is damaged. */
    String required(String column) {
        String text = text(column);
        if (text == null) {
            throw new IllegalArgumentException("no " + column);
        }
        return text;
    }

    /** The number, or null. */
    Long number(String column) {
        String text = text(column);
        return text == null ? null : Long.valueOf(text);
    }

    long requiredNumber(String column) {
        return Long.parseLong(required(column));
    }
}

/**
 * Who requested an execution and what was asked for: written before anything runs, and all that a restart needs.
 *
 * @param runId unique over all hosts
 * @param uid of the user, or null where there is none
 * @param login who logged in or used sudo to become the user, or null
 * @param machineId tells a restart of the host from another host of that name, or null
 * @param pidStart tells the runner from a later process with its pid; with boot id and pid namespace it proves the
 *     runner dead
 * @param command byte for byte
 * @param options the other options by name, so that a restart repeats them
 * @param createTime UTC, ISO-8601, to the millisecond, as all times here
 * @param outputFile where the command's output is kept, or null
 * @param restartedFrom the job execution that this one restarts, or null
 * @param fleetTask the name of the task in its fleet, or null
 */
record RequestRow(String runId, String user, Long uid, String login, String host, String machineId, String bootId,
                  String pidNamespace, long pid, long pidStart, String lockFile, String command, int threshold,
                  String counterFile, Map<String, String> options, String createTime, String outputFile,
                  Long restartedFrom, String fleetTask) {
    Map<String, Object> columns() {
        Map<String, Object> columns = new LinkedHashMap<>();
        columns.put("run_id", runId);
        columns.put("user_name", user);
        columns.put("uid", uid);
        columns.put("login_name", login);
        columns.put("host", host);
        columns.put("machine_id", machineId);
        columns.put("boot_id", bootId);
        columns.put("pid_namespace", pidNamespace);
        columns.put("pid", pid);
        columns.put("pid_start", pidStart);
        columns.put("lock_file", lockFile);
        columns.put("command", command);
        columns.put("threshold", threshold);
        columns.put("counter_file", counterFile);
        columns.put("options", Form.encode(options));
        columns.put("create_time", createTime);
        columns.put("output_file", outputFile);
        columns.put("restarted_from", restartedFrom);
        columns.put("task", fleetTask);
        return columns;
    }

    static RequestRow of(Row row) {
        return new RequestRow(row.required("run_id"), row.required("user_name"), row.number("uid"),
            row.text("login_name"), row.required("host"), row.text("machine_id"), row.required("boot_id"),
            row.required("pid_namespace"), row.requiredNumber("pid"), row.requiredNumber("pid_start"),
            row.required("lock_file"), row.required("command"),
            Math.toIntExact(row.requiredNumber("threshold")), row.required("counter_file"),
            Form.decode(row.required("options")), row.required("create_time"), row.text("output_file"),
            row.number("restarted_from"), row.text("task"));
    }

    /** What messages and reports call the task. */
    String taskName() {
        return fleetTask == null ? lockFile : fleetTask;
    }
}

/**
 * How an execution ended. Its batch status and exit status are columns of its job execution.
 *
 * @param batchStatus of Jakarta Batch: COMPLETED, FAILED, STOPPED
 * @param acquired when it acquired the lock, or null
 * @param fence of the fleet's lock, or null
 * @param startTime when the command started, or null
 * @param commandMillis how long the command ran, or null
 * @param contentions counted afterwards, or null when they were not counted
 * @param holder who held the lock, or null
 * @param outputNote what is missing of the kept output, or null
 */
record ResultRow(String batchStatus, String exitStatus, String acquired, Long fence, String startTime,
    Long commandMillis, long exitCode, Long contentions, String holder, String message, String outputNote,
    String endTime) {
    Map<String, Object> columns() {
        Map<String, Object> columns = new LinkedHashMap<>();
        columns.put("acquired", acquired);
        columns.put("fence", fence);
        columns.put("start_time", startTime);
        columns.put("command_millis", commandMillis);
        columns.put("exit_code", exitCode);
        columns.put("contentions", contentions);
        columns.put("holder", holder);
        columns.put("message", message);
        columns.put("output_note", outputNote);
        columns.put("end_time", endTime);
        return columns;
    }

    static ResultRow of(Row row) {
        return new ResultRow(row.required("batchstatus"), row.required("exitstatus"), row.text("acquired"),
            row.number("fence"), row.text("start_time"), row.number("command_millis"), row.requiredNumber("exit_code"),
            row.number("contentions"), row.text("holder"), row.text("message"), row.text("output_note"),
            row.required("end_time"));
    }
}

/** A step execution, with its columns in JBeret's table. */
record StepRow(String name, String startTime, String endTime, String batchStatus, String exitStatus) {
    Map<String, Object> columns() {
        Map<String, Object> columns = new LinkedHashMap<>();
        columns.put("stepname", name);
        columns.put("starttime", startTime);
        columns.put("endtime", endTime);
        columns.put("batchstatus", batchStatus);
        columns.put("exitstatus", exitStatus);
        return columns;
    }

    static StepRow of(Row row) {
        return new StepRow(row.required("stepname"), row.text("starttime"), row.text("endtime"),
            row.text("batchstatus"), row.text("exitstatus"));
    }
}

/**
 * A job execution as the auditor sees it.
 *
 * @param endTime null while it has not ended, as far as is known
 * @param evidence why another run has ended its row, or null
 */
record ExecutionRow(long id, long instanceId, RequestRow request, String batchStatus, String exitStatus,
    String acquired, Long fence, String startTime, Long commandMillis, Long exitCode, Long contentions, String holder,
    String message, String outputNote, String evidence, String endTime) {
    static ExecutionRow of(Row row) {
        return new ExecutionRow(row.requiredNumber("job_execution_id"), row.requiredNumber("jobinstanceid"),
            RequestRow.of(row), row.text("batchstatus"), row.text("exitstatus"), row.text("acquired"),
            row.number("fence"), row.text("start_time"), row.number("command_millis"), row.number("exit_code"),
            row.number("contentions"),
            row.text("holder"), row.text("message"), row.text("output_note"), row.text("evidence"),
            row.text("end_time"));
    }

    boolean isUnfinished() {
        return endTime == null;
    }
}

/**
 * Which executions; null or 0: any, no limit.
 *
 * @param status a batch status or an exit status
 * @param since inclusive, as in rows
 * @param until exclusive
 */
record Filter(String lockFile, String fleetTask, String host, String user, String status, String since, String until,
              int limit) {
}
