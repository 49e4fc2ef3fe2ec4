import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

import org.junit.jupiter.api.Test;

/** Lines for the journal: {@code $JOURNAL_STREAM} names the device and inode of stderr, as systemd.exec(5) says. */
class JournalTest extends TaskTest {
    private Program withStderrAsJournal(Program program) {
        return program.underShell("JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"");
    }

    @Test
    void linesHavePrioritiesAndNoTimeOfTheirOwn() {
        String err = withStderrAsJournal(task.request("exit 3", "--verbose")).run().exitedWith(3).err();
        assertTrue(err.matches("<6>INFO taskrunner\\[\\d+\\]: running: exit 3\n"
            + "<3>ERROR taskrunner\\[\\d+\\]: command failed with .*\n"), err);
        Running holder = task.hold();
        err = withStderrAsJournal(task.request("true")).run().exitedWith(0).err();
        assertTrue(err.startsWith("<4>WARN "), err);
        err = withStderrAsJournal(task.request("true", "--log-format", "json")).run().exitedWith(0).err();
        assertTrue(err.startsWith("<4>{\"time\":"), err);
        task.finish(holder);
    }

    @Test
    void elsewhereThereIsATimeAndNoPriority() throws IOException {
        String err = task.request("true").env("JOURNAL_STREAM", "1:1").run().exitedWith(0).err();
        assertTrue(err.matches("(?s)\\d{4}-.*INFO taskrunner.*") && !err.contains("<6>"), err);
        Path file = directory.resolve("log");
        withStderrAsJournal(task.request("exit 3", "--log-file", file.toString())).run().exitedWith(3)
            .errContains("<3>ERROR ");
        assertTrue(!Files.readString(file).contains("<") && Files.readString(file).startsWith("20"),
            Files.readString(file));
    }
}
