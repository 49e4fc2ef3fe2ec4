import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

import org.junit.jupiter.api.Test;

class ExitStatusTest extends TaskTest {
    private static final String LOCK_BECOMES_DIRECTORY =
        "rm \"$TASKRUNNER_LOCKFILE\"; mkdir \"$TASKRUNNER_LOCKFILE\"; ";

    @AlsoWithoutProc
    void commandsOwnStatusIsUnchanged() {
        for (int status : new int[] {0, 1, 2, 64, 75, 124, 127, 200, 255}) {
            task.request("exit " + status).run().exitedWith(status)
                .errContains(status == 0 ? "command succeeded" : "command failed with status " + status);
            task.assertFree();
        }
    }

    @Test
    void killedBySignalIs128AndTheSignal() {
        Map.of(1, "HUP", 9, "KILL", 15, "TERM").forEach((number, name) ->
            task.request("kill -" + number + " $$").under("env", "--default-signal").run().exitedWith(128 + number)
                .errContains("command failed with status " + (128 + number) + " (killed by SIG" + name + ")"));
        task.assertFree();
    }

    @Test
    void exitZeroForgivesTheCommandOnly() throws IOException {
        task.request("exit 3", "--exit-zero").run().exitedWith(0).errContains("command failed with status 3");
        task.request("sleep 100", "--exit-zero", "--timeout", "PT0.2S").run().exitedWith(0).errContains("--timeout");
        Files.writeString(task.counter, "no counter\n");
        task.markingRequest("--exit-zero").run().exitedWith(65);
        task.assertDidNotRun();
        Files.delete(task.counter);
        task.request(LOCK_BECOMES_DIRECTORY + "exit 3", "--exit-zero").run().exitedWith(74);
        Files.delete(task.lock);
        task.request(LOCK_BECOMES_DIRECTORY + "sleep 100", "--exit-zero", "--timeout", "1").run().exitedWith(74);
    }

    @Test
    void contentionIsNoErrorUpToTheThreshold() {
        Running holder = task.hold();
        task.markingRequest().run().exitedWith(0).outIs("").errContains("; contention 1, threshold 2\n");
        task.markingRequest("--conflict-exit-code", "7").run().exitedWith(7)
            .errContains("; contention 2, threshold 2\n");
        task.markingRequest("--exit-zero", "--conflict-exit-code", "8").run().exitedWith(8)
            .errContains("; contention 3, threshold 2: the next one is reported\n");
        assertEquals(3, task.count());
        task.markingRequest("--exit-zero", "--conflict-exit-code", "7").run().exitedWith(75)
            .errContains("ERROR").errContains("task " + task.lock)
            .errContains("busy for 4 requests in a row (threshold 2)")
            .errContains("pid " + holder.pid());
        assertEquals("0\n", Program.read(task.counter));
        task.markingRequest().run().exitedWith(0).errContains("; contention 1, threshold 2\n");
        task.threshold = 0;
        task.markingRequest().run().exitedWith(0).errContains("contention, not counted (threshold 0)");
        assertEquals(1, task.count());
        task.assertDidNotRun();
        task.finish(holder);
    }

    @Test
    void lockFileThatBecameADirectoryIs74() throws IOException {
        task.request(LOCK_BECOMES_DIRECTORY + "exit 3").run().exitedWith(74)
            .errContains("lock file " + task.lock + " is a directory (EISDIR); remove it: rmdir " + task.lock);
        Files.delete(task.lock);
        task.request(LOCK_BECOMES_DIRECTORY + "sleep 100", "--timeout", "1").run().exitedWith(124)
            .errContains("EISDIR");
        Files.delete(task.lock);
        Running stopped = task.start(task.request(LOCK_BECOMES_DIRECTORY + task.markStart() + "; sleep 100",
            "--timeout", "50"));
        stopped.signal("TERM");
        stopped.result().exitedWith(143).errContains("EISDIR");
        assertTrue(Files.isDirectory(task.lock));
    }

    @AlsoWithoutProc
    void timedOutIs124() {
        task.request("exec sleep 100", "--timeout", "PT0.3S").run().exitedWith(124)
            .errContains("command timed out after 0.300s (--timeout) and was terminated: exec sleep");
        task.assertFree();
    }

    @Test
    void commandThatCannotBeStartedIs126() throws IOException {
        Path arguments = Files.writeString(directory.resolve("arguments"), "--command \"true " + "x".repeat(200_000)
            + "\"\n--lockfile " + task.lock
            + " --threshold 2 --counter-file " + task.counter);
        taskrunner("@" + arguments).run().exitedWith(126)
            .errContains("cannot start the command: /bin/sh: argument list too long; the lock was released\n");
        task.assertFree();
    }

    @Test
    void workingDirectoryRemovedWhileWaitingIs126() throws IOException {
        Path working = Files.createDirectory(directory.resolve("working"));
        Running holder = task.hold();
        Running waiting = task.markingRequest("--wait", "30", "--verbose").in(working).start();
        waiting.awaitErr("waiting for up to ");
        Files.delete(working);
        task.finish(holder);
        waiting.result().exitedWith(126)
            .errContains("working directory " + working + " is gone; the lock was released");
        task.assertDidNotRun();
        task.assertFree();
    }

    private Program request(Path lock, Path counter) {
        return new TestTask(directory, lock, counter).markingRequest();
    }
}
