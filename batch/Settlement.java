import java.io.UncheckedIOException;
import java.time.Instant;

/** Ends the rows of executions whose runner is dead: FAILED, KILLED, with the evidence. */
final class Settlement {
    /** The unfinished executions of this host, before a report. */
    static void ofHost(Repository repository, String host) throws RepositoryException {
        for (ExecutionRow row : repository.unfinished(host, null)) {
            settle(repository, row, death(row.request()));
        }
    }

    /**
     * The unfinished executions of the task whose lock this execution has just acquired. One that had acquired the lock before cannot
     * hold it any more; one that had not may be a contender in flight, which only the death of its own process ends.
     */
    static void ofTask(Repository repository, String host, String lockFile, long acquirer) throws RepositoryException {
        for (ExecutionRow row : repository.unfinished(host, lockFile)) {
            if (row.id() != acquirer) {
                String death = death(row.request());
                settle(repository, row, death == null && row.acquired() != null && !isVisiblyAlive(row.request())
                    ? "execution " + acquirer + " acquired its lock" : death);
            }
        }
    }

    private static void settle(Repository repository, ExecutionRow row, String death) throws RepositoryException {
        if (death != null) {
            repository.settle(row.id(), death, Repository.time(Instant.now()));
        }
    }

    /** What proves that the runner is dead, or null. */
    static String death(RequestRow runner) {
        if (!runner.host().equals(Host.name())) {
            return null;
        }
        if (!runner.bootId().equals(Host.bootId())) {
            return "the machine was started again since (boot id " + Host.bootId() + ")";
        }
        if (!runner.pidNamespace().equals(Host.pidNamespace())) {
            return null;
        }
        return mayLive(runner) ? null : "its runner, pid " + runner.pid() + ", is dead";
    }

    /** It may still be writing how it ended, after it released the lock. */
    static boolean isVisiblyAlive(RequestRow runner) {
        return runner.bootId().equals(Host.bootId()) && runner.pidNamespace().equals(Host.pidNamespace())
            && mayLive(runner);
    }

    private static boolean mayLive(RequestRow runner) {
        try {
            return Processes.lives(new ProcessId(runner.pid(), runner.pidStart()));
        } catch (UncheckedIOException e) {
            return true;
        }
    }

    private Settlement() {
    }
}
