import java.util.Properties;
import java.util.concurrent.FutureTask;
import java.util.logging.Level;
import java.util.logging.Logger;

import jakarta.batch.operations.BatchRuntimeException;
import jakarta.batch.operations.JobOperator;
import jakarta.transaction.TransactionManager;

import org.jberet.creation.BatchCDIExtension;
import org.jberet.repository.JdbcRepository;
import org.jberet.repository.JobRepository;
import org.jberet.se.SEArtifactFactory;
import org.jberet.spi.ArtifactFactory;
import org.jberet.spi.BatchEnvironment;
import org.jberet.spi.JobOperatorContext;
import org.jberet.spi.JobTask;
import org.jberet.spi.JobXmlResolver;
import org.jberet.tools.MetaInfBatchJobsJobXmlResolver;
import org.jberet.tx.LocalTransactionManager;
import org.jboss.weld.bootstrap.api.helpers.RegistrySingletonProvider;
import org.jboss.weld.environment.se.Weld;

/**
 * JBeret for one job execution, in the calling thread.
 *
 * <p>JBeret's own environment starts a thread pool and waits for it, which never returns when the last update fails. Here
 * {@link #start} writes the execution's row and {@link #run} runs the job: what goes wrong comes out of it.
 */
final class JobRuntime {
    static final String JOB = "taskrunner";

    /** JBeret and Weld tell on the log what the caller tells in one line; held, since the log manager holds loggers weakly. */
    private static final Logger[] SILENT = {Logger.getLogger("org.jberet"), Logger.getLogger("org.jboss")};

    private final FutureTask<ArtifactFactory> artifacts = new FutureTask<>(JobRuntime::bootWeld);
    private JobOperator operator;
    private JobTask task;
    private Execution execution;

    /** Begins to start Weld, which takes longest, on a thread of its own. */
    JobRuntime() {
        for (Logger logger : SILENT) {
            logger.setLevel(Level.OFF);
        }
        Thread weld = new Thread(artifacts, "weld");
        weld.setDaemon(true);
        weld.start();
    }

    private static ArtifactFactory bootWeld() {
        System.setProperty("org.jboss.weld.se.shutdownHook", "false");
        new Weld(RegistrySingletonProvider.STATIC_INSTANCE).disableDiscovery().beanClasses(Workflow.ARTIFACTS)
            .extensions(new BatchCDIExtension())
            .property("org.jboss.weld.xml.disableValidating", true)
            .property("org.jboss.weld.bootstrap.concurrentDeployment", false)
            .property("org.jboss.weld.executor.threadPoolType", "NONE")
            .initialize();
        return new SEArtifactFactory();
    }

    /** Makes JBeret use the database, whose schema is there; not in a transaction. */
    void connect(Database database) {
        operator = JobOperatorContext.create(new Environment(new JdbcRepository(database, new Properties()))).getJobOperator();
    }

    /**
     * Writes a new execution, STARTING, and returns its id; {@link #run} must follow. Its row is in the database when the transaction
     * around the call, if any, is committed.
     */
    long start(Execution execution) {
        return begin(execution, null);
    }

    /** As {@link #start}, a new execution of the job instance of a finished one. */
    long restart(long finished, Execution execution) {
        return begin(execution, finished);
    }

    private long begin(Execution execution, Long finished) {
        this.execution = execution;
        Workflow.begin(execution);
        Properties parameters = new Properties();
        parameters.setProperty("run", execution.owner.runId());
        return finished == null ? operator.start(JOB, parameters) : operator.restart(finished, parameters);
    }

    /**
     * Runs the job to its end. The lock is released when it returns, whatever became of the job.
     *
     * @throws BatchRuntimeException when the repository could not be written; {@link Execution#outcome} has what became of the command
     */
    void run() {
        try {
            task.run();
        } finally {
            execution.releaseLock();
            Workflow.end(execution);
        }
    }

    /** Waits for Weld only when the first artifact is needed: {@link #start} holds a transaction open, which keeps others waiting. */
    private final class WhenReady implements ArtifactFactory {
        private ArtifactFactory ready() {
            try {
                return artifacts.get();
            } catch (InterruptedException | java.util.concurrent.ExecutionException e) {
                throw new BatchRuntimeException("cannot start the CDI container", e);
            }
        }

        @Override
        public Object create(String ref, Class<?> type, ClassLoader loader) throws Exception {
            return ready().create(ref, type, loader);
        }

        @Override
        public Class<?> getArtifactClass(String ref, ClassLoader loader) {
            return ready().getArtifactClass(ref, loader);
        }

        @Override
        public void destroy(Object instance) {
            ready().destroy(instance);
        }
    }

    private final class Environment implements BatchEnvironment {
        private final JobRepository repository;

        Environment(JobRepository repository) {
            this.repository = repository;
        }

        @Override
        public ClassLoader getClassLoader() {
            return JobRuntime.class.getClassLoader();
        }

        @Override
        public ArtifactFactory getArtifactFactory() {
            return new WhenReady();
        }

        /** Only the job itself: this job has no splits or partitions, whose parts would need threads. */
        @Override
        public void submitTask(JobTask submitted) {
            task = submitted;
        }

        @Override
        public TransactionManager getTransactionManager() {
            return LocalTransactionManager.getInstance();
        }

        @Override
        public JobRepository getJobRepository() {
            return repository;
        }

        @Override
        public JobXmlResolver getJobXmlResolver() {
            return new MetaInfBatchJobsJobXmlResolver();
        }

        @Override
        public Properties getBatchConfigurationProperties() {
            return new Properties();
        }

        @Override
        public String getApplicationName() {
            return null;
        }
    }
}
