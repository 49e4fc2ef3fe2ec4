//SOURCES FleetNet.java
//SOURCES FleetTraces.java
//SOURCES BatchTask.java
//SOURCES FleetLoop.java

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/**
 * One task, many hosts, with the faults that hosts, networks and servers have. The grace is 12 s here: T 6 s, K 2 s, a
 * beat a second.
 */
@Execution(ExecutionMode.CONCURRENT)
class FleetTest {
    static final String DATABASE = "fleet";
    private static FleetNet net;
    private static FleetNet.Server server;

    @TempDir
    Path directory;
    private String task;
    private FleetTraces traces;
    private FleetNet.Node one;
    private FleetNet.Node two;

    @BeforeAll
    static void startServer(@TempDir Path directory) throws Exception {
        net = new FleetNet();
        server = net.server("db");
        prepare(server, directory, "12 s");
    }

    /**
     * Makes the tables as their owner, by a first run, and lets hosts log in as a role that has what {@code schema}
     * prints.
     */
    static void prepare(FleetNet.Server server, Path directory, String grace) throws Exception {
        server.createDatabase(DATABASE);
        BatchTask batch = new BatchTask(new TestTask(directory)).env("TASKRUNNER_REPOSITORY", server.url(DATABASE));
        batch.request("true").env("PGUSER", FleetNet.OWNER).run().exitedWith(0);
        String schema = batch.batch("schema").run().exitedWith(0).out();
        server.execute(DATABASE, "postgres", schema.substring(schema.indexOf("CREATE ROLE taskrunner_runner")),
            "GRANT taskrunner_runner TO " + FleetNet.RUNNER, "REVOKE CONNECT ON DATABASE " + DATABASE + " FROM PUBLIC",
            "GRANT CONNECT ON DATABASE " + DATABASE + " TO " + FleetNet.RUNNER);
        server.grace(DATABASE, grace);
    }

    @AfterAll
    static void stopServer() {
        if (net != null) {
            net.close();
        }
    }

    @BeforeEach
    void hosts(TestInfo test) {
        task = test.getTestMethod().orElseThrow().getName();
        traces = new FleetTraces(directory.resolve("traces"));
        one = net.host("one");
        two = net.host("two");
    }

    @AfterEach
    void endWhatIsLeft() {
        for (FleetNet.Node node : List.of(one, two)) {
            node.heal();
            node.signalAll("KILL");
        }
    }

    private Program request(FleetNet.Node host, String command, String... more) throws Exception {
        return request(server.url(DATABASE), host, command, more);
    }

    private Program request(String url, FleetNet.Node host, String command, String... more) throws Exception {
        return program(url, host, "--fleet", task, "--command", command, "--lockfile", own(host).resolve("lock")
            .toString(),
            "--threshold", "2", "--verbose").with(more);
    }

    private Program program(String url, FleetNet.Node host, String... arguments) throws Exception {
        return program(directory, url, host, arguments);
    }

    /** taskrunner-batch on the host. */
    static Program program(Path directory, String url, FleetNet.Node host, String... arguments) {
        return on(host, batch(directory, url).batch(arguments));
    }

    static BatchTask batch(Path directory, String url) {
        return new BatchTask(new TestTask(directory)).env("TASKRUNNER_REPOSITORY", url).env("PGUSER", FleetNet.RUNNER);
    }

    /** The program on the host, with a state directory of the host's own. */
    static Program on(FleetNet.Node host, Program program) {
        return program.under(host.prefix()).env("XDG_STATE_HOME", host.state().toString());
    }

    private Path own(FleetNet.Node host) throws Exception {
        return Files.createDirectories(directory.resolve(host.name));
    }

    private Running hold(FleetNet.Node host, int seconds, String... more) throws Exception {
        int before = traces.spans().size();
        Running holder = request(host, traces.command(seconds, more)).start();
        Program.await("the command runs on " + host.name, () -> traces.spans().size() > before);
        return holder;
    }

    /** Requests on the host until one acquires the task. */
    private Running acquireOn(FleetNet.Node host, int seconds) throws Exception {
        int before = traces.spans().size();
        while (true) {
            Running running = request(host, traces.command(seconds), "--conflict-exit-code", "99", "--wait", "20s")
                .start();
            while (running.alive() && traces.spans().size() == before) {
                Program.sleep(20);
            }
            if (running.alive() || running.result().status() != 99) {
                return running;
            }
        }
    }

    @Test
    void oneRunsTheOthersCountTogether() throws Exception {
        Running holder = hold(one, 60);
        for (int contention = 1; contention <= 3; contention++) {
            request(contention % 2 == 0 ? one : two, "true").run().exitedWith(0)
                .errContains("contention " + contention + ", threshold 2");
        }
        request(two, "true").run().exitedWith(75)
            .errContains("was busy for 4 requests in a row (threshold 2): held by run ").errContains(" on one (pid ");
        request(two, "true").run().exitedWith(0).errContains("contention 1, threshold 2");
        holder.signal("TERM");
        holder.result().exitedWith(143);
        request(two, "echo $TASKRUNNER_FLEET $TASKRUNNER_FENCE").run().exitedWith(0).outContains(task + " 1");
        traces.assertExclusive();
    }

    @Test
    void eachContentionCountsOnceAndEachThresholdIsReportedOnce() throws Exception {
        Running holder = hold(one, 300);
        List<Running> loops = java.util.stream.IntStream.range(0, 4).mapToObj(process -> on(two, batch(directory,
            server.url(DATABASE)).program("FleetLoop", "15", "--fleet", task, "--command", "true", "--lockfile",
            directory.resolve("lock-" + process).toString(), "--threshold", "4")).start()).toList();
        long reported = 0;
        for (Running loop : loops) {
            reported += loop.result().exitedWith(0).out().lines().filter(line -> line.startsWith("status 75 ")).count();
        }
        assertEquals(10, reported);
        assertEquals(List.of("0 10 50"), server.query(DATABASE,
            "SELECT (SELECT counter FROM taskrunner_task WHERE task = '"
            + task + "'), count(*) FILTER (WHERE j.exitstatus = 'THRESHOLD_EXCEEDED'), count(*) FILTER"
            + " (WHERE j.exitstatus = 'CONTENDED') FROM taskrunner_execution a JOIN job_execution j"
            + " ON j.jobexecutionid = a.job_execution_id WHERE a.task = '" + task + "'"));
        holder.signal("TERM");
        holder.result().exitedWith(143);
    }

    @Test
    void afterKill9TheCommandIsDeadAndTheOwnHostTakesOverAtOnce() throws Exception {
        Running holder = hold(one, 60);
        holder.kill();
        Running next = acquireOn(one, 1);
        next.result().exitedWith(0).errContains("took over task " + task + " from run ").errContains(" on one is dead");
        traces.assertExclusive();
        assertEquals("FAILED KILLED", ending(firstRun()));
    }

    @Test
    void aSilentCutEndsTheCommandBeforeAnotherHostTakesOver() throws Exception {
        Running holder = hold(one, 60);
        one.cut();
        acquireOn(two, 1).result().exitedWith(0).errContains("took over");
        Map<String, String> row = firstRun();
        assertEquals("FAILED KILLED", ending(row));
        assertTrue(row.get("evidence").contains("its host was silent for"), row::toString);
        one.heal();
        holder.result().exitedWith(76).errContains("no answer from");
        assertEquals("FAILED LOCK_LOST", ending(firstRun()));
        traces.assertExclusive();
        assertTrue(traces.margin() > 2000, () -> "margin " + traces.margin() + " ms");
    }

    private static String ending(Map<String, String> row) {
        return row.get("batch_status") + " " + row.get("exit_status");
    }

    @Test
    void aResetOfTheServersSideOnly() throws Exception {
        Running holder = hold(one, 60);
        one.resetServer();
        acquireOn(two, 1).result().exitedWith(0).errContains("took over");
        one.heal();
        holder.result().exitedWith(76).errContains("no answer from");
        traces.assertExclusive();
        assertTrue(traces.margin() > 2000, () -> "margin " + traces.margin() + " ms");
    }

    /**
     * Beats that are made old as soon as they are written are the same as no grace; all else is as in {@link
     * #aResetOfTheServersSideOnly}.
     */
    @Test
    void theCheckerFindsTheOverlapWhenTheGraceIsIgnored() throws Exception {
        hold(one, 60);
        Thread saboteur = new Thread(() -> {
            try (java.sql.Connection connection = server.connect(DATABASE, FleetNet.RUNNER)) {
                while (!Thread.interrupted()) {
                    connection.createStatement()
                        .execute("UPDATE taskrunner_beat SET seen = '1970-01-01' WHERE task = '" + task + "'");
                }
            } catch (java.sql.SQLException e) {
                throw new IllegalStateException(e);
            }
        });
        saboteur.start();
        Running contender = request(two, traces.command(3), "--wait", "30s").start();
        contender.awaitErr("held by");
        one.resetServer();
        contender.result().exitedWith(0);
        saboteur.interrupt();
        assertEquals(1, traces.overlaps().size());
    }

    private void terminateSession(Running holder) throws Exception {
        assertEquals(List.of("t"), server.query(DATABASE,
            "SELECT pg_terminate_backend(backend) FROM taskrunner_task WHERE task = '" + task + "'"));
    }

    @Test
    void aSessionThatTheServerEndsComesBackAtOnce() throws Exception {
        Running holder = hold(one, 60);
        terminateSession(holder);
        holder.awaitErr("lock kept: this run is the holder again");
        request(two, "true").run().exitedWith(0).errContains("held by run");
        holder.signal("TERM");
        holder.result().exitedWith(143);
        assertEquals(1, traces.spans().size());
    }

    @Test
    void aCutThatIsShorterThanTheTermChangesNothing() throws Exception {
        FleetNet.Server own = net.server("own");
        prepare(own, directory, "24 s");
        FleetNet.Node pooler = own.pooler("session");
        String direct = own.url(DATABASE);
        Running holder = holdThrough(direct, 20);
        String backend = own.query(DATABASE, "SELECT backend FROM taskrunner_task").get(0);
        one.cut();
        holder.awaitErr("the session has ended");
        assertTrue(own.has(DATABASE, "SELECT 1 FROM pg_stat_activity WHERE pid = " + backend),
            "the server has noticed the cut");
        one.heal();
        holder.awaitErr("lock kept: this run is the holder again");
        assertFalse(own.has(DATABASE, "SELECT 1 FROM pg_stat_activity WHERE pid = " + backend),
            "the old session lives");
        request(own.urlThrough(pooler, DATABASE), two, "true").run().exitedWith(0).errContains("held by run");
        holder.result().exitedWith(0).errContains("command succeeded");
        assertEquals(1, traces.spans().size());
        assertTrue(history(direct).stream().anyMatch(row -> row.get("message")
            .contains("; no answer from " + own.node.address)));
    }

    private Running holdThrough(String url, int seconds) throws Exception {
        int before = traces.spans().size();
        Running holder = request(url, one, traces.command(seconds)).start();
        Program.await("the command runs", () -> traces.spans().size() > before);
        return holder;
    }

    @Test
    void aCommandThatIgnoresTermIsKilledInTime() throws Exception {
        Running holder = hold(one, 60, "stubborn");
        one.cut();
        acquireOn(two, 1).result().exitedWith(0);
        one.heal();
        holder.result().exitedWith(76);
        traces.assertExclusive();
        assertTrue(traces.margin() > 1000, () -> "margin " + traces.margin() + " ms");
    }

    @Test
    void aHostThatVanishesFreesTheTask() throws Exception {
        hold(one, 90);
        one.cut();
        one.signalAll("KILL");
        request(two, "true").run().exitedWith(0);
        Program.await("its session has ended", () -> sessions() == 0);
        acquireOn(two, 1).result().exitedWith(0).errContains("its host was silent for");
        traces.assertExclusive();
    }

    private long sessions() {
        try {
            return Long.parseLong(server.query(DATABASE,
                "SELECT count(*) FROM pg_locks l JOIN taskrunner_task t ON l.pid = t.backend"
                + " WHERE l.locktype = 'advisory' AND t.task = '" + task + "'").get(0));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    @Test
    void aPausedProcessLosesNothingWhileItsSessionLives() throws Exception {
        Running holder = hold(one, 60);
        holder.signal("STOP");
        Program.await("the watchdog has ended the command", () -> traces.isQuiet());
        request(two, "true").run().exitedWith(0).errContains("silent for")
            .errContains("its process is paused or starved")
            .errContains("to give it up: SELECT pg_terminate_backend(");
        program(server.url(DATABASE), two, "status", "--fleet", task).run().exitedWith(21)
            .outContains("paused or starved");
        holder.signal("CONT");
        holder.result().exitedWith(76).errContains("this process was paused for")
            .errContains("watchdog: taskrunner did not renew the lock");
        acquireOn(two, 1).result().exitedWith(0).errHasNo("took over");
        traces.assertExclusive();
    }

    @Test
    void aPausedProcessThatIsCutOffLosesTheTaskInTime() throws Exception {
        Running holder = hold(one, 60);
        one.cut();
        holder.signal("STOP");
        terminateSession(holder);
        acquireOn(two, 1).result().exitedWith(0).errContains("took over");
        one.heal();
        holder.signal("CONT");
        holder.result().exitedWith(76);
        traces.assertExclusive();
    }

    @Test
    void aPausedHostKeepsItsTaskAsLongAsItsSessionLives() throws Exception {
        Running holder = hold(one, 60);
        one.signalAll("STOP");
        Program.sleep(13_000);
        request(two, "true").run().exitedWith(0).errContains("its process is paused or starved");
        terminateSession(holder);
        acquireOn(two, 2).result().exitedWith(0).errContains("took over");
        one.signalAll("CONT");
        holder.result().exitedWith(76);
        assertTrue(traces.overlaps().size() <= 1, () -> traces.overlaps().toString());
    }

    @Test
    void whoHasLostTheRowIsKilledAtOnce() throws Exception {
        Running holder = hold(one, 60, "stubborn");
        server.execute(DATABASE, FleetNet.OWNER,
            "UPDATE taskrunner_task SET run_id = 'R2', host = 'h2', fence = fence + 1000 WHERE task = '"
            + task + "'", "UPDATE taskrunner_beat SET run_id = 'R2' WHERE task = '" + task + "'");
        holder.result().exitedWith(76).errContains("lost " + task + ": run R2 on h2 holds it since")
            .errContains("this host was paused?")
            .errContains("its effects carry fence");
    }

    @Test
    void itIsStoppedSeenAndRestartedFromAnyHost() throws Exception {
        String[] status = {"status", "--fleet", task};
        program(server.url(DATABASE), two, status).run().exitedWith(0).outContains("task " + task + " is free");
        Running holder = hold(one, 60);
        program(server.url(DATABASE), two, status).run().exitedWith(20).outContains("held by run")
            .outContains(" on one (pid ")
            .outContains("to stop it, from any host: taskrunner-batch stop ").outContains("host one: last request");
        Map<String, String> row = newest();
        assertEquals("STARTED", row.get("batch_status"));
        Result stop = program(server.url(DATABASE), two, "stop", row.get("id")).run().exitedWith(0);
        stop.outContains("job execution " + row.get("id") + " is STOPPED");
        holder.result().exitedWith(143).errContains("stopped by root@two after");
        assertEquals("STOPPED STOPPED", newest().get("batch_status") + " " + newest().get("exit_status"));
        assertTrue(newest().get("message").startsWith("stopped by root@two after"), newest()::toString);
        int before = traces.spans().size();
        Running restarted = program(server.url(DATABASE), two, "restart", row.get("id")).start();
        Program.await("the command runs", () -> traces.spans().size() > before);
        program(server.url(DATABASE), one, "restart", row.get("id")).run().exitedWith(64)
            .errContains("STARTED: it may be running");
        program(server.url(DATABASE), one, "status", "--fleet", task, "--json").run().exitedWith(20)
            .outContains("\"state\":\"held\"")
            .outContains("\"host\":\"two\"").outContains("\"fence\":").outContains("\"threshold\":2")
                .outContains("\"last_request\":");
        restarted.signal("TERM");
        restarted.result().exitedWith(143).errContains("which ran on one, is restarted here, on two");
        request(two, "true", "--counter-file", directory + "/count").run().exitedWith(64)
            .errContains("is kept in the database");
        request(two, "true", "--repository", "jdbc:sqlite:" + directory + "/x.db").run().exitedWith(64)
            .errContains("jdbc:postgresql:");
        traces.assertExclusive();
    }

    /** The row of the first execution that had the task. */
    private Map<String, String> firstRun() throws Exception {
        return history(server.url(DATABASE)).stream().filter(row -> row.get("fence") != null)
            .min(java.util.Comparator.comparing(row -> Long.parseLong(row.get("fence")))).orElseThrow();
    }

    private Map<String, String> newest() throws Exception {
        return history(server.url(DATABASE)).get(0);
    }

    /** Of the task, newest first. */
    private List<Map<String, String>> history(String url) throws Exception {
        return BatchTask.parse(program(url, two, "history", "--fleet", task, "--format", "json").run().exitedWith(0)
            .out());
    }

    @Test
    void aPoolerInTransactionModeIsRefusedAndOneInSessionModeWorks() throws Exception {
        FleetNet.Node transaction = server.pooler("transaction");
        request(server.urlThrough(transaction, DATABASE), one, "touch " + directory + "/never").run().exitedWith(69)
            .errContains("a pooler in transaction mode stands before");
        assertFalse(Files.exists(directory.resolve("never")));
        String session = server.urlThrough(server.pooler("session"), DATABASE);
        Running holder = holdThrough(session, 60);
        request(session, two, "true").run().exitedWith(0).errContains("held by run");
        terminateSession(holder);
        holder.awaitErr("lock kept: this run is the holder again");
        holder.signal("TERM");
        holder.result().exitedWith(143);
    }

    @Test
    void aSessionThatKeepsTheRowLockedIsNamed() throws Exception {
        Running holder = hold(one, 25);
        try (java.sql.Connection blocker = server.connect(DATABASE, FleetNet.RUNNER)) {
            blocker.setAutoCommit(false);
            blocker.createStatement().execute("SELECT 1 FROM taskrunner_task WHERE task = '" + task + "' FOR UPDATE");
            request(two, "true").run().exitedWith(74).errContains("has been locked for 10 s by backend")
                .errContains("pg_terminate_backend(");
        }
        holder.result().exitedWith(0).errHasNo("no answer");
    }

    @Test
    void whoHasNoTimelineGoesByTheServersStart() throws Exception {
        FleetNet.Server own = net.server("managed");
        prepare(own, directory, "12 s");
        own.execute(DATABASE, "postgres", "REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC");
        request(own.url(DATABASE), one, "true").run().exitedWith(0).errHasNo("failed over");
        own.stop("fast");
        own.start();
        request(own.url(DATABASE), one, "true").run().exitedWith(0).errContains("failed over");
        own.execute("postgres", "postgres", "ALTER ROLE " + FleetNet.RUNNER + " CONNECTION LIMIT 0");
        request(own.url(DATABASE), one, "true").run().exitedWith(69).errContains("raise max_connections");
    }

    @Test
    void aDatabaseThatComesBackInTimeLeavesTheRunAlone() throws Exception {
        FleetNet.Server own = net.server("own");
        prepare(own, directory, "36 s");
        Running holder = request(own.url(DATABASE), one, traces.command(300)).start();
        Program.await("the command runs", () -> !traces.spans().isEmpty());
        own.stop("immediate");
        own.start();
        holder.awaitErr("lock kept: this run is the holder again");
        request(own.url(DATABASE), two, "true").run().exitedWith(0).errContains("contention 1");
        own.stop("immediate");
        request(own.url(DATABASE), two, "true").run().exitedWith(69);
        Result result = holder.result().exitedWith(76);
        result.errContains("ended the command after 18 s, before another host may start it (36 s)");
        own.start();
        request(own.url(DATABASE), two, "true", "--wait", "60s").run().exitedWith(0).errContains("took over");
    }

    @Test
    void afterAPromotionThatLostTheAcquisitionOnlyTheHolderComesBack() throws Exception {
        FleetNet.Server primary = net.server("primary");
        prepare(primary, directory, "60 s");
        FleetNet.Server replica = primary.replica("replica");
        String url = "jdbc:postgresql://" + primary.node.address + "," + replica.node.address + "/" + DATABASE;
        request(url, one, "true").run().exitedWith(0);
        Program.await("the replica has the task", () -> replica.has(DATABASE,
            "SELECT 1 FROM taskrunner_task WHERE run_id IS NULL"));
        request(replica.url(DATABASE), one, "true").run().exitedWith(69)
            .errContains("it is a standby or read-only: name all hosts in the URL");
        replica.node.cut();
        Running holder = holdThrough(url, 300);
        one.cut();
        primary.node.cut();
        replica.node.heal();
        replica.promote();
        Running contender = request(url, two, traces.command(1)).start();
        contender.awaitErr("the database was failed over at");
        one.heal();
        holder.awaitErr("lock kept: this run is the holder again");
        contender.result().exitedWith(0).errContains("contention 1");
        holder.signal("TERM");
        holder.result().exitedWith(143);
        request(url, two, traces.command(1)).run().exitedWith(0);
        traces.assertExclusive();
        assertEquals(2, traces.spans().size());
    }

    /** Without CAP_KILL a process of another user cannot be killed, by root either. */
    @Test
    void aProcessThatCannotBeKilledKeepsTheTask() throws Exception {
        Path script = Files.writeString(directory.resolve("other"), "touch " + directory
            + "/runs; exec setpriv --reuid=65534 --regid=65534 --clear-groups sleep 5432.1\n");
        Running holder = request(one, "exec sh " + script, "--kill-after", "0").under("setpriv", "--bounding-set=-kill")
            .start();
        Program.await("the command runs", () -> Files.exists(directory.resolve("runs")) && sleeper().size() == 1);
        holder.signal("TERM");
        holder.awaitErr(": " + task + " stays held until it ends");
        request(two, "true").run().exitedWith(0).errContains("held by run");
        assertTrue(holder.alive());
        sleeper().forEach(pid -> Program.signal(pid, "KILL"));
        holder.result().exitedWith(74).errContains("EPERM");
        request(two, "true").run().exitedWith(0).errHasNo("took over");
    }

    private static List<Long> sleeper() {
        return Program.processesWith("sleep 5432.1").stream()
            .filter(pid -> Program.read(Path.of("/proc/" + pid + "/comm")).equals("sleep\n"))
            .toList();
    }
}
