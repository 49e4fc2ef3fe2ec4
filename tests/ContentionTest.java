import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;

import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;

/** Many requests for one lock: one runs, all others are counted. */
@Order(1)
class ContentionTest extends TaskTest {
    private static final String SHELL = "/bin/sh -c cd ";

    @AlsoWithoutProc
    void oneOf12RequestsRuns() {
        assertOneRunsAndTheOthersAreCounted(12);
    }

    @Test
    void oneOf30RequestsRuns() {
        assertOneRunsAndTheOthersAreCounted(30);
    }

    @AlsoWithoutProc
    void oneOf12RequestsRecoversAStaleLock() {
        leaveAStaleLock();
        List<Result> results = assertOneRunsAndTheOthersAreCounted(12);
        assertEquals(1, results.stream().filter(result -> result.err().contains("recovered stale lock")).count());
    }

    @Test
    void oneOf12RequestsRecoversFromACrashBetweenLinkAndUnlink() throws Exception {
        leaveAStaleLock();
        Files.createLink(task.gate, task.lock);
        List<Result> results = assertOneRunsAndTheOthersAreCounted(12);
        assertEquals(1, results.stream().filter(result -> result.err().contains("recovered stale lock")).count());
    }

    private void leaveAStaleLock() {
        Running dead = task.hold();
        dead.kill().exitedWith(137);
        Program.killProcessesOf(directory);
        assertTrue(Files.exists(task.lock));
    }

    /** All start at once; the one whose command runs ends it only when all others have been counted. */
    private List<Result> assertOneRunsAndTheOthersAreCounted(int requests) {
        task.threshold = 1000;
        String command = task.mark() + "; " + task.untilFinish();
        List<Running> running = new ArrayList<>();
        for (int i = 0; i < requests; i++) {
            running.add(task.request(command).start());
        }
        Program.await("only one still runs", () -> running.stream().filter(Running::alive).count() <= 1);
        assertEquals(requests - 1, task.count());
        task.finish();
        List<Result> results = new ArrayList<>();
        for (Running request : running) {
            results.add(request.result().exitedWith(0));
        }
        List<Integer> counts = new ArrayList<>();
        for (Result result : results) {
            if (result.err().contains("; contention ")) {
                counts.add(Integer.parseInt(result.err()
                    .replaceAll("(?s).*; contention (\\d+), threshold 1000\n", "$1")));
            } else {
                result.errContains("command succeeded");
            }
        }
        counts.sort(null);
        assertEquals(java.util.stream.IntStream.range(1, requests).boxed().toList(), counts,
            "each is told its own number");
        assertEquals(1, task.marks(), "commands that ran");
        assertEquals(requests - 1, task.count());
        task.assertFree();
        return results;
    }

    @AlsoWithoutProc
    void contentionBeyondTheThresholdIsReported() {
        Running holder = task.hold();
        for (int round = 0; round < 2; round++) {
            for (int count = 1; count <= 3; count++) {
                task.request("exit 9").run().exitedWith(0).errContains("contention " + count + ", threshold 2"
                    + (count == 3 ? ": the next one is reported" : "\n"));
                assertEquals(count, task.count());
            }
            task.request("exit 9").run().exitedWith(75).errContains("ERROR").errContains("task " + task.lock
                + " was busy for 4 requests in a row (threshold 2): ").errContains("held by pid " + holder.pid() + " ");
            assertEquals("0\n", Program.read(task.counter));
        }
        task.finish(holder);
    }

    @Test
    void aContentionWithAnotherUsersTaskSaysWhoseItIs() {
        Running holder = task.hold();
        shell("chmod 1777 .");
        task.markingRequest().asNobody().run().exitedWith(0).errContains(" WARN ").errContains("lock file "
            + task.lock + " belongs to another user, root; run the task as one user only")
            .errContains("; contention 1,");
        task.markingRequest().run().errHasNo("run the task as one user only");
        task.finish(holder);
        task.assertDidNotRun();
    }

    @Test
    void thresholdZeroNeverTouchesTheCounterFile() throws Exception {
        task.threshold = 0;
        Files.writeString(task.counter, "no counter");
        Running holder = task.hold();
        for (int i = 0; i < 2; i++) {
            task.request("exit 9").run().exitedWith(0).errContains("contention, not counted (threshold 0)");
        }
        task.finish(holder);
        assertEquals("no counter", Program.read(task.counter));
        Files.delete(task.counter);
        task.hold();
        task.request("exit 9").run().exitedWith(0);
        task.finish();
        assertFalse(Files.exists(task.counter));
    }

    @AlsoWithoutProc
    void waitingRequestRunsWhenTheLockIsReleased() {
        Running holder = task.hold();
        Running waiting = task.markingRequest("--wait", "30s").start();
        Program.sleep(1500);
        assertTrue(waiting.alive());
        task.assertDidNotRun();
        assertEquals(0, task.count());
        task.finish(holder);
        waiting.result().exitedWith(0).errHasNo("contention");
        task.assertRan();
        task.assertFree();
    }

    @Test
    void waitingInVainIsCountedOnce() {
        task.hold();
        task.request("exit 9", "--wait", "1s").run().exitedWith(0).errContains("contention 1, threshold 2");
        assertEquals(1, task.count());
        task.finish();
    }

    @Test
    void conflictExitCode() {
        task.threshold = 1;
        task.hold();
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(33);
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(33);
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(75);
        task.finish();
    }

    @Test
    void otherSpellingsOfThePathAreTheSameLock() throws Exception {
        Path inner = Files.createDirectory(directory.resolve("inner"));
        Files.createSymbolicLink(directory.resolve("link"), inner);
        TestTask real = new TestTask(inner);
        Running holder = real.hold();
        int count = 0;
        for (String spelling : List.of(directory + "/link/task.lock", "inner/task.lock", "./link/../inner/task.lock",
            directory + "//inner/./task.lock")) {
            taskrunner("--command", "exit 9", "--lockfile", spelling, "--threshold", "9", "--counter-file",
                spelling.replace(".lock", ".count")).run().exitedWith(0)
                .errContains(" is held by pid " + holder.pid() + " ");
            assertEquals(++count, real.count());
        }
        real.finish();
        holder.result().exitedWith(0);
        real.assertFree();
    }

    @Test
    void randomKillsLeaveOneCommandAtATimeAndNoLock() throws Exception {
        task.threshold = Integer.MAX_VALUE;
        long seed = System.nanoTime();
        long start = System.nanoTime();
        AtomicInteger kills = new AtomicInteger();
        AtomicInteger commandKills = new AtomicInteger();
        AtomicInteger recoveries = new AtomicInteger();
        AtomicInteger contentions = new AtomicInteger();
        BooleanSupplier allHappened = () -> kills.get() >= 5 && commandKills.get() > 0 && recoveries.get() >= 5
            && contentions.get() > 0;
        // The guard names the command's shell: a command that finds another shell of this test behind it has met a
        // second instance.
        String command = "cd " + directory
            + "; if ! ln -s $$ guard; then other=$(readlink guard); [ -n \"$other\" ] && tr '\\0' ' '"
            + " < /proc/$other/cmdline | grep -q '^" + SHELL + directory
            + "' && echo $other $$ >> overlaps; rm -f guard; ln -s $$ guard; fi;"
            + " " + task.mark() + "; sleep 0.$(($$ % 3)); rm -f guard";
        ExecutorService workers = Executors.newFixedThreadPool(8);
        List<Future<?>> ends = new ArrayList<>();
        for (int worker = 0; worker < 8; worker++) {
            Random random = new Random(seed + worker);
            ends.add(workers.submit(() -> {
                for (long seconds = 0; seconds < 15 || seconds < 60 && !allHappened.getAsBoolean();
                    seconds = (System.nanoTime() - start) / 1_000_000_000) {
                    Running request = task.request(command).start();
                    if (random.nextInt(5) == 0) {
                        Program.sleep(random.nextInt(1500));
                        request.kill();
                    } else if (random.nextBoolean()) {
                        killFromTheRecord("pid");
                    } else if (random.nextInt(4) == 0) {
                        commandKills.addAndGet(killFromTheRecord("command-pid") ? 1 : 0);
                    }
                    Result result = request.result();
                    kills.addAndGet(result.status() == 137 && !result.err().contains("SIGKILL") && !result.err()
                        .contains("signal KILL") ? 1 : 0);
                    recoveries.addAndGet(result.err().contains("recovered stale lock") ? 1 : 0);
                    contentions.addAndGet(result.err().contains("; contention ") ? 1 : 0);
                    assertTrue(List.of(0, 137).contains(result.status()), () -> "" + result.program());
                }
                return null;
            }));
        }
        try {
            for (Future<?> each : ends) {
                each.get();
            }
        } finally {
            workers.shutdownNow();
        }
        Path overlaps = directory.resolve("overlaps");
        assertFalse(Files.exists(overlaps), () -> "two commands at once, seed " + seed + ":\n"
            + Program.read(overlaps));
        task.request("echo last", "--wait", "10s").run().exitedWith(0).outIs("last\n");
        task.assertFree();
        String happened = kills + " holders killed, " + commandKills + " commands killed, " + recoveries
            + " recoveries, " + contentions
            + " contentions, " + task.marks() + " commands, seed " + seed;
        assertTrue(allHappened.getAsBoolean(), happened);
    }

    /** Waits up to half a second for a lock whose record has the key, and kills that process. */
    private boolean killFromTheRecord(String key) {
        for (int i = 0; i < 50; i++) {
            try {
                String record = Files.readString(task.lock);
                if (record.contains("\n" + key + "=") && record.endsWith("\n")) {
                    long pid = Long.parseLong(TestTask.recorded(record, key));
                    return Program.processesWith(directory.toString()).contains(pid)
                        && ProcessHandle.of(pid).map(ProcessHandle::destroyForcibly).orElse(false);
                }
            } catch (IOException e) {
                // the lock is free just now
            }
            Program.sleep(10);
        }
        return false;
    }
}
