import java.sql.SQLException;
import java.time.Duration;

/**
 * One task, many hosts, one command at a time: the requests for a task of the fleet. The lock is a row and a
 * session-level advisory lock of PostgreSQL together, since neither is enough: the server may end a session at once and
 * its client learn of it late, and a row alone says nothing about who lives.
 * <p>A request is one transaction, by the database's clock alone:
 * <ol>
 * <li>Lock the task's row: from here on one request at a time.
 * <li>The first to see another server (a fail-over, a restore) notes when. For a grace from then on only holders come
 *     back.
 * <li>Try the advisory lock: it is free when no session of a holder lives.
 * <li>The task is free for others when its row was released, or its holder's last beat is older than the grace; not
 *     before the grace after a fail-over, or after the server's start.
 * <li>Both free: take the host's own lock file, write the row with a new fence, COMMIT. Only an answered COMMIT makes a
 *     holder. One whose answer is lost is asked for again.
 * <li>A fail-over alone is in the way: give the advisory lock back, wait, try again; that is no contention.
 * <li>Else contention: count it in the row.
 * </ol>
 * On the holder's own host a stale lock file (all of that run is proven dead) stands for the grace. {@link FleetLock}
 * has what the holder does, {@link FleetSession} the SQL.
 */
final class Fleet implements TaskLock, AutoCloseable {
    private static final long PATIENCE_NANOS = Duration.ofSeconds(10).toNanos();
    private static final int RETRY_MILLIS = 300;
    /** lock_not_available, read_only_sql_transaction: appendix A of PostgreSQL's manual. */
    private static final String LOCK_NOT_AVAILABLE = "55P03";
    private static final String READ_ONLY = "25006";

    private final Postgres database;
    private final Execution execution;
    private final Request request;
    private final Holder holder;
    /** As this host's own lock file has it: contentions count in the database. */
    private final Task local;
    /** Kept from one try to the next. */
    private FleetSession session;

    Fleet(Postgres database, Execution execution) {
        this.database = database;
        this.execution = execution;
        request = execution.request;
        holder = execution.holder;
        local = new Task(request.task.name(), request.task.lockFile(), null, 0);
    }

    @Override
    public Attempt attempt(boolean count) throws TaskException {
        long deadline = System.nanoTime() + PATIENCE_NANOS;
        while (true) {
            try {
                if (session == null) {
                    session = open();
                }
                Attempt attempt = decide(session.enter(), count);
                if (count) {
                    // no other try follows, or none soon
                    close();
                }
                return attempt;
            } catch (SQLException e) {
                boolean again = LOCK_NOT_AVAILABLE.equals(e.getSQLState()) && System.nanoTime() < deadline;
                TaskException error = again ? null : explain(e);
                close();
                if (!again) {
                    throw error;
                }
            } catch (TaskException | RuntimeException e) {
                // the row must not stay locked
                close();
                throw e;
            }
        }
    }

    private FleetSession open() throws SQLException, TaskException {
        FleetSession opened = FleetSession.open(database, request.task.name(), holder.runId());
        if (opened.isKept()) {
            return opened;
        }
        opened.close();
        throw new RepositoryException(RepositoryException.UNAVAILABLE, "a pooler in transaction mode stands before "
            + database.hosts()
            + ": a session lock cannot be kept through it; use session mode or the server's own port");
    }

    private TaskException explain(SQLException e) {
        String state = e.getSQLState();
        try {
            if (READ_ONLY.equals(state)) {
                return new RepositoryException(RepositoryException.UNAVAILABLE, database.hosts() + " is "
                    + session.readOnly()
                    + ": name all hosts in the URL, or the primary", e);
            }
            if (LOCK_NOT_AVAILABLE.equals(state)) {
                Row blocker = session.blocker();
                return TaskException.io("the row of task " + request.task.name() + " has been locked for 10 s by "
                    + (blocker == null ? "a session that is gone now; try again" : "backend " + blocker.text("pid")
                        + " ("
                        + blocker.text("application_name") + " from " + blocker.text("client") + ", "
                            + blocker.text("state")
                        + "); end it with: SELECT pg_terminate_backend(" + blocker.text("pid") + ")"), e);
            }
        } catch (SQLException again) {
            e.addSuppressed(again);
        }
        return RepositoryException.unavailable(database, "cannot be used", e);
    }

    /** Steps 4 to 7, inside the transaction. */
    private Attempt decide(FleetRow row, boolean count) throws SQLException, TaskException {
        boolean sameHost = row.runId() != null && holder.host().equals(row.host());
        if (row.lockIsFree() && (row.left() <= 0 || sameHost)) {
            Attempt own = LockFile.attempt(request, local, holder, false);
            if (own.lock() != null) {
                boolean provenDead = own.lockState() != null && own.lockState().holder().runId().equals(row.runId());
                if (row.left() <= 0 || provenDead) {
                    return new Attempt(acquire(row, own.lock()), row.runId() == null ? own.lockState()
                        : takenOver(row, provenDead),
                        ContentionCounter.NOT_COUNTED, null, 0);
                }
                own.lock().release();
            } else {
                return contention(row, own.lockState(), count);
            }
        }
        if (row.lockIsFree() && row.runId() == null) {
            session.unlock();
            session.commit();
            execution.log.info("fleet", "the database was failed over at " + time(row.since()) + ": waiting until "
                + time(row.freeAt())
                + " for holders to come back");
            return new Attempt(null, null, ContentionCounter.NOT_COUNTED, null, row.left());
        }
        return contention(row, lockState(row), count);
    }

    private Attempt contention(FleetRow row, LockState lockState, boolean count) throws SQLException {
        ContentionCounter.Count counted = ContentionCounter.NOT_COUNTED;
        if (row.lockIsFree()) {
            session.unlock();
        }
        if (count && request.task.threshold() > 0) {
            boolean overdue = !request.overdue.isZero() && row.runId() != null
                && row.now() - row.acquired() > request.overdue.toMillis();
            counted = new ContentionCounter.Count(row.counter() + 1, overdue
                || row.counter() > request.task.threshold());
            session.count(counted.reported() ? 0 : counted.value());
        }
        session.commit();
        return new Attempt(null, lockState, counted, null, 0);
    }

    /** Writes this run as the holder. The lock file is given back unless that has succeeded. */
    private Held acquire(FleetRow row, Held lockFile) throws SQLException, TaskException {
        FleetLock lock = null;
        try {
            long graceMillis = session.grace();
            long sent = BootClock.now();
            long fence = session.acquire(holder.host(), holder.bootId());
            try {
                session.commit();
            } catch (SQLException e) {
                execution.log.debug("fleet", "the answer to the acquiring COMMIT is lost: " + e.getMessage());
                sent = commitAgain();
            }
            lock = new FleetLock(database, execution, session, lockFile,
                new FleetLock.Grant(fence, row.fence(), graceMillis, sent));
            // it is the keeper's now
            session = null;
            return lock;
        } finally {
            if (lock == null) {
                lockFile.release();
            }
        }
    }

    /**
     * The server may have committed, or not: asks it.
     *
     * @return when the statement was sent whose answer makes this run the holder
     */
    private long commitAgain() throws SQLException, TaskException {
        long deadline = System.nanoTime() + PATIENCE_NANOS;
        FleetSession unanswered = session;
        unanswered.close();
        while (true) {
            long sent = BootClock.now();
            try {
                session = open();
                FleetRow row = session.enter();
                if (!holder.runId().equals(row.runId())) {
                    throw new RepositoryException(RepositoryException.UNAVAILABLE, database.hosts()
                        + " did not answer when " + request.task.name()
                        + " was to be acquired: nothing was run; try again");
                }
                if (row.lockIsFree()) {
                    session.comeBack();
                    session.commit();
                    return sent;
                }
                session.terminate(unanswered.backend, unanswered.backendStart);
            } catch (SQLException e) {
                if (System.nanoTime() >= deadline) {
                    throw e;
                }
            }
            close();
            try {
                Thread.sleep(RETRY_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
    }

    // What is found, in words

    private static String time(long millis) {
        return Text.time(millis).substring(0, 19) + "Z";
    }

    private static Holder holder(FleetRow row) {
        return Holder.elsewhere(row.runId(), row.pid(), row.host(), row.user() == null ? "?" : row.user(),
            Text.time(row.acquired()));
    }

    /** Of a task that nobody has asked for yet. */
    static LockState unknown(String task) {
        return new LockState(LockState.Kind.FREE, "task " + task, null, null, "", "");
    }

    static LockState lockState(FleetRow row) {
        if (row.runId() == null) {
            return row.left() <= 0 ? state(row, LockState.Kind.FREE, null, "", "")
                : state(row, LockState.Kind.FAILOVER, null, "free, but the database was failed over at "
                    + time(row.since())
                    + ": requests wait until " + time(row.freeAt()) + " for holders to come back", "");
        }
        Holder holder = holder(row);
        String held = "held by run " + row.runId() + " on " + row.host() + " (pid " + row.pid() + ") since "
            + time(row.acquired());
        String look = "look there with: ps -o pid,stat,wchan:20,args -p " + row.pid();
        if (row.lockIsFree() && row.left() <= 0) {
            return state(row, LockState.Kind.LOST, holder, "run " + row.runId() + " on " + row.host()
                + " was last heard of at "
                + time(row.seen()), "the next request takes it over");
        }
        if (row.lockIsFree()) {
            return state(row, LockState.Kind.SILENT, holder, held
                + ", but its session is gone, it was last heard of at " + time(row.seen())
                + "; free for others at " + time(row.freeAt()) + " unless it comes back", look);
        }
        if (row.silent() > row.grace() / 2) {
            return state(row, LockState.Kind.PAUSED, holder, held + " but silent for "
                + Text.duration(row.silent() / 1000 * 1000)
                + ": its process is paused or starved", look + "; to give it up: SELECT pg_terminate_backend("
                    + row.backend() + ")");
        }
        return state(row, LockState.Kind.HELD, holder, held, look + (row.jobExecutionId() == null ? ""
            : "; to stop it, from any host: taskrunner-batch stop " + row.jobExecutionId()));
    }

    private static LockState state(FleetRow row, LockState.Kind kind, Holder holder, String what, String advice) {
        return new LockState(kind, "task " + row.task(), null, holder, what, advice);
    }

    private static LockState takenOver(FleetRow row, boolean provenDead) {
        return state(row, LockState.Kind.LOST, holder(row), "run " + row.runId() + " on " + row.host()
            + (provenDead ? " is dead"
            : ": its host was silent for " + Text.duration(row.silent() / 1000 * 1000) + " (grace "
                + Text.duration(row.grace()) + ")"), "");
    }

    @Override
    public void close() {
        if (session != null) {
            session.close();
            session = null;
        }
    }
}
