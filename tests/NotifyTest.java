import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;

/** {@code --notify}. */
@Order(1)
class NotifyTest extends TaskTest {
    @Test
    void eachEventAfterTheLockWasReleased() throws IOException {
        Map<String, String> failed = notified(task.request("exit 3"), 3);
        assertEquals(Map.of("EVENT", "failed", "LOCKFILE", task.lock.toString(), "COMMAND", "exit 3", "EXIT_STATUS",
            "3", "CONTENTIONS", "",
            "THRESHOLD", "2", "HOLDER_PID", "", "LOCK", "free"), without(failed, "MESSAGE", "RUN"));
        assertTrue(failed.get("MESSAGE").startsWith("command failed with status 3 after ") && !failed.get("RUN")
            .isEmpty(), failed::toString);
        assertEquals("timeout", notified(task.request("exec sleep 100", "--timeout", "PT0.3S"), 124).get("EVENT"));
        Files.writeString(task.counter, "no counter");
        Map<String, String> broken = notified(task.request("true"), 65);
        assertEquals("error", broken.get("EVENT"));
        assertTrue(broken.get("MESSAGE").contains("counter file " + task.counter), broken::toString);
        Files.delete(task.counter);
        assertEquals("error", notified(taskrunner("--command", "true", "--lockfile", directory + "/no/task.lock",
            "--threshold", "1",
            "--counter-file", task.counter.toString()), 73).get("EVENT"));
        assertEquals("error", notified(task.request("rm \"$TASKRUNNER_LOCKFILE\"; mkdir \"$TASKRUNNER_LOCKFILE\""), 74)
            .get("EVENT"));
        Files.delete(task.lock);

        assertEquals(Map.of(), notified(task.request("true"), 0));
        Running holder = task.hold();
        assertEquals(Map.of(), notified(task.request("true"), 0));
        Files.writeString(task.counter, "3\n");
        Map<String, String> threshold = notified(task.request("true"), 75);
        assertEquals(List.of("threshold", "4", Long.toString(holder.pid()), "75"),
            List.of(threshold.get("EVENT"), threshold.get("CONTENTIONS"),
            threshold.get("HOLDER_PID"), threshold.get("EXIT_STATUS")));
        holder.kill();
        task.finishOrphan();
        Map<String, String> recovered = notified(task.request("true"), 0);
        assertEquals("recovered", recovered.get("EVENT"));
        assertTrue(recovered.get("MESSAGE").contains("recovered stale lock " + task.lock + ": holder pid "
            + holder.pid()),
            recovered::toString);
    }

    /** The environment of the notification without the prefix, empty when there was none. */
    private Map<String, String> notified(Program request, int status) throws IOException {
        Path notes = directory.resolve("notes");
        request.with("--notify",
            "env | grep ^TASKRUNNER_ > notes; [ -e \"$TASKRUNNER_LOCKFILE\" ] && echo TASKRUNNER_LOCK=held >> notes"
            + " || echo TASKRUNNER_LOCK=free >> notes").run().exitedWith(status);
        Map<String, String> environment = new TreeMap<>();
        if (Files.exists(notes)) {
            for (String line : Files.readAllLines(notes)) {
                String[] pair = line.substring("TASKRUNNER_".length()).split("=", 2);
                environment.put(pair[0], pair[1]);
            }
            Files.delete(notes);
        }
        return environment;
    }

    private static Map<String, String> without(Map<String, String> map, String... names) {
        Map<String, String> rest = new TreeMap<>(map);
        rest.keySet().removeAll(Set.of(names));
        return rest;
    }

    @Test
    void neverChangesTheOutcome() {
        Result result = task.request("exit 3", "--notify", "echo notified; exit 9").run().exitedWith(3).outIs("")
            .errContains("notified\n").errContains("WARN").errContains("notification command failed with status 9");
        assertTrue(result.err().indexOf("command failed with status 3") < result.err().indexOf("notified\n"),
            result.err());
        assertTrue(task.request("x".repeat(100_000), "--notify", "touch long").run().status() == 127
            && Files.exists(directory.resolve("long")));
    }

    @Test
    @Concurrent
    void hangingNotificationIsKilledAfter30Seconds() {
        String sleep = "sleep 1001." + ProcessHandle.current().pid() + System.nanoTime() % 1_000_000;
        task.request("exit 3", "--notify", sleep + " & " + sleep).run().exitedWith(3)
            .errContains("notification command timed out after 30 s: " + sleep);
        assertEquals(List.of(), Program.processesWith(sleep));
    }

    @Test
    void aDeadMansSwitchHearsOfEachStartAndEnd() throws IOException {
        String[] pings = {"--notify", "echo $TASKRUNNER_EVENT/${TASKRUNNER_EXIT_STATUS:-start} >> pings", "--notify-on",
            "started,succeeded,failed"};
        task.request("true", pings).run().exitedWith(0);
        task.request("exit 3", pings).run().exitedWith(3);
        assertEquals("started/start\nsucceeded/0\nstarted/start\nfailed/3\n", Program.read(directory.resolve("pings")));
        Running holder = task.hold();
        task.request("true", pings).run().exitedWith(0);
        task.request("true", "--notify", "echo $TASKRUNNER_EVENT >> pings", "--notify-on", "all").run().exitedWith(0);
        task.finish(holder);
        assertTrue(Program.read(directory.resolve("pings")).endsWith("failed/3\ncontention\n"));
    }

    @Test
    void aStartIsToldBesideTheCommandAndDelaysNothing() {
        Running run = task.request("until [ -e told ]; do sleep 0.05; done", "--notify",
            "[ -e \"$TASKRUNNER_LOCKFILE\" ] && touch told; until [ -e ended ]; do sleep 0.05; done", "--notify-on",
            "started").start();
        run.result().exitedWith(0);
        shell("touch ended");
    }

    @Test
    void aStopIsToldToWhoAsksForIt() throws IOException {
        Running run = task.start(task.request(task.untilFinish(), "--notify",
            "echo $TASKRUNNER_EVENT $TASKRUNNER_EXIT_STATUS > notes",
            "--notify-on", "stopped"));
        run.signal("TERM");
        run.result().exitedWith(143);
        assertEquals("stopped 143\n", Program.read(directory.resolve("notes")));
    }

    @Test
    void aNotificationThatCannotStartChangesNothing() throws IOException {
        Path file = Files.writeString(directory.resolve("arguments"), "--command 'exit 3' --notify 'true "
            + "x".repeat(200_000) + "'");
        taskrunner("@" + file).with(task.options()).run().exitedWith(3)
            .errContains("cannot start the notification command");
    }

    @Test
    @Concurrent
    void aNotificationEndsAlsoWhenTaskrunnerIsKilled() throws InterruptedException {
        String sleep = "sleep 1002." + ProcessHandle.current().pid() + System.nanoTime() % 1_000_000;
        Running run = task.request("exit 3", "--notify", sleep).start();
        Program.await("the notification runs", () -> !Program.processesWith(sleep).isEmpty());
        run.kill();
        for (int i = 0; i < 450 && !Program.processesWith(sleep).isEmpty(); i++) {
            Thread.sleep(100);
        }
        assertEquals(List.of(), Program.processesWith(sleep));
    }
}
