import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;

import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/**
 * The row of a fleet task, with its holder's beat. All times in milliseconds, by the database's clock.
 *
 * @param lockIsFree whether no other session has the task's advisory lock
 * @param runId of the holder, or null: released
 * @param pid of the holder's taskrunner on its host, or 0 when the audit trail does not have it
 * @param backend the pid of the holder's session on the server
 * @param acquired when the holder acquired the task @param seen its last beat
 * @param freeAt from when others may take the task over, or acquire it
 * @param grace what the holder promised @param since when the server was first seen as it is now
 */
record FleetRow(String task, boolean lockIsFree, String runId, Long jobExecutionId, String host, String user, long pid,
                int backend, long fence, long counter, long acquired, long seen, long freeAt, long grace, long since,
                long now) {
    long left() {
        return freeAt - now;
    }

    /** How long the holder has not been heard of. */
    long silent() {
        return Math.max(0, now - seen);
    }
}

/**
 * The connection of one request or one holder of a fleet task, and all SQL about tasks. One thread uses it at a time.
 * No statement waits longer than the socket's timeout; a transaction that fails is followed by {@link #close}.
 */
final class FleetSession implements AutoCloseable {
    private static final String CHANNEL = "taskrunner_stop";
    private static final String KEY = "hashtextextended('taskrunner:' || ?, 0)";
    private static final int PROBES = 5;

    /**
     * What the server sends to a client that does not answer is given up after 25 s; what a client leaves half done,
     * after 5 s. An idle session lives on: a holder that is paused keeps its lock.
     */
    private static final String SETTINGS =
        "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
        + " SET tcp_user_timeout = 25000; SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '4s';"
        + " SET statement_timeout = '5s'; SET default_transaction_read_only = off; SELECT"
            + " set_config('synchronous_commit', 'on', false)"
        + " WHERE current_setting('synchronous_commit') IN ('off', 'local'); SELECT set_config('idle_session_timeout',"
            + " '0', false)"
        + " WHERE current_setting('idle_session_timeout', true) IS NOT NULL";

    private final Postgres database;
    private final Connection connection;
    private final String task;
    private final String runId;
    /** What tells one server from another: its timeline, or, where that function is refused, its start. */
    private final String timeline;
    /** Of this session: its process on the server, and when that was started. */
    final int backend;
    final String backendStart;

    private FleetSession(Postgres database, Connection connection, String task, String runId) throws SQLException {
        this.database = database;
        this.connection = connection;
        this.task = task;
        this.runId = runId;
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        execute(SETTINGS);
        Row session = row("SELECT pid, backend_start::text AS backend_start,"
            + " has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE')::int AS has_timeline FROM pg_stat_activity"
            + " WHERE pid = pg_backend_pid()");
        backend = (int) session.requiredNumber("pid");
        backendStart = session.required("backend_start");
        timeline = session.requiredNumber("has_timeline") == 1 ? "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
            : "pg_postmaster_start_time()::text";
    }

    static FleetSession open(Postgres database, String task, String runId) throws SQLException {
        Connection connection = database.connectForLock(name(runId));
        try {
            return new FleetSession(database, connection, task, runId);
        } catch (SQLException | RuntimeException e) {
            connection.close();
            throw e;
        }
    }

    private static String name(String runId) {
        return "taskrunner " + runId;
    }

    /**
     * Whether this session stays the same one from transaction to transaction. A pooler announces another backend than
     * the server does; one in transaction mode lets a setting of this session go as soon as another client begins a
     * transaction.
     * @throws SQLException when a pooler has no connection for the second client
     */
    boolean isKept() throws SQLException {
        if (connection.unwrap(PGConnection.class).getBackendPID() == backend) {
            return true;
        }
        for (int probe = 1; probe <= PROBES; probe++) {
            String value = runId + "/" + probe;
            row("SELECT set_config('taskrunner.probe', ?, false)", value);
            try (Connection other = database.connectForLock(name(runId))) {
                other.setAutoCommit(false);
                new Sql("SELECT 1").rows(other);
                if (!value.equals(row("SELECT current_setting('taskrunner.probe', true) AS probe").text("probe"))) {
                    return false;
                }
            }
        }
        return true;
    }

    // A request's transaction

    /**
     * Begins a transaction, locks the task's row, looks whether the server is the one before, and tries the advisory
     * lock.
     */
    FleetRow enter() throws SQLException {
        connection.setAutoCommit(false);
        while (new Sql("SELECT 1 FROM taskrunner_task WHERE task = ? FOR UPDATE", task).rows(connection).isEmpty()) {
            update("INSERT INTO taskrunner_task (task) VALUES (?) ON CONFLICT DO NOTHING", task);
            update("INSERT INTO taskrunner_beat (task, seen) VALUES (?, clock_timestamp()) ON CONFLICT DO NOTHING",
                task);
        }
        // the first to see another server says so
        update("UPDATE taskrunner_fleet SET system = server.system, timeline = server.timeline, since ="
            + " CASE taskrunner_fleet.timeline WHEN '' THEN since ELSE clock_timestamp() END"
            + " FROM (SELECT system_identifier AS system, " + timeline + " AS timeline FROM pg_control_system()) server"
            + " WHERE (taskrunner_fleet.system, taskrunner_fleet.timeline)"
            + " IS DISTINCT FROM (server.system, server.timeline)");
        // only ever while the row is locked, so that a look of one that loses never collides with a holder's return
        boolean alone = row("SELECT pg_try_advisory_lock(" + KEY + ")::int AS alone", task)
            .requiredNumber("alone") == 1;
        // a statement of its own: its snapshot must not be older than the lock
        return read(connection, task, Boolean.toString(alone));
    }

    /** The row of the task, or null. @param lockIsFree as SQL */
    private static FleetRow read(Connection connection, String task, String lockIsFree) throws SQLException {
        List<Row> rows =
            new Sql("SELECT t.run_id, t.job_execution_id, t.host, e.user_name, e.pid, t.backend, t.fence, t.counter, "
            + millis("t.acquired", "acquired") + ", " + millis("b.seen", "seen") + ", " + millis("t.grace", "grace")
                + ", "
            + millis("f.since", "since") + ", " + millis("clock_timestamp()", "now") + ", "
            + millis("greatest(f.since + f.grace, CASE WHEN t.run_id IS NULL THEN timestamptz 'epoch'"
                + " ELSE greatest(least(b.seen, clock_timestamp()), pg_postmaster_start_time()) + t.grace END)",
                    "free_at")
            + ", (" + lockIsFree
                + ")::int AS lock_is_free FROM taskrunner_task t JOIN taskrunner_beat b ON b.task = t.task"
            + " CROSS JOIN taskrunner_fleet f LEFT JOIN taskrunner_execution e ON e.run_id = t.run_id WHERE t.task ="
                + " ?", task)
            .rows(connection);
        if (rows.isEmpty()) {
            return null;
        }
        Row row = rows.get(0);
        return new FleetRow(task, row.requiredNumber("lock_is_free") == 1, row.text("run_id"),
            row.number("job_execution_id"),
            row.text("host"), row.text("user_name"), orZero(row.number("pid")), (int) orZero(row.number("backend")),
            row.requiredNumber("fence"), row.requiredNumber("counter"), orZero(row.number("acquired")),
            row.requiredNumber("seen"), row.requiredNumber("free_at"), row.requiredNumber("grace"),
            row.requiredNumber("since"), row.requiredNumber("now"));
    }

    private static long orZero(Long number) {
        return number == null ? 0 : number;
    }

    /** A time or an interval as milliseconds. */
    private static String millis(String expression, String name) {
        return "(extract(epoch FROM " + expression + ") * 1000)::bigint AS " + name;
    }

    /**
     * Writes this run as the holder.
     *
     * @return its fence: larger than all before, also when a fail-over or a restore lost some
     */
    long acquire(String host, String bootId) throws SQLException {
        long fence = row("UPDATE taskrunner_task SET run_id = ?, host = ?, boot_id = ?, backend = pg_backend_pid(),"
            + " job_execution_id = (SELECT job_execution_id FROM taskrunner_execution WHERE run_id = ?),"
            + " grace = (SELECT grace FROM taskrunner_fleet), acquired = clock_timestamp(), released = NULL, counter ="
                + " 0,"
            + " fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) WHERE task = ?"
            + " RETURNING fence", runId, host, bootId, runId, task).requiredNumber("fence");
        beginBeating();
        return fence;
    }

    private void beginBeating() throws SQLException {
        update("UPDATE taskrunner_beat SET run_id = ?, seen = clock_timestamp(), stop = NULL WHERE task = ?", runId,
            task);
        execute("LISTEN " + CHANNEL);
    }

    /** Counts a contention. @param counter as it is to be afterwards */
    void count(long counter) throws SQLException {
        update("UPDATE taskrunner_task SET counter = ? WHERE task = ?", counter, task);
    }

    /** How long a holder promises to be heard of; the same for all hosts. Milliseconds. */
    long grace() throws SQLException {
        return row("SELECT " + millis("grace", "grace") + " FROM taskrunner_fleet").requiredNumber("grace");
    }

    void unlock() throws SQLException {
        row("SELECT pg_advisory_unlock(" + KEY + ")", task);
    }

    /** Ends the transaction. @throws SQLException also when the server committed it on its own, without its standby */
    void commit() throws SQLException {
        connection.clearWarnings();
        connection.commit();
        failOn(connection.getWarnings());
        connection.setAutoCommit(true);
    }

    // What a holder writes

    /**
     * A write, so that a server that was deposed under synchronous replication does not answer it.
     *
     * @return who asked for a stop, or "", or null when the task is not this run's any more
     */
    String beat() throws SQLException {
        try (PreparedStatement update =
            connection.prepareStatement("UPDATE taskrunner_beat SET seen = clock_timestamp()"
            + " WHERE task = ? AND run_id = ? AND pg_backend_pid() = ? RETURNING coalesce(stop, '') AS stop")) {
            update.setString(1, task);
            update.setString(2, runId);
            update.setInt(3, backend);
            connection.clearWarnings();
            ResultSet row = update.executeQuery();
            String stop = row.next() ? row.getString("stop") : null;
            failOn(update.getWarnings());
            failOn(connection.getWarnings());
            return stop;
        }
    }

    private static void failOn(java.sql.SQLWarning warning) throws SQLException {
        if (warning != null) {
            throw new SQLException("the server has not heard of its standby: " + warning.getMessage(),
                warning.getSQLState(), warning);
        }
    }

    /** Waits for a notification. @return whether one names this run */
    boolean isNotified(int millis) throws SQLException {
        PGNotification[] notifications = connection.unwrap(PGConnection.class).getNotifications(millis);
        boolean mine = false;
        if (notifications != null) {
            for (PGNotification notification : notifications) {
                mine |= notification.getParameter().equals(runId);
            }
        }
        return mine;
    }

    /** Writes this run as the holder again, over a row that a fail-over has put back to before it. */
    void acquireAgain(String host, String bootId, long fence, long graceMillis) throws SQLException {
        update("UPDATE taskrunner_task SET run_id = ?, host = ?, boot_id = ?, backend = pg_backend_pid(),"
            + " job_execution_id ="
            + " (SELECT job_execution_id FROM taskrunner_execution WHERE run_id = ?), grace = ? * interval '1"
                + " millisecond',"
            + " acquired = clock_timestamp(), released = NULL, counter = 0, fence = ? WHERE task = ?", runId, host,
                bootId,
            runId, graceMillis, fence, task);
        beginBeating();
    }

    /** The row is this run's still: it beats from this session now. */
    void comeBack() throws SQLException {
        update("UPDATE taskrunner_task SET backend = pg_backend_pid() WHERE task = ?", task);
        update("UPDATE taskrunner_beat SET seen = clock_timestamp() WHERE task = ?", task);
        execute("LISTEN " + CHANNEL);
    }

    /** Ends a session of this run's own. */
    void terminate(int pid, String start) throws SQLException {
        new Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ? AND backend_start::text = ?",
            pid, start)
            .rows(connection);
    }

    /**
     * Gives the task back, if it is this run's. Contenders wait for the row, so that the lock is free when they see it.
     */
    void release() throws SQLException {
        connection.setAutoCommit(false);
        update("UPDATE taskrunner_task SET run_id = NULL, released = clock_timestamp() WHERE task = ? AND run_id = ?",
            task, runId);
        unlock();
        commit();
    }

    // What others ask

    /** The row of the task as anybody may see it, or null. */
    static FleetRow look(Connection connection, String task) throws SQLException {
        // see pg_locks in PostgreSQL's manual: a key of 64 bits has its high half in classid
        return read(connection, task,
            "SELECT NOT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database,"
            + " hashtextextended('taskrunner:' || t.task, 0) AS key WHERE l.locktype = 'advisory' AND l.granted"
            + " AND d.datname = current_database() AND l.objsubid = 1 AND l.classid::bigint = (key >> 32) & 4294967295"
            + " AND l.objid::bigint = key & 4294967295)");
    }

    /** The last request of each host for the task: its execution, host, time, threshold and exit status. */
    static List<Row> lastRequests(Connection connection, String task) throws SQLException {
        String last = "SELECT host, job_execution_id FROM taskrunner_execution WHERE task = ?";
        String order = " ORDER BY host, job_execution_id DESC LIMIT 1";
        return new Sql("WITH RECURSIVE last AS ((" + last + order + ") UNION ALL SELECT next.* FROM last, LATERAL ("
            + last
            + " AND host > last.host" + order
                + ") next) SELECT last.host, last.job_execution_id, e.create_time, e.threshold,"
            + " coalesce(j.exitstatus, j.batchstatus) AS ending FROM last JOIN taskrunner_execution e"
            + " ON e.job_execution_id = last.job_execution_id JOIN job_execution j ON j.jobexecutionid ="
                + " last.job_execution_id",
            task, task).rows(connection);
    }

    /** @param who asks @return false when the run does not hold its task */
    static boolean askToStop(Connection connection, String runId, String who) throws SQLException {
        return !new Sql("WITH asked AS (UPDATE taskrunner_beat SET stop = ? WHERE run_id = ? RETURNING run_id)"
            + " SELECT pg_notify('" + CHANNEL + "', run_id) FROM asked", who, runId).rows(connection).isEmpty();
    }

    // Plumbing

    /** @return what is wrong with a server that takes no writes */
    String readOnly() throws SQLException {
        connection.rollback();
        return row("SELECT pg_is_in_recovery()::int AS standby").requiredNumber("standby") == 1 ? "a read-only standby"
            : "read-only";
    }

    /** The session that keeps the task's row locked: its {@code pid} and what else a message says of it; or null. */
    Row blocker() throws SQLException {
        connection.rollback();
        List<Row> found =
            new Sql("SELECT a.pid, a.application_name, a.state, a.client_addr::text AS client FROM taskrunner_task t"
            + " JOIN pg_stat_activity a ON a.backend_xid = t.xmax WHERE t.task = ?", task).rows(connection);
        return found.isEmpty() ? null : found.get(0);
    }

    private Row row(String sql, Object... values) throws SQLException {
        return new Sql(sql, values).rows(connection).get(0);
    }

    private void update(String sql, Object... values) throws SQLException {
        new Sql(sql, values).update(connection);
    }

    private void execute(String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    @Override
    public void close() {
        try {
            connection.close();
        } catch (SQLException e) {
            // it is of no use any more
        }
    }
}
