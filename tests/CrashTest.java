import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.junit.jupiter.api.Test;

/**
 * SIGKILL before every system call that a request makes on the lock file, its .tmp and the counter file, by the fault
 * injection of strace(1), on the unmodified program. Calls that change nothing (stat, seek, read) are left out: to be
 * killed before one of them is to be killed before the next one that changes something.
 */
class CrashTest extends TaskTest {
    private static final Pattern CALL = Pattern.compile("(?m)^(\\d+) +(\\w+)\\(");
    private static final Pattern CHANGES_NOTHING = Pattern.compile(".*stat.*|lseek|pread64|read");

    /** The n-th call of a system call, from 1. */
    private record Step(String call, int occurrence) {
    }

    /** What a request meets. */
    private abstract static class Scenario {
        /** Prepares the task; returns the holder that runs, or null. */
        abstract Running prepare(TestTask task) throws Exception;

        /** The files at whose calls it is crashed. */
        List<Path> files(TestTask task) {
            return List.of(task.lock, task.gate, task.counter);
        }

        /** Looks at what the crash left and makes the next request. */
        abstract void check(TestTask task, Running holder) throws Exception;
    }

    @Test
    void requestOnAFreeLock() throws Exception {
        Set<String> calls = crashAtEveryStep(new Scenario() {
            @Override
            Running prepare(TestTask task) throws IOException {
                Files.writeString(task.counter, "2\n");
                return null;
            }

            @Override
            void check(TestTask task, Running holder) {
                assertTrue(Set.of(0L, 2L).contains(task.count()), () -> "counter " + task.count());
                assertNextRequestRuns(task);
            }
        });
        assertTrue(calls.containsAll(Set.of("openat", "fcntl", "pwrite64", "fdatasync", "link", "unlink", "close")),
            calls::toString);
    }

    @Test
    void recoveryOfAStaleLockMayDieAtAnyStep() throws Exception {
        Path template = Files.createDirectory(directory.resolve("template"));
        TestTask dead = new TestTask(template);
        Running holder = dead.hold();
        holder.kill().exitedWith(137);
        Program.killProcessesOf(template);
        Set<String> calls = crashAtEveryStep(new Scenario() {
            @Override
            Running prepare(TestTask task) throws IOException {
                Files.writeString(task.counter, "2\n");
                Files.copy(dead.lock, task.lock);
                return null;
            }

            @Override
            void check(TestTask task, Running holder) {
                assertTrue(Set.of(0L, 2L).contains(task.count()), () -> "counter " + task.count());
                assertNextRequestRuns(task);
            }
        });
        assertTrue(calls.containsAll(Set.of("openat", "fcntl", "pwrite64", "fdatasync", "link", "unlink", "close")),
            calls::toString);
    }

    @AlsoWithoutProc
    void contenderIsCountedAtMostOnce() throws Exception {
        Set<String> calls = crashAtEveryStep(new Contention(1));
        assertTrue(calls.containsAll(Set.of("openat", "fcntl", "pwrite64", "unlink", "close")), calls::toString);
    }

    @Test
    void firstContenderIsCountedAtMostOnce() throws Exception {
        Set<String> calls = crashAtEveryStep(new CounterOnly(0));
        assertTrue(calls.containsAll(Set.of("openat", "pwrite64", "close")), calls::toString);
    }

    @Test
    void reportIsNotLost() throws Exception {
        Set<String> calls = crashAtEveryStep(new CounterOnly(4));
        assertTrue(calls.containsAll(Set.of("openat", "pwrite64", "close")), calls::toString);
    }

    @AlsoWithoutProc
    void unrecordedCommandKeepsTheLockOrphaned() throws Exception {
        Path trace = directory.resolve("trace");
        boolean told = !AlsoWithoutProc.Twice.isWithoutProc();
        task.request(task.untilFinish()).under(strace(List.of(task.lock, task.gate), trace, "-e",
            "inject=pwrite64:signal=KILL:when=" + (told ? 2 : 3))).start();
        task.awaitStart();
        Program.await("the holder is killed", () -> Program.read(trace).contains("+++ killed by SIGKILL"));
        Program.awaitDeath(List.of(Long.parseLong(task.recorded("pid"))));
        assertFalse(Program.read(task.lock).contains("command-pid"), "the command was recorded");
        String state = told ? " is orphaned: " : ": it is dead, and the record does not name its command";
        task.status().run().exitedWith(told ? 21 : 22).outContains(state);
        task.markingRequest().run().exitedWith(0).errContains(state).errContains("contention 1, threshold 2");
        task.assertDidNotRun();
        task.finish();
        if (!told) {
            return;
        }
        task.markingRequest("--wait", "20s").run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }

    @Test
    void replacedTmpNeverBecomesTheLock() throws Exception {
        Files.writeString(task.counter, "2\n");
        Running holder = task.request(task.untilFinish())
            .under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=link",
            "-e", "inject=link:delay_enter=2000000:when=1").start();
        Program.await("the request is about to link", () -> Files.exists(task.gate) && Program.read(task.gate)
            .contains("\nstarted="));
        String record = Program.read(task.gate);
        Files.delete(task.gate);
        Files.writeString(task.gate, record.replaceAll("run=.*", "run=another"));
        task.awaitStart();
        assertEquals(TestTask.recorded(record, "run"), task.recorded("run"));
        task.markingRequest().run().exitedWith(0).errContains(" is held by pid ").errHasNo("fcntl lock is gone");
        task.finish(holder);
        task.assertDidNotRun();
        task.assertFree();
    }

    /** A holder runs on while a contender dies; threshold 3. @param count the counter before */
    private static class Contention extends Scenario {
        private final long count;

        Contention(long count) {
            this.count = count;
        }

        @Override
        Running prepare(TestTask task) throws IOException {
            task.threshold = 3;
            Running holder = task.hold();
            if (count > 0) {
                Files.writeString(task.counter, count + "\n");
            }
            return holder;
        }

        @Override
        void check(TestTask task, Running holder) {
            long left = task.count();
            long counted = count > task.threshold ? 0 : count + 1;
            assertTrue(left == count || left == counted, () -> "counter " + left + " after " + count);
            int marks = task.marks();
            boolean reported = left > task.threshold;
            task.markingRequest().run().exitedWith(reported ? 75 : 0).errContains("held by pid " + holder.pid());
            assertEquals(reported ? 0 : left + 1, task.count());
            assertEquals(marks, task.marks());
            assertTrue(holder.alive());
            task.finish(holder).errHasNo("WARN");
            assertNextRequestRuns(task);
        }
    }

    /** The same, crashed on the counter file only: all other steps are those of any contender. */
    private static final class CounterOnly extends Contention {
        CounterOnly(long count) {
            super(count);
        }

        @Override
        List<Path> files(TestTask task) {
            return List.of(task.counter);
        }
    }

    /**
     * Lists the steps of the scenario by a run to its end, then crashes a request before each; returns the system
     * calls.
     */
    private Set<String> crashAtEveryStep(Scenario scenario) throws Exception {
        List<Step> steps = steps(scenario);
        ExecutorService two = Executors.newFixedThreadPool(2);
        try {
            Map<Step, Future<?>> crashes = new HashMap<>();
            for (Step step : steps) {
                crashes.put(step, two.submit(() -> {
                    crash(scenario, step);
                    return null;
                }));
            }
            List<String> failures = new ArrayList<>();
            for (Step step : steps) {
                try {
                    crashes.get(step).get();
                } catch (java.util.concurrent.ExecutionException e) {
                    failures.add("killed before " + step + ": " + e.getCause());
                }
            }
            assertTrue(failures.isEmpty(), () -> String.join("\n", failures));
        } finally {
            two.shutdownNow();
        }
        return steps.stream().map(Step::call).collect(java.util.stream.Collectors.toSet());
    }

    private List<Step> steps(Scenario scenario) throws Exception {
        TestTask task = new TestTask(Files.createDirectory(directory.resolve("all-steps")));
        Path trace = task.directory.resolve("trace");
        Running holder = scenario.prepare(task);
        Result complete = task.request(command(task)).under(strace(scenario.files(task), trace)).run();
        try {
            scenario.check(task, holder);
        } catch (AssertionError e) {
            throw new AssertionError(e.getMessage() + " after " + complete.program(), e);
        }
        List<Step> steps = new ArrayList<>();
        Map<String, Integer> occurrences = new HashMap<>();
        Matcher call = CALL.matcher(Program.read(trace));
        String thread = null;
        while (call.find()) {
            thread = thread == null ? call.group(1) : thread;
            if (call.group(1).equals(thread) && !CHANGES_NOTHING.matcher(call.group(2)).matches()) {
                steps.add(new Step(call.group(2), occurrences.merge(call.group(2), 1, Integer::sum)));
            }
        }
        return steps;
    }

    private void crash(Scenario scenario, Step step) throws Exception {
        TestTask task = new TestTask(Files.createDirectory(directory.resolve(step.call() + "-" + step.occurrence())));
        Path trace = task.directory.resolve("trace");
        Running holder = scenario.prepare(task);
        // strace lives as long as the command, which the crash leaves behind: so the wait is for the holder's death
        // alone.
        Running crashing = task.request(command(task)).under(strace(scenario.files(task), trace, "-e",
            "inject=" + step.call() + ":signal=KILL:when=" + step.occurrence())).start();
        Program.await("the holder is killed: " + crashing, () -> killed(trace) || !crashing.alive());
        if (killed(trace)) {
            scenario.check(task, holder);
            crashing.result().exitedWith(137);
        } else {
            // with a look fewer than in the run that was recorded the step does not come; strace counts each thread's
            long came = Pattern.compile("(?m)^" + stepping(trace) + " +" + step.call() + "\\(")
                .matcher(Program.read(trace)).results().count();
            assertTrue(came < step.occurrence(), () -> "the holder was not killed: " + crashing + "\n"
                + Program.read(trace));
        }
        assertFalse(Files.exists(task.directory.resolve("overlaps")), "two commands at once");
    }

    /** Whether the thread that takes the steps was killed; a child may be, in the n-th call of its own, before. */
    private static boolean killed(Path trace) {
        String thread = stepping(trace);
        return thread != null && Pattern.compile("(?m)^" + thread + " +\\+\\+\\+ killed by SIGKILL")
            .matcher(Program.read(trace)).find();
    }

    /** The thread that takes the steps, or null before the first. */
    private static String stepping(Path trace) {
        Matcher first = CALL.matcher(Files.exists(trace) ? Program.read(trace) : "");
        return first.find() ? first.group(1) : null;
    }

    /** A command that notices when another one runs. */
    private static String command(TestTask task) {
        return "cd " + task.directory + "; mkdir guard || echo overlap >> overlaps; " + task.mark()
            + "; sleep 0.3; rmdir guard";
    }

    private static void assertNextRequestRuns(TestTask task) {
        int before = task.marks();
        task.request(command(task), "--wait", "20s").run().exitedWith(0);
        assertTrue(task.marks() > before, "the next command did not run");
        assertFalse(Files.exists(task.directory.resolve("overlaps")), "two commands at once");
        assertFalse(Files.exists(task.directory.resolve("guard")), "a command still runs");
        assertFalse(Files.exists(task.counter), "the counter was not cleared");
        task.assertFree();
    }

    private static String[] strace(List<Path> files, Path trace, String... more) {
        List<String> line = new ArrayList<>(List.of("strace", "-f", "-qq", "-o", trace.toString()));
        for (Path path : files) {
            line.add("-P");
            line.add(path.toString());
        }
        line.addAll(List.of(more));
        return line.toArray(new String[0]);
    }
}
