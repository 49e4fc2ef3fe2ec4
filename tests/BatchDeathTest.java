import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** What is proven of a run that has left no end in its row: killed, lost, or nothing. */
@Concurrent
class BatchDeathTest extends BatchTest {
    private static Program inContainer(String host, Program program) {
        return program.under("unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", "hostname " + host
            + "; exec \"$@\"", "sh");
    }

    private String status(long id) {
        return batch.history("--limit", "0").stream().filter(row -> BatchTask.id(row) == id).findFirst()
            .map(row -> row.get("batch_status") + " " + row.get("exit_status")).orElseThrow();
    }

    /** The taskrunner of this test with so much in its command line: its pid as it is seen here. */
    private long runner(String text) {
        Program.await("a runner with " + text, () -> !runners(text).isEmpty());
        return runners(text).get(0);
    }

    private java.util.List<Long> runners(String text) {
        return Program.processesWith("taskrunnerbatch --command " + text).stream()
            .filter(pid -> Program.read(Path.of("/proc/" + pid
            + "/cmdline")).startsWith(Path.of(System.getProperty("java.home"), "bin", "java").toString())).toList();
    }

    @Test
    void holderAndContenderKilledInContainers() throws Exception {
        Running holder = task.hold(inContainer("pod1", batch.request(task.untilFinish())));
        Running contender = batch.request("echo contender").with("--wait", "100s")
            .under("unshare", "--pid", "--fork", "--mount-proc").start()
            .awaitErr("job execution 2 ");
        assertEquals("STARTED null", status(1));
        Program.signal(runner("echo contender"), "KILL");
        contender.result();
        assertEquals("FAILED KILLED", status(2));
        Program.signal(runner(task.untilFinish().substring(0, 20)), "KILL");
        holder.result();
        assertEquals("FAILED KILLED", status(1));
        assertTrue(batch.history().get(1).get("evidence").matches("its runner, pid \\d+ of a container, is dead"));
    }

    @Test
    void holderOfAHostThatIsRenamed() throws Exception {
        Running holder = task.hold(batch.request(task.untilFinish())
            .under("unshare", "--uts", "sh", "-c", "hostname old; exec \"$@\"", "sh"));
        holder.kill();
        assertEquals("FAILED KILLED", status(1));
        assertEquals("old", batch.newest().get("host"));
    }

    @Test
    void lostUntilTheOutcomeArrives() throws Exception {
        Running runner = batch.hold();
        Path spool = batch.state.resolve("spool");
        Path row;
        try (Connection writer = DriverManager.getConnection("jdbc:sqlite:" + batch.database())) {
            writer.createStatement().execute("BEGIN IMMEDIATE");
            task.finish();
            Program.await("the outcome is in the spool", () -> rows(spool).length == 1);
            task.assertFree();
            row = rows(spool)[0].toPath();
            runner.kill();
            Files.move(row, directory.resolve("kept"));
            writer.createStatement().execute("ROLLBACK");
        }
        Map<String, String> lost = batch.newest();
        assertEquals("FAILED LOST", lost.get("batch_status") + " " + lost.get("exit_status"));
        assertTrue(lost.get("evidence").contains("may lie in the spool of "), lost::toString);
        batch.restart(1).exitedWith(64).errContains("it may have succeeded").errContains("--even-if-done");
        Files.move(directory.resolve("kept"), row);
        assertEquals("COMPLETED SUCCEEDED", status(1));
        assertNull(batch.newest().get("evidence"));
    }

    private static java.io.File[] rows(Path spool) {
        java.io.File[] rows = spool.toFile().listFiles((parent, name) -> name.endsWith(".row"));
        return rows == null ? new java.io.File[0] : rows;
    }

    @Test
    void abandonEndsWhatNobodyCanProveDead() throws Exception {
        Running runner = batch.hold();
        batch.batch("abandon", "1", "--reason", "why").run().exitedWith(64)
            .errContains("is alive, pid " + runner.pid());
        runner.kill();
        task.finishOrphan();
        execute("UPDATE taskrunner_execution SET host = 'elsewhere', boot_id = 'other', lock_file = '/nowhere/x.lock'");
        assertEquals("STARTED null", status(1));
        batch.batch("abandon", "1").run().exitedWith(64).errContains("--reason");
        batch.batch("abandon", "1", "--reason", "its rack burnt down").run().exitedWith(0)
            .outIs("job execution 1 is ABANDONED\n");
        assertEquals("ABANDONED ABANDONED", status(1));
        String evidence = batch.newest().get("evidence");
        assertTrue(evidence.matches("abandoned by \\S+@\\S+ at \\S+Z: its rack burnt down"), evidence);
        batch.batch("abandon", "1", "--reason", "again").run().exitedWith(64)
            .errContains("has ended already: ABANDONED");
        batch.restart(1).exitedWith(64).errContains("only FAILED and STOPPED ones restart");
    }

    @Test
    void restartOfAnotherUsersNeedsAsMe() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        execute("UPDATE taskrunner_execution SET uid = 4242, user_name = 'somebody'");
        batch.restart(1).exitedWith(64).errContains("is somebody's").errContains("--as-me");
        assertEquals(1, task.marks());
        batch.batch("restart", "1", "--as-me").run().exitedWith(3);
        assertEquals(2, task.marks());
    }

    private void execute(String sql) throws SQLException {
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + batch.database())) {
            connection.createStatement().execute(sql);
        }
    }

    @Test
    void theRepositoryIsNotTrustedWithFilesAndPids() throws Exception {
        Path victim = Files.writeString(directory.resolve("victim"), "precious\n");
        batch.request("echo kept").run().exitedWith(0);
        execute("UPDATE taskrunner_execution SET output_file = '" + victim + "'");
        assertTrue(!batch.show(1).outContains("  kept\n").out().contains("precious"));
        Running bystander = new Program(directory, "sleep", "100").start();
        String start = Program.read(Path.of("/proc/" + bystander.pid() + "/stat")).replaceAll(".*\\) ", "")
            .split(" ")[19];
        Running runner = batch.hold();
        execute("UPDATE taskrunner_execution SET pid = " + bystander.pid() + ", pid_start = " + start
            + " WHERE job_execution_id = 2");
        batch.batch("stop", "2").run().exitedWith(64).errContains("is not the taskrunner-batch of job execution 2");
        assertTrue(bystander.alive());
        execute("UPDATE taskrunner_execution SET run_id = '../../../../" + victim.getFileName()
            + "' WHERE job_execution_id = 1");
        bystander.kill();
        task.finish(runner);
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0);
        assertTrue(Files.exists(victim));
    }

    @Test
    void aRepositoryOfOthersIsRefused() throws Exception {
        batch.request("true").run().exitedWith(0);
        shell("chmod 666 \"$1\"", batch.database().toString());
        batch.markingRequest().run().exitedWith(69).errContains("other users may write to it");
        shell("chmod 600 \"$1\" && chown 4242 \"$1\"", batch.database().toString());
        batch.markingRequest().run().exitedWith(69).errContains("it belongs to another user");
        batch.restart(1).exitedWith(69);
        assertEquals(0, task.marks());
    }

    @Test
    void aDamagedLibraryIsUnpackedAnew() throws Exception {
        batch.request("true").run().exitedWith(0);
        Path library;
        try (Stream<Path> files = Files.walk(batch.state.resolve("lib"))) {
            library = files.filter(Files::isRegularFile).findFirst().orElseThrow();
        }
        byte[] whole = Files.readAllBytes(library);
        for (int length : new int[] {0, 4096, whole.length / 2}) {
            Files.write(library, java.util.Arrays.copyOf(whole, length));
            batch.markingRequest().run().exitedWith(0).errHasNo("Exception");
        }
        assertEquals(3, task.marks());
    }
}
