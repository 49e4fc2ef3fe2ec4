///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS org.junit:junit-bom:6.1.3@pom
//DEPS org.junit.jupiter:junit-jupiter
//DEPS org.junit.platform:junit-platform-launcher
//SOURCES ../taskrunner.java
//SOURCES Program.java
//SOURCES *Test.java
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC

import java.io.PrintWriter;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

import org.junit.platform.engine.DiscoverySelector;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.ClassNameFilter;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.launcher.Launcher;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary;

/**
 * Runs all tests, or those of the classes that the arguments name, and ends with the line {@code N passed, N failed}. A class that
 * fails as a whole, a test that was skipped and a run without tests count as failures.
 */
public class alltests {
    private static final Duration SLOW = Duration.ofSeconds(10);

    public static void main(String[] args) throws Exception {
        Path ownJar = Path.of(alltests.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        LauncherDiscoveryRequestBuilder request = LauncherDiscoveryRequestBuilder.request()
            .filters(ClassNameFilter.includeClassNamePatterns(".*Test"))
            .configurationParameters(Map.of("junit.jupiter.execution.parallel.enabled", "true",
                "junit.jupiter.execution.parallel.mode.classes.default", "concurrent",
                "junit.jupiter.execution.parallel.config.strategy", "fixed",
                "junit.jupiter.execution.parallel.config.fixed.parallelism", "3",
                "junit.jupiter.execution.parallel.config.executor-service", "WORKER_THREAD_POOL",
                "junit.jupiter.execution.timeout.default", "300 s"));
        if (args.length == 0) {
            request.selectors(DiscoverySelectors.selectClasspathRoots(Set.of(ownJar)));
        } else {
            request.selectors(java.util.Arrays.stream(args).map(DiscoverySelectors::selectClass).toArray(DiscoverySelector[]::new));
        }
        Launcher launcher = LauncherFactory.create();
        SummaryGeneratingListener summary = new SummaryGeneratingListener();
        launcher.execute(request.build(), summary, new Progress());
        System.exit(report(summary.getSummary()));
    }

    private static int report(TestExecutionSummary summary) {
        PrintWriter out = new PrintWriter(System.out, true);
        summary.printFailuresTo(out, 20);
        long failed = summary.getTotalFailureCount() + summary.getTestsSkippedCount() + summary.getContainersSkippedCount()
            + summary.getTestsAbortedCount();
        if (summary.getTestsFoundCount() == 0) {
            out.println("no tests found");
            failed++;
        }
        out.println(summary.getTestsSucceededCount() + " passed, " + failed + " failed");
        return failed == 0 ? 0 : 1;
    }

    /** One line a class as it ends, and a line for every test that is slow or did not pass. */
    private static final class Progress implements TestExecutionListener {
        private final Map<TestIdentifier, Long> started = new ConcurrentHashMap<>();
        private TestPlan plan;

        @Override
        public void testPlanExecutionStarted(TestPlan testPlan) {
            plan = testPlan;
        }

        @Override
        public void executionStarted(TestIdentifier test) {
            started.put(test, System.nanoTime());
        }

        @Override
        public void executionFinished(TestIdentifier test, TestExecutionResult result) {
            Duration took = Duration.ofNanos(System.nanoTime() - started.get(test));
            boolean failed = result.getStatus() != TestExecutionResult.Status.SUCCESSFUL;
            boolean ofClass = plan.getParent(test).isPresent() && plan.getParent(plan.getParent(test).get()).isEmpty();
            if (failed || ofClass || test.isTest() && took.compareTo(SLOW) > 0) {
                System.out.printf("%-7s%6.1f s  %s%n", failed ? "FAILED" : "ok", took.toMillis() / 1000.0,
                    test.isTest() ? plan.getParent(test).get().getDisplayName() + ": " + test.getDisplayName() : test.getDisplayName());
            }
        }

        @Override
        public void executionSkipped(TestIdentifier test, String reason) {
            System.out.println("SKIPPED " + test.getDisplayName() + ": " + reason);
        }
    }
}
