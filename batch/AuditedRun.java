import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** An execution request and its row in the audit repository. */
final class AuditedRun {
    /** The lock is held and the command waits: the database may take no longer. */
    private static final Duration WAIT_BEFORE_COMMAND = Duration.ofSeconds(1);
    private static final Duration WAIT_FOR_DELIVERY = Duration.ofSeconds(5);
    /** How long the end of a run tries to deliver the outcome; after that the spool keeps it. */
    private static final Duration RETRY_TIMEOUT = Duration.ofSeconds(30);
    private static final Duration RETRY_INTERVAL = Duration.ofMillis(500);
    private static final Map<String, AuditedRun> RUNS = new ConcurrentHashMap<>();

    final Execution execution;
    private final Repository repository;
    private final RequestRow row;
    private final OutputFile output;
    private final File workingDirectory;
    private final int notifyAfter;
    private final List<Execution.Notice> killed = new ArrayList<>();
    private JobRunner runner;
    private long id;
    private String acquired;

    /**
     * @param workingDirectory of the command, or null for that of this process
     * @param notifyAfter how many failures in a row are told at the last of them, at least 1
     */
    AuditedRun(Execution execution, Repository repository, RequestRow row, OutputFile output, File workingDirectory,
            int notifyAfter) {
        this.execution = execution;
        this.repository = repository;
        this.row = row;
        this.output = output;
        this.workingDirectory = workingDirectory;
        this.notifyAfter = notifyAfter;
        RUNS.put(row.runId(), this);
    }

    /** The run of this process that has the id: job parameters are text, so the id is what they carry. */
    static AuditedRun of(String runId) {
        AuditedRun run = RUNS.get(runId);
        if (run == null) {
            throw new IllegalStateException("no execution request has the run id " + runId + " in this process");
        }
        return run;
    }

    /** The exit status of the job for an outcome. */
    static String exitStatus(Outcome outcome) {
        return switch (outcome.ending) {
            case FAILED -> outcome.signal == null ? "EXIT_" + outcome.status
                : "SIGNAL_" + (outcome.status - ExitStatus.SIGNAL);
            case CONTENTION -> "CONTENDED";
            case THRESHOLD -> "THRESHOLD_EXCEEDED";
            case LOST -> "LOCK_LOST";
            case ERROR -> outcome.error.isOfCounter ? "COUNTER_ERROR"
                : outcome.exitStatus >= ExitStatus.CANNOT_START ? "EXIT_" + outcome.exitStatus : "LOCK_ERROR";
            default -> outcome.ending.name();
        };
    }

    /** A restart that met a held lock leaves the execution that it restarts as restartable as it was. */
    String batchStatus(Outcome outcome) {
        return switch (outcome.ending) {
            case SUCCEEDED -> "COMPLETED";
            case CONTENTION -> row.restartedFrom() == null ? "COMPLETED" : "FAILED";
            case STOPPED -> "STOPPED";
            default -> "FAILED";
        };
    }

    /** What is stored of the outcome: it tells the command as the row does, which may mask parts of it. */
    String message(Outcome outcome) {
        TaskLock.Held lock = execution.acquired();
        String note = lock == null || lock.note() == null ? "" : "; " + lock.note();
        return outcome.message(row.command()) + note;
    }

    /**
     * Runs the job execution that was written with the id, and writes how it ended; returns the process's exit status.
     */
    int run(JobRunner jobRunner, long executionId) {
        runner = jobRunner;
        id = executionId;
        execution.log.info("execution", "job execution " + id + " in " + repository.database());
        if (!execution.request.wait.isZero()) {
            repository.release();
        }
        Throwable fault = null;
        try {
            runner.run(row.runId());
        } catch (RuntimeException | Error e) {
            fault = e;
        }
        execution.releaseLock();
        if (execution.outcome() == null) {
            String message = "internal error: the job ended without an outcome" + (fault == null ? "" : ": " + fault);
            execution.fail(new TaskException(ExitStatus.INTERNAL, message, fault));
        }
        output.close();
        Spool.Entry ended = new Spool.Entry(row, result(execution.outcome()), runner.steps());
        Path spooled = null;
        RepositoryException undelivered = deliver(ended);
        if (undelivered != null) {
            spooled = spool(ended, undelivered);
        }
        int exitStatus = execution.finish(notices(undelivered == null));
        if (undelivered == null || retry(ended, spooled)) {
            tidy();
        }
        return exitStatus;
    }

    /** What others have left for this user on this host to do. */
    private void tidy() {
        Spool.deliver(repository);
        try {
            Operations.deleteOutputs(repository);
        } catch (RepositoryException e) {
            execution.log.debug("purge", e.getMessage());
        }
    }

    /**
     * A failure is told at the Nth in a row of the task, then no more until a success, which is told too. Where the
     * history cannot be asked each failure is.
     */
    private List<Execution.Notice> notices(boolean asksHistory) {
        Outcome outcome = execution.outcome();
        List<Execution.Notice> notices = new ArrayList<>(killed);
        Execution.Notice ended = new Execution.Notice(outcome.ending.event(), message(outcome));
        boolean failed = outcome.ending == Ending.FAILED || outcome.ending == Ending.TIMEOUT;
        if (execution.request.notifyCommand == null || !failed && outcome.ending != Ending.SUCCEEDED) {
            notices.add(ended);
            return notices;
        }
        int before = failed ? notifyAfter - 1 : 0;
        try {
            before = asksHistory ? repository.failuresBefore(row, notifyAfter) : before;
        } catch (RepositoryException e) {
            execution.log.debug("notify", e.getMessage());
        }
        if (!failed || before == notifyAfter - 1) {
            notices.add(ended);
        }
        if (!failed && before >= notifyAfter) {
            notices.add(new Execution.Notice("resolved", message(outcome) + "; it had failed " + (before == notifyAfter
                ? "" : "at least ") + before + (before == 1 ? " time" : " times") + " in a row"));
        }
        return notices;
    }

    /** @return null when it was delivered, else why not */
    private RepositoryException deliver(Spool.Entry ended) {
        try {
            repository.patience(WAIT_FOR_DELIVERY);
            repository.end(ended.request(), ended.result(), ended.steps());
            return null;
        } catch (RepositoryException e) {
            return e;
        }
    }

    /** So that it survives whatever happens while it waits. @return the file, or null */
    private Path spool(Spool.Entry ended, RepositoryException why) {
        try {
            return Spool.write(repository, ended);
        } catch (IOException e) {
            ResultRow result = ended.result();
            say(why.getMessage() + "; nor can the outcome be kept in a file: "
                + Text.reason(e) + "; job execution " + id + " ended " + result.batchStatus() + ", "
                + result.exitStatus()
                + " at " + result.endTime() + ", but its row will say LOST");
            return null;
        }
    }

    /** @return whether it was delivered */
    private boolean retry(Spool.Entry ended, Path spooled) {
        long deadline = System.nanoTime() + RETRY_TIMEOUT.toNanos();
        RepositoryException why;
        do {
            try {
                Thread.sleep(RETRY_INTERVAL.toMillis());
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            why = deliver(ended);
        } while (why != null && !why.isRefusal && System.nanoTime() < deadline && !Thread.interrupted());
        if (why == null && spooled != null) {
            try {
                Files.deleteIfExists(spooled);
            } catch (IOException e) {
                // it is delivered once more, which changes nothing
            }
        } else if (spooled != null) {
            say("the outcome of job execution " + id + " is kept in " + spooled + " and delivered by the next run: "
                + why.getMessage());
        }
        return why == null;
    }

    private static void say(String message) {
        System.err.println(taskrunnerbatch.NAME + ": " + Text.printable(message));
    }

    private ResultRow result(Outcome outcome) {
        Long contentions = outcome.contentions >= 0 ? Long.valueOf(outcome.counter())
            : acquired != null && execution.request.task.threshold() > 0 ? Long.valueOf(0) : null;
        LockState met = outcome.lockState;
        String holder = met == null ? null : met.holder() == null ? met.kind().text() : met.holder().describe();
        Run run = outcome.run;
        return new ResultRow(batchStatus(outcome), exitStatus(outcome), acquired, fence(),
            run == null ? null : Text.time(run.startedMillis()), run == null ? null : run.durationMillis(),
            outcome.exitStatus, contentions, holder, message(outcome), output.note(), Repository.time(Instant.now()));
    }

    private Long fence() {
        return execution.acquired() == null ? null : execution.acquired().fence();
    }

    boolean acquireLock() {
        if (!execution.acquireLock()) {
            return false;
        }
        acquired = Repository.time(Instant.now());
        return true;
    }

    /**
     * Runs the command with its output through pipes, to this process's own and into the output file. Before it starts,
     * the repository is told: when that cannot be done in time, the end makes up for it.
     */
    void runCommand() {
        try {
            repository.patience(WAIT_BEFORE_COMMAND);
            repository.acquired(id, acquired, fence(), runner == null ? List.of() : runner.steps());
            for (String dead : Reconciliation.ofTask(repository, row, execution.acquired(), execution.recovered())) {
                killed.add(new Execution.Notice("killed", dead));
            }
        } catch (RepositoryException e) {
            execution.log.warn("repository", e.getMessage() + "; the command runs, its outcome is written at the end");
        }
        repository.release();
        ProcessBuilder builder = new ProcessBuilder().redirectInput(ProcessBuilder.Redirect.INHERIT)
            .directory(workingDirectory);
        execution.log.bufferOutput(builder);
        builder.redirectErrorStream(output.onePipe)
            .redirectOutput(ProcessBuilder.Redirect.PIPE)
            .redirectError(ProcessBuilder.Redirect.PIPE);
        execution.runCommand(builder, output);
    }

    void releaseLock() {
        execution.releaseLock();
    }
}
