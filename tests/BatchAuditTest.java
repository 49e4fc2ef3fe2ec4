import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Stream;

import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;

/** Every request leaves a row that tells the truth, in the embedded database. Some of these tests mostly wait. */
@Concurrent
@Order(1)
class BatchAuditTest extends BatchTest {
    private static final int KILLS = 50;
    private static final int KILLS_AT_ONCE = 5;

    @Test
    void eightProcessesOf20RequestsLeave160Rows() throws Exception {
        assertAllKept(batch);
        assertSound();
    }

    /** On a repository that is not there yet. */
    static void assertAllKept(BatchTask batch) throws Exception {
        batch.task.threshold = 1000;
        List<Running> loops = Stream.generate(() -> batch.program("BatchLoop", "20")
            .with(batch.arguments("echo '#' >>ran; sleep 0.02"))
            .start()).limit(8).toList();
        loops.forEach(loop -> loop.result().exitedWith(0).errHasNo("ERROR").errHasNo("internal error")
            .errHasNo("taskrunner-batch:"));
        List<Map<String, String>> rows = batch.history("--limit", "0");
        assertEquals(160, rows.size());
        Set<String> commands = new HashSet<>();
        List<String> ran = new ArrayList<>();
        long counter = 0;
        long acquired = 0;
        for (Map<String, String> row : rows) {
            commands.add(row.get("command"));
            assertEquals("COMPLETED", row.get("batch_status"), row::toString);
            assertTrue(row.get("end_time") != null && row.get("evidence") == null, row::toString);
            boolean contended = row.get("exit_status").equals("CONTENDED");
            assertTrue(contended || row.get("exit_status").equals("SUCCEEDED"), row::toString);
            assertEquals(contended, row.get("holder") != null && row.get("acquired") == null, row::toString);
            if (contended) {
                counter++;
            } else {
                acquired++;
                ran.add(row.get("command").replaceAll(".*'(.*)'.*", "$1"));
            }
        }
        assertEquals(160, commands.size());
        assertTrue(counter > 0 && acquired > 8, counter + " contentions, " + acquired + " runs");
        List<String> lines = Program.read(batch.task.directory.resolve("ran")).lines().sorted().toList();
        assertEquals(lines, ran.stream().sorted().toList());
        assertContentionsAreCounted(rows, batch.task.count());
        batch.task.assertFree();
    }

    /**
     * Each acquisition clears the counter: between two of them contentions count 1, 2, 3 … with none left out or
     * twice.
     */
    private static void assertContentionsAreCounted(List<Map<String, String>> rows, long last) {
        Map<Long, Integer> times = new java.util.TreeMap<>();
        rows.stream().filter(row -> row.get("exit_status").equals("CONTENDED"))
            .forEach(row -> times.merge(Long.valueOf(row.get("contentions")), 1,
            Integer::sum));
        int before = Integer.MAX_VALUE;
        long expected = 1;
        for (Map.Entry<Long, Integer> each : times.entrySet()) {
            assertEquals(expected++, each.getKey(), () -> "counters and how many rows have them: " + times);
            assertTrue(each.getValue() <= before, () -> "counters and how many rows have them: " + times);
            before = each.getValue();
        }
        assertTrue(last < expected, () -> "the counter is " + last + " but rows have " + times);
    }

    private void assertSound() throws Exception {
        assertEquals(List.of("ok"), batch.query("PRAGMA integrity_check"));
        assertEquals(List.of(), batch.query("PRAGMA foreign_key_check"));
        assertEquals(List.of(), batch.query("SELECT jobexecutionid FROM job_execution WHERE jobexecutionid NOT IN"
            + " (SELECT job_execution_id FROM taskrunner_execution)"),
            "job executions without a row of what was asked");
        String unfinished = " WHERE endtime IS NULL OR batchstatus NOT IN ('COMPLETED', 'FAILED', 'STOPPED')";
        assertEquals(List.of(), batch.query("SELECT jobexecutionid, batchstatus FROM job_execution" + unfinished));
        assertEquals(List.of(), batch.query("SELECT jobexecutionid, stepname, batchstatus FROM step_execution"
            + unfinished));
    }

    @Test
    void killedAtAnyMomentIsReconciled() throws Exception {
        Random random = new Random();
        List<BatchTask> tasks = new ArrayList<>();
        for (int i = 0; i < KILLS_AT_ONCE; i++) {
            BatchTask task = i < 2 ? batch : batch.other(directory.resolve("task" + i));
            task.task.threshold = 1000;
            tasks.add(task);
        }
        batch.request("true").run().exitedWith(0);
        int landed = 0;
        for (int round = 0; round < KILLS / KILLS_AT_ONCE; round++) {
            List<Running> holders = tasks.stream()
                .map(task -> task.program("BatchLoop", "1000").with(task.arguments("sleep 0.03; : # " + directory))
                .start())
                .toList();
            holders.get(random.nextInt(KILLS_AT_ONCE)).awaitErr("job execution ");
            Program.sleep(random.nextInt(500));
            for (Running holder : holders) {
                assertTrue(holder.alive(), holder::toString);
                holder.kill();
                Program.sleep(random.nextInt(30));
            }
        }
        Program.awaitDeath(Program.processesOf(directory));
        List<Map<String, String>> rows = batch.history("--limit", "0");
        for (Map<String, String> row : rows) {
            assertTrue(row.get("end_time") != null, row::toString);
            if ("KILLED".equals(row.get("exit_status"))) {
                landed++;
                assertEquals("FAILED", row.get("batch_status"), row::toString);
                assertTrue(row.get("evidence").matches("its runner, pid \\d+, is dead"), row::toString);
            } else if (row.get("batch_status").equals("FAILED")) {
                assertEquals("LOST", row.get("exit_status"), row::toString);
                assertTrue(row.get("evidence").contains("is dead; its outcome was not delivered"), row::toString);
            }
        }
        assertTrue(landed >= KILLS / 5, "only " + landed + " of " + KILLS + " kills hit an execution, of "
            + rows.size());
        assertSound();
        Map<String, String> killed = rows.stream().filter(row -> "KILLED".equals(row.get("exit_status"))).findFirst()
            .orElseThrow();
        batch.restart(BatchTask.id(killed)).exitedWith(0);
        assertEquals("COMPLETED", batch.newest().get("batch_status"));
        assertEquals(killed.get("id"), batch.newest().get("restarted_from"));
        for (BatchTask task : tasks) {
            task.request("true").run().exitedWith(0);
            task.task.assertFree();
        }
        assertSound();
    }

    @Test
    void nextRunReconcilesOnlyTheDeadOfItsTask() throws Exception {
        Running killed = batch.hold();
        Running contender = batch.request("echo contender", "--wait", "60s").start();
        contender.awaitErr("job execution 2 ");
        BatchTask otherTask = batch.other(directory.resolve("other"));
        Running other = otherTask.hold();
        killed.kill();
        assertEquals("STARTED", batch.history("--status", "STARTED", "--lockfile", otherTask.task.lock.toString())
            .get(0).get("batch_status"));
        task.finish(contender);
        List<String> rows = batch.query("SELECT job_execution_id, batchstatus, exitstatus, coalesce(evidence, '')"
            + " FROM taskrunner_execution JOIN job_execution ON jobexecutionid = job_execution_id ORDER BY 1");
        assertEquals("1 FAILED KILLED its runner, pid " + killed.pid() + ", is dead", rows.get(0));
        assertEquals("2 COMPLETED SUCCEEDED ", rows.get(1));
        assertEquals("3 STARTED null ", rows.get(2));
        otherTask.task.finish(other);
        assertSound();
    }

    @Test
    void acquiringTheLockReconcilesWithoutAReport() throws Exception {
        Running killed = batch.hold();
        killed.kill();
        task.finishOrphan();
        batch.request("true").run().exitedWith(0);
        assertEquals(List.of("FAILED KILLED its runner, pid " + killed.pid() + ", is dead"),
            batch.query("SELECT batchstatus, exitstatus, evidence FROM taskrunner_execution JOIN job_execution"
                + " ON jobexecutionid = job_execution_id WHERE job_execution_id = 1"));
        batch.show(1).outContains("\nfound dead         20");
        batch.show(2).outContains("\nended              20");
        assertSound();
    }

    @Test
    void killedContenderIsReconciledWhileTheLockIsHeld() throws Exception {
        Running holder = batch.hold();
        Running contender = batch.request("true", "--wait", "60s").start().awaitErr("job execution 2 ");
        contender.kill();
        List<Map<String, String>> rows = batch.history();
        assertEquals("KILLED", rows.get(0).get("exit_status"));
        assertNull(rows.get(0).get("acquired"));
        assertNull(rows.get(1).get("end_time"));
        task.finish(holder);
        assertSound();
    }

    @Test
    void rowArrivesWhenTheMovedDatabaseIsBack() throws Exception {
        batch.request("true").run().exitedWith(0);
        Running holder = batch.hold();
        Path away = directory.resolve("away");
        Files.move(batch.state, away);
        task.finish();
        Program.await("the lock is free", () -> !Files.exists(task.lock));
        assertTrue(holder.alive(), "it does not wait for its database");
        Files.createDirectories(away.resolve("output"));
        moveBack(away);
        holder.result().exitedWith(0);
        assertEquals(2, batch.assertEnded("COMPLETED", "SUCCEEDED", 0, "acquireLock COMPLETED ACQUIRED",
            "resetCounter COMPLETED RESET",
            "runCommand COMPLETED SUCCEEDED", "releaseLock COMPLETED RELEASED"));
        assertSound();
    }

    @Test
    void damagedSpoolFileIsQuarantined() throws Exception {
        batch.request("true").run().exitedWith(0);
        Path spool = Files.createDirectories(batch.state.resolve("spool"));
        Files.writeString(spool.resolve("torn.row"), "repository="
            + java.net.URLEncoder.encode("jdbc:sqlite:" + batch.database(),
            java.nio.charset.StandardCharsets.UTF_8) + "&id=9&run=abc&us");
        Files.writeString(spool.resolve("odd.row"), "unrelated%zz=1");
        batch.request("echo ran").run().exitedWith(0).outIs("ran\n")
            .errContains("torn.row is quarantined as torn.row.bad: it holds no")
            .errContains("odd.row.bad");
        assertEquals(2, batch.history().size());
    }

    /** Whatever the run has made in its place meanwhile goes. */
    private void moveBack(Path away) {
        shell("until rm -rf \"$1\" && mv -T \"$2\" \"$1\"; do sleep 0.01; done", batch.state.toString(),
            away.toString());
    }

    @Test
    void rowIsSpooledWhenTheDatabaseIsRemoved() throws Exception {
        batch.request("true").run().exitedWith(0);
        batch.request("rm " + batch.database() + "*; echo done; exit 3").run().exitedWith(3).outIs("done\n")
            .errContains("the outcome of job execution 2 is kept in " + batch.state);
        task.assertFree();
        try (Stream<Path> spooled = Files.list(batch.state.resolve("spool"))) {
            assertEquals(1, spooled.peek(file -> assertEquals(1, Program.read(file).lines().count())).count());
        }
        batch.request("true").run().exitedWith(0);
        List<Map<String, String>> rows = batch.history();
        assertEquals(List.of("SUCCEEDED", "EXIT_3"), rows.stream().map(row -> row.get("exit_status")).toList());
        assertTrue(rows.get(1).get("command").endsWith("echo done; exit 3"));
        try (Stream<Path> spooled = Files.list(batch.state.resolve("spool"))) {
            assertEquals(0, spooled.count());
        }
        assertSound();
    }

    @Test
    void anIdThatAnotherRunHasNowIsLeftToIt() throws Throwable {
        batch.assertKeepsToItsOwnRow(directory.resolve("other"), () -> {
            try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + batch.database())) {
                for (String table : List.of("taskrunner_execution", "step_execution", "job_execution", "job_instance",
                    "sqlite_sequence")) {
                    connection.createStatement().executeUpdate("DELETE FROM " + table);
                }
            }
        });
    }

    @Test
    void killedWithoutASpoolFileIsReconciled() throws Exception {
        Running holder = batch.hold();
        Files.move(batch.state, directory.resolve("away"));
        holder.kill();
        moveBack(directory.resolve("away"));
        task.finish();
        assertEquals("KILLED", batch.newest().get("exit_status"));
        assertFalse(Files.exists(batch.state.resolve("spool")) && Files.list(batch.state.resolve("spool")).findAny()
            .isPresent());
    }
}
