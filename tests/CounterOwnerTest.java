import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.nio.file.Files;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Counter files of other users. Needs root. */
class CounterOwnerTest extends TaskTest {
    private static final String MINE = "belongs to another user, nobody, and is neither trusted nor changed";

    @BeforeEach
    void makeCounter() throws Exception {
        Files.writeString(task.counter, "7\n");
        shell("chown nobody task.count");
    }

    @Test
    void onAFreeLockTheCommandRunsWithAWarning() throws Exception {
        task.markingRequest().run().exitedWith(0).errContains("WARN")
            .errContains("counter file " + task.counter + " " + MINE)
            .errContains("it was not cleared");
        task.assertRan();
        task.assertFree();
        assertEquals("7\n", Program.read(task.counter));
        assertEquals("nobody", Files.getOwner(task.counter).getName());
    }

    @Test
    void onAStaleLockTheCommandRunsWithAWarning() throws Exception {
        task.hold().kill();
        task.finishOrphan();
        task.markingRequest().run().exitedWith(0).errContains("recovered stale lock").errContains(MINE);
        task.assertRan();
        assertEquals("7\n", Program.read(task.counter));
    }

    @Test
    void aContentionEndsWithAnErrorThatSaysWhoseItIs() throws Exception {
        Running holder = task.hold();
        task.markingRequest().run().exitedWith(74).errContains("counter file " + task.counter + " " + MINE);
        task.assertDidNotRun();
        task.finish(holder).errContains(MINE);
        assertEquals("7\n", Program.read(task.counter));
        task.assertFree();
    }

    @Test
    void itIsNotEvenReadWhenItHoldsNoCounter() throws Exception {
        Files.writeString(task.counter, "not a counter");
        task.markingRequest().run().exitedWith(0).errContains(MINE);
        task.assertRan();
        assertEquals("not a counter", Program.read(task.counter));
    }

    @Test
    void rootsIsTrusted() throws Exception {
        shell("chown root task.count; chmod 644 task.count");
        Running holder = task.hold();
        Files.writeString(task.counter, "1\n");
        task.markingRequest().asNobody().run().exitedWith(74)
            .errContains("cannot use counter file " + task.counter + ": permission denied");
        assertEquals("1\n", Program.read(task.counter));
        task.finish(holder);
    }

    @Test
    void withoutAThresholdItIsNobodysBusiness() throws Exception {
        task.threshold = 0;
        task.markingRequest().run().exitedWith(0).errHasNo("WARN");
        task.assertRan();
        assertFalse(Files.notExists(task.counter));
    }
}
