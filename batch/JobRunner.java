import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

import jakarta.batch.operations.BatchRuntimeException;
import jakarta.batch.operations.JobOperator;
import jakarta.enterprise.inject.spi.Bean;
import jakarta.enterprise.inject.spi.BeanManager;
import jakarta.transaction.TransactionManager;
import org.jberet.creation.AbstractArtifactFactory;
import org.jberet.creation.BatchCDIExtension;
import org.jberet.repository.JdbcRepository;
import org.jberet.repository.JobRepository;
import org.jberet.spi.ArtifactFactory;
import org.jberet.spi.BatchEnvironment;
import org.jberet.spi.JobOperatorContext;
import org.jberet.spi.JobTask;
import org.jberet.spi.JobXmlResolver;
import org.jberet.tools.MetaInfBatchJobsJobXmlResolver;
import org.jberet.tx.LocalTransactionManager;
import org.jboss.weld.environment.se.Weld;

/**
 * Runs one execution of the job on JBeret SE, on the thread of its caller: there is nothing to wait for that could never come, as
 * JBeret's own latch does when its last update fails.
 *
 * <p>Weld starts on a thread of its own while the database is opened and the job is read.
 */
final class JobRunner implements AutoCloseable {
    static final String JOB = "taskrunner";
    /** The job parameter by which the artifacts find what they work on. */
    static final String RUN = "run";

    private final Repository repository;
    private final CompletableFuture<BeanManager> beans;
    private final JobOperator operator;
    private JobTask started;

    /** Starts Weld with the artifacts, without looking for other beans. */
    static CompletableFuture<BeanManager> startBeans(List<Class<?>> artifacts) {
        CompletableFuture<BeanManager> beans = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                Weld weld = new Weld().disableDiscovery().skipShutdownHook()
                    .addExtension(new BatchCDIExtension())
                    .beanClasses(artifacts.toArray(new Class<?>[0]));
                beans.complete(weld.initialize().getBeanManager());
            } catch (Throwable e) {
                beans.completeExceptionally(e);
            }
        }, "beans");
        thread.setDaemon(true);
        thread.start();
        return beans;
    }

    JobRunner(Repository repository, CompletableFuture<BeanManager> beans) {
        this.repository = repository;
        this.beans = beans;
        this.operator = JobOperatorContext.create(new Environment()).getJobOperator();
    }

    /** Creates the job execution and its audit row, both or none. @return its id */
    long start(RequestRow request) throws RepositoryException {
        return repository.inTransaction(connection -> {
            long id = operator.start(JOB, parameters(request));
            Repository.insert(connection, id, request);
            return id;
        });
    }

    /**
     * Creates a new execution of the same job instance and its audit row, both or none.
     *
     * @throws RepositoryException when the instance has a newer execution, or one that has not ended
     */
    long restart(long id, RequestRow request) throws RepositoryException {
        return repository.inTransaction(connection -> {
            repository.checkRestartable(connection, id);
            long restarted = operator.restart(id, parameters(request));
            Repository.insert(connection, restarted, request);
            return restarted;
        });
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
            return new Artifacts();
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

    private final class Artifacts extends AbstractArtifactFactory {
        @Override
        public Object create(String name, Class<?> type, ClassLoader classLoader) {
            BeanManager manager = manager();
            Bean<?> bean = findBean(name, manager, classLoader);
            return bean == null ? null : manager.getReference(bean, bean.getBeanClass(), manager.createCreationalContext(bean));
        }

        @Override
        public Class<?> getArtifactClass(String name, ClassLoader classLoader) {
            Bean<?> bean = findBean(name, manager(), classLoader);
            return bean == null ? null : bean.getBeanClass();
        }

        private BeanManager manager() {
            try {
                return beans.join();
            } catch (CompletionException e) {
                throw new BatchRuntimeException("the container of the job's artifacts cannot start", e.getCause());
            }
        }
    }
}
