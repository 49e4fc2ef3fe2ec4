import jakarta.batch.api.BatchProperty;
import jakarta.batch.api.Batchlet;
import jakarta.batch.api.Decider;
import jakarta.batch.api.listener.JobListener;
import jakarta.batch.runtime.StepExecution;
import jakarta.batch.runtime.context.JobContext;
import jakarta.batch.runtime.context.StepContext;
import jakarta.enterprise.context.Dependent;
import jakarta.inject.Inject;
import jakarta.inject.Named;

import java.util.List;

/**
 * The artifacts of the job {@code META-INF/batch-jobs/taskrunner.xml}: each calls one step of the {@link AuditedRun}
 * that the job's parameter {@code run} names, which the listener keeps as the job's transient user data.
 */
public final class Workflow {
    /** The bean classes, for a runtime that is told them. */
    static final List<Class<?>> ARTIFACTS = List.of(ExecutionListener.class, AcquireLock.class, LockDecision.class,
        ResetCounter.class,
        RunCommand.class, ReleaseLock.class, IncrementCounter.class, OutcomeDecision.class);

    private static final int MAX_EXIT_STATUS = 250;

    /**
     * Finds the run that the steps work on, releases the lock when no step could, since STOP takes no transition, and
     * gives the job the exit status of the outcome, which runtimes make up in different ways.
     */
    @Named("executionListener")
    @Dependent
    public static class ExecutionListener implements JobListener {
        @Inject
        JobContext job;

        @Inject
        @BatchProperty
        String run;

        @Override
        public void beforeJob() {
            job.setTransientUserData(AuditedRun.of(run));
        }

        @Override
        public void afterJob() {
            AuditedRun ended = AuditedRun.of(run);
            ended.releaseLock();
            Outcome outcome = ended.execution.outcome();
            if (outcome != null) {
                job.setExitStatus(AuditedRun.exitStatus(outcome));
            }
        }
    }

    /**
     * A batchlet; {@link #stop} ends the command. It has nothing injected itself: not every runtime injects into
     * inherited fields.
     */
    public abstract static class Step implements Batchlet {
        volatile AuditedRun run;

        AuditedRun run(JobContext job) {
            run = (AuditedRun) job.getTransientUserData();
            return run;
        }

        @Override
        public void stop() {
            if (run != null) {
                run.execution.stop(new Execution.StopSignal("TERM", 15));
            }
        }

        /**
         * The step's exit status: the outcome's when it is a failure, which fails the step too; otherwise the given
         * one.
         */
        String end(StepContext step, String otherwise) throws StepFailed {
            Outcome outcome = run.execution.outcome();
            if (outcome == null || outcome.ending == Ending.SUCCEEDED || outcome.lockState != null) {
                return otherwise;
            }
            String status = AuditedRun.exitStatus(outcome);
            if (outcome.ending == Ending.STOPPED) {
                return status;
            }
            step.setExitStatus(status);
            String message = run.message(outcome);
            throw new StepFailed(message.substring(0, Math.min(message.length(), MAX_EXIT_STATUS)));
        }
    }

    /**
     * A step that did not succeed: the runtime marks it FAILED and keeps the message; a stack trace would be the
     * runtime's own.
     */
    static final class StepFailed extends Exception {
        private static final long serialVersionUID = 1;

        StepFailed(String message) {
            super(message, null, false, false);
        }
    }

    @Named("acquireLock")
    @Dependent
    public static class AcquireLock extends Step {
        @Inject
        JobContext job;

        @Inject
        StepContext step;

        @Override
        public String process() throws StepFailed {
            return run(job).acquireLock() ? "ACQUIRED" : end(step, AuditedRun.exitStatus(run.execution.outcome()));
        }
    }

    /**
     * Records that the counter was cleared: acquiring the lock does it inside the gate, so that no contention is lost
     * in between.
     */
    @Named("resetCounter")
    @Dependent
    public static class ResetCounter extends Step {
        @Inject
        JobContext job;

        @Override
        public String process() {
            return run(job).execution.request.task.threshold() > 0 ? "RESET" : "NOT_COUNTED";
        }
    }

    @Named("runCommand")
    @Dependent
    public static class RunCommand extends Step {
        @Inject
        JobContext job;

        @Inject
        StepContext step;

        @Override
        public String process() throws StepFailed {
            run(job).runCommand();
            return end(step, "SUCCEEDED");
        }
    }

    @Named("releaseLock")
    @Dependent
    public static class ReleaseLock extends Step {
        @Inject
        JobContext job;

        @Inject
        StepContext step;

        @Override
        public String process() throws StepFailed {
            Outcome before = run(job).execution.outcome();
            run.releaseLock();
            return run.execution.outcome() == before ? "RELEASED" : end(step, "RELEASED");
        }
    }

    /**
     * Records the counter that the contention left: it is changed inside the gate, so that each contention counts
     * exactly once.
     */
    @Named("incrementCounter")
    @Dependent
    public static class IncrementCounter extends Step {
        @Inject
        JobContext job;

        @Override
        public String process() {
            long count = run(job).execution.outcome().counter();
            return count < 0 ? "NOT_COUNTED" : "COUNT_" + count;
        }
    }

    /** ACQUIRED, CONTENDED (reported or not), or why neither could be told. */
    @Named("lockDecision")
    @Dependent
    public static class LockDecision implements Decider {
        @Inject
        JobContext job;

        @Override
        public String decide(StepExecution[] steps) {
            Outcome outcome = ((AuditedRun) job.getTransientUserData()).execution.outcome();
            return outcome == null ? "ACQUIRED" : outcome.lockState != null ? "CONTENDED"
                : AuditedRun.exitStatus(outcome);
        }
    }

    /** The batch status that the job ends with. */
    @Named("outcome")
    @Dependent
    public static class OutcomeDecision implements Decider {
        @Inject
        JobContext job;

        @Override
        public String decide(StepExecution[] steps) {
            AuditedRun run = (AuditedRun) job.getTransientUserData();
            return run.batchStatus(run.execution.outcome());
        }
    }

    private Workflow() {
    }
}
