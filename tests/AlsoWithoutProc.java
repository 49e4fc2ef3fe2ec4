import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.TestTemplate;
import org.junit.jupiter.api.extension.AfterTestExecutionCallback;
import org.junit.jupiter.api.extension.BeforeTestExecutionCallback;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.extension.Extension;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContextProvider;

/**
 * A test that runs a second time as on macOS and the BSDs, where {@link ProcessHandle} and ps(1) tell of processes what
 * proc(5) tells on Linux: by a JVM option its programs take this machine for another.
 *
 * <p>Not run without /proc is what only /proc can tell: what carries the run's id but left the tree, who is sent which
 * signal by a terminal, what handles a signal, control groups, namespaces, hidden processes, that {@code --quiet}'s
 * file has no name.
 *
 * <p>Untried, for want of such a machine: what macOS and the BSDs themselves answer (ProcessHandle's starts and users,
 * ps, fcntl locks and hard links on their file systems, jails, process 1 as a reaper), and that what is started in
 * order to end is spared: this goes by the clock, and on Linux ProcessHandle's starts are up to a second too early.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
@TestTemplate
@ExtendWith(AlsoWithoutProc.Twice.class)
@interface AlsoWithoutProc {
    final class Twice implements TestTemplateInvocationContextProvider {
        /** Inherited by the threads that a test starts. */
        private static final ThreadLocal<Boolean> WITHOUT_PROC = new InheritableThreadLocal<>();

        /** For the JVMs that the running test starts. */
        static String[] jvmOptions() {
            return isWithoutProc() ? new String[] {"-Dos.name=Mac OS X"} : new String[0];
        }

        static boolean isWithoutProc() {
            return WITHOUT_PROC.get() != null;
        }

        @Override
        public boolean supportsTestTemplate(ExtensionContext context) {
            return true;
        }

        @Override
        public Stream<TestTemplateInvocationContext> provideTestTemplateInvocationContexts(ExtensionContext context) {
            return Stream.of(invocation("with /proc", List.of()), invocation("without /proc",
                List.of((BeforeTestExecutionCallback) test -> WITHOUT_PROC.set(true),
                    (AfterTestExecutionCallback) test -> WITHOUT_PROC.remove())));
        }

        private static TestTemplateInvocationContext invocation(String name, List<Extension> extensions) {
            return new TestTemplateInvocationContext() {
                @Override
                public String getDisplayName(int index) {
                    return name;
                }

                @Override
                public List<Extension> getAdditionalExtensions() {
                    return extensions;
                }
            };
        }
    }
}
