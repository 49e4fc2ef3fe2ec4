import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

import org.junit.jupiter.api.parallel.ExecutionMode;

/**
 * Test methods that run beside each other. In place of JUnit's annotation, whose import would hide the project's own
 * class Execution.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target({ElementType.TYPE, ElementType.METHOD})
@org.junit.jupiter.api.parallel.Execution(ExecutionMode.CONCURRENT)
@interface Concurrent {
}
