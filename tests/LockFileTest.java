import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What may be in the place of a lock file and its .tmp, and become of it. */
class LockFileTest extends TaskTest {
    @Test
    void lockFileThatCannotBeCreatedIs73() throws IOException {
        Path no = directory.resolve("no/such");
        request(no.resolve("task.lock"), task.counter).run().exitedWith(73).errContains("no such directory: " + no);
        Path file = Files.writeString(directory.resolve("file"), "");
        request(file.resolve("task.lock"), task.counter).run().exitedWith(73).errContains(file + " is not a directory");
        Files.createDirectory(task.lock);
        task.markingRequest().run().exitedWith(73).errContains("a directory is in its place");
        Files.delete(task.lock);
        Files.createSymbolicLink(task.lock, directory.resolve("target"));
        task.markingRequest().run().exitedWith(73).errContains("a symbolic link is in its place");
        Files.delete(task.lock);
        shell("mkfifo task.lock");
        task.markingRequest().run().exitedWith(73).errContains("a special file is in its place");
        Files.delete(task.lock);
        assertFalse(Files.exists(directory.resolve("target"), LinkOption.NOFOLLOW_LINKS));
        task.assertDidNotRun();
        task.assertFree();
    }

    @Test
    void directoryThatTheUserMayNotWriteIs73() throws IOException {
        Path mine = Files.createDirectory(directory.resolve("mine"));
        Files.setPosixFilePermissions(mine, PosixFilePermissions.fromString("rwxr-xr-x"));
        request(mine.resolve("task.lock"), task.counter).asNobody().run().exitedWith(73)
            .errContains("permission denied")
            .errContains("see that this user may write in " + mine);
        request(task.lock, mine.resolve("task.count")).asNobody().run().exitedWith(74)
            .errContains("directory " + mine + " is not writable");
        assertEquals(0, mine.toFile().list().length);
        task.assertDidNotRun();
        task.assertFree();
    }

    @Test
    void fileSystemWithoutHardLinksIs73() throws IOException {
        Files.writeString(task.counter, "2\n");
        task.markingRequest().under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=link,linkat", "-e",
            "inject=link,linkat:error=EPERM").run().exitedWith(73).errContains("cannot create lock file " + task.lock)
            .errContains("it needs a file system with hard links");
        assertEquals(2, task.count());
        task.assertDidNotRun();
        task.assertFree();
    }

    @Test
    void onlyARegularFileOfItsOwnIsTheGate() throws IOException {
        Path target = Files.writeString(directory.resolve("target"), "");
        Files.createSymbolicLink(task.gate, target);
        assertGateIs73("a symbolic link is at " + task.gate);
        assertEquals("", Program.read(target));
        Files.delete(task.gate);
        Files.createSymbolicLink(task.gate, directory.resolve("nowhere"));
        assertGateIs73("a symbolic link is at " + task.gate);
        assertFalse(Files.exists(directory.resolve("nowhere")));
        Files.delete(task.gate);
        Files.createDirectory(task.gate);
        assertGateIs73("a directory is at " + task.gate);
        Files.delete(task.gate);
        shell("mkfifo task.lock.tmp");
        assertGateIs73("a special file is at " + task.gate);
        Files.delete(task.gate);
        Files.writeString(task.gate, "my notes\n");
        assertGateIs73(task.gate + " exists and is not taskrunner's; move it away, or choose another file");
        assertEquals("my notes\n", Program.read(task.gate));
        Files.writeString(task.gate, "");
        task.request("echo a leftover of a crash").run().exitedWith(0).outIs("a leftover of a crash\n");
        task.assertFree();
    }

    private void assertGateIs73(String message) {
        task.markingRequest().run().exitedWith(73).errContains("cannot create lock file ").errContains(message);
        assertTrue(Files.exists(task.gate, LinkOption.NOFOLLOW_LINKS));
        assertFalse(Files.exists(task.lock));
        task.assertDidNotRun();
    }

    @Test
    void fullDiskLosesNothing() throws IOException {
        Path disk = Files.createDirectory(directory.resolve("disk"));
        shell("mount -t tmpfs -o size=64k none " + disk);
        try {
            Path lock = disk.resolve("task.lock");
            Path counter = disk.resolve("task.count");
            TestTask onDisk = new TestTask(directory, lock, counter);
            onDisk.threshold = 20;
            Running holder = onDisk.hold();
            Files.writeString(counter, "9\n");
            fill(disk.resolve("filler"));
            onDisk.markingRequest().run().exitedWith(0);
            assertEquals("10\n", Program.read(counter));
            Files.delete(counter);
            fill(disk.resolve("more"));
            onDisk.markingRequest().run().exitedWith(74)
                .errContains("counter file " + counter + ": no space left on device");
            assertFalse(Files.exists(counter));
            onDisk.finish(holder);
            fill(disk.resolve("most"));
            onDisk.markingRequest().run().exitedWith(74)
                .errContains("lock file " + lock + ": no space left on device");
            onDisk.assertFree();
            onDisk.assertDidNotRun();
        } finally {
            // lazily: a failed test must not leave it mounted
            shell("umount -l " + disk);
        }
    }

    private static void fill(Path file) throws IOException {
        try (OutputStream out = Files.newOutputStream(file)) {
            while (true) {
                out.write(new byte[4096]);
            }
        } catch (IOException full) {
            // as wanted
        }
    }

    @Test
    void removedOrReplacedLockFileIsLeftAlone() throws IOException {
        task.request("rm \"$TASKRUNNER_LOCKFILE\"; exit 3").run().exitedWith(3).errContains("WARN")
            .errContains("lock file " + task.lock
            + " was removed or replaced while the command was running: the task may have run twice");
        task.assertFree();
        task.request("rm \"$TASKRUNNER_LOCKFILE\"; echo mine > \"$TASKRUNNER_LOCKFILE\"").run().exitedWith(0)
            .errContains("WARN")
            .errContains("was removed or replaced while the command was running: the task may have run twice");
        assertEquals("mine\n", Program.read(task.lock));
        Files.delete(task.lock);
        Path target = Files.writeString(directory.resolve("target"), "5\n");
        task.request("ln -sf " + target + " \"$TASKRUNNER_LOCKFILE\"").run().exitedWith(0)
            .errContains("the task may have run twice");
        assertTrue(Files.isSymbolicLink(task.lock));
        assertEquals("5\n", Program.read(target));
    }

    @Test
    void unreadableLockFileIsReleased(@TempDir Path shared) throws IOException {
        Files.setPosixFilePermissions(shared, PosixFilePermissions.fromString("rwxrwxrwx"));
        TestTask own = new TestTask(shared);
        own.request("chmod 000 task.lock").asNobody().run().exitedWith(0).errHasNo("replaced");
        own.assertFree();
    }

    private Program request(Path lock, Path counter) {
        return new TestTask(directory, lock, counter).markingRequest();
    }
}
