import java.io.IOException;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Who asked for an execution and what was asked: written before anything runs, and all that a restart needs.
 *
 * @param runId unique over all hosts
 * @param pidStart tells the runner from a later process with its pid; with boot id and pid namespace it proves the runner dead
 * @param command byte for byte
 * @param options the other options by name, so that a restart repeats them
 * @param started UTC, ISO-8601, to the millisecond, as all times here
 * @param outputFile where the command's output is kept, or null
 * @param restartedFrom the job execution that this one restarts, or null
 */
record RequestRow(String runId, String user, String host, String bootId, String pidNamespace, long pid, long pidStart, String lockFile,
                  String command, int threshold, String counterFile, Map<String, String> options, String started, String outputFile,
                  Long restartedFrom) {
}

/**
 * How an execution ended.
 *
 * @param batchStatus of Jakarta Batch: COMPLETED, FAILED, STOPPED
 * @param counter the failure counter afterwards, or null when it was not counted
 * @param holder who held the lock, or null
 */
record EndingRow(String batchStatus, String exitStatus, int processExit, Long counter, String holder, String message, String ended) {
}

/**
 * A job execution as the auditor sees it.
 *
 * @param acquired when it acquired the lock, or null
 * @param ended null while it has not ended, as far as is known
 * @param evidence why its row was settled by another run, or null
 */
record ExecutionRow(long id, long instanceId, RequestRow request, String acquired, String ended, String batchStatus, String exitStatus,
                    Integer processExit, Long counter, String holder, String message, String evidence) {
    boolean isUnfinished() {
        return ended == null;
    }
}

/** A step execution; times in milliseconds since 1970, or null. */
record StepRow(String name, Long startedMillis, Long endedMillis, String batchStatus, String exitStatus) {
}

/** Which executions; null or 0: any, no limit. @param status a batch status or an exit status @param since inclusive, as in rows @param until exclusive */
record Filter(String lockFile, String host, String status, String since, String until, int limit) {
}

/**
 * The audit repository: one row per execution request, next to JBeret's tables. Reports come straight from SQL: JBeret and Weld are
 * not loaded for them.
 *
 * <p>While a job runs, writes that fail are kept and made up for at the end ({@link #write}), so that the loss of the database
 * changes nothing about the command and its lock. One thread uses a repository for that.
 */
final class Repository implements AutoCloseable {
    private static final Set<String> BATCH_STATUSES = Set.of("STARTING", "STARTED", "STOPPING", "STOPPED", "FAILED", "COMPLETED", "ABANDONED");
    private static final String REQUEST_COLUMNS = "run_id, user_name, host, boot_id, pid_namespace, pid, pid_start, lock_file, command,"
        + " threshold, counter_file, options, started, output_file, restarted_from";
    private static final String SELECT = "SELECT a.job_execution_id, j.jobinstanceid, a." + REQUEST_COLUMNS.replace(", ", ", a.")
        + ", a.acquired, a.ended, j.batchstatus, j.exitstatus, a.process_exit, a.counter, a.holder, a.message, a.evidence"
        + " FROM taskrunner_execution a JOIN job_execution j ON j.jobexecutionid = a.job_execution_id";
    private static final int PURGED_AT_ONCE = 1000;
    /** How long a write during a run tries to get through before it is put off: the lock is held meanwhile. */
    private static final Duration PATIENCE_DURING_RUN = Duration.ofSeconds(2);

    private final Location location;
    private final ThreadConnections connections;
    private final List<Write> putOff = new ArrayList<>();
    private boolean running;

    /** Something that is written; it may be tried again. */
    interface Write {
        void run() throws Exception;
    }

    /** Something that is read or written in one transaction. */
    interface Work<T> {
        T run(Connection connection) throws Exception;
    }

    private Repository(Location location) {
        this.location = location;
        this.connections = new ThreadConnections(location);
    }

    /** Opens the repository and creates or migrates its tables. */
    static Repository open(Location location) throws RepositoryException {
        Repository repository = new Repository(location);
        try {
            location.prepare();
            Schema.ensure(location, repository.connections);
            return repository;
        } catch (IOException | SQLException e) {
            repository.close();
            throw RepositoryException.unavailable(location, "cannot be opened", e);
        } catch (RepositoryException e) {
            repository.close();
            throw e;
        }
    }

    Location location() {
        return location;
    }

    ThreadConnections connections() {
        return connections;
    }

    /** The time as rows have it. */
    static String time(Instant instant) {
        String text = instant.truncatedTo(ChronoUnit.SECONDS).toString();
        return text.substring(0, text.length() - 1) + "." + Long.toString(1000 + instant.toEpochMilli() % 1000).substring(1) + "Z";
    }

    // What a run writes

    /** The row of a job execution that was just created, in the transaction that created it. */
    static void insert(Connection connection, long id, RequestRow request) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO taskrunner_execution (job_execution_id, " + REQUEST_COLUMNS
            + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
            Object[] values = {id, request.runId(), request.user(), request.host(), request.bootId(), request.pidNamespace(), request.pid(),
                request.pidStart(), request.lockFile(), request.command(), request.threshold(), request.counterFile(),
                form(request.options()), request.started(), request.outputFile(), request.restartedFrom()};
            set(insert, values);
            insert.executeUpdate();
        }
    }

    /** From now on a write that fails is put off. */
    void runBegins() {
        running = true;
        connections.patience(PATIENCE_DURING_RUN);
    }

    /** Writes, or keeps the write for {@link #end} when the database is gone. @return false when it was put off */
    boolean write(Write write) {
        if (putOff.isEmpty()) {
            try {
                write.run();
                return true;
            } catch (Exception e) {
                if (!running) {
                    throw e instanceof RuntimeException unchecked ? unchecked : new IllegalStateException(e);
                }
                connections.discard();
            }
        }
        putOff.add(write);
        return false;
    }

    /** The database was gone at a write, and is not asked any more until {@link #end}. */
    boolean hasPutOff() {
        return !putOff.isEmpty();
    }

    /** Notes that the execution has acquired the lock. */
    void acquired(long id, String time) {
        write(() -> update(connections.getConnection(), "UPDATE taskrunner_execution SET acquired = ? WHERE job_execution_id = ?", time, id));
    }

    /**
     * Writes how the execution ended, and before that all that was put off; durably. Whatever JBeret has written or not, the job
     * execution and its steps are ended afterwards.
     *
     * @param acquired when it acquired the lock, or null
     * @param patience how long to wait for a database that is gone
     * @return false when the row went to a spool file, which the next run takes over
     */
    boolean end(long id, RequestRow request, String acquired, EndingRow ending, Duration patience) throws RepositoryException {
        connections.patience(patience);
        connections.acceptAnother();
        try {
            boolean known = idOf(connections.getConnection(), request.runId()) == id;
            connections.patience(Duration.ZERO);
            for (Write write : known ? putOff : List.<Write>of()) {
                try {
                    write.run();
                } catch (Exception e) {
                    // what counts is written below
                    connections.discard();
                    break;
                }
            }
            putOff.clear();
            running = false;
            inTransaction(connection -> {
                end(connection, id, request, acquired, ending);
                return null;
            });
            return true;
        } catch (SQLException | RepositoryException e) {
            Spool.write(this, new Spool.Entry(id, request, acquired, ending));
            return false;
        }
    }

    /** Takes over the rows that runs could not write. @return their ids */
    List<Long> takeOverSpooled() throws RepositoryException {
        List<Long> taken = new ArrayList<>();
        for (Map.Entry<Path, Spool.Entry> spooled : Spool.entries(this).entrySet()) {
            Spool.Entry entry = spooled.getValue();
            taken.add(inTransaction(connection -> end(connection, entry.id(), entry.request(), entry.acquired(), entry.ending())));
            Spool.remove(spooled.getKey());
        }
        return taken;
    }

    private static long end(Connection connection, long id, RequestRow request, String acquired, EndingRow ending) throws SQLException {
        long known = idOf(connection, request.runId());
        long target = known >= 0 ? known : insertAgain(connection, request);
        update(connection, "UPDATE taskrunner_execution SET acquired = ?, ended = ?, process_exit = ?, counter = ?, holder = ?, message = ?,"
            + " evidence = NULL WHERE job_execution_id = ?", acquired, ending.ended(), ending.processExit(), ending.counter(), ending.holder(),
            ending.message(), target);
        endJob(connection, target, ending.batchStatus(), ending.exitStatus(), ending.ended(), "1 = 1");
        return target;
    }

    private static long idOf(Connection connection, String runId) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT job_execution_id FROM taskrunner_execution WHERE run_id = ?")) {
            set(select, runId);
            ResultSet rows = select.executeQuery();
            return rows.next() ? rows.getLong(1) : -1;
        }
    }

    /** The database that had the row is gone: a new one gets it under a new id. */
    private static long insertAgain(Connection connection, RequestRow request) throws SQLException {
        Timestamp started = Timestamp.from(Instant.parse(request.started()));
        long instance = insert(connection, "INSERT INTO job_instance (jobname) VALUES (?)", JobRunner.JOB);
        long id = insert(connection, "INSERT INTO job_execution (jobinstanceid, createtime, starttime) VALUES (?, ?, ?)", instance, started,
            started);
        insert(connection, id, request);
        return id;
    }

    /** @return false when it had ended already, or the condition does not hold */
    private static boolean endJob(Connection connection, long id, String batchStatus, String exitStatus, String ended, String condition)
        throws SQLException {
        Timestamp time = Timestamp.from(Instant.parse(ended));
        int rows = update(connection, "UPDATE job_execution SET batchstatus = ?, exitstatus = ?, endtime = ?, lastupdatedtime = ?"
            + " WHERE jobexecutionid = ? AND " + condition, batchStatus, exitStatus, time, time, id);
        if (rows > 0) {
            update(connection, "UPDATE step_execution SET batchstatus = ?, exitstatus = ?, endtime = ? WHERE jobexecutionid = ?"
                + " AND batchstatus IN " + Schema.UNFINISHED, batchStatus.equals("COMPLETED") ? "FAILED" : batchStatus, exitStatus, time, id);
        }
        return rows > 0;
    }

    // Settling what the dead have left

    /** Executions that have not ended, oldest first. @param lockFile or null for all of the host */
    List<ExecutionRow> unfinished(String host, String lockFile) throws RepositoryException {
        // the plus keeps SQLite from walking through all of the host's rows in their order instead of taking the index of the unfinished
        String sql = SELECT + " WHERE a.ended IS NULL AND a.host = ?" + (lockFile == null ? "" : " AND a.lock_file = ?")
            + " ORDER BY +a.job_execution_id";
        return lockFile == null ? select(sql, host) : select(sql, host, lockFile);
    }

    /**
     * Ends the row of an execution that is proven dead: FAILED, KILLED, its steps too.
     *
     * @return false when it has ended meanwhile: nothing is changed then
     */
    boolean settle(long id, String evidence, String time) throws RepositoryException {
        return inTransaction(connection -> {
            if (update(connection, "UPDATE taskrunner_execution SET ended = ?, evidence = ? WHERE job_execution_id = ? AND ended IS NULL", time,
                evidence, id) == 0) {
                return false;
            }
            // JBeret may have ended it just before the runner died: then that is what happened
            if (!endJob(connection, id, "FAILED", "KILLED", time, "batchstatus IN " + Schema.UNFINISHED)) {
                update(connection, "UPDATE step_execution SET batchstatus = 'FAILED', exitstatus = 'KILLED', endtime = ? WHERE jobexecutionid = ?"
                    + " AND batchstatus IN " + Schema.UNFINISHED, Timestamp.from(Instant.parse(time)), id);
            }
            return true;
        });
    }

    /**
     * Sees to it that at most one restart of a job instance begins and none beside an execution that has not ended. The lock keeps it
     * off those of this host, a look into the repository off those of the host that it comes from.
     *
     * @param id the execution that is to be restarted, its instance's newest
     */
    void checkRestartable(Connection connection, long id, String host) throws SQLException, RepositoryException {
        location.lockInstance(connection, id);
        try (PreparedStatement select = connection.prepareStatement("SELECT o.jobexecutionid, o.batchstatus FROM job_execution j"
            + " JOIN job_execution o ON o.jobinstanceid = j.jobinstanceid WHERE j.jobexecutionid = ? ORDER BY o.jobexecutionid DESC")) {
            set(select, id);
            ResultSet rows = select.executeQuery();
            if (!rows.next()) {
                throw new RepositoryException(RepositoryException.USAGE, "no execution " + id + " in " + location);
            }
            long newest = rows.getLong(1);
            String status = rows.getString(2);
            if (Schema.UNFINISHED.contains("'" + status + "'")) {
                throw new RepositoryException(RepositoryException.USAGE, "execution " + newest + " of this job instance is " + status
                    + ": it may be running; see it with: show " + newest);
            }
            if (newest != id) {
                throw new RepositoryException(RepositoryException.USAGE, "execution " + id + " was restarted already; its newest execution is "
                    + newest);
            }
            if (!status.equals("FAILED") && !status.equals("STOPPED")) {
                throw new RepositoryException(RepositoryException.USAGE, "execution " + id + " is " + status
                    + ": only FAILED and STOPPED ones restart");
            }
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT live.job_execution_id, live.host FROM taskrunner_execution a"
            + " JOIN taskrunner_execution live ON live.lock_file = a.lock_file AND live.host = a.host"
            + " JOIN job_execution j ON j.jobexecutionid = live.job_execution_id"
            + " WHERE a.job_execution_id = ? AND a.host <> ? AND live.acquired IS NOT NULL AND j.batchstatus IN " + Schema.UNFINISHED)) {
            set(select, id, host);
            ResultSet rows = select.executeQuery();
            if (rows.next()) {
                throw new RepositoryException(RepositoryException.USAGE, "execution " + rows.getLong(1) + " of the same task runs on host "
                    + rows.getString(2) + ", whose lock cannot be seen from here: restart " + id + " when it has ended");
            }
        }
    }

    // Reports

    /** Newest first. */
    List<ExecutionRow> history(Filter filter) throws RepositoryException {
        StringBuilder sql = new StringBuilder(SELECT);
        List<Object> values = new ArrayList<>();
        where(sql, values, "a.lock_file = ?", filter.lockFile());
        where(sql, values, "a.host = ?", filter.host());
        where(sql, values, filter.status() != null && BATCH_STATUSES.contains(filter.status()) ? "j.batchstatus = ?" : "j.exitstatus = ?",
            filter.status());
        where(sql, values, "a.started >= ?", filter.since());
        where(sql, values, "a.started < ?", filter.until());
        sql.append(" ORDER BY ").append(filter.status() == null ? "a.job_execution_id" : "j.jobexecutionid").append(" DESC");
        if (filter.limit() > 0) {
            sql.append(" LIMIT ").append(filter.limit());
        }
        return select(sql.toString(), values.toArray());
    }

    private static void where(StringBuilder sql, List<Object> values, String condition, Object value) {
        if (value != null) {
            sql.append(values.isEmpty() ? " WHERE " : " AND ").append(condition);
            values.add(value);
        }
    }

    Optional<ExecutionRow> find(long id) throws RepositoryException {
        return select(SELECT + " WHERE a.job_execution_id = ?", id).stream().findFirst();
    }

    /** All executions of a job instance, oldest first: what was restarted, and the restarts. */
    List<ExecutionRow> executionsOf(long instanceId) throws RepositoryException {
        return select(SELECT + " WHERE j.jobinstanceid = ? ORDER BY a.job_execution_id", instanceId);
    }

    List<StepRow> steps(long id) throws RepositoryException {
        return read(connection -> {
            List<StepRow> steps = new ArrayList<>();
            try (PreparedStatement select = connection.prepareStatement("SELECT stepname, starttime, endtime, batchstatus, exitstatus"
                + " FROM step_execution WHERE jobexecutionid = ? ORDER BY stepexecutionid")) {
                set(select, id);
                ResultSet rows = select.executeQuery();
                while (rows.next()) {
                    steps.add(new StepRow(rows.getString(1), millis(rows.getTimestamp(2)), millis(rows.getTimestamp(3)), rows.getString(4),
                        rows.getString(5)));
                }
            }
            return steps;
        });
    }

    private static Long millis(Timestamp time) {
        return time == null ? null : time.getTime();
    }

    // Retention

    /** What was purged. @param outputFiles to be deleted by the caller */
    record Purged(int executions, List<String> outputFiles) {
    }

    /**
     * Deletes the job instances all of whose executions ended before the time, but keeps the newest executions of each task.
     * In transactions of a thousand, so that runs are not kept waiting.
     *
     * @param keep how many of each task (host and lock file) stay in any case
     */
    Purged purge(String before, int keep) throws RepositoryException {
        String candidates = "SELECT j.jobinstanceid, MAX(a.rank_in_task) AS newest FROM (SELECT job_execution_id, ended, ROW_NUMBER() OVER"
            + " (PARTITION BY host, lock_file ORDER BY job_execution_id DESC) AS rank_in_task FROM taskrunner_execution) a"
            + " JOIN job_execution j ON j.jobexecutionid = a.job_execution_id GROUP BY j.jobinstanceid"
            + " HAVING MIN(a.rank_in_task) > ? AND COUNT(a.ended) = COUNT(*) AND MAX(a.ended) < ?";
        List<Long> instances = read(connection -> {
            List<Long> ids = new ArrayList<>();
            try (PreparedStatement select = connection.prepareStatement(candidates)) {
                set(select, keep, before);
                ResultSet rows = select.executeQuery();
                while (rows.next()) {
                    ids.add(rows.getLong(1));
                }
            }
            return ids;
        });
        int executions = 0;
        List<String> outputFiles = new ArrayList<>();
        for (int from = 0; from < instances.size(); from += PURGED_AT_ONCE) {
            List<Long> some = instances.subList(from, Math.min(from + PURGED_AT_ONCE, instances.size()));
            executions += inTransaction(connection -> purge(connection, some, outputFiles));
        }
        return new Purged(executions, outputFiles);
    }

    private static int purge(Connection connection, List<Long> instances, List<String> outputFiles) throws SQLException {
        String ids = instances.toString().replace('[', '(').replace(']', ')');
        int executions = 0;
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery("SELECT a.output_file FROM taskrunner_execution a JOIN job_execution j"
                + " ON j.jobexecutionid = a.job_execution_id WHERE j.jobinstanceid IN " + ids);
            while (rows.next()) {
                executions++;
                if (rows.getString(1) != null) {
                    outputFiles.add(rows.getString(1));
                }
            }
            statement.executeUpdate("DELETE FROM job_instance WHERE jobinstanceid IN " + ids);
        }
        return executions;
    }

    // Plumbing

    /** Runs the work in one transaction that survives a power failure once it has committed. */
    <T> T inTransaction(Work<T> work) throws RepositoryException {
        return read(connection -> {
            location.makeDurable(connection, true);
            connection.setAutoCommit(false);
            try {
                T result = work.run(connection);
                connection.commit();
                return result;
            } finally {
                connection.rollback();
                connection.setAutoCommit(true);
                location.makeDurable(connection, false);
            }
        });
    }

    private <T> T read(Work<T> work) throws RepositoryException {
        try {
            return work.run(connections.getConnection());
        } catch (RepositoryException | RuntimeException e) {
            throw e;
        } catch (Exception e) {
            connections.discard();
            throw RepositoryException.unavailable(location, "cannot be used", e);
        }
    }

    private List<ExecutionRow> select(String sql, Object... values) throws RepositoryException {
        return read(connection -> {
            List<ExecutionRow> executions = new ArrayList<>();
            try (PreparedStatement select = connection.prepareStatement(sql)) {
                set(select, values);
                ResultSet rows = select.executeQuery();
                while (rows.next()) {
                    executions.add(execution(rows));
                }
            }
            return executions;
        });
    }

    private static ExecutionRow execution(ResultSet rows) throws SQLException {
        RequestRow request = new RequestRow(rows.getString(3), rows.getString(4), rows.getString(5), rows.getString(6), rows.getString(7),
            rows.getLong(8), rows.getLong(9), rows.getString(10), rows.getString(11), rows.getInt(12), rows.getString(13),
            parseForm(rows.getString(14)), rows.getString(15), rows.getString(16), number(rows, 17));
        Long processExit = number(rows, 22);
        return new ExecutionRow(rows.getLong(1), rows.getLong(2), request, rows.getString(18), rows.getString(19), rows.getString(20),
            rows.getString(21), processExit == null ? null : processExit.intValue(), number(rows, 23), rows.getString(24),
            rows.getString(25), rows.getString(26));
    }

    private static Long number(ResultSet rows, int column) throws SQLException {
        long value = rows.getLong(column);
        return rows.wasNull() ? null : value;
    }

    private static int update(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement update = connection.prepareStatement(sql)) {
            set(update, values);
            return update.executeUpdate();
        }
    }

    private static long insert(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            set(insert, values);
            insert.executeUpdate();
            ResultSet keys = insert.getGeneratedKeys();
            keys.next();
            return keys.getLong(1);
        }
    }

    private static void set(PreparedStatement statement, Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            Object value = values[i];
            if (value instanceof String text) {
                statement.setString(i + 1, text);
            } else if (value instanceof Integer number) {
                statement.setInt(i + 1, number);
            } else if (value instanceof Long number) {
                statement.setLong(i + 1, number);
            } else if (value instanceof Timestamp time) {
                statement.setTimestamp(i + 1, time);
            } else {
                statement.setObject(i + 1, value);
            }
        }
    }

    /** Names and values as one line that keeps them exactly: {@code application/x-www-form-urlencoded}. */
    static String form(Map<String, String> values) {
        StringBuilder form = new StringBuilder();
        values.forEach((name, value) -> form.append(form.length() == 0 ? "" : "&").append(URLEncoder.encode(name, StandardCharsets.UTF_8))
            .append('=').append(URLEncoder.encode(value, StandardCharsets.UTF_8)));
        return form.toString();
    }

    static Map<String, String> parseForm(String form) {
        Map<String, String> values = new LinkedHashMap<>();
        for (String pair : form.isEmpty() ? new String[0] : form.split("&")) {
            int equals = pair.indexOf('=');
            values.put(URLDecoder.decode(pair.substring(0, equals), StandardCharsets.UTF_8),
                URLDecoder.decode(pair.substring(equals + 1), StandardCharsets.UTF_8));
        }
        return values;
    }

    @Override
    public void close() {
        connections.close();
    }
}

/** Rows that could not be written: a file of one line each in the state folder. */
final class Spool {
    record Entry(long id, RequestRow request, String acquired, EndingRow ending) {
    }

    static void write(Repository repository, Entry entry) throws RepositoryException {
        RequestRow request = entry.request;
        EndingRow ending = entry.ending;
        Map<String, String> values = new LinkedHashMap<>();
        put(values, "repository", repository.location().url());
        put(values, "id", entry.id);
        put(values, "run", request.runId());
        put(values, "user", request.user());
        put(values, "host", request.host());
        put(values, "boot", request.bootId());
        put(values, "pid-namespace", request.pidNamespace());
        put(values, "pid", request.pid());
        put(values, "pid-start", request.pidStart());
        put(values, "lock-file", request.lockFile());
        put(values, "command", request.command());
        put(values, "threshold", request.threshold());
        put(values, "counter-file", request.counterFile());
        put(values, "options", Repository.form(request.options()));
        put(values, "started", request.started());
        put(values, "output-file", request.outputFile());
        put(values, "restarted-from", request.restartedFrom());
        put(values, "acquired", entry.acquired);
        put(values, "batch-status", ending.batchStatus());
        put(values, "exit-status", ending.exitStatus());
        put(values, "process-exit", ending.processExit());
        put(values, "counter", ending.counter());
        put(values, "holder", ending.holder());
        put(values, "message", ending.message());
        put(values, "ended", ending.ended());
        Path folder = folder(repository);
        try {
            Location.makePrivateFolder(folder);
            Path aside = Files.createTempFile(folder, request.runId(), ".tmp");
            try (FileChannel channel = FileChannel.open(aside, StandardOpenOption.WRITE)) {
                ByteBuffer bytes = ByteBuffer.wrap((Repository.form(values) + "\n").getBytes(StandardCharsets.UTF_8));
                while (bytes.hasRemaining()) {
                    channel.write(bytes);
                }
                channel.force(true);
                Files.move(aside, folder.resolve(request.runId() + ".row"), StandardCopyOption.ATOMIC_MOVE);
            } finally {
                Files.deleteIfExists(aside);
            }
        } catch (IOException e) {
            throw RepositoryException.unavailable(repository.location(), "cannot be reached, nor can the row be kept in " + folder, e);
        }
    }

    private static void put(Map<String, String> values, String name, Object value) {
        if (value != null) {
            values.put(name, value.toString());
        }
    }

    /** The rows for this repository by their files; a damaged file is put aside. */
    static Map<Path, Entry> entries(Repository repository) throws RepositoryException {
        Map<Path, Entry> entries = new LinkedHashMap<>();
        Path folder = folder(repository);
        if (Files.isDirectory(folder)) {
            try (DirectoryStream<Path> found = Files.newDirectoryStream(folder, "*.row")) {
                for (Path file : found) {
                    try {
                        Map<String, String> values = Repository.parseForm(Files.readString(file).strip());
                        if (repository.location().url().equals(values.get("repository"))) {
                            entries.put(file, entry(values));
                        }
                    } catch (IOException e) {
                        // another run has taken it over, or it is another user's
                    } catch (RuntimeException e) {
                        putAside(file);
                    }
                }
            } catch (IOException e) {
                throw RepositoryException.unavailable(repository.location(), "cannot read the rows in " + folder, e);
            }
        }
        return entries;
    }

    private static void putAside(Path file) {
        Path bad = file.resolveSibling(file.getFileName() + ".bad");
        try {
            Files.move(file, bad);
            System.err.println("taskrunner-batch: " + file + " holds no complete row: its execution will be shown as KILLED; the file is"
                + " now " + bad);
        } catch (IOException e) {
            // another run has put it aside
        }
    }

    private static Entry entry(Map<String, String> values) {
        RequestRow request = new RequestRow(values.get("run"), values.get("user"), values.get("host"), values.get("boot"),
            values.get("pid-namespace"), Long.parseLong(values.get("pid")), Long.parseLong(values.get("pid-start")), values.get("lock-file"),
            values.get("command"), Integer.parseInt(values.get("threshold")), values.get("counter-file"),
            Repository.parseForm(values.get("options")), values.get("started"), values.get("output-file"), number(values.get("restarted-from")));
        EndingRow ending = new EndingRow(values.get("batch-status"), values.get("exit-status"), Integer.parseInt(values.get("process-exit")),
            number(values.get("counter")), values.get("holder"), values.get("message"), values.get("ended"));
        return new Entry(Long.parseLong(values.get("id")), request, values.get("acquired"), ending);
    }

    private static Long number(String text) {
        return text == null ? null : Long.valueOf(text);
    }

    static void remove(Path file) throws RepositoryException {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            throw new RepositoryException(RepositoryException.UNAVAILABLE, "cannot remove " + file + ", whose row is in the audit repository"
                + " now: " + e.getMessage(), e);
        }
    }

    private static Path folder(Repository repository) {
        return repository.location().stateFolder().resolve("spool");
    }

    private Spool() {
    }
}
