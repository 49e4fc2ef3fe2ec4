import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.Properties;

import jakarta.batch.operations.BatchRuntimeException;
import jakarta.batch.operations.JobOperator;
import jakarta.transaction.TransactionManager;
import org.jberet.repository.JdbcRepository;
import org.jberet.repository.JobRepository;
import org.jberet.spi.ArtifactFactory;
import org.jberet.spi.BatchEnvironment;
import org.jberet.spi.JobOperatorContext;
import org.jberet.spi.JobTask;
import org.jberet.spi.JobXmlResolver;
import org.jberet.tools.MetaInfBatchJobsJobXmlResolver;
import org.jberet.tx.LocalTransactionManager;

/**
 * Runs one execution of the job on JBeret SE, on the thread of its caller: there is nothing to wait for that could never come, as
 * JBeret's own latch does when its last update fails.
 */
final class JobRunner implements AutoCloseable {
    static final String JOB = "taskrunner";
    /** The job parameter by which the artifacts find what they work on. */
    static final String RUN = "run";

    private final Repository repository;
    private final Beans beans;
    private final JobOperator operator;
    private JobTask started;

    JobRunner(Repository repository, Beans beans) {
        this.repository = repository;
        this.beans = beans;
        this.operator = JobOperatorContext.create(new Environment()).getJobOperator();
    }

    /** Creates the job execution and its audit row, both or none. @return its id */
    long start(RequestRow request) throws RepositoryException {
        return written(() -> repository.inTransaction(connection -> {
            long id = operator.start(JOB, parameters(request));
            Repository.insert(connection, id, request);
            return id;
        }));
    }

    /**
     * Creates a new execution of the same job instance and its audit row, both or none.
     *
     * @throws RepositoryException when the instance has a newer execution, or one that has not ended
     */
    long restart(long id, RequestRow request) throws RepositoryException {
        return written(() -> repository.inTransaction(connection -> {
            repository.checkRestartable(connection, id, request.host());
            long restarted = operator.restart(id, parameters(request));
            Repository.insert(connection, restarted, request);
            return restarted;
        }));
    }

    private interface Rows {
        long write() throws RepositoryException;
    }

    /** JBeret tells with an unchecked exception that its rows cannot be written. */
    private long written(Rows rows) throws RepositoryException {
        try {
            return rows.write();
        } catch (BatchRuntimeException e) {
            throw RepositoryException.unavailable(repository.location(), "cannot be written", e);
        }
    }

    private static Properties parameters(RequestRow request) {
        Properties parameters = new Properties();
        parameters.setProperty(RUN, request.runId());
        return parameters;
    }

    /** Runs what was started to its end. The loss of the database does not end it, see {@link Repository#write}. */
    void run() {
        repository.runBegins();
        started.run();
    }

    @Override
    public void close() {
        // the beans have nothing to clean up
    }

    private final class Environment implements BatchEnvironment {
        private final JobRepository jobs = forgiving(new JdbcRepository(repository.connections(), new Properties()));
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

    /**
     * JBeret skips the steps that are left when one of its own updates fails, the release of the lock among them. So while a job
     * runs, updates that fail are put off; what JBeret reads then is only what a first execution would find.
     */
    private JobRepository forgiving(JobRepository jobs) {
        return (JobRepository) Proxy.newProxyInstance(JobRunner.class.getClassLoader(), new Class<?>[] {JobRepository.class},
            (proxy, method, arguments) -> {
                Class<?> type = method.getReturnType();
                if (type == void.class) {
                    repository.write(() -> invoke(jobs, method, arguments));
                    return null;
                }
                if (method.getName().equals("savePersistentDataIfNotStopping")) {
                    int[] rows = {1}; // none would mean that the job is being stopped
                    repository.write(() -> rows[0] = (int) invoke(jobs, method, arguments));
                    return rows[0];
                }
                if (repository.hasPutOff() && method.getName().equals("findOriginalStepExecutionForRestart")) {
                    return null;
                }
                if (repository.hasPutOff() && method.getName().equals("countStepStartTimes")) {
                    return 0;
                }
                return invoke(jobs, method, arguments);
            });
    }

    private static Object invoke(JobRepository jobs, Method method, Object[] arguments) throws Exception {
        try {
            return method.invoke(jobs, arguments);
        } catch (InvocationTargetException e) {
            if (e.getCause() instanceof Error error) {
                throw error;
            }
            throw (Exception) e.getCause();
        }
    }
}
