import jakarta.batch.api.BatchProperty;
import jakarta.batch.runtime.context.JobContext;
import jakarta.batch.runtime.context.StepContext;
import jakarta.enterprise.context.Dependent;
import jakarta.enterprise.inject.Produces;
import jakarta.enterprise.inject.spi.InjectionPoint;
import org.jberet.creation.BatchBeanProducer;

/**
 * What artifacts may have injected: the contexts, and batch properties that are text. JBeret's own extension would
 * offer properties of thirty types and three scopes, at the price of a bean each at every start.
 */
@Dependent
public class BatchInjection {
    private final BatchBeanProducer jberet = new BatchBeanProducer();

    @Produces
    public JobContext jobContext() {
        return jberet.getJobContext();
    }

    @Produces
    public StepContext stepContext() {
        return jberet.getStepContext();
    }

    @Produces
    @BatchProperty
    public String property(InjectionPoint point) {
        return jberet.getString(point);
    }
}
