///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../batch/taskrunnerbatch.java

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/**
 * How many requests a repository carries: {@code ./jbang tests/load.java URL [REQUESTS_A_SECOND [SECONDS]]}. 200
 * threads write what runs of as many hosts write, each with the connections of its own that a process would open, at
 * the given rate (default 167, which is 10,000 hosts once a minute; 0: as fast as they can).
 */
public class load {
    private static final int THREADS = 200;
    private static final List<StepRow> STEPS = List.of(step("acquireLock"), step("resetCounter"), step("runCommand"),
        step("releaseLock"));

    public static void main(String[] args) throws Exception {
        java.util.TimeZone.setDefault(java.util.TimeZone.getTimeZone("UTC"));
        int rate = args.length > 1 ? Integer.parseInt(args[1]) : 167;
        int seconds = args.length > 2 ? Integer.parseInt(args[2]) : 120;
        Database database = Database.parse(args[0], System.getenv());
        Repository.open(database, true).close();
        ConcurrentLinkedQueue<Long> nanos = new ConcurrentLinkedQueue<>();
        AtomicInteger failed = new AtomicInteger();
        AtomicLong ticket = new AtomicLong();
        long before = wal(args[0]);
        long start = System.nanoTime();
        long end = start + seconds * 1_000_000_000L;
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < THREADS; i++) {
            Thread thread = new Thread(() -> {
                while (System.nanoTime() < end) {
                    long number = ticket.getAndIncrement();
                    if (rate > 0) {
                        pause(start + number * 1_000_000_000L / rate - System.nanoTime());
                    }
                    try {
                        nanos.add(request(database, number));
                    } catch (TaskException e) {
                        if (failed.getAndIncrement() == 0) {
                            System.err.println(e.getMessage());
                        }
                    }
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        double took = (System.nanoTime() - start) / 1e9;
        long[] sorted = nanos.stream().mapToLong(Long::longValue).sorted().toArray();
        System.out.printf("%d requests, %d failed, %.0f a second; the database adds %.1f ms (median), %.1f ms (p99);"
            + " %d WAL bytes a request%n", sorted.length, failed.get(), sorted.length / took, at(sorted, 50),
            at(sorted, 99),
            (wal(args[0]) - before) / Math.max(1, sorted.length));
        System.out.println(Arrays.toString(args));
    }

    private static double at(long[] sorted, int percent) {
        return sorted.length == 0 ? 0 : sorted[(int) ((sorted.length - 1L) * percent / 100)] / 1e6;
    }

    private static void pause(long nanos) {
        try {
            Thread.sleep(Duration.ofNanos(Math.max(0, nanos)).toMillis());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** What a run writes, without its command; returns how long that took. */
    private static long request(Database database, long number) throws TaskException {
        String now = Repository.time(Instant.now());
        String runId = "20260101T000000000Z-" + number + "-" + Long.toHexString(System.nanoTime());
        RequestRow row = new RequestRow(runId, "ops", 1000L, null, "host" + number % 10_000, "machine", "boot",
            "pid:[1]",
            number, 1, "/run/lock/task" + number % 10_000 + ".lock", "true", 3, "/var/lib/task.count",
            Map.of("working-directory", "/"), now, "/home/ops/output.log", null, null);
        long start = System.nanoTime();
        try (Repository repository = Repository.open(database, true)) {
            long id = repository.request(row, false);
            repository.acquired(id, now, null, STEPS.subList(0, 3));
            repository.unfinished(row.lockFile());
            repository.release();
            repository.end(row, new ResultRow("COMPLETED", "SUCCEEDED", now, null, now, 5L, 0, 0L, null,
                "command succeeded after 0.005s: true", null, now), STEPS);
        }
        return System.nanoTime() - start;
    }

    private static StepRow step(String name) {
        return new StepRow(name, "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z", "COMPLETED", "SUCCEEDED");
    }

    private static long wal(String url) throws Exception {
        if (!url.startsWith(Postgres.PREFIX)) {
            return 0;
        }
        try (Connection connection = DriverManager.getConnection(url); ResultSet position = connection.createStatement()
            .executeQuery("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")) {
            position.next();
            return position.getLong(1);
        }
    }
}
