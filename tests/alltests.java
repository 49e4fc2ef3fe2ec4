///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS org.junit:junit-bom:6.1.3@pom
//DEPS org.junit.jupiter:junit-jupiter
//DEPS org.junit.platform:junit-platform-launcher
//DEPS org.eclipse.parsson:parsson:1.1.9
//DEPS org.apache.commons:commons-csv:1.14.1
// at its own version: another dependency would choose an older one
//DEPS commons-io:commons-io:2.20.0
//SOURCES ../taskrunner.java
//SOURCES ../batch/taskrunnerbatch.java
//SOURCES Machine.java
//SOURCES Project.java
//SOURCES Program.java
//SOURCES Running.java
//SOURCES Result.java
//SOURCES TestTask.java
//SOURCES TestArchive.java
//SOURCES TestPostgres.java
//SOURCES JsonText.java
//SOURCES Concurrent.java
//SOURCES AlsoWithoutProc.java
//SOURCES *Test.java
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC

import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
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
 * Runs all tests, or those of the classes that the arguments name, and ends with the line {@code N passed, N failed}.
 * A class that fails as a whole, a test that was skipped and a run without tests count as failures.
 */
public class alltests {
    private static final String READY = "alltests.ready";
    private static final Duration SLOW = Duration.ofSeconds(10);
    private static final int MAX_MESSAGE = 4000;

    public static void main(String[] args) throws Exception {
        if (!Boolean.getBoolean(READY)) {
            System.exit(runOnFitMachine(args));
        }
        Path ownJar = Path.of(alltests.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        LauncherDiscoveryRequestBuilder request = LauncherDiscoveryRequestBuilder.request()
            .filters(ClassNameFilter.includeClassNamePatterns(".*Test"))
            .configurationParameters(Map.of("junit.jupiter.execution.parallel.enabled", "true",
                "junit.jupiter.execution.parallel.mode.classes.default", "concurrent",
                "junit.jupiter.execution.parallel.config.strategy", "fixed",
                "junit.jupiter.execution.parallel.config.fixed.parallelism", "4",
                "junit.jupiter.execution.parallel.config.executor-service", "WORKER_THREAD_POOL",
                "junit.jupiter.testclass.order.default", "org.junit.jupiter.api.ClassOrderer$OrderAnnotation",
                "junit.jupiter.execution.timeout.default", "300 s"));
        if (args.length == 0) {
            request.selectors(DiscoverySelectors.selectClasspathRoots(Set.of(ownJar)));
        } else {
            request.selectors(Arrays.stream(args).map(DiscoverySelectors::selectClass)
                .toArray(DiscoverySelector[]::new));
        }
        Launcher launcher = LauncherFactory.create();
        SummaryGeneratingListener summary = new SummaryGeneratingListener();
        Progress progress = new Progress();
        launcher.execute(request.build(), summary, progress);
        System.exit(report(summary.getSummary(), progress));
    }

    /** Runs the tests in a JVM of its own where they have root's rights and a locale that encodes their arguments. */
    private static int runOnFitMachine(String... args) throws IOException, InterruptedException {
        try {
            Machine.install();
            List<String> command = new ArrayList<>(Machine.asRoot());
            command.addAll(List.of(ProcessHandle.current().info().command().orElseThrow(), "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC", "-D" + READY + "=true", "-cp", System.getProperty("java.class.path"), "alltests"));
            command.addAll(List.of(args));
            return Machine.builder(command).inheritIO().start().waitFor();
        } catch (Machine.Unfit e) {
            System.out.println("alltests: " + e.getMessage() + "\n0 passed, 1 failed");
            return 1;
        }
    }

    private static int report(TestExecutionSummary summary, Progress progress) {
        for (TestExecutionSummary.Failure failure : summary.getFailures()) {
            System.out.print("\n" + progress.name(failure.getTestIdentifier()) + "\n"
                + explain(failure.getException()));
        }
        long failed = summary.getTotalFailureCount() + summary.getTestsSkippedCount()
            + summary.getContainersSkippedCount()
            + summary.getTestsAbortedCount();
        if (summary.getTestsFoundCount() == 0) {
            System.out.println("no tests found");
            failed++;
        }
        System.out.println(summary.getTestsSucceededCount() + " passed, " + failed + " failed");
        return failed == 0 ? 0 : 1;
    }

    /** What went wrong, shortened, and where in the code of this project. */
    private static String explain(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            String message = cause.toString();
            text.append(message.length() <= MAX_MESSAGE ? message : message.substring(0, MAX_MESSAGE) + " …")
                .append('\n');
            Arrays.stream(cause.getStackTrace()).filter(frame -> frame.getClassName().indexOf('.') < 0)
                .forEach(frame -> text.append("    at ").append(frame).append('\n'));
        }
        return text.toString();
    }

    /** One line a class as it ends, and a line for every test that is slow or did not pass. */
    private static final class Progress implements TestExecutionListener {
        private final Map<TestIdentifier, Long> started = new ConcurrentHashMap<>();
        private final Set<TestIdentifier> withFailures = ConcurrentHashMap.newKeySet();
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
            boolean failed = result.getStatus() != TestExecutionResult.Status.SUCCESSFUL || withFailures.contains(test);
            if (failed) {
                plan.getParent(test).ifPresent(withFailures::add);
            }
            if (isClass(test) || failed && !test.isContainer() || took.compareTo(SLOW) > 0 && test.isTest()) {
                System.out.printf("%-7s%6.1f s  %s%n", failed ? "FAILED" : "ok", took.toMillis() / 1000.0, name(test));
            }
        }

        @Override
        public void executionSkipped(TestIdentifier test, String reason) {
            plan.getParent(test).ifPresent(withFailures::add);
            System.out.println("SKIPPED          " + name(test) + ": " + reason);
        }

        private boolean isClass(TestIdentifier test) {
            return plan.getParent(test).filter(engine -> plan.getParent(engine).isEmpty()).isPresent();
        }

        /** The class and what is below it. */
        String name(TestIdentifier test) {
            return plan.getParent(test).filter(parent -> plan.getParent(parent).isPresent())
                .map(parent -> name(parent) + ": ").orElse("")
                + test.getDisplayName();
        }
    }
}
