import java.lang.reflect.Field;
import java.net.URL;
import java.security.ProtectionDomain;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

import jakarta.batch.operations.BatchRuntimeException;
import jakarta.enterprise.context.Dependent;
import jakarta.enterprise.context.spi.Context;
import jakarta.enterprise.inject.spi.Bean;
import jakarta.enterprise.inject.spi.BeanManager;
import org.jberet.creation.AbstractArtifactFactory;
import org.jboss.weld.bootstrap.ContextHolder;
import org.jboss.weld.bootstrap.WeldStartup;
import org.jboss.weld.bootstrap.api.Environments;
import org.jboss.weld.bootstrap.api.ServiceRegistry;
import org.jboss.weld.bootstrap.spi.BeansXml;
import org.jboss.weld.contexts.unbound.DependentContextImpl;
import org.jboss.weld.environment.deployment.WeldBeanDeploymentArchive;
import org.jboss.weld.environment.deployment.WeldDeployment;
import org.jboss.weld.environment.deployment.WeldResourceLoader;
import org.jboss.weld.manager.BeanManagerImpl;
import org.jboss.weld.resources.spi.ResourceLoadingException;
import org.jboss.weld.serialization.spi.ContextualStore;
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
        readAnnotations(artifacts);
        return beans;
    }

    /** The JDK keeps them: 15 ms which Weld, for which the job waits in the end, then need not take. */
    private static void readAnnotations(List<Class<?>> artifacts) {
        Dependent.class.getAnnotations();
        for (Class<?> artifact : artifacts) {
            artifact.getAnnotations();
            for (Field field : artifact.getDeclaredFields()) {
                field.getAnnotations();
            }
        }
    }

    private static BeanManager boot(List<Class<?>> artifacts) {
        // the artifacts are always the same: a test validates them, which costs a run 15 ms
        return new Startup(artifacts).manager;
    }

    /** Deploys them and validates what is injected where; fails when that does not fit. */
    static void validate(List<Class<?>> artifacts) {
        Startup weld = new Startup(artifacts);
        weld.validateBeans();
        weld.endInitialization();
    }

    /**
     * Weld with the artifacts, the one context that they are in, and none of its own extension, which adds interceptors
     * for requests: what is not there need not be looked at.
     */
    private static final class Startup extends WeldStartup {
        private final BeanManagerImpl manager;

        Startup(List<Class<?>> artifacts) {
            System.setProperty("org.jboss.weld.xml.disableValidating", "true");
            System.setProperty("org.jboss.weld.executor.threadPoolType", "NONE");
            List<Class<?>> classes = new ArrayList<>(artifacts);
            classes.add(BatchInjection.class);
            WeldBeanDeploymentArchive archive = new WeldBeanDeploymentArchive("taskrunner", Set.of(), null,
                BeansXml.EMPTY_BEANS_XML, Set.of(), classes);
            WeldDeployment deployment = new WeldDeployment(new NoResources(), null, new HashSet<>(Set.of(archive)),
                List.of());
            deployment.getServices().add(ProxyServices.class, new NoProxies());
            manager = startContainer("taskrunner", Environments.SE, deployment).getManager(archive);
            manager.addContext(new DependentContextImpl(deployment.getServices().get(ContextualStore.class)));
            startExtensions(List.of());
            startInitialization();
            deployBeans();
        }

        @Override
        protected Collection<ContextHolder<? extends Context>> createContexts(ServiceRegistry services) {
            return List.of();
        }
    }

    /** Weld would look for settings, services and APIs of servers in each of forty jars, and there are none. */
    private static final class NoResources extends WeldResourceLoader {
        private static final List<String> ABSENT = List.of("jakarta.ejb.", "jakarta.persistence.", "jakarta.xml.ws.",
            "groovy.");

        @Override
        public Class<?> classForName(String name) {
            for (String absent : ABSENT) {
                if (name.startsWith(absent)) {
                    throw new ResourceLoadingException(name);
                }
            }
            return super.classForName(name);
        }

        @Override
        public URL getResource(String name) {
            return null;
        }

        @Override
        public Collection<URL> getResources(String name) {
            return List.of();
        }
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
