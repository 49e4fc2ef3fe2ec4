import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Files;
import java.nio.file.Path;

import org.junit.jupiter.api.Test;

/** Whom the history makes {@code --notify} tell. */
@Concurrent
class BatchNotifyTest extends BatchTest {
    private Path told() {
        return directory.resolve("told");
    }

    /** Runs the command; returns the events that were told of since, in their order. */
    private String told(String command, int status, String... more) throws Exception {
        Files.writeString(told(), "");
        batch.request(command, "--notify", "echo $TASKRUNNER_EVENT >>" + told()).with(more).run().exitedWith(status);
        return Program.read(told()).strip().replace("\n", " ");
    }

    @Test
    void theFirstFailureIsToldAndTheSuccessAfterIt() throws Exception {
        assertEquals("", told("true", 0));
        assertEquals("failed", told("exit 3", 3));
        assertEquals("", told("exit 3", 3));
        assertEquals("", told("sleep 60", 124, "--timeout", "1s"));
        assertEquals("resolved", told("true", 0));
        assertEquals("", told("true", 0));
        assertEquals("succeeded", told("true", 0, "--notify-on", "succeeded"));
    }

    @Test
    void theNthFailureInARowIsTold() throws Exception {
        String[] third = {"--notify-after", "3"};
        assertEquals("", told("exit 3", 3, third));
        assertEquals("", told("exit 3", 3, third));
        assertEquals("", told("true", 0, third));
        assertEquals("", told("exit 3", 3, third));
        assertEquals("", told("exit 3", 3, third));
        assertEquals("failed", told("exit 3", 3, third));
        assertEquals("", told("exit 3", 3, third));
        assertEquals("resolved", told("true", 0, third));
        batch.markingRequest("--notify-after", "0").run().exitedWith(64).errContains("--notify-after");
    }

    @Test
    void aDeadRunIsToldOf() throws Exception {
        Running runner = batch.hold();
        runner.kill();
        task.finishOrphan();
        assertEquals("recovered killed", told("true", 0).replace(" resolved", ""));
    }

    @Test
    void theRowIsWrittenBeforeSomebodyIsTold() throws Exception {
        Running runner = batch.request("exit 3", "--notify", "echo >" + told() + "; while ! [ -e " + directory
            + "/told-enough ]; do sleep 0.05; done").start();
        Program.await("it is told", () -> Files.exists(told()));
        assertEquals("EXIT_3", batch.newest().get("exit_status"));
        Files.createFile(directory.resolve("told-enough"));
        runner.result().exitedWith(3);
    }
}
