import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.util.List;

import org.junit.jupiter.api.Test;

/** {@code --replace}: the holder's run is terminated, then the request runs. */
class ReplaceTest extends TaskTest {
    @AlsoWithoutProc
    void theHoldersRunIsTerminatedAndSaysByWhom() {
        Running holder = task.hold();
        Running other = task.markingRequest("--replace").start();
        other.result().exitedWith(0).errContains("WARN").errContains("--replace: lock " + task.lock + " is held by pid "
            + holder.pid() + " ");
        holder.result().exitedWith(143).errContains("replaced by pid " + other.pid() + " (root@");
        task.assertRan();
        assertEquals(0, task.count());
        task.assertFree();
    }

    @Test
    void theHolderHasItsTimeToEndAndThenTheCommandRuns() {
        Running holder = task.hold(task.request("trap 'sleep 0.5; echo cleaned > " + directory
            + "/cleaned; exit 0' TERM; "
            + task.untilFinish()));
        task.request("cat " + directory + "/cleaned", "--replace").run().exitedWith(0).outIs("cleaned\n");
        holder.result().exitedWith(143);
    }

    @AlsoWithoutProc
    void anOrphanIsTerminatedToo() {
        Running holder = task.hold();
        holder.kill();
        List<Long> orphans = Program.processesOf(directory);
        assertTrue(orphans.size() > 0);
        task.markingRequest("--replace").run().exitedWith(0).errContains("is orphaned")
            .errContains("recovered stale lock");
        task.assertRan();
        assertEquals(List.of(), Program.processesOf(directory));
    }

    @AlsoWithoutProc
    void aHolderThatDoesNotAnswerIsKilledWithItsRun() {
        Running holder = task.hold();
        holder.signal("STOP");
        task.markingRequest("--replace", "--kill-after", "100ms").run().exitedWith(0);
        holder.result().exitedWith(137);
        task.assertRan();
        assertEquals(List.of(), Program.processesOf(directory));
    }

    @Test
    void aForeignLockIsAContention() throws IOException {
        Files.createFile(task.lock);
        task.markingRequest("--replace").run().exitedWith(0).errContains("contention 1, threshold 2");
        task.assertDidNotRun();
        assertTrue(Files.exists(task.lock));
    }

    @Test
    void aRunDoesNotReplaceItself() {
        String inner = task.markingRequest("--replace").shellCommand();
        task.request(inner).run().exitedWith(0).errContains("contention 1, threshold 2");
        task.assertDidNotRun();
        task.assertFree();
    }

    @AlsoWithoutProc
    void whoeverComesLastRuns() {
        Running first = task.hold();
        Running second = task.request("echo second; sleep 100", "--replace").start();
        Program.await("the second runs", () -> Program.read(second.out).equals("second\n"));
        task.markingRequest("--replace").run().exitedWith(0);
        first.result().exitedWith(143);
        second.result().exitedWith(143);
        task.assertRan();
        task.assertFree();
    }
}
