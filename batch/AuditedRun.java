import java.io.File;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** An execution request and its row in the audit repository. */
final class AuditedRun {
    /** How long the end of a run waits for a database that is gone, before the row goes to a spool file. */
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final Map<String, AuditedRun> RUNS = new ConcurrentHashMap<>();

    final Execution execution;
    private final Repository repository;
    private final RequestRow row;
    private final OutputFile output;
    private final File workingFolder;
    private long id;
    private String acquired;

    /** @param workingFolder of the command, or null for that of this process */
    AuditedRun(Execution execution, Repository repository, RequestRow row, OutputFile output, File workingFolder) {
        this.execution = execution;
        this.repository = repository;
        this.row = row;
        this.output = output;
        this.workingFolder = workingFolder;
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
            case FAILED -> outcome.signal == null ? "EXIT_" + outcome.status : "SIGNAL_" + (outcome.status - ExitStatus.SIGNAL);
            case CONTENTION -> "CONTENDED";
            case THRESHOLD -> "THRESHOLD_EXCEEDED";
            case ERROR -> outcome.error.isOfCounter ? "COUNTER_ERROR"
                : outcome.exitStatus >= ExitStatus.CANNOT_START ? "EXIT_" + outcome.exitStatus : "LOCK_ERROR";
            default -> outcome.ending.name();
        };
    }

    /** A restart that found the lock held leaves the execution it restarts as restartable as it was: only FAILED and STOPPED ones are. */
    private String batchStatus(Outcome outcome) {
        return switch (outcome.ending) {
            case SUCCEEDED -> "COMPLETED";
            case CONTENTION -> row.restartedFrom() == null ? "COMPLETED" : "FAILED";
            case STOPPED -> "STOPPED";
            default -> "FAILED";
        };
    }

    /** What is stored of the outcome: it tells the command as the row does, which may mask parts of it. */
    String message(Outcome outcome) {
        return outcome.message(row.command());
    }

    /** Runs the job execution that was created with the id, and writes how it ended; returns the exit status of the process. */
    int run(JobRunner runner, long executionId) {
        id = executionId;
        execution.log.info("execution", "job execution " + id + " in " + repository.location());
        Throwable fault = null;
        try {
            runner.run();
        } catch (RuntimeException | Error e) {
            fault = e;
        }
        execution.releaseLock();
        Outcome outcome = execution.outcome();
        if (outcome == null) {
            String message = "internal error: the job ended without an outcome" + (fault == null ? "" : ": " + fault);
            execution.fail(new TaskException(ExitStatus.INTERNAL, message, fault));
            outcome = execution.outcome();
        }
        output.close();
        int exitStatus = execution.finish();
        EndingRow ending = ending(outcome, exitStatus);
        try {
            if (!repository.end(id, row, acquired, ending, PATIENCE)) {
                System.err.println("taskrunner-batch: audit repository " + repository.location() + " is gone: the outcome of job execution "
                    + id + " is kept in " + repository.location().stateFolder() + " and written by the next run");
            }
        } catch (RepositoryException e) {
            System.err.println("taskrunner-batch: " + e.getMessage() + "; job execution " + id + " ended " + ending.batchStatus() + ", "
                + ending.exitStatus() + " at " + ending.ended() + ", but its row will say KILLED");
        }
        return exitStatus;
    }

    private EndingRow ending(Outcome outcome, int exitStatus) {
        Long counter = outcome.contentions >= 0 ? Long.valueOf(outcome.counter())
            : acquired != null && execution.request.task.threshold() > 0 ? Long.valueOf(0) : null;
        LockState met = outcome.lockState;
        String holder = met == null ? null : met.holder() == null ? met.kind().text() : met.holder().describe();
        return new EndingRow(batchStatus(outcome), exitStatus(outcome), exitStatus, counter, holder, message(outcome),
            Repository.time(Instant.now()));
    }

    boolean acquireLock() {
        if (!execution.acquireLock()) {
            return false;
        }
        acquired = Repository.time(Instant.now());
        repository.acquired(id, acquired);
        repository.write(() -> Settlement.ofTask(repository, execution.holder.host(), row.lockFile(), id));
        return true;
    }

    /** Runs the command with its output through pipes, to this process's own and into the output file. */
    void runCommand() {
        ProcessBuilder builder = new ProcessBuilder().redirectInput(ProcessBuilder.Redirect.INHERIT).directory(workingFolder);
        execution.log.bufferOutput(builder);
        builder.redirectErrorStream(false).redirectOutput(ProcessBuilder.Redirect.PIPE).redirectError(ProcessBuilder.Redirect.PIPE);
        execution.runCommand(builder, output);
    }

    void releaseLock() {
        execution.releaseLock();
    }
}
