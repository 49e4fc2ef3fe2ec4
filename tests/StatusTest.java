import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import java.util.Map;

/** {@code taskrunner status}. */
class StatusTest extends TaskTest {
    @AlsoWithoutProc
    void stateHolderAndCounter() throws IOException {
        String[] counter = {"--threshold", "2", "--counter-file", task.counter.toString()};
        task.status().run().exitedWith(0).outIs("lock " + task.lock + " is free\n").errIs("");
        assertEquals(Map.of("lockfile", task.lock.toString(), "state", "free", "message", "lock " + task.lock
            + " is free", "contentions", 0L,
            "threshold", 2L), json(task.status("--json").with(counter).run().exitedWith(0)));

        Running holder = task.hold();
        task.request("true").run().exitedWith(0);
        task.status(counter).run().exitedWith(20).outContains("lock " + task.lock + " is held by pid " + holder.pid()
            + " (root@")
            .outContains("; if it is stuck: kill ").outContains("; contentions 1, threshold 2\n");
        Map<String, Object> held = json(task.status("--json").with(counter).run().exitedWith(20));
        assertEquals(List.of("held", 1L, 2L), List.of(held.get("state"), held.get("contentions"),
            held.get("threshold")));
        Map<?, ?> who = (Map<?, ?>) held.get("holder");
        assertEquals(holder.pid(), who.get("pid"));
        assertTrue(ProcessHandle.of((Long) who.get("command_pid")).isPresent());
        assertTrue(((String) who.get("started")).matches(LogTest.TIME + "\\.[0-9]{3}Z"));
        assertFalse(json(task.status("--json").run()).containsKey("contentions"));

        holder.kill();
        assertEquals("orphaned", json(task.status("--json").run().exitedWith(21)).get("state"));
        task.finishOrphan();
        task.status().run().exitedWith(21).outContains("is stale: holder pid " + holder.pid()).errIs("");
        assertEquals("stale", json(task.status("--json").run().exitedWith(21)).get("state"));
        assertTrue(Files.exists(task.lock), "status changes nothing");

        Files.writeString(task.lock, "");
        task.status().run().exitedWith(22).outContains("it was not created by taskrunner")
            .outContains("rm " + task.lock);
        assertEquals("foreign", json(task.status("--json").run().exitedWith(22)).get("state"));
        Files.writeString(task.counter, "no counter\n");
        task.status(counter).run().exitedWith(65).outIs("").errContains("counter file " + task.counter + " contains '");
        assertEquals("no counter\n", Program.read(task.counter));
    }

    private static Map<String, Object> json(Result result) {
        assertTrue(result.out().endsWith("}\n") && result.out().indexOf('\n') == result.out()
            .length() - 1, result.out());
        return JsonText.object(result.out());
    }
}
