import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;

import org.junit.jupiter.api.Test;

/** {@code taskrunner unlock}. */
class UnlockTest extends TaskTest {
    private Result unlock() {
        return taskrunner("unlock", "--lockfile", task.lock.toString()).run();
    }

    @AlsoWithoutProc
    void aHeldOrOrphanedLockStays() {
        Running holder = task.hold();
        unlock().exitedWith(20).outIs("").errContains("taskrunner: not removed: lock " + task.lock + " is held by pid "
            + holder.pid());
        assertTrue(Files.exists(task.lock));
        holder.kill();
        unlock().exitedWith(21).outIs("").errContains("not removed: lock " + task.lock + " is orphaned");
        assertTrue(Files.exists(task.lock));
        task.finishOrphan();
        unlock().exitedWith(0).outContains("lock " + task.lock + " is stale: ")
            .outContains("\nremoved " + task.lock + "\n").errIs("");
        task.assertFree();
    }

    @Test
    void aForeignOrUnknownLockIsRemovedAfterItWasSaidWhatItIs() throws IOException {
        Files.createFile(task.lock);
        unlock().exitedWith(0)
            .outIs("lock " + task.lock + " blocks the task: it was not created by taskrunner (touch? flock?)\nremoved "
            + task.lock + "\n").errIs("");
        task.assertFree();
        task.hold().kill();
        task.finishOrphan();
        Files.writeString(task.lock, Program.read(task.lock).replaceAll("boot=.*", "boot=1")
            .replaceAll("host=.*", "host=elsewhere"));
        unlock().exitedWith(0).outContains("is in an unknown state: ").outContains("\nremoved ");
        task.assertFree();
    }

    @Test
    void whatIsFreeOrNoLockFileIsLeftAlone() throws IOException {
        unlock().exitedWith(0).outIs("lock " + task.lock + " is free\n").errIs("");
        Files.createDirectory(task.lock);
        unlock().exitedWith(73).outIs("").errContains("a directory is in its place");
        assertTrue(Files.isDirectory(task.lock));
        assertFalse(Files.exists(task.gate));
        assertEquals(64, taskrunner("unlock").run().status());
    }
}
