///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../batch/taskrunnerbatch.java
//SOURCES BatchTask.java
//SOURCES FleetChaosTest.java
//SOURCES FleetTest.java
//SOURCES JsonText.java
//SOURCES AlsoWithoutProc.java
//SOURCES Program.java
//SOURCES Project.java
//SOURCES Result.java
//SOURCES Running.java
//SOURCES TestArchive.java
//SOURCES TestPostgres.java
//SOURCES TestTask.java
//DEPS org.junit:junit-bom:6.1.3@pom
//DEPS org.junit.jupiter:junit-jupiter
//DEPS org.junit.platform:junit-platform-launcher
//DEPS org.eclipse.parsson:parsson:1.1.9
//DEPS org.apache.commons:commons-csv:1.14.1
//DEPS commons-io:commons-io:2.20.0
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/**
 * What a fleet costs and how fast it takes over: {@code ./jbang tests/fleetbench.java}, with hosts in network
 * namespaces, a PostgreSQL server of its own and the default times; one row of a Markdown table a figure. With a number
 * of seconds: the tests' chaos run for so long instead.
 */
public class fleetbench implements AutoCloseable {
    private static final int HOLDERS = 90;
    private static final int PROCESSES = 16;
    private static final int REQUESTS = 200;

    private final FleetNet net = new FleetNet();
    private final FleetNet.Server server = net.server("db");
    private final Path directory = Files.createTempDirectory("taskrunner-fleet-bench");
    private int tasks;

    private fleetbench() throws Exception {
        try {
            FleetTest.prepare(server, directory, "60 s");
        } catch (Exception | AssertionError e) {
            close();
            throw e;
        }
    }

    /** @param args a number of seconds: no figures, but the chaos run for so long */
    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            FleetChaosTest.run(Files.createTempDirectory("taskrunner-fleet-chaos"),
                Duration.ofSeconds(Long.parseLong(args[0])));
            System.exit(0);
        }
        try (fleetbench bench = new fleetbench()) {
            System.out.println("| figure | measured |\n| --- | --- |");
            bench.contentions();
            bench.holders();
            bench.stops();
            bench.takeOvers();
        }
    }

    private static void row(String what, String figure) {
        System.out.println("| " + what + " | " + figure + " |");
    }

    /** A task with a holder on one host and a contender that waits on another, or on the same. */
    private final class TakeOver {
        final String task = "task" + ++tasks;
        final FleetNet.Node one = net.host("one" + tasks);
        final FleetNet.Node two;
        final FleetTraces traces = new FleetTraces(directory.resolve("traces-of-" + task));
        final Running holder;
        private final Running contender;

        TakeOver(boolean sameHost) throws Exception {
            two = sameHost ? one : net.host("two" + tasks);
            holder = request(one, 300).start();
            Program.await("the holder runs", () -> traces.spans().size() == 1);
            contender = request(two, 1, "--wait", "3m").start();
            contender.awaitErr("waiting for up to");
        }

        private Program request(FleetNet.Node host, int seconds, String... more) throws Exception {
            return FleetTest.program(directory, server.url(FleetTest.DATABASE), host, "--fleet", task, "--command",
                traces.command(seconds),
                "--lockfile", directory.resolve(host.name + ".lock").toString(), "--threshold", "2", "--verbose")
                    .with(more);
        }

        /** @param fault when it happened, milliseconds since 1970 */
        String figure(long fault) {
            contender.result().exitedWith(0);
            one.heal();
            traces.assertExclusive();
            List<FleetTraces.Span> spans = traces.spans();
            return "dead after " + seconds(spans.get(0).last() / 1000 - fault) + ", taken over after "
                + seconds(spans.get(1).first() / 1000 - fault) + ", margin " + seconds(traces.margin());
        }
    }

    private static String seconds(long millis) {
        return String.format("%.2f s", millis / 1000.0);
    }

    private void takeOvers() throws Exception {
        List<String> names = List.of("kill -9, the own host", "kill -9, another host", "silent cut",
            "reset of the server's side",
            "silent cut, JVM paused");
        List<TakeOver> overs = new ArrayList<>();
        for (int i = 0; i < names.size(); i++) {
            overs.add(new TakeOver(i == 0));
        }
        List<Long> faults = new ArrayList<>();
        for (int i = 0; i < names.size(); i++) {
            TakeOver over = overs.get(i);
            faults.add(System.currentTimeMillis());
            switch (i) {
                case 0, 1 -> Program.signal(over.holder.pid(), "KILL");
                case 2 -> over.one.cut();
                case 3 -> over.one.resetServer();
                default -> {
                    over.one.cut();
                    over.holder.signal("STOP");
                }
            }
        }
        for (int i = 0; i < names.size(); i++) {
            row(names.get(i), overs.get(i).figure(faults.get(i)));
        }
        overs.get(names.size() - 1).holder.signal("CONT");
    }

    private void stops() throws Exception {
        TakeOver over = new TakeOver(false);
        over.contender.signal("TERM");
        over.contender.result();
        String id = server.query(FleetTest.DATABASE, "SELECT job_execution_id FROM taskrunner_task WHERE task = '"
            + over.task + "'").get(0);
        long before = System.currentTimeMillis();
        FleetTest.program(directory, server.url(FleetTest.DATABASE), over.two, "stop", id).run().exitedWith(0);
        row("stop from another host", "command dead after " + seconds(over.traces.spans().get(0).last() / 1000 - before)
            + " (JVM's start included), `stop` returns after " + seconds(System.currentTimeMillis() - before));
    }

    private void contentions() throws Exception {
        TakeOver over = new TakeOver(false);
        over.contender.signal("TERM");
        over.contender.result();
        List<Running> loops = new ArrayList<>();
        long before = System.nanoTime();
        for (int i = 0; i < PROCESSES; i++) {
            loops.add(new BatchTask(new TestTask(directory)).program("FleetLoop", Integer.toString(REQUESTS),
                "--fleet", over.task,
                "--command", "true", "--lockfile", directory.resolve("loop" + i + ".lock").toString(), "--threshold",
                    "4", "--quiet",
                "--log-file", "/dev/null").env("TASKRUNNER_REPOSITORY", server.url(FleetTest.DATABASE))
                    .env("PGUSER", FleetNet.RUNNER).start());
        }
        List<Long> micros = new ArrayList<>();
        for (Running loop : loops) {
            while (loop.alive()) {
                Program.sleep(100);
            }
            loop.result().exitedWith(0).out().lines().forEach(line -> micros.add(Long.parseLong(line.split(" ")[2])));
        }
        double seconds = (System.nanoTime() - before) / 1e9;
        micros.sort(null);
        row(PROCESSES + " processes, " + REQUESTS + " requests each",
            String.format("%.0f contentions/s, p99 %d ms", micros.size() / seconds,
            micros.get(micros.size() * 99 / 100) / 1000));
        row("of these counted, reported, counter afterwards", String.join(", ", server.query(FleetTest.DATABASE,
            "SELECT count(*) || ' (expected " + PROCESSES * REQUESTS
                + "), ' || count(*) FILTER (WHERE j.exitstatus = 'THRESHOLD_EXCEEDED') ||"
            + " ' (expected " + PROCESSES * REQUESTS / 6
                + "), ' || (SELECT counter FROM taskrunner_task WHERE task = '" + over.task
            + "') || ' (expected " + PROCESSES * REQUESTS % 6
                + ")' FROM taskrunner_execution a JOIN job_execution j ON j.jobexecutionid ="
            + " a.job_execution_id WHERE a.task = '" + over.task
                + "' AND j.exitstatus IN ('CONTENDED', 'THRESHOLD_EXCEEDED')")));
        over.holder.signal("TERM");
    }

    /** Holders that only beat, each on a session of its own, as {@link FleetLock} does. */
    private void holders() throws Exception {
        Postgres database = (Postgres) Database.parse(server.url(FleetTest.DATABASE),
            java.util.Map.of("PGUSER", FleetNet.RUNNER,
            "XDG_STATE_HOME", directory.toString()));
        List<Long> micros = java.util.Collections.synchronizedList(new ArrayList<>());
        CountDownLatch ready = new CountDownLatch(HOLDERS);
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < HOLDERS; i++) {
            int number = i;
            threads.add(new Thread(() -> {
                try (FleetSession session = FleetSession.open(database, "held" + number, "run" + number)) {
                    session.enter();
                    session.acquire("host", "boot");
                    session.commit();
                    ready.countDown();
                    while (!Thread.interrupted()) {
                        Thread.sleep(5000);
                        long before = System.nanoTime();
                        session.beat();
                        micros.add((System.nanoTime() - before) / 1000);
                    }
                } catch (SQLException | InterruptedException e) {
                    ready.countDown();
                }
            }));
        }
        threads.forEach(Thread::start);
        ready.await();
        long lsn = wal();
        double cpu = server.cpuSeconds();
        Program.sleep(30_000);
        double used = server.cpuSeconds() - cpu;
        List<Long> all = new ArrayList<>(micros);
        all.sort(null);
        row(HOLDERS + " holders that beat each 5 s, max_connections 120",
            String.format("beat p50 %.1f ms, p99 %.1f ms; server %.1f %% of a core",
            all.get(all.size() / 2) / 1000.0, all.get(all.size() * 99 / 100) / 1000.0, used / 30 * 100));
        row("a beat", (wal() - lsn) / all.size() + " bytes of WAL (checkpoints and others included)");
        threads.forEach(Thread::interrupt);
    }

    private long wal() throws SQLException {
        return Long.parseLong(server.query(FleetTest.DATABASE,
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").get(0));
    }

    @Override
    public void close() throws IOException {
        net.close();
        Project.deleteTree(directory);
    }
}
