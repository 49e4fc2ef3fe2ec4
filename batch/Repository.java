import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The audit repository: JBeret's tables, and {@code TASKRUNNER_EXECUTION} with one row per execution request under its job
 * execution's id. Reports are SQL; neither JBeret nor Weld is loaded for them.
 *
 * <p>Our times are text, UTC, ISO-8601 to the millisecond ({@link Text#time}), which sorts as it reads in both databases.
 */
final class Repository {
    private static final int SCHEMA_VERSION = 1;
    private static final String UNFINISHED = "('STARTING', 'STARTED', 'STOPPING')";
    private static final String COLUMNS = "T.*, J.JOBINSTANCEID, J.BATCHSTATUS, J.EXITSTATUS FROM TASKRUNNER_EXECUTION T"
        + " JOIN JOB_EXECUTION J ON J.JOBEXECUTIONID = T.JOBEXECUTIONID ";

    /**
     * What an execution request asks for.
     *
     * @param options the other options by name, as given, for a restart
     * @param redacted whether {@code --redact} changed the command, so that it cannot be restarted
     * @param output the file with the command's output, or null
     * @param restartedFrom the execution that this one restarts, or null
     */
    record Asked(Owner owner, Request request, Map<String, String> options, boolean redacted, String output, Long restartedFrom) {
    }

    /**
     * How it ended.
     *
     * @param processExit the exit status of the process
     * @param counter the counter after it, or null when it was neither read nor written
     * @param holder the holder it met, or null
     */
    record Ending(String started, String ended, boolean acquired, String batchStatus, String exitStatus, int processExit, Long counter,
                  String holder) {
        static Ending of(Execution execution, int processExit) {
            Outcome outcome = execution.outcome();
            String status = Workflow.exitStatus(outcome);
            Verdict met = outcome.verdict();
            boolean acquired = met == null && !(outcome instanceof Outcome.Broken broken && broken.run() == null
                && broken.error().exitStatus != ExitStatus.CANNOT_START);
            return new Ending(outcome.run() == null ? null : Text.time(outcome.run().startedMillis()), Text.time(System.currentTimeMillis()),
                acquired && !(outcome instanceof Outcome.Stopped && outcome.run() == null),
                status.equals("SUCCEEDED") || status.equals("CONTENDED") ? "COMPLETED" : status.equals("STOPPED") ? "STOPPED" : "FAILED",
                status, processExit, outcome.count() < 0 ? null : outcome.count(),
                met == null ? null : met.owner() == null ? met.message() : met.owner().describe());
        }
    }

    /** One execution. {@code owner.started} is when it was asked for; {@code ended} is null until it is finished or settled. */
    record Row(long id, long instance, Owner owner, String command, boolean redacted, String lockFile, int threshold, String counterFile,
               Map<String, String> options, String started, String ended, boolean acquired, String batchStatus, String exitStatus,
               Integer processExit, Long counter, String holder, String evidence, String output, Long restartedFrom) {
    }

    /** One step execution, times as {@link Text#time}; {@code ended} may be null. */
    record Step(String name, String started, String ended, String batchStatus, String exitStatus, String failure) {
    }

    /** What {@code history} shows; null: any. @param since and before: as {@link Text#time}, of the request */
    record Filter(String lockFile, String status, String since, String until, String host, int limit) {
    }

    /** What was deleted. @param outputs the output files that belong to nothing now */
    record Purged(int executions, List<String> outputs) {
    }

    private final Database database;

    Repository(Database database) {
        this.database = database;
    }

    /**
     * Connects, and creates the schema or migrates it; safe when many processes do it at once.
     *
     * @throws TaskException 69 when the repository cannot be reached, or is of a later version
     */
    void prepare() throws TaskException {
        try {
            int version = version();
            if (version < SCHEMA_VERSION) {
                version = create();
            }
            if (version > SCHEMA_VERSION) {
                throw new TaskException(Database.UNAVAILABLE, "repository " + database.name() + " has schema version " + version
                    + ", this taskrunner knows " + SCHEMA_VERSION + ": use a later taskrunner");
            }
        } catch (SQLException e) {
            throw unreachable(e);
        }
    }

    TaskException unreachable(SQLException e) {
        return new TaskException(Database.UNAVAILABLE, "cannot reach repository " + database.name() + ": " + Text.oneLine(e.getMessage()), e);
    }

    private int version() throws SQLException {
        try (PreparedStatement select = prepared(database.isSqlite() ? "PRAGMA user_version"
                : "SELECT CASE WHEN to_regclass('taskrunner_schema') IS NULL THEN 0 ELSE 1 END");
                ResultSet row = select.executeQuery()) {
            row.next();
            if (database.isSqlite() || row.getInt(1) == 0) {
                return row.getInt(1);
            }
        }
        try (PreparedStatement select = prepared("SELECT VERSION FROM TASKRUNNER_SCHEMA"); ResultSet row = select.executeQuery()) {
            return row.next() ? row.getInt(1) : 0;
        }
    }

    private int create() throws SQLException, TaskException {
        return database.transaction(() -> {
            if (!database.isSqlite()) {
                database.execute(List.of("SELECT pg_advisory_xact_lock(hashtextextended('taskrunner-schema', 0))"));
            }
            // another process may have been quicker
            int version = version();
            if (version == 0) {
                database.execute(schema());
                version = SCHEMA_VERSION;
            }
            return version;
        });
    }

    /** JBeret's tables as its own DDL has them, with SQLite's types, and ours. */
    private List<String> schema() {
        boolean sqlite = database.isSqlite();
        String key = sqlite ? "INTEGER PRIMARY KEY AUTOINCREMENT" : "BIGSERIAL PRIMARY KEY";
        String time = sqlite ? "TEXT" : "TIMESTAMPTZ";
        String bytes = sqlite ? "BLOB" : "BYTEA";
        List<String> schema = new ArrayList<>();
        schema.add("CREATE TABLE JOB_INSTANCE (JOBINSTANCEID " + key + ", VERSION INTEGER, JOBNAME VARCHAR(512), APPLICATIONNAME VARCHAR(512))");
        schema.add("CREATE TABLE JOB_EXECUTION (JOBEXECUTIONID " + key + ", JOBINSTANCEID BIGINT NOT NULL REFERENCES JOB_INSTANCE"
            + " ON DELETE CASCADE, VERSION INTEGER, CREATETIME " + time + ", STARTTIME " + time + ", ENDTIME " + time
            + ", LASTUPDATEDTIME " + time + ", BATCHSTATUS VARCHAR(30), EXITSTATUS VARCHAR(512), JOBPARAMETERS VARCHAR(3000),"
            + " RESTARTPOSITION VARCHAR(255))");
        schema.add("CREATE TABLE STEP_EXECUTION (STEPEXECUTIONID " + key + ", JOBEXECUTIONID BIGINT NOT NULL REFERENCES JOB_EXECUTION"
            + " ON DELETE CASCADE, VERSION INTEGER, STEPNAME VARCHAR(255), STARTTIME " + time + ", ENDTIME " + time
            + ", BATCHSTATUS VARCHAR(30), EXITSTATUS VARCHAR(512), EXECUTIONEXCEPTION VARCHAR(2048), PERSISTENTUSERDATA " + bytes
            + ", READCOUNT INTEGER, WRITECOUNT INTEGER, COMMITCOUNT INTEGER, ROLLBACKCOUNT INTEGER, READSKIPCOUNT INTEGER,"
            + " PROCESSSKIPCOUNT INTEGER, FILTERCOUNT INTEGER, WRITESKIPCOUNT INTEGER, READERCHECKPOINTINFO " + bytes
            + ", WRITERCHECKPOINTINFO " + bytes + ")");
        schema.add("CREATE TABLE PARTITION_EXECUTION (PARTITIONEXECUTIONID INTEGER NOT NULL, STEPEXECUTIONID BIGINT NOT NULL REFERENCES"
            + " STEP_EXECUTION ON DELETE CASCADE, VERSION INTEGER, BATCHSTATUS VARCHAR(30), EXITSTATUS VARCHAR(512), EXECUTIONEXCEPTION"
            + " VARCHAR(2048), PERSISTENTUSERDATA " + bytes + ", READERCHECKPOINTINFO " + bytes + ", WRITERCHECKPOINTINFO " + bytes
            + ", PRIMARY KEY (PARTITIONEXECUTIONID, STEPEXECUTIONID))");
        schema.add("CREATE TABLE TASKRUNNER_EXECUTION (JOBEXECUTIONID BIGINT PRIMARY KEY REFERENCES JOB_EXECUTION ON DELETE CASCADE,"
            + " RUNID TEXT NOT NULL, HOST TEXT NOT NULL, USERNAME TEXT NOT NULL, PID BIGINT NOT NULL, PIDSTART BIGINT NOT NULL,"
            + " PIDNAMESPACE TEXT NOT NULL, BOOTID TEXT NOT NULL, CREATED TEXT NOT NULL, COMMAND TEXT NOT NULL, REDACTED INTEGER NOT NULL,"
            + " LOCKFILE TEXT NOT NULL, THRESHOLD INTEGER NOT NULL, COUNTERFILE TEXT NOT NULL, OPTIONS TEXT NOT NULL, OUTPUT TEXT,"
            + " RESTARTEDFROM BIGINT, STARTED TEXT, ENDED TEXT, ACQUIRED INTEGER NOT NULL DEFAULT 0, PROCESSEXIT INTEGER, COUNTER BIGINT,"
            + " HOLDER TEXT, EVIDENCE TEXT)");
        schema.add("CREATE INDEX JOB_EXECUTION_INSTANCE ON JOB_EXECUTION (JOBINSTANCEID)");
        schema.add("CREATE INDEX JOB_EXECUTION_STATUS ON JOB_EXECUTION (BATCHSTATUS, JOBEXECUTIONID)");
        schema.add("CREATE INDEX STEP_EXECUTION_JOB ON STEP_EXECUTION (JOBEXECUTIONID)");
        schema.add("CREATE INDEX PARTITION_EXECUTION_STEP ON PARTITION_EXECUTION (STEPEXECUTIONID)");
        schema.add("CREATE INDEX TASKRUNNER_EXECUTION_TASK ON TASKRUNNER_EXECUTION (LOCKFILE, JOBEXECUTIONID)");
        schema.add("CREATE INDEX TASKRUNNER_EXECUTION_HOST ON TASKRUNNER_EXECUTION (HOST, JOBEXECUTIONID)");
        schema.add("CREATE INDEX TASKRUNNER_EXECUTION_CREATED ON TASKRUNNER_EXECUTION (CREATED)");
        schema.add("CREATE INDEX TASKRUNNER_EXECUTION_RESTARTS ON TASKRUNNER_EXECUTION (RESTARTEDFROM) WHERE RESTARTEDFROM IS NOT NULL");
        schema.add("CREATE INDEX TASKRUNNER_EXECUTION_UNFINISHED ON TASKRUNNER_EXECUTION (HOST, LOCKFILE) WHERE ENDED IS NULL");
        if (sqlite) {
            schema.add("PRAGMA user_version = " + SCHEMA_VERSION);
        } else {
            schema.add("CREATE TABLE TASKRUNNER_SCHEMA (VERSION INTEGER NOT NULL)");
            schema.add("INSERT INTO TASKRUNNER_SCHEMA VALUES (" + SCHEMA_VERSION + ")");
        }
        return schema;
    }

    /** Adds our row to JBeret's; call it in the transaction that made the job execution, so that neither is ever alone. */
    void insert(long id, Asked asked) throws SQLException {
        Owner owner = asked.owner();
        Request request = asked.request();
        update("INSERT INTO TASKRUNNER_EXECUTION (JOBEXECUTIONID, RUNID, HOST, USERNAME, PID, PIDSTART, PIDNAMESPACE, BOOTID, CREATED,"
            + " COMMAND, REDACTED, LOCKFILE, THRESHOLD, COUNTERFILE, OPTIONS, OUTPUT, RESTARTEDFROM)"
            + " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", id, owner.runId(), owner.host(), owner.user(), owner.runner().pid(),
            owner.runner().start(), owner.pidNamespace(), owner.bootId(), owner.started(), request.command(), asked.redacted() ? 1 : 0,
            request.lockFile().toString(), request.threshold(), request.counterFile().toString(), encode(asked.options()), asked.output(),
            asked.restartedFrom());
    }

    /** Notes that the execution holds its task's lock: who acquires it later knows by this that the execution is dead. */
    void acquired(long id) throws SQLException {
        update("UPDATE TASKRUNNER_EXECUTION SET ACQUIRED = 1 WHERE JOBEXECUTIONID = ?", id);
    }

    /** Writes how the execution ended, into our row and, when the job could not do it itself, into JBeret's; may be repeated. */
    void finish(long id, Ending ending) throws SQLException, TaskException {
        database.transaction(() -> {
            update("UPDATE TASKRUNNER_EXECUTION SET STARTED = ?, ENDED = ?, ACQUIRED = ?, PROCESSEXIT = ?, COUNTER = ?, HOLDER = ?"
                + " WHERE JOBEXECUTIONID = ? AND ENDED IS NULL", ending.started(), ending.ended(), ending.acquired() ? 1 : 0,
                ending.processExit(), ending.counter(), ending.holder(), id);
            close(id, ending.batchStatus(), ending.exitStatus(), ending.ended());
            return null;
        });
    }

    /**
     * Marks an execution that is proven dead FAILED, KILLED, its unfinished steps too. One whose job had ended keeps its status.
     *
     * @param evidence what proves it
     * @return whether there was anything to settle
     */
    boolean settle(long id, String evidence) throws SQLException, TaskException {
        return database.transaction(() -> {
            String now = Text.time(System.currentTimeMillis());
            int settled = update("UPDATE TASKRUNNER_EXECUTION SET ENDED = ?, EVIDENCE = ? WHERE JOBEXECUTIONID = ? AND ENDED IS NULL", now,
                evidence, id);
            if (settled > 0) {
                close(id, "FAILED", "KILLED", now);
            }
            return settled > 0;
        });
    }

    private void close(long id, String batchStatus, String exitStatus, String ended) throws SQLException {
        Object end = database.isSqlite() ? sqliteTime(ended) : java.time.OffsetDateTime.parse(ended);
        update("UPDATE JOB_EXECUTION SET BATCHSTATUS = ?, EXITSTATUS = ?, ENDTIME = ?, LASTUPDATEDTIME = ? WHERE JOBEXECUTIONID = ?"
            + " AND BATCHSTATUS IN " + UNFINISHED, batchStatus, exitStatus, end, end, id);
        update("UPDATE STEP_EXECUTION SET BATCHSTATUS = ?, EXITSTATUS = ?, ENDTIME = ? WHERE JOBEXECUTIONID = ? AND BATCHSTATUS IN "
            + UNFINISHED, batchStatus, exitStatus, end, id);
    }

    /** The driver's own format for times. */
    private static String sqliteTime(String time) {
        return time.replace('T', ' ').replace("Z", "");
    }

    /** The unfinished executions of a host (for null: of any) and of a task (for null: of any). */
    List<Row> unfinished(String host, String lockFile) throws SQLException {
        List<Object> values = new ArrayList<>();
        String where = "WHERE T.ENDED IS NULL" + and(values, "T.HOST = ?", host) + and(values, "T.LOCKFILE = ?", lockFile);
        return rows(where + " ORDER BY T.JOBEXECUTIONID", values);
    }

    /** The newest executions first. */
    List<Row> history(Filter filter) throws SQLException {
        List<Object> values = new ArrayList<>();
        String where = "WHERE 1 = 1" + and(values, "T.LOCKFILE = ?", filter.lockFile()) + and(values, "T.HOST = ?", filter.host())
            + and(values, "T.CREATED >= ?", filter.since()) + and(values, "T.CREATED < ?", filter.until());
        if (filter.status() != null) {
            // either status, so that `--status KILLED` finds what the table shows
            where += " AND (J.BATCHSTATUS = ? OR J.EXITSTATUS = ?)";
            values.add(filter.status());
            values.add(filter.status());
        }
        values.add(filter.limit());
        return rows(where + " ORDER BY T.JOBEXECUTIONID DESC LIMIT ?", values);
    }

    /** The execution, or null. */
    Row find(long id) throws SQLException {
        List<Row> rows = rows("WHERE T.JOBEXECUTIONID = ?", List.of(id));
        return rows.isEmpty() ? null : rows.get(0);
    }

    /** The executions of the same job instance, oldest first: the restarts before and after. */
    List<Row> restarts(long instance) throws SQLException {
        return rows("WHERE J.JOBINSTANCEID = ? ORDER BY T.JOBEXECUTIONID", List.of(instance));
    }

    List<Step> steps(long id) throws SQLException {
        List<Step> steps = new ArrayList<>();
        try (PreparedStatement select = prepared("SELECT STEPNAME, STARTTIME, ENDTIME, BATCHSTATUS, EXITSTATUS, EXECUTIONEXCEPTION"
                + " FROM STEP_EXECUTION WHERE JOBEXECUTIONID = ? ORDER BY STEPEXECUTIONID", id); ResultSet row = select.executeQuery()) {
            while (row.next()) {
                steps.add(new Step(row.getString(1), time(row, 2), time(row, 3), row.getString(4), row.getString(5), row.getString(6)));
            }
        }
        return steps;
    }

    private static String time(ResultSet row, int column) throws SQLException {
        java.sql.Timestamp time = row.getTimestamp(column);
        return time == null ? null : Text.time(time.getTime());
    }

    /** Deletes what ended before the time, but keeps the newest executions of each task. @param before as {@link Text#time} */
    Purged purge(String before, int keep) throws SQLException, TaskException {
        return database.transaction(() -> {
            String old = " FROM (SELECT JOBEXECUTIONID, OUTPUT, ENDED, ROW_NUMBER() OVER (PARTITION BY LOCKFILE ORDER BY JOBEXECUTIONID DESC)"
                + " AS NEWEST FROM TASKRUNNER_EXECUTION) R WHERE ENDED < ? AND NEWEST > ?";
            List<String> outputs = new ArrayList<>();
            List<Long> ids = new ArrayList<>();
            try (PreparedStatement select = prepared("SELECT JOBEXECUTIONID, OUTPUT" + old, before, keep);
                    ResultSet row = select.executeQuery()) {
                while (row.next()) {
                    ids.add(row.getLong(1));
                    if (row.getString(2) != null) {
                        outputs.add(row.getString(2));
                    }
                }
            }
            try (PreparedStatement delete = prepared("DELETE FROM JOB_EXECUTION WHERE JOBEXECUTIONID = ?")) {
                for (long id : ids) {
                    delete.setLong(1, id);
                    delete.addBatch();
                }
                delete.executeBatch();
            }
            update("DELETE FROM JOB_INSTANCE WHERE NOT EXISTS (SELECT 1 FROM JOB_EXECUTION J WHERE J.JOBINSTANCEID ="
                + " JOB_INSTANCE.JOBINSTANCEID)");
            return new Purged(ids.size(), outputs);
        });
    }

    private static String and(List<Object> values, String condition, Object value) {
        if (value == null) {
            return "";
        }
        values.add(value);
        return " AND " + condition;
    }

    private List<Row> rows(String where, List<?> values) throws SQLException {
        List<Row> rows = new ArrayList<>();
        try (PreparedStatement select = prepared("SELECT " + COLUMNS + where, values.toArray()); ResultSet row = select.executeQuery()) {
            while (row.next()) {
                Owner owner = new Owner(row.getString("RUNID"), new ProcessId(row.getLong("PID"), row.getLong("PIDSTART")),
                    row.getString("PIDNAMESPACE"), row.getString("HOST"), row.getString("BOOTID"), row.getString("USERNAME"),
                    row.getString("CREATED"), null);
                rows.add(new Row(row.getLong("JOBEXECUTIONID"), row.getLong("JOBINSTANCEID"), owner, row.getString("COMMAND"),
                    row.getInt("REDACTED") == 1, row.getString("LOCKFILE"), row.getInt("THRESHOLD"), row.getString("COUNTERFILE"),
                    decode(row.getString("OPTIONS")), row.getString("STARTED"), row.getString("ENDED"), row.getInt("ACQUIRED") == 1,
                    row.getString("BATCHSTATUS"), row.getString("EXITSTATUS"),
                    row.getString("PROCESSEXIT") == null ? null : Integer.valueOf(row.getInt("PROCESSEXIT")), number(row, "COUNTER"),
                    row.getString("HOLDER"), row.getString("EVIDENCE"), row.getString("OUTPUT"), number(row, "RESTARTEDFROM")));
            }
        }
        return Collections.unmodifiableList(rows);
    }

    private static Long number(ResultSet row, String column) throws SQLException {
        long number = row.getLong(column);
        return row.wasNull() ? null : number;
    }

    private PreparedStatement prepared(String sql, Object... values) throws SQLException {
        Connection connection = database.getConnection();
        PreparedStatement statement = connection.prepareStatement(sql);
        for (int i = 0; i < values.length; i++) {
            // a null's type: text is what the driver may send for any
            if (values[i] == null) {
                statement.setNull(i + 1, java.sql.Types.NULL);
            } else {
                statement.setObject(i + 1, values[i]);
            }
        }
        return statement;
    }

    private int update(String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = prepared(sql, values)) {
            return statement.executeUpdate();
        }
    }

    /** One option a line, {@code name=value}, with line ends and backslashes escaped. */
    static String encode(Map<String, String> options) {
        StringBuilder text = new StringBuilder();
        for (Map.Entry<String, String> option : options.entrySet()) {
            text.append(option.getKey()).append('=').append(option.getValue().replace("\\", "\\\\").replace("\n", "\\n")).append('\n');
        }
        return text.toString();
    }

    static Map<String, String> decode(String text) {
        Map<String, String> options = new LinkedHashMap<>();
        int line = 0;
        for (int end; (end = text.indexOf('\n', line)) >= 0; line = end + 1) {
            int equals = text.indexOf('=', line);
            StringBuilder value = new StringBuilder();
            for (int i = equals + 1; i < end; i++) {
                char c = text.charAt(i);
                value.append(c != '\\' ? c : text.charAt(++i) == 'n' ? '\n' : '\\');
            }
            options.put(text.substring(line, equals), value.toString());
        }
        return options;
    }
}
