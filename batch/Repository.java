import java.io.IOException;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;

/**
 * The audit repository: one row per execution request, next to JBeret's tables. JBeret itself runs the job in memory;
 * what it would have written is written here, at three points of a run and each time in one transaction: when it is
 * requested ({@link #request}), when the command is about to start ({@link #acquired}) and when it has ended ({@link
 * #end}). The last one writes all that is known, so that the one before may be lost with the database.
 *
 * <p>For one thread. It holds a connection to a server only from a first statement to {@link #release}.
 */
final class Repository implements AutoCloseable {
    private static final Set<String> BATCH_STATUSES = Set.of("STARTING", "STARTED", "STOPPING", "STOPPED", "FAILED",
        "COMPLETED", "ABANDONED");
    private static final Set<String> TIMESTAMPS = Set.of("createtime", "starttime", "endtime", "lastupdatedtime");
    private static final String FROM = " FROM taskrunner_execution a"
        + " JOIN job_execution j ON j.jobexecutionid = a.job_execution_id";
    private static final String SELECT = "SELECT a.*, j.jobinstanceid, j.batchstatus, j.exitstatus"
        + FROM;
    private static final int PURGED_AT_ONCE = 1000;
    private static final int MAX_PAUSE = 500;

    private static boolean leaveOpen;

    private final Database database;
    private String id;
    /** What this process has requested last, so that it need not be looked for. */
    private String requestedRun;
    private long requestedId;
    private boolean purgedElsewhere;
    private Connection connection;
    private Object identity;
    private Duration patience = Duration.ofSeconds(10);

    /** Something that is read or written. */
    interface Work<T> {
        T run(Connection connection) throws SQLException, RepositoryException;
    }

    private Repository(Database database) {
        this.database = database;
    }

    /** Opens the repository. @param create whether its tables are made or migrated: only runs do */
    static Repository open(Database database, boolean create) throws RepositoryException {
        Repository repository = new Repository(database);
        try {
            database.prepare(create);
            Row schema = repository.read(connection -> Schema.ensure(database, connection, create));
            repository.id = schema.required("id");
            repository.purgedElsewhere = schema.number("purged") > 0;
            return repository;
        } catch (IOException e) {
            throw RepositoryException.unavailable(database, "cannot be opened", e);
        } catch (RepositoryException e) {
            repository.close();
            throw e;
        }
    }

    /** This process ends with its one request: to close an embedded database would make it wait for a checkpoint. */
    static void leaveOpenAtExit() {
        leaveOpen = true;
    }

    Database database() {
        return database;
    }

    /** What tells this repository from every other, however it is reached. */
    String id() {
        return id;
    }

    /** How long each use of the database may wait for it. */
    void patience(Duration patience) throws RepositoryException {
        this.patience = patience;
        try {
            if (connection != null) {
                database.limit(connection, patience);
            }
        } catch (SQLException e) {
            discard();
        }
    }

    /** The time as rows have it. */
    static String time(Instant instant) {
        return Text.time(instant.toEpochMilli());
    }

    // What a run writes

    /**
     * Writes the job execution of a request, and a job instance unless it is a restart; returns the execution's id.
     *
     * @param waits false when the next write, which comes before anything is run, makes this one durable as well
     * @throws RepositoryException when it is a restart of an execution that must not be restarted, too
     */
    long request(RequestRow request, boolean waits) throws RepositoryException {
        requestedId = read(connection -> {
            database.makeDurable(connection, waits);
            try {
                // a server's ids need no transaction
                return request.restartedFrom() == null && database.isServer() ? request(connection, request)
                    : inTransaction(connection, within -> request(within, request));
            } finally {
                database.makeDurable(connection, true);
            }
        });
        requestedRun = request.runId();
        return requestedId;
    }

    private long request(Connection connection, RequestRow request) throws SQLException, RepositoryException {
        Long instance = request.restartedFrom() == null ? null
            : checkRestartable(connection, request.restartedFrom(), request.host());
        Row ids = database.nextIds().rows(connection).get(0);
        List<Sql> statements = inserts(connection, request, instance, ids);
        // a role that may not end what it begins is told so now
        statements.add(new Sql("UPDATE taskrunner_execution SET end_time = NULL WHERE job_execution_id = -1"));
        statements.add(new Sql("UPDATE job_execution SET endtime = NULL WHERE jobexecutionid = -1"));
        statements.add(new Sql("UPDATE step_execution SET endtime = NULL WHERE jobexecutionid = -1"));
        database.write(connection, statements);
        return ids.requiredNumber("execution_id");
    }

    /** @param instance null for one of its own */
    private List<Sql> inserts(Connection connection, RequestRow request, Long instance, Row ids) throws SQLException {
        List<Sql> statements = new ArrayList<>();
        Map<String, Object> job = new LinkedHashMap<>();
        job.put("jobexecutionid", ids.requiredNumber("execution_id"));
        job.put("jobinstanceid", instance != null ? instance : ids.requiredNumber("instance_id"));
        job.put("createtime", request.createTime());
        job.put("starttime", request.createTime());
        job.put("lastupdatedtime", request.createTime());
        job.put("batchstatus", "STARTED");
        job.put("jobparameters", JobRunner.RUN + " = " + request.runId() + "\n");
        if (instance == null) {
            Map<String, Object> columns = new LinkedHashMap<>();
            columns.put("jobinstanceid", ids.requiredNumber("instance_id"));
            columns.put("jobname", JobRunner.JOB);
            statements.add(Sql.insert("job_instance", columns));
        }
        statements.add(insert("job_execution", job));
        Map<String, Object> columns = new LinkedHashMap<>();
        columns.put("job_execution_id", ids.requiredNumber("execution_id"));
        columns.putAll(storable(connection, request.columns()));
        statements.add(Sql.insert("taskrunner_execution", columns));
        return statements;
    }

    /** The text with a visible substitute for each character that the database cannot store. */
    String storable(String text) throws RepositoryException {
        return read(connection -> database.storable(connection, text));
    }

    private Map<String, Object> storable(Connection connection, Map<String, Object> columns) throws SQLException {
        for (Map.Entry<String, Object> column : columns.entrySet()) {
            if (column.getValue() instanceof String text) {
                column.setValue(database.storable(connection, text));
            }
        }
        return columns;
    }

    /** Into one of JBeret's tables, whose times are no text. */
    private Sql insert(String table, Map<String, Object> columns) {
        List<String> places = new ArrayList<>();
        columns.keySet().forEach(name -> places.add(place(name)));
        return new Sql("INSERT INTO " + table + " (" + String.join(", ", columns.keySet()) + ") VALUES ("
            + String.join(", ", places) + ")", columns.values().toArray());
    }

    private String place(String column) {
        return TIMESTAMPS.contains(column) ? database.toTimestamp() : "?";
    }

    /** Writes that the execution has acquired the lock, and its steps so far. */
    void acquired(long execution, String time, Long fence, List<StepRow> steps) throws RepositoryException {
        List<Sql> statements = new ArrayList<>();
        statements.add(new Sql("UPDATE taskrunner_execution SET acquired = ?, fence = CAST(? AS BIGINT)"
            + " WHERE job_execution_id = ?", time, fence, execution));
        if (!steps.isEmpty()) {
            statements.add(insertMissing(execution, steps));
        }
        read(connection -> database.write(connection, statements));
    }

    /**
     * Writes how an execution ended, its steps too; where the repository has no row of it, as one that was put in the
     * place of another, the request as well.
     */
    void end(RequestRow request, ResultRow result, List<StepRow> steps) throws RepositoryException {
        String runId = request.runId();
        if (runId.equals(requestedRun) && end(requestedId, runId, result, steps)) {
            return;
        }
        Long known = find("a.run_id = ?", runId).map(ExecutionRow::id).orElse(null);
        if (known != null && end(known, runId, result, steps)) {
            return;
        }
        inTransaction(connection -> {
            Row ids = database.nextIds().rows(connection).get(0);
            database.write(connection, inserts(connection, request, null, ids));
            return database.write(connection, ends(connection, ids.requiredNumber("execution_id"), runId, result,
                steps));
        });
    }

    /** @return false when there is no such row */
    private boolean end(long execution, String runId, ResultRow result, List<StepRow> steps)
        throws RepositoryException {
        return read(connection -> database.write(connection, ends(connection, execution, runId, result, steps)));
    }

    private List<Sql> ends(Connection connection, long execution, String runId, ResultRow result, List<StepRow> steps)
        throws SQLException {
        List<Sql> statements = new ArrayList<>();
        Map<String, Object> columns = storable(connection, result.columns());
        columns.put("evidence", null);
        statements.add(Sql.update("taskrunner_execution", columns, "job_execution_id = ? AND run_id = ?", execution,
            runId));
        statements.add(endJob(execution, result.batchStatus(), result.exitStatus(), result.endTime(), ""));
        if (!steps.isEmpty()) {
            statements.add(updateUnfinished(execution, steps));
            statements.add(insertMissing(execution, steps));
        }
        return statements;
    }

    private Sql endJob(long execution, String batchStatus, String exitStatus, String endTime, String condition) {
        return new Sql("UPDATE job_execution SET batchstatus = ?, exitstatus = ?, endtime = " + database.toTimestamp()
            + ", lastupdatedtime = " + database.toTimestamp() + " WHERE jobexecutionid = ?" + condition, batchStatus,
            exitStatus, endTime, endTime, execution);
    }

    /** Updates the rows of the steps that have not ended, as far as is known. */
    private Sql updateUnfinished(long execution, List<StepRow> steps) {
        List<Object> values = new ArrayList<>();
        List<String> selects = new ArrayList<>();
        steps.forEach(step -> selects.add(select(step, values)));
        List<String> sets = new ArrayList<>();
        steps.get(0).columns().keySet().forEach(name -> sets.add(name + " = now." + name));
        values.add(execution);
        return new Sql("UPDATE step_execution SET " + String.join(", ", sets) + " FROM ("
            + String.join(" UNION ALL ", selects) + ") AS now"
            + " WHERE step_execution.jobexecutionid = ? AND step_execution.stepname = now.stepname"
            + " AND (step_execution.endtime IS NULL OR step_execution.exitstatus IN ('KILLED', 'LOST'))",
            values.toArray());
    }

    /** Inserts the rows of the steps that have none: in one statement, since JBeret tells their order by their ids. */
    private Sql insertMissing(long execution, List<StepRow> steps) {
        List<Object> values = new ArrayList<>();
        List<String> selects = new ArrayList<>();
        for (StepRow step : steps) {
            selects.add(select(step, values) + ", CAST(? AS BIGINT) WHERE NOT EXISTS (SELECT 1 FROM step_execution"
                + " WHERE jobexecutionid = ? AND stepname = ?)");
            Collections.addAll(values, execution, execution, step.name());
        }
        return new Sql("INSERT INTO step_execution (" + String.join(", ", steps.get(0).columns().keySet())
            + ", jobexecutionid) " + String.join(" UNION ALL ", selects), values.toArray());
    }

    /** The beginning of a query for the step as it is. @param values gets its values */
    private String select(StepRow step, List<Object> values) {
        List<String> places = new ArrayList<>();
        step.columns().forEach((name, value) -> {
            places.add(place(name) + " AS " + name);
            values.add(value);
        });
        return "SELECT " + String.join(", ", places);
    }

    // What the dead have left

    /** Executions that have not ended, oldest first. @param lockFile or null for all */
    List<ExecutionRow> unfinished(String lockFile) throws RepositoryException {
        // the plus keeps SQLite from walking through all rows in their order instead of taking the index of the
        // unfinished
        String sql = SELECT + " WHERE a.end_time IS NULL" + (lockFile == null ? "" : " AND a.lock_file = ?")
            + " ORDER BY +a.job_execution_id";
        return lockFile == null ? select(sql) : select(sql, lockFile);
    }

    /**
     * Executions of a fleet's task that have not ended, and that no session of theirs can end any more: they had the
     * task before the run that had it last, or never had it and were requested more than two minutes ago.
     *
     * @param before the fence of the run that had the task last
     */
    List<ExecutionRow> abandoned(String fleetTask, long before) throws RepositoryException {
        return select(SELECT + " WHERE a.end_time IS NULL AND a.task = ?"
            + " AND (a.fence < ? OR a.fence IS NULL AND a.create_time < ?)"
            + " AND NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE s.application_name = 'taskrunner ' || a.run_id)"
            + " ORDER BY a.job_execution_id", fleetTask, before, time(Instant.now().minus(Duration.ofMinutes(2))));
    }

    /** The unfinished execution of the run. */
    Optional<ExecutionRow> unfinishedOf(String runId) throws RepositoryException {
        return find("a.end_time IS NULL AND a.run_id = ?", runId);
    }

    /**
     * Ends the row of an execution that did not do it itself, its steps too.
     *
     * @return false when it has ended meanwhile: nothing is changed then
     */
    boolean reconcile(long execution, String batchStatus, String exitStatus, String evidence)
        throws RepositoryException {
        String time = time(Instant.now());
        return inTransaction(connection -> {
            if (new Sql("UPDATE taskrunner_execution SET end_time = ?, evidence = ? WHERE job_execution_id = ?"
                    + " AND end_time IS NULL", time, evidence, execution).update(connection) == 0) {
                return false;
            }
            database.write(connection, List.of(endJob(execution, batchStatus, exitStatus, time, ""),
                new Sql("UPDATE step_execution SET batchstatus = ?, exitstatus = ?, endtime = " + database.toTimestamp()
                    + " WHERE jobexecutionid = ? AND batchstatus IN " + Schema.UNFINISHED, batchStatus, exitStatus,
                    time,
                    execution)));
            return true;
        });
    }

    /**
     * Sees to it that at most one restart of a job instance begins and none beside an execution that has not ended. The
     * lock keeps it off those of this host, a look into the repository off those of the host that it comes from.
     *
     * @param restarted the execution that is to be restarted, its instance's newest
     * @return its instance
     */
    private long checkRestartable(Connection connection, long restarted, String host) throws SQLException,
            RepositoryException {
        database.lockInstance(connection, restarted);
        List<Row> executions = new Sql("SELECT o.jobexecutionid, o.batchstatus, o.jobinstanceid FROM job_execution j"
            + " JOIN job_execution o ON o.jobinstanceid = j.jobinstanceid WHERE j.jobexecutionid = ?"
            + " ORDER BY o.jobexecutionid DESC", restarted).rows(connection);
        if (executions.isEmpty()) {
            throw refused("no job execution " + restarted + " in " + database + "; history lists them");
        }
        long newest = executions.get(0).requiredNumber("jobexecutionid");
        String status = executions.get(0).required("batchstatus");
        if (isUnfinished(status)) {
            throw refused("execution " + newest + " of this job instance is " + status
                + ": it may be running; see it with: show " + newest);
        }
        if (newest != restarted) {
            throw refused("execution " + restarted + " was restarted already; its newest execution is " + newest);
        }
        if (!status.equals("FAILED") && !status.equals("STOPPED")) {
            throw refused("execution " + restarted + " is " + status + ": only FAILED and STOPPED ones restart");
        }
        for (Row live : new Sql("SELECT live.job_execution_id, live.host FROM taskrunner_execution a"
                + " JOIN taskrunner_execution live ON live.lock_file = a.lock_file AND live.host = a.host"
                + " WHERE a.job_execution_id = ? AND a.task IS NULL AND a.host <> ? AND live.acquired IS NOT NULL AND"
                + " live.end_time IS NULL",
                restarted, host).rows(connection)) {
            throw refused("execution " + live.requiredNumber("job_execution_id") + " of the same task runs on host "
                + live.required("host") + ", whose lock cannot be seen from here: restart " + restarted
                + " when it has ended");
        }
        return executions.get(0).requiredNumber("jobinstanceid");
    }

    private static boolean isUnfinished(String batchStatus) {
        return batchStatus.startsWith("START") || batchStatus.equals("STOPPING");
    }

    private static RepositoryException refused(String why) {
        return new RepositoryException(RepositoryException.USAGE, why);
    }

    // Reports

    /** Newest first. */
    List<ExecutionRow> history(Filter filter) throws RepositoryException {
        StringBuilder sql = new StringBuilder(SELECT);
        List<Object> values = new ArrayList<>();
        where(sql, values, "a.lock_file = ?", filter.lockFile());
        where(sql, values, "a.task = ?", filter.fleetTask());
        where(sql, values, "a.host = ?", filter.host());
        where(sql, values, "a.user_name = ?", filter.user());
        where(sql, values, filter.status() != null && BATCH_STATUSES.contains(filter.status()) ? "j.batchstatus = ?"
            : "j.exitstatus = ?",
            filter.status());
        where(sql, values, "a.create_time >= ?", filter.since());
        where(sql, values, "a.create_time < ?", filter.until());
        sql.append(" ORDER BY ").append(filter.status() == null ? "a.job_execution_id" : "j.jobexecutionid")
            .append(" DESC");
        if (filter.limit() > 0) {
            sql.append(" LIMIT ").append(filter.limit());
        }
        // one that was delivered late, under a late id, stands where it belongs
        return select(sql.toString(), values.toArray()).stream().sorted(Comparator.comparing(
            (ExecutionRow row) -> row.request().createTime()).thenComparing(ExecutionRow::id).reversed()).toList();
    }

    private static void where(StringBuilder sql, List<Object> values, String condition, Object value) {
        if (value != null) {
            sql.append(values.isEmpty() ? " WHERE " : " AND ").append(condition);
            values.add(value);
        }
    }

    /** How many executions of the task have failed in a row before this one, up to the limit. */
    int failuresBefore(RequestRow request, int limit) throws RepositoryException {
        // the concatenation keeps planners from walking through the host's rows instead of the task's
        List<Row> latest = read(connection ->
            new Sql("SELECT j.batchstatus FROM taskrunner_execution a JOIN job_execution j"
            + " ON j.jobexecutionid = a.job_execution_id WHERE a.lock_file = ? AND a.host || '' = ? AND a.run_id <> ?"
            + " AND a.create_time <= ? AND j.exitstatus NOT IN ('CONTENDED', 'THRESHOLD_EXCEEDED', 'STOPPED',"
            + " 'ABANDONED')"
            + " ORDER BY a.job_execution_id DESC LIMIT " + limit, request.lockFile(), request.host(), request.runId(),
            request.createTime()).rows(connection));
        int failures = 0;
        while (failures < latest.size() && latest.get(failures).required("batchstatus").equals("FAILED")) {
            failures++;
        }
        return failures;
    }

    Optional<ExecutionRow> find(long execution) throws RepositoryException {
        return find("a.job_execution_id = ?", execution);
    }

    private Optional<ExecutionRow> find(String condition, Object value) throws RepositoryException {
        return select(SELECT + " WHERE " + condition, value).stream().findFirst();
    }

    /** All executions of a job instance, oldest first: what was restarted, and the restarts. */
    List<ExecutionRow> executionsOf(long instance) throws RepositoryException {
        return select(SELECT + " WHERE j.jobinstanceid = ? ORDER BY a.job_execution_id", instance);
    }

    List<StepRow> steps(long execution) throws RepositoryException {
        return read(connection -> stepsOf("= ?", execution).rows(connection)).stream()
            .map(StepRow::of).toList();
    }

    /** The executions of the filter's window, and those before it that have not ended, newest first. */
    void report(Filter filter, Consumer<Row> consumer) throws RepositoryException {
        List<Object> values = new ArrayList<>();
        StringBuilder sql = new StringBuilder();
        where(sql, values, "a.create_time >= ?", filter.since());
        report(sql, values, filter, " ORDER BY a.create_time DESC", consumer);
        if (filter.since() != null) {
            values.clear();
            sql = new StringBuilder();
            where(sql, values, "a.end_time IS NULL AND a.create_time < ?", filter.since());
            report(sql, values, new Filter(filter.lockFile(), filter.fleetTask(), filter.host(), null, null, null, null,
                0),
                " ORDER BY a.create_time DESC", consumer);
        }
    }

    /**
     * Of each task the latest executions that ended and were requested before the filter's window, newest first.
     *
     * @param since how far to look back, as in rows @param limit how many of a task
     */
    void reportBefore(Filter filter, String since, int limit, Consumer<Row> consumer) throws RepositoryException {
        for (String lockFile : filter.lockFile() == null ? lockFiles() : List.of(filter.lockFile())) {
            List<Object> values = new ArrayList<>();
            StringBuilder sql = new StringBuilder();
            where(sql, values, "a.create_time >= ?", since);
            report(sql, values, new Filter(lockFile, filter.fleetTask(), filter.host(), null, null, null,
                filter.since(), 0),
                " AND a.end_time IS NOT NULL ORDER BY a.job_execution_id DESC LIMIT " + limit, consumer);
        }
    }

    private void report(StringBuilder where, List<Object> values, Filter filter, String end, Consumer<Row> consumer)
        throws RepositoryException {
        where(where, values, "a.lock_file = ?", filter.lockFile());
        where(where, values, "a.task = ?", filter.fleetTask());
        where(where, values, "a.host = ?", filter.host());
        where(where, values, "a.create_time < ?", filter.until());
        Sql sql = new Sql("SELECT " + ReportRow.COLUMNS + FROM + where + end, values.toArray());
        try {
            // PostgreSQL's driver has all rows in memory unless a transaction keeps its cursor
            connection().setAutoCommit(!database.isServer());
            try {
                sql.each(connection, consumer);
            } finally {
                connection.setAutoCommit(true);
            }
        } catch (SQLException e) {
            discard();
            throw RepositoryException.unavailable(database, "cannot be used", e);
        }
    }

    /** All tasks, each looked up in the index behind the one before: no matter how many executions they have. */
    private List<String> lockFiles() throws RepositoryException {
        String next = "(SELECT MIN(lock_file) FROM taskrunner_execution";
        return read(connection -> new Sql("WITH RECURSIVE task (lock_file) AS (" + next.substring(1)
            + " UNION ALL SELECT "
            + next + " WHERE lock_file > task.lock_file) FROM task WHERE task.lock_file IS NOT NULL)"
            + " SELECT lock_file FROM task WHERE lock_file IS NOT NULL").rows(connection)).stream()
            .map(row -> row.required("lock_file")).toList();
    }

    /** The steps of executions, by their ids. */
    Map<Long, List<StepRow>> steps(Collection<Long> executions) throws RepositoryException {
        Map<Long, List<StepRow>> steps = new HashMap<>();
        String ids = String.join(", ", executions.stream().map(String::valueOf).toList());
        for (Row row : read(connection -> stepsOf("IN (" + ids + ")").rows(connection))) {
            steps.computeIfAbsent(row.requiredNumber("jobexecutionid"), id -> new ArrayList<>()).add(StepRow.of(row));
        }
        return steps;
    }

    private Sql stepsOf(String condition, Object... values) {
        return new Sql("SELECT jobexecutionid, stepname, " + database.fromTimestamp("starttime") + " AS starttime, "
            + database.fromTimestamp("endtime") + " AS endtime, batchstatus, exitstatus"
            + " FROM step_execution WHERE jobexecutionid " + condition + " ORDER BY stepexecutionid", values);
    }

    // Retention

    /**
     * Deletes the job instances all of whose executions ended before the time, but keeps the newest executions of each
     * task. In transactions of a thousand, so that runs are not kept waiting.
     *
     * @param keep how many of each task (host and lock file) stay in any case
     * @return what this purge, and no other at the same time, has deleted
     */
    List<ExecutionRow> purge(String before, int keep) throws RepositoryException {
        List<Row> candidates = read(connection ->
            new Sql("SELECT j.jobinstanceid FROM (SELECT job_execution_id, end_time,"
            + " ROW_NUMBER() OVER (PARTITION BY host, lock_file ORDER BY job_execution_id DESC) AS rank_in_task"
            + " FROM taskrunner_execution) a JOIN job_execution j ON j.jobexecutionid = a.job_execution_id"
            + " GROUP BY j.jobinstanceid HAVING MIN(a.rank_in_task) > ? AND COUNT(a.end_time) = COUNT(*)"
            + " AND MAX(a.end_time) < ?", keep, before).rows(connection));
        List<ExecutionRow> purged = new ArrayList<>();
        for (int from = 0; from < candidates.size(); from += PURGED_AT_ONCE) {
            List<Row> some = candidates.subList(from, Math.min(from + PURGED_AT_ONCE, candidates.size()));
            List<String> ids = some.stream().map(row -> row.text("jobinstanceid")).toList();
            purged.addAll(inTransaction(connection -> purge(connection, String.join(", ", ids))));
        }
        if (!purged.isEmpty()) {
            read(connection -> {
                database.shrink(connection);
                return null;
            });
        }
        return purged;
    }

    private static List<ExecutionRow> purge(Connection connection, String instances) throws SQLException {
        String those = " WHERE jobinstanceid IN (" + instances + ")";
        // who deletes the instances deletes all that refers to them; who comes second finds none
        List<Row> deleted = new Sql("SELECT jobinstanceid FROM job_instance" + those).rows(connection);
        if (deleted.isEmpty()) {
            return List.of();
        }
        List<ExecutionRow> executions = new ArrayList<>();
        for (Row row : new Sql(SELECT + those.replace("WHERE ", "WHERE j.")).rows(connection)) {
            executions.add(ExecutionRow.of(row));
        }
        new Sql("DELETE FROM job_instance" + those).update(connection);
        for (ExecutionRow row : executions) {
            RequestRow request = row.request();
            if (!isHere(request)) {
                new Sql("INSERT INTO taskrunner_purged (run_id, host, user_name) VALUES (?, ?, ?)", request.runId(),
                    request.host(), request.user()).update(connection);
            }
        }
        return executions;
    }

    private static boolean isHere(RequestRow request) {
        return request.host().equals(Host.name()) && request.user().equals(Requester.user());
    }

    /** The ids of runs of this user on this host whose rows were purged by others, or on other hosts. */
    List<String> purgedElsewhere() throws RepositoryException {
        if (!purgedElsewhere) {
            return List.of();
        }
        Object[] here = {Host.name(), Requester.user()};
        return inTransaction(connection -> {
            List<Row> rows = new Sql("SELECT run_id FROM taskrunner_purged WHERE host = ? AND user_name = ?", here)
                .rows(connection);
            new Sql("DELETE FROM taskrunner_purged WHERE host = ? AND user_name = ?", here).update(connection);
            return rows;
        }).stream().map(row -> row.required("run_id")).toList();
    }

    // Plumbing

    /** Runs the work in one transaction. */
    private <T> T inTransaction(Work<T> work) throws RepositoryException {
        return read(connection -> inTransaction(connection, work));
    }

    private static <T> T inTransaction(Connection connection, Work<T> work) throws SQLException, RepositoryException {
        connection.setAutoCommit(false);
        try {
            T result = work.run(connection);
            connection.commit();
            return result;
        } finally {
            connection.rollback();
            connection.setAutoCommit(true);
        }
    }

    /** Runs the work, again and again when what stands against it may pass within {@link #patience}. */
    private <T> T read(Work<T> work) throws RepositoryException {
        long deadline = System.nanoTime() + patience.toNanos();
        for (int pause = 20;; pause = Math.min(pause * 2, MAX_PAUSE)) {
            try {
                return work.run(connection());
            } catch (SQLException e) {
                discard();
                if (!database.isTransient(e) || System.nanoTime() >= deadline || !slept(pause)) {
                    throw RepositoryException.unavailable(database, connection == null && id == null
                        ? "cannot be opened"
                        : "cannot be used", e);
                }
            }
        }
    }

    private static boolean slept(int millis) {
        try {
            Thread.sleep(millis);
            return true;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    /** One that was opened before the database was removed or replaced would take all that is written to it with it. */
    private Connection connection() throws SQLException {
        Object now = database.identity();
        if (connection != null && (now == null || !now.equals(identity))) {
            discard();
        }
        if (connection == null) {
            connection = database.connect(patience);
            identity = now;
        }
        return connection;
    }

    /** Gives the connection back to the server while it is not used. */
    void release() {
        if (database.isServer()) {
            discard();
        }
    }

    private void discard() {
        try {
            if (connection != null) {
                connection.close();
            }
        } catch (SQLException e) {
            // it is of no use any more
        }
        connection = null;
    }

    private List<ExecutionRow> select(String sql, Object... values) throws RepositoryException {
        return read(connection -> new Sql(sql, values).rows(connection)).stream().map(ExecutionRow::of).toList();
    }

    @Override
    public void close() {
        if (database.isServer() || !leaveOpen) {
            discard();
        }
    }
}
