import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Properties;

import javax.xml.stream.XMLInputFactory;

import jakarta.batch.operations.JobOperator;
import jakarta.batch.runtime.StepExecution;
import jakarta.transaction.TransactionManager;
import org.jberet.repository.InMemoryRepository;
import org.jberet.repository.JobRepository;
import org.jberet.spi.ArtifactFactory;
import org.jberet.spi.BatchEnvironment;
import org.jberet.spi.JobOperatorContext;
import org.jberet.spi.JobTask;
import org.jberet.spi.JobXmlResolver;
import org.jberet.tools.MetaInfBatchJobsJobXmlResolver;
import org.jberet.tx.LocalTransactionManager;

/**
 * Runs one execution of the job on JBeret SE, on the thread of its caller: there is nothing to wait for that could
 * never come, as JBeret's own latch does when its last update fails.
 *
 * <p>In memory: {@link Repository} writes JBeret's tables. A restart runs as a first execution does, since every step
 * allows it and the lock comes first.
 */
final class JobRunner {
    static final String JOB = "taskrunner";
    /** The job parameter by which the artifacts find what they work on. */
    static final String RUN = "run";

    private final Beans beans;
    private JobOperator operator;
    private JobTask started;
    private long execution;

    /** @param beans may still be starting: they are waited for when the job needs the first of them */
    JobRunner(Beans beans) {
        this.beans = beans;
    }

    /** Runs the job to its end. */
    void run(String runId) {
        // else JAXP looks for another one in each jar
        System.setProperty(XMLInputFactory.class.getName(), XMLInputFactory.newDefaultFactory().getClass().getName());
        operator = JobOperatorContext.create(new Environment()).getJobOperator();
        Properties parameters = new Properties();
        parameters.setProperty(RUN, runId);
        execution = operator.start(JOB, parameters);
        started.run();
    }

    /** The steps so far. */
    List<StepRow> steps() {
        List<StepRow> steps = new ArrayList<>();
        for (StepExecution step : execution == 0 ? List.<StepExecution>of() : operator.getStepExecutions(execution)) {
            steps.add(new StepRow(step.getStepName(), time(step.getStartTime()), time(step.getEndTime()),
                step.getBatchStatus().name(), step.getExitStatus()));
        }
        return steps;
    }

    private static String time(Date time) {
        return time == null ? null : Text.time(time.getTime());
    }

    private final class Environment implements BatchEnvironment {
        private final JobRepository jobs = InMemoryRepository.create();
        private final Properties configuration = new Properties();
        private final JobXmlResolver resolver = new MetaInfBatchJobsJobXmlResolver();

        @Override
        public ClassLoader getClassLoader() {
            return JobRunner.class.getClassLoader();
        }

        @Override
        public ArtifactFactory getArtifactFactory() {
            return beans;
        }

        @Override
        public void submitTask(JobTask task) {
            started = task;
        }

        @Override
        public TransactionManager getTransactionManager() {
            return LocalTransactionManager.getInstance();
        }

        @Override
        public JobRepository getJobRepository() {
            return jobs;
        }

        @Override
        public JobXmlResolver getJobXmlResolver() {
            return resolver;
        }

        @Override
        public Properties getBatchConfigurationProperties() {
            return configuration;
        }

        @Override
        public String getApplicationName() {
            return null;
        }
    }
}
