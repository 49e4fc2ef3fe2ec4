import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BadInputTest extends TaskTest {

    @Test
    void whatIsNoCounterIsLeftAsItIsAndNothingRuns() throws IOException {
        List<byte[]> contents = new ArrayList<>();
        for (String text : List.of("127.0.0.1 localhost\n", "-1\n", "+1\n", "1.5\n", "9223372036854775808\n", "1 2\n", "0x10\n", "1\u0663\n",
            "1".repeat(1_000_000), "5" + " ".repeat(5000) + "x", "5\0")) {
            contents.add(text.getBytes(StandardCharsets.UTF_8));
        }
        contents.add(new byte[] {0, 1, (byte) 0xff, (byte) 0xfe});
        for (byte[] content : contents) {
            Files.write(task.counter, content);
            assertRefusesTheCounter(task.markingRequest());
            assertArrayEquals(content, Files.readAllBytes(task.counter));
            task.assertFree();
        }
        Files.delete(task.counter);
        Running holder = task.hold();
        for (byte[] content : contents) {
            Files.write(task.counter, content);
            assertRefusesTheCounter(task.markingRequest());
            assertArrayEquals(content, Files.readAllBytes(task.counter));
        }
        task.threshold = 0;
        task.markingRequest().run().exitedWith(0);
        task.finish(holder);
        task.request("echo the counter is not read").run().exitedWith(0).outIs("the counter is not read\n");
    }

    private void assertRefusesTheCounter(Program request) {
        request.run().exitedWith(65).outIs("").errContains("counter file " + task.counter
            + " holds something other than a counter: it is left as it is");
        task.assertDidNotRun();
    }

    @Test
    void whiteSpaceAroundTheCounterAndAnEmptyFileAreFine() throws IOException {
        Running holder = task.hold();
        task.threshold = 20;
        for (Map.Entry<String, String> counter : Map.of("", "1\n", "\n", "1\n", " 2 \n\n", "3\n", "\t7", "8\n", "9", "10\n", "0000000009\r\n",
            "10\n").entrySet()) {
            Files.writeString(task.counter, counter.getKey());
            task.markingRequest().run().exitedWith(0);
            assertEquals(counter.getValue(), Program.read(task.counter));
        }
        task.threshold = 2;
        for (String large : List.of("10\n", "9223372036854775807\n")) {
            Files.writeString(task.counter, large);
            task.markingRequest().run().exitedWith(75);
            assertEquals("0\n", Program.read(task.counter));
        }
        task.finish(holder);
    }

    @Test
    void withoutAStdinTheCommandReadsNothing() {
        task.request("wc -c; readlink /proc/self/fd/0").underShell("exec \"$@\" <&-").run().exitedWith(0)
            .outIs("0\n/dev/null\n");
    }

    @Test
    void onlyARegularFileIsACounter() throws IOException {
        Path target = Files.writeString(directory.resolve("target"), "5\n");
        Files.createSymbolicLink(task.counter, target);
        assertCounterIs74("a symbolic link");
        assertEquals("5\n", Program.read(target));
        assertTrue(Files.isSymbolicLink(task.counter));
        Files.delete(task.counter);
        Files.createSymbolicLink(task.counter, directory.resolve("nowhere"));
        assertCounterIs74("a symbolic link");
        assertFalse(Files.exists(directory.resolve("nowhere")));
        Files.delete(task.counter);
        Files.createDirectory(task.counter);
        assertCounterIs74("a folder");
        Files.delete(task.counter);
        shell("mkfifo task.count");
        assertCounterIs74("a special file");
    }

    private void assertCounterIs74(String kind) throws IOException {
        String message = "counter file " + task.counter + ": " + kind + " is in its place: remove it or choose another --counter-file";
        task.markingRequest().run().exitedWith(74).errContains(message);
        task.assertFree();
        Files.writeString(task.lock, "made by hand\n");
        task.markingRequest().run().exitedWith(74).errContains(message);
        assertEquals("made by hand\n", Program.read(task.lock));
        Files.delete(task.lock);
        task.assertDidNotRun();
    }

    @Test
    void onlyARegularFileOfItsOwnIsUsedWhileTheLockIsTaken() throws IOException {
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
        assertGateIs73("a folder is at " + task.gate);
        Files.delete(task.gate);
        shell("mkfifo task.lock.tmp");
        assertGateIs73("a special file is at " + task.gate);
        Files.delete(task.gate);
        Files.writeString(task.gate, "my notes\n");
        assertGateIs73(task.gate + " is needed for it but holds something else: move it away or choose another --lockfile");
        assertEquals("my notes\n", Program.read(task.gate));
        Files.writeString(task.gate, "");
        task.request("echo a leftover of a crash").run().exitedWith(0).outIs("a leftover of a crash\n");
        task.assertFree();
    }

    private void assertGateIs73(String message) {
        task.markingRequest().run().exitedWith(73).errContains("cannot create the lock: ").errContains(message);
        assertTrue(Files.exists(task.gate, LinkOption.NOFOLLOW_LINKS));
        assertFalse(Files.exists(task.lock));
        task.assertDidNotRun();
    }

    @Test
    void onAFullDiskNothingRunsAndNothingIsLost() throws IOException {
        Path disk = Files.createDirectory(directory.resolve("disk"));
        shell("mount -t tmpfs -o size=64k none " + disk);
        try {
            Path lock = disk.resolve("task.lock");
            Path counter = disk.resolve("task.count");
            Task onDisk = new Task(directory, lock, counter);
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
    void awkwardCommandsArriveByteForByte() {
        String awkward = "'\"`$HOME ${x} $(false) \\ \\n * ? ~ & | ; < > # ! %s\ttab\n\n  two  blanks  \n-- --help @file\n";
        task.request("cat <<'END'\n" + awkward + "END").run().exitedWith(0).outIs(awkward);
        String large = ("0123456789".repeat(9) + "\n").repeat(1000);
        task.request("cat <<'END'\n" + large + "END\n").run().exitedWith(0).outIs(large);
        task.request("--help 2>/dev/null || echo \"no option: $?\"").run().exitedWith(0).outIs("no option: 127\n");
    }

    @Test
    void theCommandHasStdinTheWorkingFolderAndTheRunInItsEnvironment() throws IOException {
        Path working = Files.createDirectory(directory.resolve("working"));
        String[] out = taskrunner("--command", "cat; pwd; echo \"$TASKRUNNER_LOCKFILE\"; echo \"$TASKRUNNER_RUN_ID\""
            + "; grep ^run= \"$TASKRUNNER_LOCKFILE\"; echo \"${TASKRUNNER_OUTER_RUN_IDS-none}\"", "--lockfile", "../task.lock", "--threshold", "1",
            "--counter-file", "task.count").in(working).stdin("from stdin\n").run().exitedWith(0).out().split("\n");
        assertEquals(6, out.length);
        assertEquals(List.of("from stdin", working.toString(), task.lock.toString()), List.of(out).subList(0, 3));
        assertEquals("run=" + out[3], out[4]);
        assertEquals("none", out[5]);
    }

    @Test
    void aNestedRunKeepsTheOuterRunIdsFindable() throws IOException {
        Task middle = new Task(Files.createDirectories(directory.resolve("middle")));
        Task inner = new Task(Files.createDirectories(directory.resolve("inner")));
        Files.createDirectories(middle.directory.resolve("tmp"));
        Files.createDirectories(inner.directory.resolve("tmp"));
        String innermost = inner.request("echo $TASKRUNNER_RUN_ID; echo $TASKRUNNER_OUTER_RUN_IDS; echo $TASKRUNNER_LOCKFILE").shellCommand();
        String[] out = task.request("echo $TASKRUNNER_RUN_ID; " + middle.request("echo $TASKRUNNER_RUN_ID; " + innermost).shellCommand()).run()
            .exitedWith(0).out().split("\n");
        assertEquals(5, out.length);
        assertEquals(out[0] + " " + out[1], out[3]);
        assertEquals(inner.lock.toString(), out[4]);
        assertEquals(3, List.of(out[0], out[1], out[2]).stream().distinct().count());
    }

    @Test
    void aLockFileThatSomebodyRemovedOrReplacedIsLeftAlone() throws IOException {
        task.request("rm \"$TASKRUNNER_LOCKFILE\"; exit 3").run().exitedWith(3).errContains("WARN").errContains("lock file " + task.lock
            + " was removed or replaced while the command ran");
        task.assertFree();
        task.request("rm \"$TASKRUNNER_LOCKFILE\"; echo mine > \"$TASKRUNNER_LOCKFILE\"").run().exitedWith(0).errContains("WARN")
            .errContains("was removed or replaced while the command ran: it is left alone");
        assertEquals("mine\n", Program.read(task.lock));
        Files.delete(task.lock);
        Path target = Files.writeString(directory.resolve("target"), "5\n");
        task.request("ln -sf " + target + " \"$TASKRUNNER_LOCKFILE\"").run().exitedWith(0).errContains("it is left alone");
        assertTrue(Files.isSymbolicLink(task.lock));
        assertEquals("5\n", Program.read(target));
    }

    @Test
    void aLockFileThatTheCommandMakesUnreadableIsReleasedAllTheSame(@TempDir Path shared) throws IOException {
        Files.setPosixFilePermissions(shared, PosixFilePermissions.fromString("rwxrwxrwx"));
        Task own = new Task(shared);
        own.request("chmod 000 task.lock").asNobody().run().exitedWith(0).errHasNo("replaced");
        own.assertFree();
    }
}
