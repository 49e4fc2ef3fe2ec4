import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Ends the rows of executions whose runner is proven dead: KILLED where something proves that the run did not end by
 * itself, else LOST, until its outcome arrives from the spool that it may lie in.
 */
final class Reconciliation {
    /** PROC_PID_INIT_INO of Linux's include/linux/proc_ns.h: who is in it sees every process of the machine. */
    private static final String INITIAL_PID_NAMESPACE = "pid:[4026531836]";

    /** Before a report: every unfinished execution. */
    static void ofAll(Repository repository) throws RepositoryException {
        for (ExecutionRow row : repository.unfinished(null)) {
            reconcile(repository, row, null);
        }
    }

    /**
     * The unfinished executions of the task whose lock a run has just acquired. A contender in flight is ended by
     * nothing but the death of its own process.
     *
     * @param acquirer the run
     * @param recovered the stale lock that it recovered, or null
     * @return a message for each one that was found killed
     */
    static List<String> ofTask(Repository repository, RequestRow acquirer, TaskLock.Held lock, LockState recovered)
        throws RepositoryException {
        if (lock instanceof FleetLock fleetLock) {
            return ofFleet(repository, acquirer.fleetTask(), fleetLock.previousFence(), recovered);
        }
        List<String> killed = new ArrayList<>();
        for (ExecutionRow row : repository.unfinished(acquirer.lockFile())) {
            String evidence = row.request().runId().equals(acquirer.runId()) ? null
                : reconcile(repository, row, recovered);
            if (evidence != null) {
                killed.add("job execution " + row.id() + " of task " + acquirer.lockFile() + " was killed: "
                    + evidence);
            }
        }
        return killed;
    }

    /**
     * The executions of a fleet's task that a run has just acquired, wherever they ran.
     *
     * @param before the fence of the run that had the task last
     * @param recovered the run that it was taken over from, or null
     * @return a message for the one that was found killed
     */
    private static List<String> ofFleet(Repository repository, String fleetTask, long before, LockState recovered)
        throws RepositoryException {
        Optional<ExecutionRow> dead = recovered == null || recovered.holder() == null ? Optional.empty()
            : repository.unfinishedOf(recovered.holder().runId());
        if (dead.isPresent()) {
            repository.reconcile(dead.get().id(), "FAILED", "KILLED", recovered.what());
        }
        for (ExecutionRow row : repository.abandoned(fleetTask, before)) {
            repository.reconcile(row.id(), "FAILED", "LOST", "it has no session any more, and later runs have had the"
                + " task; its outcome was not delivered, it may lie in the spool of " + row.request().user() + " on "
                + row.request().host());
        }
        return dead.isEmpty() ? List.of() : List.of("job execution " + dead.get().id() + " of task " + fleetTask
            + " was killed: " + recovered.what());
    }

    /** @return what proves that it was killed, when it was */
    private static String reconcile(Repository repository, ExecutionRow row, LockState recovered)
        throws RepositoryException {
        RequestRow run = row.request();
        String death = death(run);
        LockState lock = names(recovered, run) ? recovered : death == null && !isOfThisBoot(run) ? null : lock(run);
        if (names(lock, run)) {
            boolean proven = lock.kind() == LockState.Kind.STALE || lock.kind() == LockState.Kind.ORPHANED;
            String evidence = death == null && proven ? lock.what() : death;
            return evidence != null && repository.reconcile(row.id(), "FAILED", "KILLED", evidence) ? evidence : null;
        }
        if (death != null && row.acquired() == null && isOwn(run) && !Spool.has(repository, run.runId())) {
            return repository.reconcile(row.id(), "FAILED", "KILLED", death) ? death : null;
        }
        if (death != null) {
            repository.reconcile(row.id(), "FAILED", "LOST", death
                + "; its outcome was not delivered, it may lie in the"
                + " spool of " + run.user() + " on " + run.host());
        }
        return null;
    }

    private static boolean names(LockState lock, RequestRow run) {
        return lock != null && lock.holder() != null && lock.holder().runId().equals(run.runId());
    }

    private static LockState lock(RequestRow run) {
        try {
            Path path = Path.of(run.lockFile());
            return Files.isDirectory(path.getParent()) ? LockFile.judge(path) : null;
        } catch (TaskException | RuntimeException e) {
            return null;
        }
    }

    /** Whether an outcome that could not be delivered would be seen here. */
    private static boolean isOwn(RequestRow run) {
        boolean here = run.host().equals(Host.name()) || isOfThisBoot(run)
            && run.pidNamespace().equals(Host.pidNamespace());
        return here && run.user().equals(Requester.user());
    }

    private static boolean isOfThisBoot(RequestRow run) {
        return !run.bootId().isEmpty() && run.bootId().equals(Host.bootId());
    }

    /** What proves that the runner is dead, or null. The name of its host proves nothing by itself. */
    static String death(RequestRow run) {
        try {
            if (isOfThisBoot(run)) {
                if (run.pidNamespace().equals(Host.pidNamespace())) {
                    return Processes.lives(process(run)) ? null : "its runner, pid " + run.pid() + ", is dead";
                }
                return Host.pidNamespace().equals(INITIAL_PID_NAMESPACE) && !livesInAContainer(process(run))
                    ? "its runner, pid " + run.pid() + " of a container, is dead" : null;
            }
            boolean sameMachine = run.host().equals(Host.name()) && !run.bootId().isEmpty() && !Host.bootId().isEmpty()
                && (run.machineId() == null || run.machineId().equals(machineId()));
            return sameMachine && Instant.parse(run.createTime()).isBefore(bootTime())
                ? "the host was rebooted since" : null;
        } catch (IOException | RuntimeException e) {
            // what cannot be seen proves nothing
            return null;
        }
    }

    /** Whether the runner is seen to live: it may still be writing how it ended, after it released the lock. */
    static boolean isVisiblyAlive(RequestRow run) {
        try {
            return isOfThisBoot(run) && run.pidNamespace().equals(Host.pidNamespace()) && Processes.lives(process(run));
        } catch (UncheckedIOException e) {
            return true;
        }
    }

    static ProcessId process(RequestRow run) {
        return new ProcessId(run.pid(), run.pidStart());
    }

    /**
     * Looks for the process by the pid that its own pid namespace has for it: the last one of NSpid, see
     * proc_pid_status(5).
     */
    private static boolean livesInAContainer(ProcessId inside) throws IOException {
        String[] pids = new File("/proc").list();
        if (pids == null || !new File("/proc/1/stat").canRead()) {
            // hidepid, see proc(5)
            return true;
        }
        for (String pid : pids) {
            if (Character.isDigit(pid.charAt(0)) && isInside(pid, inside)) {
                return true;
            }
        }
        return false;
    }

    private static boolean isInside(String pid, ProcessId inside) throws IOException {
        try {
            for (String line : Files.readString(Path.of("/proc", pid, "status"), StandardCharsets.ISO_8859_1)
                .split("\n")) {
                if (line.startsWith("NSpid:") && line.endsWith("\t" + inside.pid())) {
                    return Processes.lives(new ProcessId(Long.parseLong(pid), inside.start()));
                }
            }
            return false;
        } catch (IOException e) {
            // it has ended (ENOENT, ESRCH)
            if (e instanceof NoSuchFileException || !new File("/proc/" + pid + "/stat").canRead()) {
                return false;
            }
            throw e;
        }
    }

    /** See machine-id(5), or null. */
    static String machineId() {
        try {
            String id = Files.readString(Path.of("/etc/machine-id")).strip();
            return id.isEmpty() ? null : id;
        } catch (IOException e) {
            return null;
        }
    }

    /** By the kernel, see proc_stat(5). */
    private static Instant bootTime() throws IOException {
        for (String line : Files.readString(Path.of("/proc/stat"), StandardCharsets.ISO_8859_1).split("\n")) {
            if (line.startsWith("btime ")) {
                return Instant.ofEpochSecond(Long.parseLong(line.substring("btime ".length()).strip()));
            }
        }
        throw new IOException("/proc/stat has no btime");
    }

    private Reconciliation() {
    }
}
