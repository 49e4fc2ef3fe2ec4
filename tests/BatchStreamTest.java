import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** The two streams of a command: their order, their readers, and what is kept when it cannot be kept whole. */
@Concurrent
class BatchStreamTest extends BatchTest {
    private static final String BOTH = "for i in $(seq 200); do echo o$i; echo e$i >&2; done";

    private static List<String> bothInOrder() {
        return IntStream.rangeClosed(1, 200).boxed().flatMap(i -> Stream.of("o" + i, "e" + i)).toList();
    }

    private List<String> kept(long id) {
        return batch.batch("show", Long.toString(id), "--output").run().exitedWith(0).out().lines().toList();
    }

    @Test
    void whereBothGoToOnePlaceTheirOrderIsKept() throws Exception {
        Result both = batch.request(BOTH).underShell("exec \"$@\" 2>&1").run().exitedWith(0);
        assertEquals(bothInOrder(), both.out().lines().filter(line -> line.matches("[oe]\\d+")).toList());
        assertEquals(bothInOrder(), kept(1));
        Result quiet = batch.request(BOTH + "; exit 3", "--quiet").run().exitedWith(3).outIs("");
        assertEquals(bothInOrder(), quiet.err().lines().filter(line -> line.matches("[oe]\\d+")).toList());
        assertEquals(bothInOrder(), kept(2));
    }

    @Test
    void elseNoLineOfOneIsGluedToTheOthers() throws Exception {
        batch.request("for i in $(seq 200); do printf o; printf 'e%s\\n' $i >&2; printf '%s\\n' $i; done").run()
            .exitedWith(0);
        List<String> lines = kept(1);
        assertEquals(bothInOrder().stream().sorted().toList(), lines.stream().sorted().toList());
        Running runner = task.hold(batch.request("printf prompt; " + task.untilFinish() + "; echo; echo end"));
        Path output = Path.of(batch.newest().get("output_file"));
        Program.await("a line without an end is kept as it comes", () -> Program.read(output).equals("prompt"));
        task.finish();
        runner.result().exitedWith(0);
        assertEquals(List.of("prompt", "end"), kept(2));
    }

    @Test
    void whoseReaderIsGoneGetsSigpipe() throws Exception {
        batch.request("yes").under("bash", "-c", "\"$@\" 2>err | head -1", "sh").run().exitedWith(0).outIs("y\n");
        Program.await("the command has ended", () -> "SIGNAL_13".equals(batch.newest().get("exit_status")));
        task.assertFree();
    }

    @Test
    void aPatternThatBacktracksHoldsNothing() throws Exception {
        String text = "a".repeat(60) + "!";
        batch.markingRequest("--redact", "(.*a){25}b").run().exitedWith(0);
        batch.request("echo " + text + "; echo more; sleep 60", "--redact", "(.*a){25}b").run().exitedWith(64)
            .errContains("--redact takes too long");
        batch.request("printf a%.0s $(seq 60); echo !; echo more; sleep 60", "--redact", "(.*a){25}b", "--timeout",
            "1s").run().exitedWith(124)
            .errContains("--redact takes too long").outContains(text);
        assertTrue(batch.newest().get("output_note").contains("--redact takes too long"));
        Path output = Path.of(batch.newest().get("output_file"));
        assertTrue(!Files.exists(output) || !Program.read(output).contains("aaa"));
        assertEquals(1, task.marks());
    }

    @Test
    void aFullDiskLeavesAMark() throws Exception {
        Path small = Files.createDirectories(directory.resolve("small"));
        String inSmall = "mount -t tmpfs -o size=2m tmpfs \"$0\" && { \"$@\"; s=$?; cp \"$0\"/taskrunner/output/*.log"
            + " \"$0\"/../kept; exit $s; }";
        batch.request("seq 400000 | sed 's/$/ and some more text in each line/'", "--repository", "jdbc:sqlite:"
            + directory + "/executions.db")
            .env("XDG_STATE_HOME", small.toString()).under("unshare", "--mount", "sh", "-c", inSmall, small.toString())
            .run().exitedWith(0)
            .errContains("cannot keep the command's output in ");
        String kept = Program.read(directory.resolve("kept"));
        assertTrue(kept.startsWith("1 and")
            && kept.endsWith("\n[the output is not kept to its end: no space left on device]\n"),
            kept.substring(Math.max(0, kept.length() - 200)));
        String note = BatchTask.parse(batch.batch("history", "--format", "json", "--repository", "jdbc:sqlite:"
            + directory + "/executions.db")
            .run().exitedWith(0).out()).get(0).get("output_note");
        assertEquals("the output is not kept to its end: no space left on device", note);
    }
}
