import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;

/** {@code --quiet}: nothing as long as all is well, everything when it is not. */
class QuietTest extends TaskTest {
    @Test
    void printsNothingWhileAllIsWell() {
        task.request("echo out; echo err >&2", "--quiet").run().exitedWith(0).outIs("").errIs("");
        task.request("echo out; exit 3", "--quiet", "--exit-zero").run().exitedWith(0).outIs("").errContains("out\n");
        Running holder = task.hold("--quiet");
        task.request("echo out", "--quiet").run().exitedWith(0).outIs("").errIs("");
        assertEquals(1, task.count());
        task.finish(holder).outIs("").errIs("");
        assertNothingBuffered();
    }

    @AlsoWithoutProc
    void printsAllInOrderOnStderrOtherwise() {
        String steps = "echo 1; echo 2 >&2; printf 3; echo 4 >&2; ";
        assertShown(task.request(steps + "exit 3", "--quiet").run().exitedWith(3), "ERROR taskrunner[",
            "command failed with status 3");
        assertShown(task.request(steps + "sleep 100", "--quiet", "--timeout", "PT0.5S").run().exitedWith(124),
            "ERROR taskrunner[",
            "command timed out after 0.500s (--timeout)");
        Running running = task.start(task.request(steps + task.markStart() + "; sleep 100", "--quiet"));
        assertEquals("", running.err());
        running.signal("TERM");
        assertShown(running.result().exitedWith(143), "WARN taskrunner[", "stopped by SIGTERM");
        assertNothingBuffered();
    }

    private static void assertShown(Result result, String level, String outcome) {
        result.outIs("").errContains(" INFO taskrunner[").errContains("\n1\n2\n34\n");
        assertTrue(result.lastErr().contains(level) && result.lastErr().contains(outcome), result.err());
        assertTrue(result.err().indexOf("running: ") < result.err().indexOf("\n1\n2\n34\n"), result.err());
    }

    @Test
    void buffersMoreThanTheMemoryHolds() throws IOException {
        task.request("head -c 50000000 /dev/zero | tr '\\0' x; exit 3", "--quiet").jvm("-Xmx16m")
            .underShell("exec \"$@\" 2> large").run().exitedWith(3).outIs("").errIs("");
        Path large = directory.resolve("large");
        assertTrue(Files.size(large) > 50_000_000 && Files.size(large) < 50_001_000, "size " + Files.size(large));
        Files.delete(large);
        assertNothingBuffered();
    }

    @Test
    void doesNotWaitForABackgroundWriter() {
        Path status = directory.resolve("status");
        String writer = "while [ -e " + directory
            + " ]; do head -c 50000 /dev/zero; sleep 0.01; done & sleep 0.1; exit 3";
        String slowReader = "while [ \"$(head -c 20000 | wc -c)\" -gt 0 ]; do sleep 0.05; done";
        task.request(writer, "--quiet").underShell("{ \"$@\" 2>&1; echo $? > status; } | " + slowReader)
            .run();
        assertEquals("3\n", Program.read(status));
        task.assertFree();
    }

    @Test
    void leavesNoFileWhenKilled() {
        Running running = task.hold("--quiet");
        assertNothingBuffered();
        running.kill().exitedWith(137);
        assertNothingBuffered();
        task.finish();
    }

    @Test
    void withoutATemporaryDirectoryQuietShowsTheOutput() {
        task.request("echo out", "--quiet").env("TMPDIR", directory.resolve("no").toString()).run().exitedWith(0)
            .outIs("out\n")
            .errContains("WARN").errContains("cannot buffer output in " + directory.resolve("no")
            + ": no such file or directory; it is shown");
        task.assertFree();
    }

    private void assertNothingBuffered() {
        assertEquals(List.of(), List.of(directory.resolve("tmp").toFile()
            .list((in, name) -> name.startsWith("taskrunner"))));
    }
}
