import java.security.ProtectionDomain;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

import jakarta.batch.operations.BatchRuntimeException;
import jakarta.enterprise.inject.spi.Bean;
import jakarta.enterprise.inject.spi.BeanManager;
import org.jberet.creation.AbstractArtifactFactory;
import org.jboss.weld.bootstrap.WeldBootstrap;
import org.jboss.weld.bootstrap.api.CDI11Bootstrap;
import org.jboss.weld.bootstrap.api.Environments;
import org.jboss.weld.bootstrap.spi.BeansXml;
import org.jboss.weld.environment.deployment.WeldBeanDeploymentArchive;
import org.jboss.weld.environment.deployment.WeldDeployment;
import org.jboss.weld.environment.deployment.WeldResourceLoader;
import org.jboss.weld.serialization.spi.ProxyServices;

/**
 * The job's artifacts as CDI beans of Weld. It starts on a thread of its own, while the database is opened and the job
 * is read, and with the artifacts alone: no discovery, no portable extensions, no {@code WeldContainer} with its
 * proxies and events.
 */
final class Beans extends AbstractArtifactFactory {
    private final CompletableFuture<BeanManager> manager = new CompletableFuture<>();

    /** @param artifacts the bean classes of the job */
    static Beans start(List<Class<?>> artifacts) {
        Beans beans = new Beans();
        Thread thread = new Thread(() -> {
            try {
                beans.manager.complete(boot(artifacts));
            } catch (Throwable e) {
                beans.manager.completeExceptionally(e);
            }
        }, "beans");
        thread.setDaemon(true);
        thread.start();
        return beans;
    }

    private static BeanManager boot(List<Class<?>> artifacts) {
        WeldBeanDeploymentArchive archive = archive(artifacts);
        CDI11Bootstrap weld = deploy(archive);
        // the artifacts are always the same: a test validates them, which costs a run 15 ms
        return weld.getManager(archive);
    }

    /** Deploys them and validates what is injected where; fails when that does not fit. */
    static void validate(List<Class<?>> artifacts) {
        deploy(archive(artifacts)).validateBeans().endInitialization();
    }

    private static WeldBeanDeploymentArchive archive(List<Class<?>> artifacts) {
        List<Class<?>> classes = new ArrayList<>(artifacts);
        classes.add(BatchInjection.class);
        return new WeldBeanDeploymentArchive("taskrunner", Set.of(), null, BeansXml.EMPTY_BEANS_XML, Set.of(), classes);
    }

    private static CDI11Bootstrap deploy(WeldBeanDeploymentArchive archive) {
        System.setProperty("org.jboss.weld.xml.disableValidating", "true");
        System.setProperty("org.jboss.weld.executor.threadPoolType", "NONE");
        CDI11Bootstrap weld = new WeldBootstrap();
        WeldDeployment deployment = new WeldDeployment(new WeldResourceLoader(), weld, new HashSet<>(Set.of(archive)),
            List.of());
        deployment.getServices().add(ProxyServices.class, new NoProxies());
        weld.startContainer("taskrunner", Environments.SE, deployment);
        weld.startInitialization().deployBeans();
        return weld;
    }

    /**
     * Weld would write the classes of proxies for its own {@code Instance} and {@code Event} at every start, which
     * takes a fifth of it. Only a decorator has objects made of them, and the artifacts have none.
     */
    private static final class NoProxies implements ProxyServices {
        @Override
        public Class<?> loadClass(Class<?> original, String name) {
            return original;
        }

        @Override
        public Class<?> defineClass(Class<?> original, String name, byte[] bytes, int offset, int length) {
            throw new ClassFormatError("no proxies here: " + name);
        }

        @Override
        public Class<?> defineClass(Class<?> original, String name, byte[] bytes, int offset, int length,
            ProtectionDomain domain) {
            return defineClass(original, name, bytes, offset, length);
        }

        @Override
        public void cleanup() {
            // holds nothing
        }
    }

    private BeanManager manager() {
        return manager.join();
    }

    @Override
    public Object create(String name, Class<?> type, ClassLoader classLoader) {
        Bean<?> bean = findBean(name, manager(), classLoader);
        return bean == null ? null : manager()
            .getReference(bean, bean.getBeanClass(), manager().createCreationalContext(bean));
    }

    @Override
    public Class<?> getArtifactClass(String name, ClassLoader classLoader) {
        Bean<?> bean = findBean(name, manager(), classLoader);
        return bean == null ? null : bean.getBeanClass();
    }

    /** Waits for Weld. */
    void await() {
        try {
            manager();
        } catch (RuntimeException e) {
            throw new BatchRuntimeException("the container of the job's artifacts cannot start", e.getCause());
        }
    }
}
