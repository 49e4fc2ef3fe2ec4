import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;

/** What an operator does with executions: {@code stop}, {@code abandon}, {@code purge}. */
final class Operations {
    private static final int MAX_BACKOFF_MILLIS = 100;

    static int stop(Arguments arguments) throws TaskException {
        long id = taskrunnerbatch.id(arguments);
        Duration wait = arguments.duration("--wait", Duration.ofSeconds(30));
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            taskrunnerbatch.reconcile(repository);
            ExecutionRow row = taskrunnerbatch.find(repository, id);
            RequestRow request = row.request();
            boolean elsewhere = !request.host().equals(Host.name()) || !Reconciliation.isVisiblyAlive(request);
            if (request.fleetTask() != null && row.isUnfinished() && elsewhere) {
                return FleetOperations.stop(repository, row, wait);
            }
            checkStoppable(row);
            repository.release();
            ProcessId runner = Reconciliation.process(request);
            if (!Processes.signal(runner, false)) {
                throw refused("job execution " + id + " is " + request.user() + "'s: stop it as that user");
            }
            resume(runner);
            String who = "job execution " + id + ", pid " + runner.pid() + ", running: "
                + Text.oneLine(request.command());
            System.err.println(taskrunnerbatch.NAME + ": waiting for up to " + Text.duration(wait.toMillis()) + " for "
                + who);
            long deadline = System.nanoTime() + wait.toNanos();
            for (Backoff backoff = new Backoff(10, MAX_BACKOFF_MILLIS); Processes.lives(runner);) {
                if (System.nanoTime() >= deadline || !backoff.pause()) {
                    throw new TaskException(ExitStatus.THRESHOLD, "SIGTERM was sent, but after "
                        + Text.duration(wait.toMillis()) + " it has not ended: " + who
                        + "; see what it waits for: ps -o"
                        + " pid,stat,wchan:20,args -p " + runner.pid(), null);
                }
            }
            ExecutionRow ended = taskrunnerbatch.find(repository, id);
            System.out.println("job execution " + id + " is " + ended.batchStatus());
            return ExitStatus.OK;
        }
    }

    /** The repository is another program's text: only a process that is this run's taskrunner may be signalled. */
    private static void checkStoppable(ExecutionRow row) throws TaskException {
        RequestRow request = row.request();
        if (!row.isUnfinished()) {
            throw refused("job execution " + row.id() + " has ended already: " + row.batchStatus());
        }
        if (!Reconciliation.isVisiblyAlive(request)) {
            throw refused("job execution " + row.id() + " runs on " + request.host()
                + ", or in another container: stop it there");
        }
        if (!isRunner(row)) {
            throw refused("pid " + request.pid() + " is not the taskrunner-batch of job execution " + row.id()
                + ", whatever its row says: nothing was signalled");
        }
    }

    private static boolean isRunner(ExecutionRow row) {
        RequestRow request = row.request();
        Path process = Path.of("/proc", Long.toString(request.pid()));
        try {
            String commandLine = Files.readString(process.resolve("cmdline"), StandardCharsets.ISO_8859_1);
            boolean isBatch = List.of(commandLine.split("\0")).contains(taskrunnerbatch.class.getName());
            boolean isUsers = request.uid() == null
                || request.uid().equals(((Number) Files.getAttribute(process, "unix:uid")).longValue());
            boolean isNamed = request.runId().contains("-" + request.pid() + "-");
            LockState lock = row.acquired() == null ? null : LockFile.judge(Path.of(request.lockFile()));
            return isBatch && isUsers && isNamed && (lock == null || lock.holder() == null
                || lock.holder().runId().equals(request.runId()));
        } catch (IOException | TaskException e) {
            return false;
        }
    }

    /** One that is itself stopped (SIGSTOP) would not act on a signal before it is continued. */
    private static void resume(ProcessId runner) {
        try {
            new ProcessBuilder("/bin/sh", "-c", "kill -CONT " + runner.pid()).start().waitFor();
        } catch (IOException e) {
            // it stays stopped, which the wait tells
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    static int abandon(Arguments arguments) throws TaskException {
        arguments.requireAll("--reason");
        long id = taskrunnerbatch.id(arguments);
        String reason = arguments.text("--reason");
        if (reason.isBlank()) {
            throw arguments.refused("--reason is empty");
        }
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            taskrunnerbatch.reconcile(repository);
            ExecutionRow row = taskrunnerbatch.find(repository, id);
            if (!row.isUnfinished()) {
                throw refused("job execution " + id + " has ended already: " + row.batchStatus() + ", "
                    + row.exitStatus());
            }
            if (Reconciliation.isVisiblyAlive(row.request()) || isHeld(row.request())) {
                throw refused("job execution " + id + " is alive, pid " + row.request().pid() + ": end it with: "
                    + taskrunnerbatch.NAME + " stop " + id);
            }
            repository.reconcile(id, "ABANDONED", "ABANDONED", "abandoned by " + Requester.user() + "@"
                + Host.name() + " at " + Repository.time(Instant.now()) + ": " + reason);
            System.out.println("job execution " + id + " is " + taskrunnerbatch.find(repository, id).batchStatus());
            return ExitStatus.OK;
        }
    }

    /** Whether a lock that is seen here says that the run lives, as one in a container that shares it. */
    private static boolean isHeld(RequestRow run) {
        try {
            Path path = Path.of(run.lockFile());
            LockState lock = Files.isDirectory(path.getParent()) ? LockFile.judge(path) : null;
            return lock != null && lock.kind() == LockState.Kind.HELD && lock.holder() != null
                && lock.holder().runId().equals(run.runId());
        } catch (TaskException e) {
            return false;
        }
    }

    static int purge(Arguments arguments) throws TaskException {
        arguments.requireAll("--older-than");
        String text = arguments.text("--older-than");
        Duration age = Arguments.parseDuration(text);
        if (age == null) {
            throw arguments.refused("invalid --older-than '" + text + "': give a duration such as 90d");
        }
        int keep = arguments.number("--keep", 0, Integer.MAX_VALUE, 0);
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            List<ExecutionRow> purged = repository.purge(Repository.time(Instant.now().minus(age)), keep);
            int files = 0;
            for (ExecutionRow row : purged) {
                files += deleteOutput(repository, row.request().runId()) ? 1 : 0;
            }
            deleteOutputs(repository);
            System.out.println("purged " + purged.size() + " executions and the output of " + files);
            return ExitStatus.OK;
        }
    }

    /** Deletes the output files here whose rows were purged elsewhere. */
    static void deleteOutputs(Repository repository) throws RepositoryException {
        for (String run : repository.purgedElsewhere()) {
            deleteOutput(repository, run);
        }
    }

    /** Only the file that a run of this user has in this user's own directory. @return whether there was one */
    private static boolean deleteOutput(Repository repository, String run) {
        Path file = OutputFile.of(repository.database().stateDirectory(), run);
        try {
            return file != null && OutputFile.delete(file);
        } catch (IOException e) {
            System.err.println(taskrunnerbatch.NAME + ": cannot delete " + file + ": " + Text.reason(e));
            return false;
        }
    }

    private static RepositoryException refused(String why) {
        return new RepositoryException(RepositoryException.USAGE, why);
    }

    private Operations() {
    }
}
