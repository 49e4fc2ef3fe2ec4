import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.attribute.FileTime;
import java.time.Duration;
import java.time.Instant;

import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

/** {@code --overdue}: a lock that has been held for too long is reported on the first contention. */
class OverdueTest extends TaskTest {
    @Test
    void aHolderThatIsOverdueIsReportedOnTheFirstContention() {
        task.threshold = 5;
        Running holder = task.hold();
        task.markingRequest("--overdue", "1h").run().exitedWith(0).errContains("contention 1, threshold 5\n");
        task.markingRequest("--overdue", "1ms").run().exitedWith(75).errContains("ERROR")
            .errContains("task " + task.lock
            + " is overdue (--overdue 0.001s), contention 2, threshold 5: held by pid " + holder.pid() + " ");
        assertEquals(0, task.count(), "a report starts the counter again");
        task.markingRequest("--overdue", "0").run().exitedWith(0);
        task.finish(holder);
        task.assertDidNotRun();
        task.markingRequest("--overdue", "1ms").run().exitedWith(0);
        task.assertRan();
    }

    @Test
    void aForeignLockIsAsOldAsItsFile() throws IOException {
        Files.createFile(task.lock);
        task.markingRequest("--overdue", "1h").run().exitedWith(0);
        Files.setLastModifiedTime(task.lock, FileTime.from(Instant.now().minus(Duration.ofHours(2))));
        task.markingRequest("--overdue", "1h").run().exitedWith(75).errContains("is overdue (--overdue 1h0m)")
            .errContains("it was not created by taskrunner");
        task.assertDidNotRun();
    }

    @Test
    void theMessageSaysWhichOfTheTwoItWas() {
        task.threshold = 1;
        Running holder = task.hold();
        task.markingRequest("--overdue", "1h").run().exitedWith(0);
        task.markingRequest("--overdue", "1h").run().exitedWith(0).errContains("the next one is reported");
        task.markingRequest("--overdue", "1ms").run().exitedWith(75)
            .errContains(" was busy for 3 requests in a row (threshold 1): ")
            .errHasNo("overdue");
        task.finish(holder);
    }

    @Test
    void withThresholdZeroNothingIsReported() {
        task.threshold = 0;
        Running holder = task.hold();
        task.markingRequest("--overdue", "1ms").run().exitedWith(0).errContains("not counted");
        assertFalse(Files.exists(task.counter));
        task.finish(holder);
    }
}
