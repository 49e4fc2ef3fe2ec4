import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;

/**
 * What a run asks of a PostgreSQL server, and what becomes of it when the server, its settings or its roles stand
 * against it.
 */
@Concurrent
class BatchServerTest extends BatchTest {
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
        server.createDatabase(database);
        batch = repository(server, TestPostgres.USER);
    }

    private BatchTask repository(TestPostgres of, String role) {
        return new BatchTask(task).env("TASKRUNNER_REPOSITORY", of.url(database)).env("PGUSER", role)
            .env("PGPASSWORD", TestPostgres.PASSWORD);
    }

    private void execute(String... statements) throws SQLException {
        try (Connection connection = server.connect(database)) {
            for (String sql : statements) {
                connection.createStatement().execute(sql);
            }
        }
    }

    private List<String> query(String sql) throws SQLException {
        try (Connection connection = server.connect(database)) {
            return BatchTask.query(connection, sql);
        }
    }

    private void createRole(String name, String more) throws SQLException {
        execute("CREATE ROLE " + name + " LOGIN PASSWORD '" + TestPostgres.PASSWORD.replace("'", "''") + "' " + more);
    }

    @Test
    void atMostTwelveStatementsARun() throws Exception {
        batch.request("true").run().exitedWith(0);
        try (Connection connection = server.connect(database)) {
            connection.createStatement().execute("ALTER SYSTEM SET log_line_prefix = '[%d] '");
            connection.createStatement().execute("SELECT pg_reload_conf()");
        }
        execute("ALTER DATABASE " + database + " SET log_statement = 'all'");
        assertEquals(8, statementsOf(batch.request("true")));
        Running holder = batch.hold();
        int contention = statementsOf(batch.markingRequest());
        assertTrue(contention <= 9, contention + " statements for a contention");
        task.finish(holder);
        assertEquals(4, batch.history().size());
    }

    /** As the server logs them. */
    private int statementsOf(Program request) throws Exception {
        long before = logged();
        request.run().exitedWith(0);
        return (int) (logged() - before);
    }

    /** Without those that ask for the log. */
    private long logged() throws Exception {
        try (Connection connection = server.connect(TestPostgres.USER)) {
            Path log = Path.of(BatchTask.query(connection, "SHOW data_directory").get(0)).resolveSibling("log");
            return Program.read(log).lines().filter(line -> line.startsWith("[" + database + "]")
                && (line.contains("statement: ") || line.contains("execute "))).count();
        }
    }

    @Test
    void anIdThatAnotherRunHasNowIsLeftToIt() throws Throwable {
        batch.assertKeepsToItsOwnRow(directory.resolve("other"),
            () -> execute("TRUNCATE job_instance RESTART IDENTITY CASCADE"));
    }

    @Test
    void noConnectionIsHeldWhileACommandRuns() throws Exception {
        createRole("limited", "CONNECTION LIMIT 3");
        execute("GRANT ALL ON SCHEMA public TO limited");
        BatchTask limited = repository(server, "limited");
        List<BatchTask> tasks = Stream.of("a", "b", "c").map(name -> other(limited, name)).toList();
        List<Running> runs = tasks.stream().map(BatchTask::hold).toList();
        Program.await("no connection is open", () -> sessions("limited") == 0);
        limited.request("true").run().exitedWith(0);
        assertEquals(3, limited.history("--status", "STARTED").size());
        for (int i = 0; i < tasks.size(); i++) {
            tasks.get(i).task.finish(runs.get(i));
        }
        assertEquals(4, limited.history("--status", "COMPLETED").size());
    }

    private BatchTask other(BatchTask of, String name) {
        try {
            return of.other(directory.resolve(name));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private int sessions(String role) {
        try {
            return Integer.parseInt(query("SELECT count(*) FROM pg_stat_activity WHERE usename = '" + role + "'")
                .get(0));
        } catch (SQLException e) {
            throw new IllegalStateException(e);
        }
    }

    @Test
    void settingsOfTheDatabaseDoNotLeakIn() throws Exception {
        batch.request("true").run().exitedWith(0);
        execute("ALTER DATABASE " + database + " SET default_transaction_isolation = 'serializable'",
            "ALTER DATABASE " + database + " SET default_transaction_read_only = on",
            "ALTER DATABASE " + database + " SET TimeZone = 'Asia/Kathmandu'",
            "ALTER DATABASE " + database + " SET statement_timeout = '20ms'",
            "ALTER DATABASE " + database + " SET DateStyle = 'German'");
        List<Running> loops = Stream.of("a", "b", "c", "d").map(name -> other(batch, name)).map(other -> other
            .program("BatchLoop", "5").with(other.arguments("true")).start()).toList();
        loops.forEach(loop -> loop.result().exitedWith(0).errHasNo("taskrunner-batch:"));
        batch.request("true").env("TZ", "PST").run().exitedWith(0);
        List<Map<String, String>> rows = batch.history("--limit", "0", "--since", "1h");
        assertEquals(22, rows.size());
        rows.forEach(row -> assertEquals("COMPLETED", row.get("batch_status"), row::toString));
        batch.show(1).outContains("acquireLock       20");
    }

    @Test
    void outcomeInAnothersSpoolIsLostUntilItArrives() throws Exception {
        TestPostgres own = new TestPostgres();
        try {
            own.createDatabase(database);
            BatchTask owner = repository(own, TestPostgres.USER);
            BatchTask other = repository(own, TestPostgres.USER)
                .env("XDG_STATE_HOME", directory.resolve("elsewhere").toString());
            Running runner = owner.hold();
            own.stop("immediate");
            task.finish();
            Result spooled = runner.result().exitedWith(0)
                .errContains("the outcome of job execution 1 is kept in " + owner.state);
            own.start();
            Map<String, String> lost = other.newest();
            assertEquals("FAILED LOST", lost.get("batch_status") + " " + lost.get("exit_status"), spooled::toString);
            assertTrue(lost.get("evidence").contains("it may lie in the spool of "), lost::toString);
            other.restart(1).exitedWith(64).errContains("--even-if-done");
            assertEquals("SUCCEEDED", BatchTask.parse(owner.batch("history", "--format", "json", "--repository",
                own.url(database).replace("127.0.0.1", "localhost")).run().exitedWith(0).out()).get(0)
                .get("exit_status"));
            assertEquals(null, other.newest().get("evidence"));
        } finally {
            own.close();
        }
    }

    @Test
    void refusedOutcomeIsQuarantinedAndTheRestGoesOn() throws Exception {
        batch.request("true").run().exitedWith(0);
        String repository = query("SELECT id FROM taskrunner_schema").get(0);
        Path spool = Files.createDirectories(batch.state.resolve("spool"));
        String row = "repository=" + repository
            + "&url=u&run_id=RUN&user_name=u&host=h&boot_id=b&pid_namespace=p&pid=2&pid_start=3"
            + "&lock_file=%2Fl&command=c&threshold=1&counter_file=%2Fc&options="
            + "&create_time=2026-01-01T00%3A00%3A00.000Z"
            + "&batchstatus=STATUS&exitstatus=SUCCEEDED&exit_code=0&message=a%00b"
            + "&end_time=2026-01-01T00%3A00%3A01.000Z&steps="
            + "&complete=yes\n";
        Files.writeString(spool.resolve("a.row"), row.replace("RUN", "a").replace("STATUS", "X".repeat(40)));
        Files.writeString(spool.resolve("b.row"), row.replace("RUN", "b").replace("STATUS", "COMPLETED"));
        Files.writeString(spool.resolve("c.row"),
            row.replace("RUN", "c").replace("STATUS", "COMPLETED").replace("&command=c", ""));
        Files.writeString(spool.resolve("cut.row"), row.substring(0, row.length() - 6));
        Files.writeString(spool.resolve("empty.row"), "");
        Files.writeString(spool.resolve("other.row"), row.replace(repository, "00000000-0000-0000-0000-000000000000"));
        Result result = batch.markingRequest().run().exitedWith(0);
        for (String bad : List.of("a", "c", "cut", "empty")) {
            result.errContains(bad + ".row is quarantined as " + bad + ".row.bad: ");
        }
        assertEquals(1, task.marks());
        assertEquals(List.of("a␀b"), query("SELECT message FROM taskrunner_execution WHERE run_id = 'b'"));
        try (Stream<Path> files = Files.list(spool)) {
            assertEquals(List.of("a.row.bad", "c.row.bad", "cut.row.bad", "empty.row.bad", "other.row"),
                files.map(file -> file.getFileName().toString()).sorted().toList());
        }
    }

    @Test
    void rolesNeedNoMoreThanTheyAreGranted() throws Exception {
        createRole("owner_role", "");
        createRole("host_role", "");
        createRole("auditor_role", "");
        createRole("purger_role", "");
        createRole("insert_role", "");
        BatchTask host = repository(server, "host_role");
        host.markingRequest().run().exitedWith(69).errContains("taskrunner-batch schema prints what to grant");
        Result schema = batch.batch("schema").run().exitedWith(0).errIs("");
        execute(schema.out());
        execute("GRANT taskrunner_runner TO host_role", "GRANT taskrunner_auditor TO auditor_role",
            "GRANT taskrunner_purger TO purger_role", "GRANT taskrunner_auditor TO insert_role",
            "GRANT INSERT ON job_instance, job_execution, step_execution, taskrunner_execution TO insert_role",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO insert_role");
        host.markingRequest().run().exitedWith(0);
        repository(server, "auditor_role").markingRequest().run().exitedWith(69).errContains("permission denied");
        repository(server, "insert_role").markingRequest().run().exitedWith(69).errContains("permission denied");
        assertEquals(1, repository(server, "auditor_role").history().size());
        host.batch("purge", "--older-than", "0s").run().exitedWith(69).errContains("permission denied");
        repository(server, "purger_role").batch("purge", "--older-than", "0s").run().exitedWith(0).outIs(
            "purged 1 executions and the output of 0\n");
        assertEquals(1, task.marks());
    }

    @Test
    void textOutsideTheEncodingIsSubstitutedAndSaid() throws Exception {
        execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        batch.env("TASKRUNNER_REPOSITORY", server.url("latin"));
        batch.request("echo ä€; exit 3").run().exitedWith(3).outIs("ä€\n").errContains("a substitute stands for each");
        assertEquals("echo ä?; exit 3", batch.newest().get("command"));
        batch.restart(BatchTask.id(batch.newest())).exitedWith(65).errContains("substituted characters");
    }

    @Test
    void errorsNameTheirCause() throws Exception {
        createRole("nothing", "");
        String url = server.url(database);
        for (String[] each : new String[][] {
            {url.replace(":" + server.port, ":1"), "refused", "check that the server runs there"},
            {url.replace("127.0.0.1", "nosuchhost.invalid"), "unknown host nosuchhost.invalid", "check the name"},
            {server.url("nosuchdatabase"), "\"nosuchdatabase\" does not exist", "createdb"},
            {url + "?user=nosuchrole", "password authentication failed", "PGPASSWORD or ~/.pgpass"},
            {url + "?user=nothing", "permission denied", "schema prints what to grant"}}) {
            batch.markingRequest("--repository", each[0]).run().exitedWith(69).errContains("audit repository ")
                .errContains(each[1])
                .errContains(each[2]).errHasNo("space");
        }
        batch.batch("history").run().exitedWith(69).errContains("it has no tables of version");
        assertEquals(0, task.marks());
    }

    @Test
    void lockIsReleasedWhileTheServerIsFrozen() throws Exception {
        TestPostgres own = new TestPostgres();
        try {
            own.createDatabase(database);
            BatchTask owner = repository(own, TestPostgres.USER);
            Running runner = owner.hold();
            String pid;
            try (Connection connection = own.connect(database)) {
                pid = Program.read(Path.of(BatchTask.query(connection, "SHOW data_directory").get(0),
                    "postmaster.pid")).lines()
                    .findFirst().orElseThrow();
            }
            Program.signal(Long.parseLong(pid), "STOP");
            try {
                task.finish();
                Program.await("the lock is free", () -> !Files.exists(task.lock));
                assertTrue(runner.alive(), "the outcome waits for the server");
            } finally {
                Program.signal(Long.parseLong(pid), "CONT");
            }
            runner.result().exitedWith(0);
            assertEquals("SUCCEEDED", owner.newest().get("exit_status"));
        } finally {
            own.close();
        }
    }

    @Test
    void libpqsVariablesNameTheServer() throws Exception {
        batch.env("TASKRUNNER_REPOSITORY", null).env("PGHOST", "127.0.0.1").env("PGPORT", Integer.toString(server.port))
            .env("PGDATABASE", database);
        for (String url : List.of("jdbc:postgresql:", "jdbc:postgresql://", "jdbc:postgresql:///" + database,
            "jdbc:postgresql:" + database, "jdbc:postgresql://127.0.0.1/" + database)) {
            batch.markingRequest("--repository", url).run().exitedWith(0)
                .errContains("127.0.0.1:" + server.port + "/" + database);
        }
        Path home = Files.createDirectories(directory.resolve("home"));
        Path pgpass = Files.writeString(home.resolve(".pgpass"), "*:*:*:*:"
            + TestPostgres.PASSWORD.replace("\\", "\\\\")
            .replace(":", "\\:") + "\n");
        Files.setPosixFilePermissions(pgpass, java.nio.file.attribute.PosixFilePermissions.fromString("rw-------"));
        Files.writeString(home.resolve(".pg_service.conf"), "[audit]\nhost=127.0.0.1\nport=" + server.port
            + "\ndbname=" + database
            + "\nuser=" + TestPostgres.USER + "\n");
        batch.env("PGHOST", null).env("PGPORT", null).env("PGDATABASE", null).env("PGUSER", null)
            .env("PGPASSWORD", null)
            .env("PGSERVICE", "audit").env("HOME", home.toString());
        batch.markingRequest("--repository", "jdbc:postgresql:").run().exitedWith(0);
        assertEquals(6, task.marks());
        assertFalse(query("SELECT run_id FROM taskrunner_execution").isEmpty());
    }
}
