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

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BadInputTest {
    @TempDir
    Path folder;
    private Program.Task task;

    @BeforeEach
    void aTask() {
        task = new Program.Task(folder);
    }

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
            assertRefusesTheCounter(task.request("touch ran"));
            assertArrayEquals(content, Files.readAllBytes(task.counter));
            task.assertFree();
        }
        Files.delete(task.counter);
        Program.Running holder = task.hold();
        for (byte[] content : contents) {
            Files.write(task.counter, content);
            assertRefusesTheCounter(task.request("touch ran"));
            assertArrayEquals(content, Files.readAllBytes(task.counter));
        }
        task.threshold = 0;
        task.request("touch ran").run().exitedWith(0);
        task.finish();
        holder.result().exitedWith(0);
        task.request("echo the counter is not read").run().exitedWith(0).outIs("the counter is not read\n");
    }

    private void assertRefusesTheCounter(Program request) {
        request.run().exitedWith(65).outIs("").errContains("counter file " + task.counter
            + " holds something other than a counter: it is left as it is");
        assertFalse(Files.exists(folder.resolve("ran")));
    }

    @Test
    void whiteSpaceAroundTheCounterAndAnEmptyFileAreFine() throws IOException {
        Program.Running holder = task.hold();
        task.threshold = 20;
        for (Map.Entry<String, String> counter : Map.of("", "1\n", "\n", "1\n", " 2 \n\n", "3\n", "\t7", "8\n", "9", "10\n", "0000000009\r\n",
            "10\n").entrySet()) {
            Files.writeString(task.counter, counter.getKey());
            task.request("touch ran").run().exitedWith(0);
            assertEquals(counter.getValue(), Program.read(task.counter));
        }
        task.threshold = 2;
        for (String large : List.of("10\n", "9223372036854775807\n")) {
            Files.writeString(task.counter, large);
            task.request("touch ran").run().exitedWith(75);
            assertEquals("0\n", Program.read(task.counter));
        }
        task.finish();
        holder.result().exitedWith(0);
    }

    @Test
    void withoutAStdinTheCommandReadsNothing() {
        task.request("wc -c; readlink /proc/self/fd/0").under("sh", "-c", "exec \"$@\" <&-", "sh").run().exitedWith(0)
            .outIs("0\n/dev/null\n");
    }

    @Test
    void onlyARegularFileIsACounter() throws IOException, InterruptedException {
        Path target = Files.writeString(folder.resolve("target"), "5\n");
        Files.createSymbolicLink(task.counter, target);
        assertCounterIs74("a symbolic link");
        assertEquals("5\n", Program.read(target));
        assertTrue(Files.isSymbolicLink(task.counter));
        Files.delete(task.counter);
        Files.createSymbolicLink(task.counter, folder.resolve("nowhere"));
        assertCounterIs74("a symbolic link");
        assertFalse(Files.exists(folder.resolve("nowhere")));
        Files.delete(task.counter);
        Files.createDirectory(task.counter);
        assertCounterIs74("a folder");
        Files.delete(task.counter);
        fifo(task.counter);
        assertCounterIs74("a special file");
    }

    private void assertCounterIs74(String kind) throws IOException {
        String message = "counter file " + task.counter + ": " + kind + " is in its place: remove it or choose another --counter-file";
        task.request("touch ran").run().exitedWith(74).errContains(message);
        task.assertFree();
        Files.writeString(task.lock, "made by hand\n");
        task.request("touch ran").run().exitedWith(74).errContains(message);
        assertEquals("made by hand\n", Program.read(task.lock));
        Files.delete(task.lock);
        assertFalse(Files.exists(folder.resolve("ran")));
    }

    @Test
    void onlyARegularFileOfItsOwnIsUsedWhileTheLockIsTaken() throws IOException, InterruptedException {
        Path target = Files.writeString(folder.resolve("target"), "");
        Files.createSymbolicLink(task.gate, target);
        assertGateIs73("a symbolic link is at " + task.gate);
        assertEquals("", Program.read(target));
        Files.delete(task.gate);
        Files.createSymbolicLink(task.gate, folder.resolve("nowhere"));
        assertGateIs73("a symbolic link is at " + task.gate);
        assertFalse(Files.exists(folder.resolve("nowhere")));
        Files.delete(task.gate);
        Files.createDirectory(task.gate);
        assertGateIs73("a folder is at " + task.gate);
        Files.delete(task.gate);
        fifo(task.gate);
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
        task.request("touch ran").run().exitedWith(73).errContains("cannot create the lock: ").errContains(message);
        assertTrue(Files.exists(task.gate, LinkOption.NOFOLLOW_LINKS));
        assertFalse(Files.exists(task.lock) || Files.exists(folder.resolve("ran")));
    }

    @Test
    void onAFullDiskNothingRunsAndNothingIsLost() throws IOException, InterruptedException {
        Path disk = Files.createDirectory(folder.resolve("disk"));
        sh("mount -t tmpfs -o size=64k none " + disk);
        try {
            Path lock = disk.resolve("task.lock");
            Path counter = disk.resolve("task.count");
            List<String> files = List.of("--lockfile", lock.toString(), "--threshold", "20", "--counter-file", counter.toString());
            Program.Running holder = Program.taskrunner(folder, "--command", task.untilFinish()).with(files.toArray(String[]::new)).start();
            Program.await("the command runs", () -> Files.exists(folder.resolve("runs")));
            Files.writeString(counter, "9\n");
            fill(disk.resolve("filler"));
            Program.taskrunner(folder, "--command", "touch ran").with(files.toArray(String[]::new)).run().exitedWith(0);
            assertEquals("10\n", Program.read(counter));
            Files.delete(counter);
            fill(disk.resolve("more"));
            Program.taskrunner(folder, "--command", "touch ran").with(files.toArray(String[]::new)).run().exitedWith(74)
                .errContains("counter file " + counter + ": no space left on device");
            assertFalse(Files.exists(counter));
            task.finish();
            holder.result().exitedWith(0);
            fill(disk.resolve("most"));
            Program.taskrunner(folder, "--command", "touch ran").with(files.toArray(String[]::new)).run().exitedWith(74)
                .errContains("lock file " + lock + ": no space left on device");
            assertFalse(Files.exists(lock) || Files.exists(disk.resolve("task.lock.tmp")) || Files.exists(folder.resolve("ran")));
        } finally {
            // lazily: a failed test must not leave it mounted
            sh("umount -l " + disk);
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
        Path working = Files.createDirectory(folder.resolve("working"));
        String[] out = Program.taskrunner(folder, "--command", "cat; pwd; echo \"$TASKRUNNER_LOCKFILE\"; echo \"$TASKRUNNER_RUN_ID\""
            + "; grep ^run= \"$TASKRUNNER_LOCKFILE\"; echo \"${TASKRUNNER_OUTER_RUN_IDS-none}\"", "--lockfile", "../task.lock", "--threshold", "1",
            "--counter-file", "task.count").in(working).stdin("from stdin\n").run().exitedWith(0).out().split("\n");
        assertEquals(6, out.length);
        assertEquals(List.of("from stdin", working.toString(), task.lock.toString()), List.of(out).subList(0, 3));
        assertEquals("run=" + out[3], out[4]);
        assertEquals("none", out[5]);
    }

    @Test
    void aNestedRunKeepsTheOuterRunIdsFindable() throws IOException {
        Program.Task middle = new Program.Task(Files.createDirectories(folder.resolve("middle")));
        Program.Task inner = new Program.Task(Files.createDirectories(folder.resolve("inner")));
        Files.createDirectories(middle.folder.resolve("tmp"));
        Files.createDirectories(inner.folder.resolve("tmp"));
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
        Path target = Files.writeString(folder.resolve("target"), "5\n");
        task.request("ln -sf " + target + " \"$TASKRUNNER_LOCKFILE\"").run().exitedWith(0).errContains("it is left alone");
        assertTrue(Files.isSymbolicLink(task.lock));
        assertEquals("5\n", Program.read(target));
    }

    private static void fifo(Path path) throws IOException, InterruptedException {
        sh("mkfifo " + path);
    }

    private static void sh(String command) throws IOException, InterruptedException {
        assertEquals(0, new ProcessBuilder("sh", "-c", command).inheritIO().start().waitFor(), command);
    }

    @Test
    void aLockFileThatTheCommandMakesUnreadableIsReleasedAllTheSame(@TempDir Path shared) throws IOException {
        Files.setPosixFilePermissions(shared, PosixFilePermissions.fromString("rwxrwxrwx"));
        Program.Task own = new Program.Task(shared);
        own.request("chmod 000 task.lock").asNobody().run().exitedWith(0).errHasNo("replaced");
        own.assertFree();
    }
}
