import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * Hosts that ask for the same tasks again and again, while processes are killed and paused, networks are cut and reset,
 * and the database crashes; and then what the commands' own traces and the rows say about it.
 */
final class FleetChaos {
    private static final int CONTENDED = 99;

    private static final String DATABASE = FleetTest.DATABASE;
    private static final int THRESHOLD = 2;
    /** Of each process, one after another. */
    private static final int REQUESTS = 4;
    private static final java.util.regex.Pattern HOLDER =
        java.util.regex.Pattern.compile("(?:held by|is lost:) run (\\S+)");
    /** As often as they are here. */
    private static final List<String> FAULTS = List.of("kill", "kill", "pause", "cut", "cut", "inbound", "reset",
        "reset-server", "reset-server",
        "terminate", "crash");

    private final FleetNet.Server server;
    private final Path directory;
    private final List<FleetNet.Node> hosts = new ArrayList<>();
    private final Map<String, FleetTraces> tasks = new TreeMap<>();
    private final Random random = new Random();
    private final Map<String, Running> running = new ConcurrentHashMap<>();
    private final Map<String, Integer> statuses = new ConcurrentSkipListMap<>();
    private final Map<String, Integer> faults = new ConcurrentSkipListMap<>();
    private final List<String> unexpected = java.util.Collections.synchronizedList(new ArrayList<>());
    private volatile boolean over;

    FleetChaos(FleetNet net, FleetNet.Server server, int hostCount, int taskCount, Path directory) {
        this.server = server;
        this.directory = directory;
        for (int host = 1; host <= hostCount; host++) {
            hosts.add(net.host("host" + host));
        }
        for (int task = 1; task <= taskCount; task++) {
            tasks.put("task" + task, new FleetTraces(directory.resolve("traces-of-task" + task)));
        }
    }

    private int random(int bound) {
        synchronized (random) {
            return random.nextInt(bound);
        }
    }

    private Program request(String task, FleetNet.Node host, String command, String... more) throws Exception {
        return FleetTest.on(host, FleetTest.batch(directory, server.url(DATABASE))
            .program("FleetLoop", Integer.toString(REQUESTS), "--fleet",
            task, "--command", command, "--lockfile", Files.createDirectories(directory.resolve(host.name))
                .resolve(task).toString(),
            "--threshold", Integer.toString(THRESHOLD), "--kill-after", "2s").with(more));
    }

    /** For so long; returns when all is well again. */
    void run(Duration duration) throws Exception {
        List<Thread> threads = new ArrayList<>();
        for (String task : tasks.keySet()) {
            for (FleetNet.Node host : hosts) {
                threads.add(new Thread(() -> work(task, host)));
            }
        }
        threads.forEach(Thread::start);
        long end = System.nanoTime() + duration.toNanos();
        while (System.nanoTime() < end) {
            Program.sleep(1500 + random(4000));
            String kind = FAULTS.get(random(FAULTS.size()));
            faults.merge(kind, 1, Integer::sum);
            Thread fault = new Thread(() -> fault(kind, hosts.get(random(hosts.size()))));
            fault.start();
            threads.add(fault);
        }
        over = true;
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private void work(String task, FleetNet.Node host) {
        try {
            while (!over) {
                Running loop = request(task, host, tasks.get(task).command(3, random(4) == 0 ? "stubborn" : "random"),
                    "--conflict-exit-code", Integer.toString(CONTENDED), "--wait", random(2) + "s").start();
                running.put(task + "@" + host.name, loop);
                Result result = loop.result();
                if (result.status() != 0 && result.status() != 137) {
                    unexpected.add(result.program().toString());
                }
                result.out().lines().filter(line -> line.startsWith("status ")).forEach(line -> {
                    String status = line.split(" ")[1];
                    statuses.merge(status, 1, Integer::sum);
                    if (!List.of("0", Integer.toString(CONTENDED), "69", "75", "76").contains(status)) {
                        unexpected.add(status + ": " + result.program());
                    }
                });
                for (String line : new String[] {"took over", "recovered", "lock kept", "watchdog: ", "failed over"}) {
                    statuses.merge(line, result.err().split(line, -1).length - 1, Integer::sum);
                }
            }
        } catch (Exception | AssertionError e) {
            unexpected.add(e.toString());
        }
    }

    private void fault(String kind, FleetNet.Node host) {
        List<Running> candidates = List.copyOf(running.values());
        Running victim = candidates.isEmpty() ? null : candidates.get(random(candidates.size()));
        int millis = 500 + random(8_000);
        try {
            switch (kind) {
                case "kill" -> {
                    if (victim != null) {
                        victim.kill();
                    }
                }
                case "pause" -> pause(victim, millis);
                case "cut", "inbound", "reset", "reset-server" -> {
                    synchronized (host) {
                        switch (kind) {
                            case "cut" -> host.cut();
                            case "inbound" -> host.cutInbound();
                            case "reset" -> host.reset();
                            default -> host.resetServer();
                        }
                        Program.sleep(millis);
                        host.heal();
                    }
                }
                case "terminate" -> server.query(DATABASE,
                    "SELECT pg_terminate_backend(backend) FROM taskrunner_task WHERE run_id IS NOT NULL"
                    + " ORDER BY random() LIMIT 1");
                case "crash" -> {
                    synchronized (server) {
                        server.stop("immediate");
                        Program.sleep(millis / 10);
                        server.start();
                    }
                }
                default -> throw new IllegalArgumentException(kind);
            }
        } catch (java.sql.SQLException e) {
            // the server is down just now
        }
    }

    private static void pause(Running victim, int millis) {
        if (victim != null && victim.alive()) {
            FleetNet.shell("kill -STOP " + victim.pid() + " || true");
            Program.sleep(millis);
            FleetNet.shell("kill -CONT " + victim.pid() + " || true");
        }
    }

    /** All the runs that overlap another one of their task. */
    List<String> overlaps() {
        return tasks.values().stream().flatMap(traces -> traces.overlaps().stream()).toList();
    }

    int runs() {
        return tasks.values().stream().mapToInt(traces -> traces.spans().size()).sum();
    }

    String summary() {
        return "chaos: " + runs() + " runs, exit statuses and messages " + statuses + ", faults " + faults
            + ", shortest margin "
            + tasks.values().stream().mapToLong(FleetTraces::margin).min().orElseThrow() + " ms";
    }

    /**
     * No overlap, growing fences, statuses as documented; no row that has not ended, every contention counted and
     * reported as it must.
     */
    void check() throws Exception {
        System.out.println(summary());
        tasks.values().forEach(FleetTraces::assertExclusive);
        assertEquals(List.of(), unexpected);
        for (String task : tasks.keySet()) {
            request(task, hosts.get(0), "true", "--wait", "30s").run().exitedWith(0).outContains("status 0 ")
                .errHasNo("contention");
        }
        assertEquals(List.of(), server.query(DATABASE, "SELECT task FROM taskrunner_task WHERE run_id IS NOT NULL"));
        String json = FleetTest.program(directory, server.url(DATABASE), hosts.get(0), "history", "--limit", "0",
            "--format", "json").run()
            .exitedWith(0).out();
        List<Map<String, String>> rows = BatchTask.parse(json);
        assertEquals(List.of(), rows.stream().filter(row -> row.get("end_time") == null).toList());
        long told = List.of("0", "75", "76", Integer.toString(CONTENDED)).stream()
            .mapToLong(status -> statuses.getOrDefault(status, 0)).sum();
        assertTrue(rows.size() >= told, rows.size() + " rows of " + told + " requests");
        tasks.keySet().forEach(task -> checkCounter(rows.stream().filter(row -> task.equals(row.get("task")))
            .toList()));
    }

    /**
     * While one run holds a task its contentions are 1, 2, 3, reported, 1, and so on: each as often as the one before,
     * or once less. A request that was killed or whose COMMIT was not answered may have counted, too.
     */
    private static void checkCounter(List<Map<String, String>> rows) {
        Map<String, int[]> counted = new TreeMap<>();
        int unknown = 0;
        for (Map<String, String> row : rows) {
            String status = row.get("exit_status");
            if (status.equals("CONTENDED") || status.equals("THRESHOLD_EXCEEDED")) {
                java.util.regex.Matcher run = HOLDER.matcher(row.get("message"));
                if (!run.find()) {
                    // the host's own lock file is what it met
                    unknown++;
                    continue;
                }
                int value = status.equals("CONTENDED") ? Integer.parseInt(row.get("contentions")) : THRESHOLD + 2;
                counted.computeIfAbsent(run.group(1), key -> new int[THRESHOLD + 3])[value]++;
            } else if (row.get("fence") == null) {
                unknown++;
            }
        }
        for (Map.Entry<String, int[]> run : counted.entrySet()) {
            int[] times = run.getValue();
            for (int value = 2; value < times.length; value++) {
                int step = times[value - 1] - times[value];
                assertTrue(step >= -unknown && step <= 1 + unknown, () -> run.getKey() + ": "
                    + java.util.Arrays.toString(times));
            }
        }
    }
}
