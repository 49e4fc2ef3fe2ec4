import java.io.IOException;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A fleet task that this run holds, from the acquiring COMMIT to the release. Times of this host are of {@link
 * BootClock}.
 * <ol>
 * <li>The <em>keeper</em>, a thread that alone uses the session, writes a beat each twelfth of the grace, at most 5 s.
 *     A beat that the server answered moves the deadline to the moment it was <em>sent</em> plus T = grace / 2.
 * <li>The <em>guard</em>, a thread that never touches the database, sends SIGTERM at the deadline and SIGKILL K =
 *     min(kill-after, grace / 6) later. The {@link Watchdog} outside this JVM sends SIGKILL at the same time, also when
 *     this JVM is dead or paused. Since T + K is less than the grace, no other host can have acquired the task by then,
 *     whatever the network does.
 * <li>When the session ends the keeper comes back through another one: the row is still this run's, or a fail-over has
 *     lost it and nobody has acquired the task since (its fence is smaller). Its own old session, if the server still
 *     has it, is ended. Anything else means that the task is lost for certain: SIGKILL at once.
 * <li>After a loss nothing is taken back: the row is released when the command is dead.
 * </ol>
 */
final class FleetLock implements TaskLock.Held {
    private static final int BEAT_MILLIS = 5000;
    private static final int SLICE_MILLIS = 100;
    private static final int RETRY_MILLIS = 300;
    private static final int RELEASE_MILLIS = 30_000;
    /** What a keeper that waits for an answer may take to notice that the command has ended. */
    private static final int MAX_ANSWER_MILLIS = 15_000;
    private static final long SAY_AGAIN = 60 * BootClock.PER_SECOND;

    /**
     * What the database has granted.
     *
     * @param previousFence of the run that had the task last
     * @param graceMillis how long others wait for this run to be heard of
     * @param sent when the acquiring statement was sent
     */
    record Grant(long fence, long previousFence, long graceMillis, long sent) {
    }

    /** A session of this run: it may have the advisory lock still. */
    private record Session(int backend, String start) {
    }

    private final Postgres database;
    private final Execution execution;
    private final String task;
    private final Holder holder;
    private final Log log;
    private final TaskLock.Held lockFile;
    private final Grant grant;
    private final List<Session> sessions = new ArrayList<>();
    /** T, K and the time between beats, in ticks of the boot clock. */
    private final long term;
    private final long kill;
    private final long beat;
    private final Thread keeper = new Thread(this::keep, "fleet keeper");
    private final Thread guard = new Thread(this::guard, "fleet guard");

    /** The keeper's own. */
    private FleetSession session;
    private long nextBeat;
    /** Who has asked for a stop, or null. */
    private volatile String stoppedBy;

    /** Guarded by this. */
    private long answered;
    /** When the guard looked last: it does so each {@link #SLICE_MILLIS}, unless this process is paused. */
    private long looked = BootClock.now();
    private String lost;
    private boolean lostToAnother;
    private ProcessTree tree;
    private Watchdog watchdog;
    private boolean ended;
    private boolean released;
    private long longestGap;

    /**
     * @param session whose acquiring COMMIT was answered
     * @param lockFile the host's own lock
     */
    FleetLock(Postgres database, Execution execution, FleetSession session, TaskLock.Held lockFile, Grant grant) {
        this.database = database;
        this.execution = execution;
        this.session = session;
        this.lockFile = lockFile;
        this.grant = grant;
        task = execution.request.task.name();
        holder = execution.holder;
        log = execution.log;
        answered = grant.sent;
        term = ticks(grant.graceMillis / 2);
        kill = ticks(Math.min(execution.request.killAfter.toMillis(), grant.graceMillis / 6));
        beat = ticks(Math.min(BEAT_MILLIS, grant.graceMillis / 12));
        nextBeat = answered + beat;
        sessions.add(new Session(session.backend, session.backendStart));
        for (Thread thread : new Thread[] {keeper, guard}) {
            thread.setDaemon(true);
            thread.start();
        }
    }

    private static long ticks(long millis) {
        return millis * BootClock.PER_SECOND / 1000;
    }

    private static String seconds(long ticks) {
        return ticks / BootClock.PER_SECOND + " s";
    }

    // What the workflow calls

    @Override
    public void starting(Map<String, String> environment) throws TaskException {
        environment.put("TASKRUNNER_FLEET", task);
        environment.put("TASKRUNNER_FENCE", Long.toString(grant.fence));
        synchronized (this) {
            try {
                watchdog = new Watchdog(holder.runId(), answered + term + kill);
            } catch (IOException e) {
                throw new TaskException(ExitStatus.CANNOT_START,
                    "cannot start the watchdog that ends the command when this process cannot: "
                    + Text.reason(e) + "; nothing was run; see that " + System.getProperty("java.io.tmpdir")
                    + " is writable and that /bin/sh and grep are there", e);
            }
            if (lost() != null) {
                throw new TaskException(ExitStatus.LOST, lost);
            }
        }
    }

    @Override
    public void started(ProcessTree commandTree) {
        lockFile.started(commandTree);
        synchronized (this) {
            tree = commandTree;
            try {
                watchdog.watch(commandTree.root());
            } catch (IOException e) {
                // its run id still tells the watchdog what to kill
            }
            notifyAll();
        }
    }

    /** Whoever asks first after the deadline finds that it was lost. */
    @Override
    public synchronized String lost() {
        long now = BootClock.now();
        if (now >= answered + term) {
            lose((now - looked > ticks(BEAT_MILLIS) ? "this process was paused for " + seconds(now - looked) + "; "
                : "") + silence()
                + "; ended the command after " + seconds(term) + ", before another host may start it ("
                    + seconds(ticks(grant.graceMillis)) + ")");
        }
        return lost;
    }

    @Override
    public String stoppedBy() {
        return stoppedBy == null ? null : "stopped by " + stoppedBy;
    }

    @Override
    public Long fence() {
        return grant.fence;
    }

    /** Of the run that had the task last. */
    long previousFence() {
        return grant.previousFence;
    }

    /** How long the database was not heard of, when this run came back. */
    @Override
    public synchronized String note() {
        return longestGap == 0 ? null : "no answer from " + database.hosts() + " for " + seconds(longestGap)
            + " meanwhile";
    }

    /**
     * The command is dead: gives the task back, then the lock file. Waits up to 30 s for the database; without it
     * others may take the task over once the grace has passed.
     */
    @Override
    public boolean release() throws TaskException {
        synchronized (this) {
            ended = true;
            if (watchdog != null) {
                watchdog.close();
                watchdog = null;
            }
            notifyAll();
        }
        try {
            keeper.join(RELEASE_MILLIS + MAX_ANSWER_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        synchronized (this) {
            if (!released) {
                log.warn("fleet", task + " cannot be released: no answer from " + database.hosts() + " for "
                    + RELEASE_MILLIS / 1000 + " s; other hosts can run it " + grant.graceMillis / 1000
                        + " s after the last one");
            }
        }
        return lockFile.release();
    }

    /**
     * This process stays and beats until they are gone: if it left, another host would start the command after the
     * grace.
     */
    @Override
    public TaskException keep(List<ProcessId> remaining, ProcessTree command) {
        String why = command.notKilled(remaining) + ": " + task + " stays held until "
            + (remaining.size() == 1 ? "it ends" : "they end");
        for (long said = 0; !command.terminate(Duration.ZERO).isEmpty();) {
            if (said == 0 || BootClock.now() - said >= SAY_AGAIN) {
                said = BootClock.now();
                log.error("error", why + "; look: ps -o pid,user,stat,wchan:20,args -p "
                    + Text.list(ProcessTree.pids(remaining)));
            }
            synchronized (this) {
                pause(RETRY_MILLIS);
            }
        }
        try {
            release();
        } catch (TaskException e) {
            log.error("error", e.getMessage());
        }
        return TaskException.io(why + ", which they have by now", null);
    }

    // The keeper

    private void keep() {
        try {
            while (session != null && !isEnded()) {
                try {
                    boolean stop = session.isNotified(SLICE_MILLIS);
                    long now = BootClock.now();
                    if (stop || now >= nextBeat) {
                        beat(now);
                    }
                } catch (SQLException e) {
                    log.debug("fleet", "the session has ended: " + e.getMessage());
                    comeBack();
                }
            }
            awaitEnd();
            releaseRow();
        } catch (RuntimeException | Error e) {
            synchronized (this) {
                lose("internal error of the thread that holds it: " + e);
            }
        } finally {
            if (session != null) {
                session.close();
            }
        }
    }

    private synchronized boolean isEnded() {
        return ended;
    }

    /** The task is lost, or the command has ended; what is left to do is to release the row when it has. */
    private synchronized void awaitEnd() {
        while (!ended) {
            pause(0);
        }
    }

    /** Goes on after a loss, while the command is being ended, so that the row stays this run's until then. */
    private void beat(long now) throws SQLException {
        String stop = session.beat();
        if (stop == null) {
            comeBack();
            return;
        }
        nextBeat = now + beat;
        if (renew(now) && !stop.isEmpty() && stoppedBy == null) {
            stoppedBy = stop;
            Thread stopper = new Thread(() -> execution.stop(Execution.StopSignal.TERM), "fleet stop");
            stopper.setDaemon(true);
            stopper.start();
        }
    }

    /** A statement that was sent then was answered. @return false when the task is lost already */
    private synchronized boolean renew(long sent) {
        if (lost() != null) {
            return false;
        }
        try {
            if (watchdog != null) {
                watchdog.extend(sent + term + kill);
            }
            answered = sent;
        } catch (IOException e) {
            log.warn("fleet", "cannot write the watchdog's deadline: " + Text.reason(e) + "; the command is ended in "
                + seconds(answered + term - BootClock.now()) + " unless this passes; see that "
                    + System.getProperty("java.io.tmpdir")
                + " has space");
        }
        return true;
    }

    /** Tries to be the holder again until that is done, the task is lost, or the command has ended. */
    private void comeBack() {
        session.close();
        session = null;
        long since;
        synchronized (this) {
            since = answered;
        }
        while (true) {
            long sent = BootClock.now();
            try {
                FleetRow taken = comeBackOnce();
                synchronized (this) {
                    if (taken != null) {
                        lostToAnother = true;
                        lose("run " + taken.runId() + " on " + taken.host() + " holds it since "
                            + Text.time(taken.acquired()).substring(0, 19)
                            + "Z; this host was paused? its effects carry fence " + grant.fence + " < "
                                + taken.fence());
                    } else if (session != null && renew(sent)) {
                        nextBeat = sent + beat;
                        longestGap = Math.max(longestGap, sent - since);
                        log.warn("fleet", "no answer from " + database.hosts() + " for " + seconds(sent - since)
                            + "; lock kept: this run is the holder again");
                        return;
                    }
                }
            } catch (SQLException e) {
                log.debug("fleet", "cannot come back yet: " + e.getMessage());
            }
            synchronized (this) {
                if (lost != null || ended) {
                    return;
                }
                pause(RETRY_MILLIS);
            }
        }
    }

    /**
     * @return who has taken the task, or null; then {@link #session} is that of the holder again, or null when it is
     *     too early
     */
    private FleetRow comeBackOnce() throws SQLException {
        FleetSession next = FleetSession.open(database, task, holder.runId());
        try {
            sessions.add(new Session(next.backend, next.backendStart));
            FleetRow row = next.enter();
            boolean mine = holder.runId().equals(row.runId());
            if (!mine && (row.runId() != null || row.fence() >= grant.fence)) {
                return row;
            }
            if (!row.lockIsFree()) {
                for (Session old : sessions.subList(0, sessions.size() - 1)) {
                    next.terminate(old.backend, old.start);
                }
                return null;
            }
            if (mine) {
                next.comeBack();
            } else {
                next.acquireAgain(holder.host(), holder.bootId(), grant.fence, grant.graceMillis);
            }
            next.commit();
            session = next;
            return null;
        } finally {
            if (session != next) {
                next.close();
            }
        }
    }

    private void releaseRow() {
        long deadline = BootClock.now() + ticks(RELEASE_MILLIS);
        while (true) {
            try {
                if (session == null) {
                    session = FleetSession.open(database, task, holder.runId());
                }
                session.release();
                synchronized (this) {
                    released = true;
                }
                return;
            } catch (SQLException e) {
                log.debug("fleet", "cannot release yet: " + e.getMessage());
                if (session != null) {
                    session.close();
                    session = null;
                }
            }
            if (BootClock.now() >= deadline) {
                return;
            }
            synchronized (this) {
                pause(RETRY_MILLIS);
            }
        }
    }

    /** Gives this object's monitor up for so long. */
    private void pause(long millis) {
        try {
            wait(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    // The guard

    private String silence() {
        return "no answer from " + database.hosts() + " since "
            + Text.time(System.currentTimeMillis() - (BootClock.now() - answered) * 1000 / BootClock.PER_SECOND)
                .substring(0, 19) + "Z";
    }

    private synchronized void lose(String why) {
        if (lost == null) {
            lost = "lost " + task + ": " + why;
            notifyAll();
        }
    }

    private void guard() {
        while (true) {
            ProcessTree doomed;
            boolean atOnce;
            synchronized (this) {
                if (ended) {
                    return;
                }
                doomed = lost() == null ? null : tree;
                looked = BootClock.now();
                atOnce = lostToAnother || looked >= answered + term + kill;
                if (watchdog != null && !watchdog.isAlive() && lost == null) {
                    replaceWatchdog();
                }
                if (doomed == null) {
                    pause(SLICE_MILLIS);
                    continue;
                }
            }
            end(doomed, atOnce);
            return;
        }
    }

    private void replaceWatchdog() {
        try {
            watchdog = watchdog.again(holder.runId());
            log.warn("fleet", "the watchdog beside the command was killed: another one was started");
        } catch (IOException e) {
            log.warn("fleet", "the watchdog beside the command was killed, and another cannot be started: "
                + Text.reason(e));
        }
    }

    /** SIGTERM, and SIGKILL K later also when a stop, which allows more, has begun before. */
    private void end(ProcessTree doomed, boolean atOnce) {
        Duration left = atOnce ? Duration.ZERO : Duration.ofMillis(kill * 1000 / BootClock.PER_SECOND);
        Thread terminator = new Thread(() -> doomed.terminate(left), "fleet end");
        terminator.setDaemon(true);
        terminator.start();
        try {
            terminator.join(Math.max(1, left.toMillis()));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        doomed.escalate();
    }
}
