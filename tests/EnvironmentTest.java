import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;

/** What a command gets from the caller and from taskrunner. */
class EnvironmentTest extends TaskTest {
    @Test
    void closedStdin() {
        task.request("wc -c; readlink /proc/self/fd/0").underShell("exec \"$@\" <&-").run().exitedWith(0)
            .outIs("0\n/dev/null\n");
    }

    @Test
    void awkwardCommandsArriveByteForByte() {
        String awkward = "'\"`$HOME ${x} $(false) \\ \\n * ? ~ & | ; < > # ! %s\ttab\n\n  two  blanks  \n"
            + "-- --help @file\n";
        task.request("cat <<'END'\n" + awkward + "END").run().exitedWith(0).outIs(awkward);
        String large = ("0123456789".repeat(9) + "\n").repeat(1000);
        task.request("cat <<'END'\n" + large + "END\n").run().exitedWith(0).outIs(large);
        task.request("--help 2>/dev/null || echo \"no option: $?\"").run().exitedWith(0).outIs("no option: 127\n");
    }

    @Test
    void stdinWorkingDirectoryAndRunId() throws IOException {
        Path working = Files.createDirectory(directory.resolve("working"));
        String[] out = taskrunner("--command", "cat; pwd; echo \"$TASKRUNNER_LOCKFILE\"; echo \"$TASKRUNNER_RUN_ID\""
            + "; grep ^run= \"$TASKRUNNER_LOCKFILE\"; echo \"${TASKRUNNER_OUTER_RUN_IDS-none}\"", "--lockfile",
            "../task.lock", "--threshold", "1", "--counter-file", "task.count").in(working).stdin("from stdin\n").run()
            .exitedWith(0).out().split("\n");
        assertEquals(6, out.length);
        assertEquals(List.of("from stdin", working.toString(), task.lock.toString()), List.of(out).subList(0, 3));
        assertEquals("run=" + out[3], out[4]);
        assertEquals("none", out[5]);
    }

    @Test
    void nestedRunHasTheOuterRunIds() throws IOException {
        TestTask middle = new TestTask(Files.createDirectories(directory.resolve("middle")));
        TestTask inner = new TestTask(Files.createDirectories(directory.resolve("inner")));
        Files.createDirectories(middle.directory.resolve("tmp"));
        Files.createDirectories(inner.directory.resolve("tmp"));
        String innermost = inner.request("echo $TASKRUNNER_RUN_ID; echo $TASKRUNNER_OUTER_RUN_IDS;"
            + " echo $TASKRUNNER_LOCKFILE").shellCommand();
        String[] out = task.request("echo $TASKRUNNER_RUN_ID; "
            + middle.request("echo $TASKRUNNER_RUN_ID; " + innermost).shellCommand()).run()
            .exitedWith(0).out().split("\n");
        assertEquals(5, out.length);
        assertEquals(out[0] + " " + out[1], out[3]);
        assertEquals(inner.lock.toString(), out[4]);
        assertEquals(3, List.of(out[0], out[1], out[2]).stream().distinct().count());
    }

    @Test
    void limitOfOpenFilesIsTheCallers() {
        task.request("ulimit -Sn").underShell("ulimit -Sn 256; exec \"$@\"").run().exitedWith(0).outIs("256\n");
    }
}
