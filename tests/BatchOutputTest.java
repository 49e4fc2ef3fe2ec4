import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** Where the output of a command goes when its executions are kept. */
class BatchOutputTest extends BatchTest {
    @Test
    void bothStreamsAndTheFileGetTheOutput() throws Exception {
        Running holder = batch.request("echo out; echo err >&2; [ -t 1 ] && echo terminal; "
            + "printf 'no end of line \\377\\0'").start();
        Program.await("it has ended", () -> !holder.alive());
        assertArrayEquals("out\nno end of line ÿ\0".getBytes(StandardCharsets.ISO_8859_1),
            Files.readAllBytes(holder.out));
        assertTrue(holder.err().contains("\nerr\n"), holder::err);
        assertEquals(Files.size(holder.out) + 4, Files.size(output()));
        String kept = Files.readString(output(), StandardCharsets.ISO_8859_1);
        assertTrue(kept.contains("out\n") && kept.contains("err\n") && kept.contains("no end of line"), kept);
    }

    @Test
    void firstAndLastHalfOf100MegabytesAreKept() throws Exception {
        long line = 64;
        long lines = 100 * 1024 * 1024 / line;
        Path stdout = batch.request("awk 'BEGIN { for (i = 0; i < " + lines + "; i++) printf(\"%063d\\n\", i) }'").run()
            .exitedWith(0).program().out;
        assertEquals(lines * line, Files.size(stdout));
        long limit = 10 << 20;
        String mark = "\n[" + (lines * line - limit) + " bytes left out]\n";
        assertEquals(limit + mark.length(), Files.size(output()));
        try (RandomAccessFile kept = new RandomAccessFile(output().toFile(), "r");
            RandomAccessFile all = new RandomAccessFile(stdout.toFile(), "r")) {
            assertArrayEquals(part(all, 0, limit / 2), part(kept, 0, limit / 2));
            assertEquals(mark, new String(part(kept, limit / 2, mark.length()), StandardCharsets.UTF_8));
            assertArrayEquals(part(all, lines * line - limit / 2, limit / 2),
                part(kept, limit / 2 + mark.length(), limit / 2));
        }
        assertEquals(List.of(output()), outputs());
        String last = String.format("%063d", lines - 1);
        batch.show(1).outContains("output             " + output() + ", its last lines:\n")
            .outContains("  " + last + "\n");
    }

    private static byte[] part(RandomAccessFile file, long from, long length) throws Exception {
        byte[] bytes = new byte[(int) length];
        file.seek(from);
        file.readFully(bytes);
        return bytes;
    }

    @Test
    void gapBeyondTheLimitIsExact() throws Exception {
        String[] lengths = {"0", "999", "1000", "1001", "1500", "1999", "2000", "2001", "2999", "3000", "3001",
            "10007"};
        for (String length : lengths) {
            batch.request("seq 100000 | head -c " + length, "--output-limit", "2000").run().exitedWith(0);
            String all = digits(Integer.parseInt(length));
            String expected = all.length() <= 2000 ? all : all.substring(0, 1000) + "\n[" + (all.length() - 2000)
                + " bytes left out]\n"
                + all.substring(all.length() - 1000);
            if (length.equals("0")) {
                assertEquals(List.of(), outputs());
            } else {
                assertEquals(expected, Program.read(output()), length);
            }
            outputs().forEach(file -> file.toFile().delete());
        }
    }

    private static String digits(int length) {
        StringBuilder text = new StringBuilder();
        for (int i = 1; text.length() < length; i++) {
            text.append(i).append('\n');
        }
        return text.substring(0, length);
    }

    @Test
    void backgroundProcessThatKeepsThePipeOpenDelaysNothing() throws Exception {
        String sleeper = "sleep 47." + ProcessHandle.current().pid();
        String command = "setsid env -i " + sleeper + " & echo started";
        List<Running> requests = new java.util.ArrayList<>();
        for (int i = 0; i < 6; i++) {
            requests.add(batch.other(directory.resolve("task" + i)).request(command).start());
        }
        requests.forEach(request -> request.result().exitedWith(0).outIs("started\n").errContains("command succeeded"));
        assertEquals(6, Program.processesWith(sleeper).size(), "the background processes have ended");
        Program.killProcessesOf(directory);
        for (Path output : outputs()) {
            assertEquals("started\n", Program.read(output));
        }
        assertEquals(6, outputs().size());
    }

    @Test
    void slowReaderLosesNothingAndTimeoutDoesNotWait() throws Exception {
        String pipe = "\"$@\" 2>err | { sleep 2; wc -c; }";
        batch.request("seq 20000").under("bash", "-c", pipe, "sh").run().exitedWith(0).outIs("108894\n");
        assertEquals(108894, Files.size(output()));
        Files.delete(output());
        Running stuck = task.start(batch.request(task.markStart() + "; yes", "--timeout", "1s")
            .under("bash", "-c", "\"$@\" | sleep 50", "sh"));
        Program.await("only the shell is left, which waits for the reader",
            () -> Program.processesWith("taskrunnerbatch --command touch " + directory).size() == 1);
        assertEquals("TIMEOUT", batch.newest().get("exit_status"));
        stuck.kill();
    }

    @Test
    void patternThatNeedsADeepStack() {
        batch.request("head -c 60000 /dev/zero | tr '\\0' a; echo; echo end", "--redact", "(a|b)+c").run()
            .exitedWith(0);
    }

    @Test
    void quietShowsOnlyFailuresButKeepsAll() throws Exception {
        batch.request("echo hello", "--quiet").run().exitedWith(0).outIs("").errIs("");
        assertEquals("hello\n", Program.read(output()));
        Files.delete(output());
        batch.request("echo hello; exit 3", "--quiet").run().exitedWith(3).outIs("").errContains("hello\n")
            .errContains("status 3");
        assertEquals("hello\n", Program.read(output()));
    }

    @Test
    void killedHolderLeavesBeginningAndLatestOutput() throws Exception {
        Running holder = batch.request("seq 5000; " + task.untilFinish(), "--output-limit", "2000").start();
        Program.await("all output is kept", () -> outputs().stream()
            .anyMatch(file -> file.toString().endsWith(".latest")
            && Program.read(file).endsWith("\n5000\n")));
        holder.kill();
        Path file = outputs().get(0);
        assertEquals(digits(1000), Program.read(file));
        batch.show(1).outContains("status             FAILED, KILLED\n").outContains("\n  4999\n  5000\n");
        task.finish();
    }

    @Test
    void redactMasksKeptNotPrintedOutput() {
        batch.request("printf 'pass'; sleep 0.2; printf 'word=1\\nother\\npassword=22'", "--redact", "password=[0-9]+")
            .run().exitedWith(0)
            .outIs("password=1\nother\npassword=22");
        assertEquals("***\nother\n***", Program.read(output()));
    }

    @Test
    void stoppedCommandsOutputIsKept() throws Exception {
        Running holder = task.hold(batch.request("echo before; trap 'echo in trap; exit 1' TERM; "
            + task.untilFinish()));
        holder.signal("TERM");
        holder.result().exitedWith(143).outIs("before\nin trap\n");
        String kept = Program.read(output());
        assertTrue(kept.startsWith("before\n") && kept.contains("in trap\n"), kept);
    }

    /** The file of the only execution that has output. */
    private Path output() {
        List<Path> files = outputs();
        assertEquals(1, files.size(), files::toString);
        return files.get(0);
    }

    private List<Path> outputs() {
        Path outputs = batch.state.resolve("output");
        if (!Files.isDirectory(outputs)) {
            return List.of();
        }
        try (Stream<Path> files = Files.list(outputs)) {
            return files.sorted().toList();
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }
}
