import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;

/** How an execution ends. */
@Concurrent
class BatchRunTest extends BatchTest {
    private static final String ACQUIRED = "acquireLock COMPLETED ACQUIRED";
    private static final String RESET = "resetCounter COMPLETED RESET";
    private static final String RELEASED = "releaseLock COMPLETED RELEASED";

    @Test
    void success() throws Exception {
        batch.request("echo hello").run().exitedWith(0).outIs("hello\n");
        long id = batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET, "runCommand COMPLETED SUCCEEDED",
            RELEASED);
        batch.show(id).outContains("command            echo hello\n")
            .outContains("lock file          " + task.lock + "\n")
            .outContains("counter file       " + task.counter + ", threshold 2, contentions afterwards 0\n")
            .outContains("  hello\n");
    }

    @Test
    void failure() throws Exception {
        batch.request("echo oops >&2; exit 3").run().exitedWith(3).errContains("oops\n");
        batch.assertEnded("FAILED", "EXIT_3", 3, ACQUIRED, RESET, "runCommand FAILED EXIT_3", RELEASED);
    }

    @Test
    void killedBySignal() throws Exception {
        batch.request("kill -KILL $$").run().exitedWith(137);
        batch.assertEnded("FAILED", "SIGNAL_9", 137, ACQUIRED, RESET, "runCommand FAILED SIGNAL_9", RELEASED);
    }

    @Test
    void timedOut() throws Exception {
        batch.request("sleep 60", "--timeout", "1s").run().exitedWith(124);
        batch.assertEnded("FAILED", "TIMEOUT", 124, ACQUIRED, RESET, "runCommand FAILED TIMEOUT", RELEASED);
    }

    @Test
    void contentionUpToAndBeyondTheThreshold() throws Exception {
        task.threshold = 1;
        Running holder = batch.hold();
        batch.markingRequest("--conflict-exit-code", "7").run().exitedWith(7);
        Map<String, String> row = batch.newest();
        assertEquals("COMPLETED CONTENDED 7 1", row.get("batch_status") + " " + row.get("exit_status") + " "
            + row.get("exit_code") + " "
            + row.get("contentions"));
        assertTrue(row.get("holder").contains("pid " + holder.pid()), row::toString);
        assertEquals(List.of("acquireLock COMPLETED CONTENDED", "incrementCounter COMPLETED COUNT_1"),
            BatchTask.steps(batch.show(BatchTask.id(row))));
        batch.markingRequest().run().exitedWith(0);
        batch.markingRequest().run().exitedWith(75);
        task.finish(holder);
        long id = batch.assertEnded("FAILED", "THRESHOLD_EXCEEDED", 75, "acquireLock COMPLETED THRESHOLD_EXCEEDED",
            "incrementCounter COMPLETED COUNT_0");
        batch.show(id).outContains("holder met").outContains("pid " + holder.pid())
            .outContains("contentions afterwards 0\n");
        task.assertDidNotRun();
        assertEquals("COMPLETED", batch.history().get(3).get("batch_status"));
    }

    @Test
    void lockError() throws Exception {
        Path lock = directory.resolve("missing/task.lock");
        batch.batch("--command", task.mark(), "--lockfile", lock.toString(), "--threshold", "1", "--counter-file",
            task.counter.toString()).run().exitedWith(73);
        batch.assertEnded("FAILED", "LOCK_ERROR", 73, "acquireLock FAILED LOCK_ERROR");
        task.assertDidNotRun();
    }

    @Test
    void counterError() throws Exception {
        Files.writeString(task.counter, "no number\n");
        batch.markingRequest().run().exitedWith(65);
        batch.assertEnded("FAILED", "COUNTER_ERROR", 65, "acquireLock FAILED COUNTER_ERROR");
        task.assertDidNotRun();
    }

    @Test
    void stopTerminatesTheCommandAndWaitsForTheEnd() throws Exception {
        Running holder = batch.hold();
        String id = batch.newest().get("id");
        batch.batch("stop", id).run().exitedWith(0).outIs("job execution " + id + " is STOPPED\n");
        holder.result().exitedWith(143);
        batch.assertEnded("STOPPED", "STOPPED", 143, ACQUIRED, RESET, "runCommand COMPLETED STOPPED", RELEASED);
        batch.batch("stop", id).run().exitedWith(64).errContains("has ended already: STOPPED");
    }
}
