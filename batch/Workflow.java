import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import jakarta.batch.api.BatchProperty;
import jakarta.batch.api.Batchlet;
import jakarta.batch.api.Decider;
import jakarta.batch.api.listener.AbstractJobListener;
import jakarta.batch.runtime.StepExecution;
import jakarta.batch.runtime.context.StepContext;
import jakarta.enterprise.context.Dependent;
import jakarta.inject.Inject;
import jakarta.inject.Named;

/**
 * The artifacts of the job {@code META-INF/batch-jobs/taskrunner.xml}: each calls one step of {@link Execution}.
 *
 * <p>The job's parameter {@code run} is the run id under which {@link #begin} has put the execution, since job parameters are text
 * and are stored.
 */
public final class Workflow {
    private static final Map<String, Execution> EXECUTIONS = new ConcurrentHashMap<>();
    private static final int LONGEST_EXIT_STATUS = 250;

    /** The artifacts, for a runtime that is told its beans. */
    static final Class<?>[] ARTIFACTS = {AcquireLock.class, LockDecision.class, ResetCounter.class, RunCommand.class, ReleaseLock.class,
        IncrementCounter.class, OutcomeDecision.class, ReleaseAfterJob.class};

    /** Makes the execution known to the job that is started with its run id. */
    static void begin(Execution execution) {
        EXECUTIONS.put(execution.owner.runId(), execution);
    }

    static void end(Execution execution) {
        EXECUTIONS.remove(execution.owner.runId());
    }

    /** The exit status of the job for an outcome, as batch.md's table has them. */
    static String exitStatus(Outcome outcome) {
        if (outcome instanceof Outcome.Succeeded) {
            return "SUCCEEDED";
        } else if (outcome instanceof Outcome.Failed failed) {
            return failed.signal() == null ? "EXIT_" + failed.status() : "SIGNAL_" + (failed.status() - ExitStatus.SIGNAL);
        } else if (outcome instanceof Outcome.TimedOut) {
            return "TIMEOUT";
        } else if (outcome instanceof Outcome.Stopped) {
            return "STOPPED";
        } else if (outcome instanceof Outcome.Contended) {
            return "CONTENDED";
        } else if (outcome instanceof Outcome.Reported) {
            return "THRESHOLD_EXCEEDED";
        }
        int status = ((Outcome.Broken) outcome).error().exitStatus;
        return status == ExitStatus.DATA ? "COUNTER_ERROR" : status == ExitStatus.CANNOT_START ? "EXIT_" + status : "LOCK_ERROR";
    }

    /** A step that did not succeed: JBeret marks it FAILED and keeps the message; no stack trace, it would be the runtime's. */
    static final class StepFailed extends Exception {
        private static final long serialVersionUID = 1;

        StepFailed(String message) {
            super(message, null, false, false);
        }
    }

    /** What all artifacts share: the execution that the job was started for. */
    public abstract static class Artifact {
        @Inject
        @BatchProperty
        String run;

        Execution execution() {
            Execution execution = EXECUTIONS.get(run);
            if (execution == null) {
                throw new IllegalStateException("no execution request has the run id " + run + " in this process");
            }
            return execution;
        }
    }

    /** A batchlet; {@link #stop} ends the execution's command. */
    public abstract static class Step extends Artifact implements Batchlet {
        @Inject
        StepContext step;

        @Override
        public void stop() {
            execution().stop(new Execution.StopSignal("TERM", 15));
        }

        /** The exit status of this step: the outcome's when the outcome is a failure, which fails the step too. */
        String end(String otherwise) throws StepFailed {
            Outcome outcome = execution().outcome();
            if (outcome == null || outcome instanceof Outcome.Succeeded || outcome instanceof Outcome.Contended
                    || outcome instanceof Outcome.Reported) {
                return otherwise;
            }
            String status = exitStatus(outcome);
            if (outcome instanceof Outcome.Stopped) {
                return status;
            }
            step.setExitStatus(status);
            String message = outcome.message(execution().request);
            throw new StepFailed(message.substring(0, Math.min(message.length(), LONGEST_EXIT_STATUS)));
        }
    }

    @Named("acquireLock")
    @Dependent
    public static class AcquireLock extends Step {
        @Override
        public String process() {
            if (execution().acquireLock()) {
                return "ACQUIRED";
            }
            return exitStatus(execution().outcome());
        }
    }

    @Named("lockDecision")
    @Dependent
    public static class LockDecision extends Artifact implements Decider {
        @Override
        public String decide(StepExecution[] steps) {
            Outcome outcome = execution().outcome();
            return outcome == null ? "ACQUIRED" : outcome instanceof Outcome.Reported ? "CONTENDED" : exitStatus(outcome);
        }
    }

    /** Records that the counter was cleared: acquiring the lock did it inside the gate, so that no contention is lost in between. */
    @Named("resetCounter")
    @Dependent
    public static class ResetCounter extends Step {
        @Override
        public String process() {
            return execution().request.threshold() > 0 ? "RESET" : "NOT_COUNTED";
        }
    }

    @Named("runCommand")
    @Dependent
    public static class RunCommand extends Step {
        @Override
        public String process() throws StepFailed {
            execution().runCommand();
            return end("SUCCEEDED");
        }
    }

    @Named("releaseLock")
    @Dependent
    public static class ReleaseLock extends Step {
        @Override
        public String process() throws StepFailed {
            Outcome before = execution().outcome();
            execution().releaseLock();
            return execution().outcome() == before ? "RELEASED" : end("RELEASED");
        }
    }

    /** Records the counter that the contention left: it was changed inside the gate, so that each contention counts exactly once. */
    @Named("incrementCounter")
    @Dependent
    public static class IncrementCounter extends Step {
        @Override
        public String process() {
            long count = execution().outcome().count();
            if (count < 0) {
                return "NOT_COUNTED";
            }
            step.setPersistentUserData(count);
            return "COUNT_" + count;
        }
    }

    @Named("outcome")
    @Dependent
    public static class OutcomeDecision extends Artifact implements Decider {
        @Override
        public String decide(StepExecution[] steps) {
            return exitStatus(execution().outcome());
        }
    }

    @Named("releaseAfterJob")
    @Dependent
    public static class ReleaseAfterJob extends AbstractJobListener {
        @Inject
        @BatchProperty
        String run;

        @Override
        public void afterJob() {
            Execution execution = EXECUTIONS.get(run);
            if (execution != null) {
                execution.releaseLock();
            }
        }
    }

    private Workflow() {
    }
}
