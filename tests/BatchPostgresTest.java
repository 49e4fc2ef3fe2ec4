import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

/** What the audit trail promises, kept by a PostgreSQL server. */
@Concurrent
@Order(1)
class BatchPostgresTest extends BatchTest {
    private static TestPostgres server;

    private String database;

    @BeforeAll
    static void startServer() throws IOException {
        server = new TestPostgres();
    }

    @AfterAll
    static void stopServer() {
        if (server != null) {
            server.close();
        }
    }

    @BeforeEach
    void database(TestInfo test) throws Exception {
        database = test.getTestMethod().orElseThrow().getName().toLowerCase(java.util.Locale.ROOT);
        database = database.substring(0, Math.min(60, database.length()));
        server.createDatabase(database);
        batch = repository(server).env("PGPASSWORD", TestPostgres.PASSWORD);
    }

    private BatchTask repository(TestPostgres server) {
        return new BatchTask(task).env("TASKRUNNER_REPOSITORY", server.url(database)).env("PGUSER", TestPostgres.USER);
    }

    private List<String> query(String sql) throws Exception {
        try (Connection connection = server.connect(database)) {
            return BatchTask.query(connection, sql);
        }
    }

    @Test
    void tenProcessesMakeTheTablesAtOnce() throws Exception {
        List<Running> requests = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            requests.add(batch.other(directory.resolve("task" + i)).request("true").start());
        }
        requests.forEach(request -> request.result().exitedWith(0));
        assertEquals(10, batch.history().size());
    }

    @Test
    void eightProcessesOf20RequestsLeave160Rows() throws Exception {
        BatchAuditTest.assertAllKept(batch);
        assertEquals(List.of("0"), query("SELECT count(*) FROM step_execution WHERE endtime IS NULL"
            + " OR batchstatus NOT IN ('COMPLETED', 'FAILED')"));
    }

    @Test
    void sameAuditTrailAsInTheEmbeddedDatabase() throws Exception {
        String command = "cat >>copy <<'END'\nit's \"quoted\" #{jobParameters['x']} \\n €😀\nEND\nexit 3";
        batch.request(command).run().exitedWith(3);
        assertEquals(command, batch.newest().get("command"));
        long id = batch.assertEnded("FAILED", "EXIT_3", 3, "acquireLock COMPLETED ACQUIRED",
            "resetCounter COMPLETED RESET",
            "runCommand FAILED EXIT_3", "releaseLock COMPLETED RELEASED");
        batch.restart(id).exitedWith(3);
        assertEquals(Long.toString(id), batch.newest().get("restarted_from"));
        batch.batch("restart", Long.toString(id)).run().exitedWith(64).errContains("was restarted already");
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0)
            .outIs("purged 2 executions and the output of 0\n");
        assertEquals(List.of("0 0 0"),
            query("SELECT (SELECT count(*) FROM taskrunner_execution), (SELECT count(*) FROM job_instance),"
            + " (SELECT count(*) FROM step_execution)"));
        assertFalse(Files.exists(batch.database()));
    }

    @Test
    void reportShowsWhatIsInTheWindowAndRemembersTheTasksBefore() throws Exception {
        batch.request("exit 3").run().exitedWith(3);
        batch.request("true").run().exitedWith(0);
        String page = batch.batch("report").run().exitedWith(0).errIs("").out();
        assertTrue(page.matches("(?s).*<td>2<td>.*SUCCEEDED.*<td>1<td>.*EXIT_3.*runCommand .*"), page);
        String ended = batch.newest().get("end_time");
        page = batch.batch("report", "--since", ended).run().exitedWith(0).errIs("").out();
        assertTrue(page.contains("the only task is well") && page.contains("0 executions of 1 task"), page);
        batch.batch("--fleet", "sync-orders", "--command", "exit 4", "--lockfile", task.lock.toString(), "--threshold",
            "1").run().exitedWith(4);
        page = batch.batch("report", "--fleet", "sync-orders").run().exitedWith(0).errIs("").out();
        assertTrue(page.contains("1 execution of 1 task") && page.contains("<td>sync-orders<td>")
            && page.contains("last run failed: exit 4") && page.contains("one lock for the fleet"), page);
    }

    @Test
    void restartNeverRunsBesideALiveExecutionOfAnotherHost() throws Exception {
        Running holder = task.hold(onHost("elsewhere", batch.request(task.untilFinish())));
        Map<String, String> row = batch.newest();
        assertEquals("elsewhere", row.get("host"));
        assertEquals("STARTED", row.get("batch_status"), "an execution of another host was settled");
        batch.batch("restart", row.get("id")).run().exitedWith(64).errContains("of this job instance is STARTED");
        holder.kill();
        task.finishOrphan();
        assertEquals("KILLED", batch.newest().get("exit_status"),
            "boot id, namespace and pid prove it, whatever the host is called");
        List<Running> restarts = Stream.of("here", "there", "elsewhere")
            .map(host -> onHost(host, batch.batch("restart", row.get("id")))
            .start()).toList();
        assertEquals(List.of(0, 64, 64), restarts.stream().map(restart -> restart.result().status()).sorted()
            .toList(), restarts::toString);
        assertEquals(2, batch.history().size());
    }

    private static Program onHost(String host, Program program) {
        return program.under("unshare", "--uts", "sh", "-c", "hostname " + host + "; exec \"$@\"", "sh");
    }

    @Test
    void rowArrivesWhenTheServerIsBack() throws Exception {
        try (TestPostgres server = new TestPostgres()) {
            server.createDatabase(database);
            BatchTask batch = repository(server).env("PGPASSWORD", TestPostgres.PASSWORD);
            BatchTask other = batch.other(directory.resolve("other"));
            Running spooling = batch.hold();
            Running waiting = other.hold();
            server.stop("immediate");
            task.finish();
            batch.markingRequest().run().exitedWith(69).errContains("cannot be opened");
            task.assertDidNotRun();
            spooling.result().exitedWith(0).errContains("the outcome of job execution 1 is kept in " + batch.state);
            task.assertFree();
            other.task.finish();
            Program.await("the lock is free", () -> !Files.exists(other.task.lock));
            assertTrue(waiting.alive(), "it does not wait for its server");
            server.start();
            waiting.result().exitedWith(0).errHasNo("is kept in");
            assertEquals(List.of("2 COMPLETED SUCCEEDED", "1 COMPLETED SUCCEEDED"), batch.history().stream()
                .map(row -> row.get("id") + " "
                + row.get("batch_status") + " " + row.get("exit_status")).toList());
            assertEquals(List.of("acquireLock COMPLETED ACQUIRED", "resetCounter COMPLETED RESET",
                "runCommand COMPLETED SUCCEEDED",
                "releaseLock COMPLETED RELEASED"), BatchTask.steps(batch.show(2)));
        }
    }

    @Test
    void wrongCredentialsAreSaidBeforeAnythingRuns() throws Exception {
        batch.env("PGPASSWORD", "sesame").request(task.mark()).run().exitedWith(69)
            .errContains("password authentication failed")
            .errContains("PGPASSWORD or ~/.pgpass").errHasNo("sesame");
        task.assertDidNotRun();
        Path pgpass = Files.writeString(directory.resolve("pgpass"), "127.0.0.1:" + server.port + ":*:postgres:"
            + TestPostgres.PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n");
        Files.setPosixFilePermissions(pgpass, java.nio.file.attribute.PosixFilePermissions.fromString("rw-------"));
        repository(server).env("PGPASSFILE", pgpass.toString()).request("true").run().exitedWith(0);
        assertEquals(List.of("1"), query("SELECT count(*) FROM taskrunner_execution"));
    }
}
