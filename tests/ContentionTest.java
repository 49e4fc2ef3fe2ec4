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
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Many requests for one lock: one runs, all others are counted. */
class ContentionTest {
    private static final String SHELL = "/bin/sh -c cd ";

    @TempDir
    Path folder;
    private Program.Task task;

    @BeforeEach
    void task() {
        task = new Program.Task(folder);
    }

    @AfterEach
    void endWhatIsLeft() {
        Program.killProcessesWith(folder.toString());
    }

    @Test
    void ofTwelveRequestsAtOnceOneRunsAndElevenAreCounted() {
        assertOneRunsAndTheOthersAreCounted(12);
    }

    @Test
    void ofThirtyRequestsAtOnceOneRunsAndTwentyNineAreCounted() {
        assertOneRunsAndTheOthersAreCounted(30);
    }

    @Test
    void ofTwelveRequestsAtOnceOnAStaleLockOneTakesItOverAndElevenAreCounted() {
        leaveAStaleLock();
        List<Program.Result> results = assertOneRunsAndTheOthersAreCounted(12);
        assertEquals(1, results.stream().filter(result -> result.err().contains("took over stale lock")).count());
    }

    @Test
    void ofTwelveRequestsAtOnceAfterACrashBetweenLinkAndUnlinkOneTakesOverAndElevenAreCounted() throws Exception {
        leaveAStaleLock();
        Files.createLink(task.gate, task.lock);
        List<Program.Result> results = assertOneRunsAndTheOthersAreCounted(12);
        assertEquals(1, results.stream().filter(result -> result.err().contains("took over stale lock")).count());
    }

    private void leaveAStaleLock() {
        Program.Running dead = task.hold();
        dead.signal("KILL");
        dead.result().exitedWith(137);
        Program.killProcessesWith(folder.toString());
        assertTrue(Files.exists(task.lock));
    }

    /** All start at once; the one whose command runs ends it only when all others have been counted. */
    private List<Program.Result> assertOneRunsAndTheOthersAreCounted(int requests) {
        task.threshold = 1000;
        String command = "echo >> " + folder + "/ran; while [ -d " + folder + " ] && ! [ -e " + folder + "/finish ]; do sleep 0.05; done";
        List<Program.Running> running = new ArrayList<>();
        for (int i = 0; i < requests; i++) {
            running.add(task.request(command).start());
        }
        Program.await("only one still runs", () -> running.stream().filter(Program.Running::alive).count() <= 1);
        assertEquals(requests - 1, task.count());
        task.finish();
        List<Program.Result> results = new ArrayList<>();
        for (Program.Running request : running) {
            results.add(request.result().exitedWith(0));
        }
        List<Integer> counts = new ArrayList<>();
        for (Program.Result result : results) {
            if (result.err().contains("; contention ")) {
                counts.add(Integer.parseInt(result.err().replaceAll("(?s).*; contention (\\d+), threshold 1000\n", "$1")));
            } else {
                result.errContains("command succeeded");
            }
        }
        counts.sort(null);
        assertEquals(java.util.stream.IntStream.range(1, requests).boxed().toList(), counts, "each is told its own number");
        assertEquals(1, Program.read(folder.resolve("ran")).length(), "commands that ran");
        assertEquals(requests - 1, task.count());
        task.assertFree();
        return results;
    }

    @Test
    void contentionsBeyondTheThresholdAreReportedAndCountedAnew() {
        Program.Running holder = task.hold();
        for (int round = 0; round < 2; round++) {
            for (int count = 1; count <= 3; count++) {
                task.request("exit 9").run().exitedWith(0).errContains("contention " + count + ", threshold 2"
                    + (count == 3 ? ": the next one is reported" : "\n"));
                assertEquals(count, task.count());
            }
            task.request("exit 9").run().exitedWith(75).errContains("ERROR").errContains("task " + task.lock
                + ": contention 4 exceeds threshold 2; ").errContains(" is held by pid " + holder.pid() + " ");
            assertEquals("0\n", Program.read(task.counter));
        }
        task.finish();
        holder.result().exitedWith(0);
    }

    @Test
    void thresholdZeroNeverTouchesTheCounterFile() throws Exception {
        task.threshold = 0;
        Files.writeString(task.counter, "no counter");
        Program.Running holder = task.hold();
        for (int i = 0; i < 2; i++) {
            task.request("exit 9").run().exitedWith(0).errContains("contention, not counted (threshold 0)");
        }
        task.finish();
        holder.result().exitedWith(0);
        assertEquals("no counter", Program.read(task.counter));
        Files.delete(task.counter);
        Files.delete(folder.resolve("finish"));
        Files.delete(folder.resolve("runs"));
        task.hold();
        task.request("exit 9").run().exitedWith(0);
        task.finish();
        assertFalse(Files.exists(task.counter));
    }

    @Test
    void aWaitingRequestRunsWhenTheLockIsReleasedInTimeAndIsNotCounted() {
        Program.Running holder = task.hold();
        Program.Running waiting = task.request("touch " + folder + "/ran", "--wait", "30s").start();
        Program.sleep(1500);
        assertTrue(waiting.alive());
        assertFalse(Files.exists(folder.resolve("ran")));
        assertEquals(0, task.count());
        task.finish();
        holder.result().exitedWith(0);
        waiting.result().exitedWith(0).errHasNo("contention");
        assertTrue(Files.exists(folder.resolve("ran")));
        task.assertFree();
    }

    @Test
    void aRequestThatWaitedInVainIsCountedOnce() {
        task.hold();
        task.request("exit 9", "--wait", "1s").run().exitedWith(0).errContains("contention 1, threshold 2");
        assertEquals(1, task.count());
        task.finish();
    }

    @Test
    void conflictExitCodeIsTheStatusOfAContentionThatIsNotReported() {
        task.threshold = 1;
        task.hold();
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(33);
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(33);
        task.request("exit 9", "--conflict-exit-code", "33").run().exitedWith(75);
        task.finish();
    }

    @Test
    void otherSpellingsOfThePathAreTheSameLock() throws Exception {
        Path inner = Files.createDirectory(folder.resolve("inner"));
        Files.createSymbolicLink(folder.resolve("link"), inner);
        Program.Task real = new Program.Task(inner);
        Program.Running holder = real.hold();
        int count = 0;
        for (String spelling : List.of(folder + "/link/task.lock", "inner/task.lock", "./link/../inner/task.lock",
            folder + "//inner/./task.lock")) {
            Program.taskrunner(folder, "--command", "exit 9", "--lockfile", spelling, "--threshold", "9", "--counter-file",
                spelling.replace(".lock", ".count")).run().exitedWith(0).errContains(" is held by pid " + holder.pid() + " ");
            assertEquals(++count, real.count());
        }
        real.finish();
        holder.result().exitedWith(0);
        real.assertFree();
    }

    @Test
    void randomKillsNeverLeadToTwoCommandsAtOnceNorToALockThatStays() throws Exception {
        task.threshold = Integer.MAX_VALUE;
        long seed = System.nanoTime();
        long end = System.nanoTime() + 20_000_000_000L;
        AtomicInteger kills = new AtomicInteger();
        AtomicInteger commandKills = new AtomicInteger();
        AtomicInteger takeovers = new AtomicInteger();
        AtomicInteger contentions = new AtomicInteger();
        // The guard names the command's shell: a command that finds another shell of this test behind it has met a second instance.
        String command = "cd " + folder + "; if ! ln -s $$ guard; then other=$(readlink guard); [ -n \"$other\" ] && tr '\\0' ' '"
            + " < /proc/$other/cmdline | grep -q '^" + SHELL + folder + "' && echo $other $$ >> overlaps; rm -f guard; ln -s $$ guard; fi;"
            + " echo >> ran; sleep 0.$(($$ % 3)); rm -f guard";
        ExecutorService workers = Executors.newFixedThreadPool(8);
        List<Future<?>> ends = new ArrayList<>();
        for (int worker = 0; worker < 8; worker++) {
            Random random = new Random(seed + worker);
            ends.add(workers.submit(() -> {
                while (System.nanoTime() < end) {
                    Program.Running request = task.request(command).start();
                    if (random.nextInt(5) == 0) {
                        Program.sleep(random.nextInt(1500));
                        request.kill();
                    } else if (random.nextBoolean()) {
                        killFromTheRecord("pid");
                    } else if (random.nextInt(4) == 0) {
                        commandKills.addAndGet(killFromTheRecord("command-pid") ? 1 : 0);
                    }
                    Program.Result result = request.result();
                    kills.addAndGet(result.status() == 137 && !result.err().contains("SIGKILL") && !result.err().contains("signal KILL") ? 1 : 0);
                    takeovers.addAndGet(result.err().contains("took over stale lock") ? 1 : 0);
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
        Path overlaps = folder.resolve("overlaps");
        assertFalse(Files.exists(overlaps), () -> "two commands at once, seed " + seed + ":\n" + Program.read(overlaps));
        task.request("touch " + folder + "/last", "--wait", "10s").run().exitedWith(0);
        assertTrue(Files.exists(folder.resolve("last")));
        task.assertFree();
        String happened = kills + " runners killed, " + commandKills + " commands killed, " + takeovers + " takeovers, " + contentions
            + " contentions, " + Program.read(folder.resolve("ran")).length() + " commands, seed " + seed;
        assertTrue(kills.get() >= 5 && commandKills.get() > 0 && takeovers.get() >= 5 && contentions.get() > 0, happened);
    }

    /** Waits up to half a second for a lock whose record has the key, and kills that process. */
    private boolean killFromTheRecord(String key) {
        for (int i = 0; i < 50; i++) {
            try {
                Matcher line = Pattern.compile("\n" + key + "=(\\d+)\n").matcher(Files.readString(task.lock));
                if (line.find()) {
                    long pid = Long.parseLong(line.group(1));
                    return Program.processesWith(folder.toString()).contains(pid)
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
