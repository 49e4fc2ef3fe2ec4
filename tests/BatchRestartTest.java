import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** An execution that failed, was stopped or killed runs again. */
@Concurrent
class BatchRestartTest extends BatchTest {
    private static final String ACQUIRED = "acquireLock COMPLETED ACQUIRED";
    private static final String RESET = "resetCounter COMPLETED RESET";
    private static final String RELEASED = "releaseLock COMPLETED RELEASED";

    @Test
    void failedRestartsOnceInTheSameInstance() throws Exception {
        batch.request("[ -e fixed ] || exit 3", "--exit-zero").run().exitedWith(0);
        long failed = batch.assertEnded("FAILED", "EXIT_3", 0, ACQUIRED, RESET, "runCommand FAILED EXIT_3", RELEASED);
        Files.createFile(directory.resolve("fixed"));
        batch.restart(failed).exitedWith(0);
        long restarted = batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET,
            "runCommand COMPLETED SUCCEEDED", RELEASED);
        assertRestarts(failed, restarted);
        batch.restart(failed).exitedWith(64)
            .errContains("execution " + failed + " was restarted already; its newest execution is " + restarted);
        batch.restart(restarted).exitedWith(64)
            .errContains("execution " + restarted + " is COMPLETED: only FAILED and STOPPED ones restart");
        batch.restart(99).exitedWith(64).errContains("no job execution 99 in ");
        assertEquals(2, batch.history().size());
    }

    @Test
    void stoppedBySigtermRestarts() throws Exception {
        Running holder = batch.hold();
        holder.signal("TERM");
        holder.result().exitedWith(143);
        long id = batch.assertEnded("STOPPED", "STOPPED", 143, ACQUIRED, RESET, "runCommand COMPLETED STOPPED",
            RELEASED);
        task.finish();
        batch.restart(id).exitedWith(0);
        assertRestarts(id, batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET,
            "runCommand COMPLETED SUCCEEDED", RELEASED));
    }

    @Test
    void killedIsReconciledAndRestarts() throws Exception {
        Running holder = batch.hold();
        holder.kill();
        long id = BatchTask.id(batch.newest());
        task.finishOrphan();
        Result show = batch.show(id).outContains("status             FAILED, KILLED\n")
            .outContains("evidence           its runner, pid " + holder.pid() + ", is dead\n");
        assertEquals(List.of(ACQUIRED, RESET, "runCommand FAILED KILLED"), BatchTask.steps(show));
        batch.restart(id).exitedWith(0);
        assertRestarts(id, batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET,
            "runCommand COMPLETED SUCCEEDED", RELEASED));
    }

    @Test
    void restartRunsInTheSameWorkingDirectory() throws Exception {
        batch.request("pwd; exit 3").in(Files.createDirectories(directory.resolve("there"))).run().exitedWith(3);
        batch.batch("restart", "1").in(directory).run().exitedWith(3)
            .outIs(directory.toRealPath().resolve("there") + "\n");
    }

    @Test
    void liveExecutionIsNotRestarted() throws Exception {
        Running holder = batch.hold();
        String id = batch.newest().get("id");
        batch.batch("restart", id).run().exitedWith(64)
            .errContains("execution " + id + " of this job instance is STARTED");
        task.finish(holder);
        assertEquals(1, batch.history().size());
    }

    @Test
    void restartTakesTheLockFirst() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        Running holder = batch.hold();
        batch.restart(1).exitedWith(75);
        assertEquals("FAILED CONTENDED 75", batch.newest().get("batch_status") + " " + batch.newest().get("exit_status")
            + " "
            + batch.newest().get("exit_code"));
        task.finish(holder);
        assertEquals(1, task.marks());
        batch.restart(BatchTask.id(batch.newest())).exitedWith(3);
        assertEquals(2, task.marks());
    }

    @Test
    void onlyOneOfRestartsAtOnceIsMade() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        List<Running> restarts = Stream.generate(() -> batch.batch("restart", "1").start()).limit(4).toList();
        List<Integer> statuses = restarts.stream().map(restart -> restart.result().status()).sorted().toList();
        assertEquals(List.of(3, 64, 64, 64), statuses, restarts::toString);
        assertEquals(2, task.marks());
        assertEquals(2, batch.history().size());
    }

    @Test
    void command100KilobytesLongRestartsByteForByte() throws Exception {
        String line = "it's \"quoted\" #{jobParameters['x']} ${y} \\n %s \t 'a''b' <x/>&amp; äöü€😀\r\n"
            + "#{systemProperties['user.home']}?:x;\n";
        StringBuilder text = new StringBuilder();
        while (text.length() < 96_000) {
            text.append(line);
        }
        String command = "cat >>copy <<'END'\n" + text + "END\nexit 3";
        assertTrue(command.getBytes("UTF-8").length > 100_000, "it has " + command.getBytes("UTF-8").length + " bytes");
        batch.request(command).run().exitedWith(3);
        assertEquals(text.toString(), Program.read(directory.resolve("copy")));
        assertEquals(command, batch.newest().get("command"));
        assertEquals(List.of(command), batch.query("SELECT command FROM taskrunner_execution"));
        batch.show(1).outContains("command            cat >>copy <<'END'\n                   it's ");
        batch.restart(1).exitedWith(3);
        assertEquals(text.toString() + text, Program.read(directory.resolve("copy")));
        assertEquals(List.of(command, command), batch.query("SELECT command FROM taskrunner_execution"));
    }

    private void assertRestarts(long before, long after) throws Exception {
        List<Map<String, String>> rows = batch.history();
        assertEquals(after, BatchTask.id(rows.get(0)));
        assertEquals(before, BatchTask.id(rows.get(1)));
        assertNotEquals(before, after);
        assertEquals(Long.toString(before), rows.get(0).get("restarted_from"));
        assertEquals(rows.get(1).get("job_instance"), rows.get(0).get("job_instance"));
        assertEquals(rows.get(1).get("command"), rows.get(0).get("command"));
        batch.show(before).outContains("restarts           " + before + " -> " + after + "\n");
    }
}
