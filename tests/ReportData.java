import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Four audit trails to look at: nothing, a task's day, thirty tasks' month, hostile text; the same for one end. */
final class ReportData {
    /**
     * An execution that is to be stored.
     *
     * @param acquired null where the lock was not acquired @param ended null while it runs
     * @param restarts the execution that this one restarts, or null
     * @param evidence what proved its runner dead, or null
     */
    record Made(String task, String host, String user, String command, int threshold, Instant requested,
        Instant acquired, Instant ended, String batchStatus, String exitStatus, int exitCode, Long contentions,
        String holder, String message, String evidence, Made restarts, String output) {
    }

    private final Random random = new Random(11);
    private final List<Made> made = new ArrayList<>();
    private final Instant end;
    private int days = 30;

    private ReportData(Instant end) {
        this.end = end.truncatedTo(ChronoUnit.MILLIS);
    }

    private List<Made> inOrder() {
        made.sort(Comparator.comparing(Made::requested));
        return made;
    }

    static List<Made> nothing(Instant end) {
        return List.of();
    }

    /** One task, every ten minutes for a day; well but for one run. */
    static List<Made> oneTask(Instant end) {
        ReportData data = new ReportData(end);
        Job job = new Job("sync-orders", "/opt/shop/bin/sync-orders --since yesterday", "shop", 3, List.of("app1"),
            Duration.ofMinutes(10), Duration.ofSeconds(95), 0.3);
        for (Instant at = data.end.minus(Duration.ofDays(1)); at.isBefore(data.end.minus(Duration.ofMinutes(5))); at =
            at.plus(job.period)) {
            data.run(job, "app1", at, at.equals(data.end.minus(Duration.ofHours(9))) ? "EXIT_3" : "SUCCEEDED", 1, null);
        }
        return data.inOrder();
    }

    /** Thirty tasks on twelve hosts with every ending there is; about 140 executions a day, at least six days. */
    static List<Made> thirtyTasks(Instant end, int days) {
        ReportData data = new ReportData(end);
        data.days = days;
        data.jobs().forEach(data::month);
        return data.inOrder();
    }

    /** Hostile text in every column. */
    static List<Made> hostile(Instant end, int executions) {
        ReportData data = new ReportData(end);
        for (int i = 0; i < executions; i++) {
            Instant at = data.end.minus(Duration.ofMinutes(2L * (executions - i)));
            String text = HOSTILE[i % HOSTILE.length];
            String other = HOSTILE[(i / HOSTILE.length + 3) % HOSTILE.length];
            String task = i % 2 == 0 ? "/tmp/" + text.replace('/', '∕') + i % 40 + ".lock" : "/tmp/plain-" + i % 5
                + ".lock";
            boolean fails = i % 3 > 0;
            data.made.add(new Made(task, fails ? other : "h" + i % 3, other, text + " " + other.repeat(i % 50 == 0 ? 400
                : 1), 3, at, at.plusMillis(20), at.plusMillis(20 + data.random.nextInt(90_000)), fails ? "FAILED"
                : "COMPLETED", fails ? "EXIT_" + i % 200 : "SUCCEEDED", fails ? i % 200 : 0, (long) i % 4, null,
                "command failed with status " + i % 200 + ": " + text, null, null, text + "\n" + other + "\n"
                + "x".repeat(3000)));
        }
        return data.inOrder();
    }

    /** Output that says so is none in UTF-8. */
    private static final String INVALID = "invalid UTF-8";
    static final String[] HOSTILE = {"</script><img src=x onerror=\"document.title='owned'\">",
        "</style></svg><script>document.title='owned'</script>", "<svg onload=alert(1)>",
        "\u001b]0;owned\u0007\u001b[31mred\u001b[2J\u009b", "\u202egnp.exe\u202c \u2066isolated",
        "'\"--><a href=javascript:alert(1)>x</a>", "${7*7} #{7*7} <#assign x=1> <%= 7 %> {{7*7}} [=7*7]",
        "a\nb\r\nstatus  COMPLETED\tc",
        "Z\u0351\u036b\u0343\u036a\u0302a\u0489\u0363\u0301l\u0334\u0357\u030ag\u0321\u034f\u0346o".repeat(6),
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", "\ud83d\udca5\ud800x\udc00",
        "&lt;b&gt; &amp;amp; &#60;", "\u200b\u2060\ufeff\u00ad\u3164", "w".repeat(300), "=cmd|'/c calc'!A1", INVALID
        + " \u0085\u2028\u2029"};

    // How it is stored

    /** Stores the executions as runs do, in a repository of its own. @return the URL of the repository */
    static String store(List<Made> executions, Path directory) throws Exception {
        String url = "jdbc:sqlite:" + Files.createDirectories(directory).resolve("executions.db");
        Map<Made, Long> ids = new IdentityHashMap<>();
        try (Repository repository = Repository.open(Database.parse(url, Map.of("XDG_STATE_HOME", directory.toString(),
                "HOME", directory.toString())), true)) {
            for (Made made : executions) {
                store(repository, made, ids);
            }
        }
        try (Connection connection = DriverManager.getConnection(url); PreparedStatement update =
            connection.prepareStatement( "UPDATE taskrunner_execution SET end_time = ? WHERE job_execution_id = ?")) {
            connection.setAutoCommit(false);
            for (Map.Entry<Made, Long> made : ids.entrySet()) {
                if (made.getKey().evidence != null) {
                    // what died long ago would have ended now
                    update.setString(1, time(made.getKey().ended));
                    update.setLong(2, made.getValue());
                    update.executeUpdate();
                }
            }
            connection.commit();
        }
        return url;
    }

    /** Copies all executions, each time a little older and with steps of their own, for volume. */
    static void multiply(String url, int times) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url); Statement statement =
            connection.createStatement()) {
            connection.setAutoCommit(false);
            ResultSet max = statement.executeQuery("SELECT MAX(jobexecutionid) FROM job_execution");
            long count = max.getLong(1);
            max.close();
            for (int i = 1; i < times; i++) {
                String shift = Long.toString(i * count);
                for (String table : List.of("job_instance", "job_execution", "step_execution",
                    "taskrunner_execution")) {
                    List<String> names = new ArrayList<>();
                    List<String> values = new ArrayList<>();
                    try (ResultSet columns = statement.executeQuery("SELECT name FROM pragma_table_info('" + table
                        + "')")) {
                        while (columns.next()) {
                            String name = columns.getString(1);
                            names.add(name);
                            values.add(name.matches("jobinstanceid|jobexecutionid|job_execution_id|restarted_from")
                                ? name + " + " + shift : name.equals("stepexecutionid") ? "NULL" : name.equals("run_id")
                                ? name + " || 'c" + i + "'" : name.matches("create_time|acquired|start_time|end_time")
                                ? "strftime('%Y-%m-%dT%H:%M:%fZ', " + name + ", '-" + i + " seconds')" : name);
                        }
                    }
                    statement.executeUpdate("INSERT INTO " + table + " (" + String.join(", ", names) + ") SELECT "
                        + String.join(", ", values) + " FROM " + table + " WHERE "
                        + (table.equals("job_instance") ? "jobinstanceid" : table.equals("taskrunner_execution")
                        ? "job_execution_id" : "jobexecutionid") + " <= " + count);
                }
            }
            connection.commit();
        }
    }

    private static void store(Repository repository, Made made, Map<Made, Long> ids) throws Exception {
        int number = ids.size() + 1;
        String run = time(made.requested).replaceAll("[-:.]", "") + "-" + number + "-" + String.format("%06x", number);
        Path output = OutputFile.of(repository.database().stateDirectory(), run);
        RequestRow request = new RequestRow(run, made.user, 1000L, null, made.host, null, "b00t", "pid:[1]", number,
            number, made.task, made.command, made.threshold, made.task.replace(".lock", ".count"), Map.of(),
            time(made.requested), output.toString(), made.restarts == null ? null : ids.get(made.restarts), null);
        long id = repository.request(request, false);
        ids.put(made, id);
        if (made.output != null) {
            Files.createDirectories(output.getParent());
            Files.write(output, made.output.getBytes(StandardCharsets.UTF_8));
            if (made.output.contains(INVALID)) {
                Files.write(output, new byte[] {'\n', (byte) 0xff, (byte) 0xfe, (byte) 0xc3, '\n'},
                    StandardOpenOption.APPEND);
            }
        }
        List<StepRow> steps = steps(made);
        if (made.ended == null || made.evidence != null) {
            repository.acquired(id, time(made.acquired), null, steps);
            if (made.evidence != null) {
                repository.reconcile(id, made.batchStatus, made.exitStatus, made.evidence);
            }
        } else {
            Long millis = made.acquired == null ? null : Duration.between(made.acquired, made.ended).toMillis();
            repository.end(request, new ResultRow(made.batchStatus, made.exitStatus, time(made.acquired), null,
                time(made.acquired), millis, made.exitCode, made.contentions, made.holder, made.message, null,
                time(made.ended)), steps);
        }
    }

    private static List<StepRow> steps(Made made) {
        Instant acquired = made.acquired;
        if (acquired == null) {
            boolean contended = made.holder != null;
            return List.of(new StepRow("acquireLock", time(made.requested), time(made.ended), contended ? "COMPLETED"
                : "FAILED", contended ? "CONTENDED" : made.exitStatus));
        }
        boolean succeeded = "SUCCEEDED".equals(made.exitStatus);
        List<StepRow> steps = new ArrayList<>(List.of( new StepRow("acquireLock", time(made.requested), time(acquired),
            "COMPLETED", "ACQUIRED"), new StepRow("resetCounter", time(acquired), time(acquired), "COMPLETED", "RESET"),
            new StepRow("runCommand", time(acquired), made.evidence == null ? time(made.ended) : null,
            made.ended == null || made.evidence != null ? "STARTED" : succeeded ? "COMPLETED" : made.batchStatus,
            made.exitStatus)));
        if (made.ended != null && made.evidence == null) {
            steps.add(new StepRow("releaseLock", time(made.ended), time(made.ended), "COMPLETED", "COMPLETED"));
        }
        return steps;
    }

    private static String time(Instant time) {
        return time == null ? null : Repository.time(time);
    }

    // Thirty tasks

    private record Job(String name, String command, String user, int threshold, List<String> hosts, Duration period,
        Duration takes, double spread) {
    }

    private List<Job> jobs() {
        List<String> all = new ArrayList<>();
        for (String kind : List.of("db", "app", "web", "etl")) {
            for (int i = 1; i <= 3; i++) {
                all.add(kind + i);
            }
        }
        Duration day = Duration.ofDays(1);
        Duration hour = Duration.ofHours(1);
        List<Job> jobs = new ArrayList<>(List.of( new Job("nightly-backup",
            "/usr/local/sbin/backup --full --target s3://backups/$(hostname)", "root", 2, all, day,
            Duration.ofMinutes(38), .3), new Job("import-orders",
            "/opt/shop/bin/import --source sftp://partner/orders --delete-after", "shop", 5, List.of("app1"), hour,
            Duration.ofMinutes(6), .6), new Job("sync-crm", "cd /srv/crm && ./sync.sh | tee -a sync.log", "crm", 3,
            List.of("app2"), hour.multipliedBy(2), Duration.ofMinutes(9), .4), new Job("reindex-search",
            "/opt/search/bin/reindex --incremental", "search", 4, List.of("app3"), hour.multipliedBy(3),
            Duration.ofSeconds(40), 2.2), new Job("rotate-logs", "/usr/sbin/logrotate /etc/logrotate.conf", "root", 0,
            List.of("web1", "web2", "web3"), day, Duration.ofMillis(850), .5), new Job("vacuum-analyze",
            "vacuumdb --all --analyze-in-stages", "postgres", 1, List.of("db1"), day, Duration.ofMinutes(52), .3),
            new Job("eod-report", "java -jar /opt/reports/eod.jar --date yesterday --mail finance@example.org",
            "reports", 2, List.of("etl1"), day, Duration.ofMinutes(17), .3), new Job("renew-certificates",
            "certbot renew --quiet --deploy-hook 'systemctl reload nginx'", "root", 2, List.of("web1"),
            hour.multipliedBy(12), Duration.ofSeconds(14), .4), new Job("load-warehouse",
            "dbt run --profiles-dir /etc/dbt --target prod", "etl", 2, List.of("etl2"), hour.multipliedBy(6),
            Duration.ofMinutes(41), .2), new Job("mail-digest", "php /var/www/app/artisan digest:send", "www-data", 3,
            List.of("app1"), day, Duration.ofMinutes(3), .5)));
        String[] names = {"purge-sessions", "price-feed", "thumbnail-queue", "geoip-update", "stock-levels",
            "invoice-pdf", "fraud-scores", "cache-warmup", "ldap-sync", "dns-export", "wal-archive-check",
            "antivirus-scan", "disk-usage", "partner-feed", "loyalty-points", "gdpr-erasure", "newsletter",
            "currency-rates", "audit-export", "backup-verify"};
        for (int i = 0; i < names.length; i++) {
            jobs.add(new Job(names[i], "/opt/jobs/" + names[i] + " --env production", i % 3 == 0 ? "jobs" : "shop",
                i % 4 + 1, List.of(all.get(i % 12)), i % 5 == 0 ? hour.multipliedBy(3) : i % 5 == 1
                ? hour.multipliedBy(8) : day, Duration.ofSeconds((long) Math.pow(2.1, i % 11) + 1), .2 + i % 4 * .15));
        }
        return jobs;
    }

    private void month(Job job) {
        Instant first = end.minus(Duration.ofDays(days)).truncatedTo(ChronoUnit.HOURS);
        for (int h = 0; h < job.hosts.size(); h++) {
            Instant at = first.plus(Duration.ofMinutes(Math.floorMod(job.name.hashCode(), (int) Math.min(300,
                job.period.toMinutes())) + 3L * h));
            for (; at.isBefore(end.minus(isWrong(job) ? Duration.ofHours(3) : Duration.ofMinutes(20))); at =
                at.plus(job.period)) {
                at = at.plusMillis(random.nextInt(1500));
                at = eventful(job, job.hosts.get(h), at);
            }
        }
        present(job);
    }

    /** An ordinary run most of the time. @return when the lock is free again, at the least the time given */
    private Instant eventful(Job job, String host, Instant at) {
        long day = Duration.between(at, end).toDays();
        if (day > 1 && job.name.equals("import-orders") && (day == 19 || day == 3) && random.nextInt(3) == 0) {
            return storm(job, host, at, Duration.ofHours(4 + random.nextInt(5)));
        }
        if (job.name.equals("renew-certificates") && day < Math.max(3, days * 3 / 10)) {
            return at;
        }
        if (job.name.equals("nightly-backup") && host.equals("db3") && day < 4) {
            run(job, host, at, "EXIT_28", 1, null);
            return at;
        }
        int luck = day < 1 ? 500 : random.nextInt(33 * days);
        if (luck < 25) {
            Made failed = run(job, host, at, luck < 15 ? "EXIT_" + (1 + random.nextInt(3)) : "SIGNAL_11", .5, null);
            if (luck % 2 == 0) {
                run(job, host, failed.ended.plus(Duration.ofMinutes(25)), luck % 4 == 0 ? "EXIT_1" : "SUCCEEDED", 1,
                    failed);
            }
        } else if (luck < 31) {
            run(job, host, at, "TIMEOUT", 4, null);
        } else if (luck < 37) {
            run(job, host, at, "KILLED", 3, null);
        } else if (luck < 42) {
            run(job, host, at, luck < 40 ? "STOPPED" : "ABANDONED", 2, null);
        } else if (luck < 45) {
            add(job, host, at, null, at.plusMillis(60), "FAILED", luck == 43 ? "LOCK_ERROR" : "COUNTER_ERROR",
                luck == 43 ? 73 : 65, null, null, luck == 43 ? "cannot create lock file /run/lock/" + job.name
                + ".lock: permission denied" : "counter file /var/tmp/" + job.name
                + ".count contains 'hello', not a number; nothing was run or changed", null, null);
        } else if (luck < 47) {
            run(job, host, at, "LOST", 1, null);
        } else if (luck < 50) {
            run(job, host, at, "EXIT_127", .001, null);
        } else if (luck < 75 && job.threshold > 0) {
            Made run = run(job, host, at, "SUCCEEDED", 1.7, null);
            contention(job, host, run.requested.plusMillis(Duration.between(run.requested, run.ended).toMillis() / 2),
                run, 1, false);
        } else {
            run(job, host, at, "SUCCEEDED", job.name.equals("load-warehouse") ? 1 + (days - day) * .01 : 1, null);
        }
        return at;
    }

    /** It hangs while it is asked for every five minutes. */
    private Instant storm(Job job, String host, Instant at, Duration hangs) {
        Made hung = add(job, host, at, at.plusMillis(25), at.plus(hangs), "STOPPED", "STOPPED", 143, 0L, null,
            "stopped by SIGTERM after " + Text.duration(hangs.toMillis()) + ", all processes of the command are gone: "
            + job.command, null, null);
        storm(job, host, hung, at.plus(hangs));
        return at.plus(hangs);
    }

    private void storm(Job job, String host, Made holder, Instant until) {
        int count = 0;
        for (Instant at = holder.requested.plus(Duration.ofMinutes(5)); at.isBefore(until); at =
            at.plus(Duration.ofMinutes(5))) {
            count = count > job.threshold ? 0 : count + 1;
            contention(job, host, at, holder, count, count == 0);
        }
    }

    private void contention(Job job, String host, Instant at, Made holder, int count, boolean reported) {
        String held = "pid 4711 (" + holder.user + "@" + host + ") since "
            + holder.acquired.truncatedTo(ChronoUnit.SECONDS);
        add(job, host, at, null, at.plusMillis(40), reported ? "FAILED" : "COMPLETED", reported ? "THRESHOLD_EXCEEDED"
            : "CONTENDED", reported ? 75 : 0, (long) count, held, "lock /run/lock/" + job.name + ".lock is held by "
            + held + "; contention " + (reported ? job.threshold + 1 + " exceeds threshold " : count + ", threshold ")
            + job.threshold + (reported ? "; if it is stuck: kill 4711" : ""), null, null);
    }

    private static boolean isWrong(Job job) {
        return List.of("sync-crm", "eod-report", "vacuum-analyze", "load-warehouse").contains(job.name);
    }

    /** What is wrong at the end. */
    private void present(Job job) {
        String host = job.hosts.get(0);
        switch (job.name) {
            case "sync-crm" -> storm(job, host, add(job, host, end.minus(Duration.ofMinutes(161)),
                end.minus(Duration.ofMinutes(161)).plusMillis(30), null, "STARTED", null, 0, null, null, null, null,
                null), end.minus(Duration.ofMinutes(2)));
            case "eod-report" -> run(job, host, end.minus(Duration.ofMinutes(150)), "KILLED", 1, null);
            case "vacuum-analyze" -> run(job, host, end.minus(Duration.ofMinutes(178)), "TIMEOUT", 2.5, null);
            case "load-warehouse" -> run(job, host, end.minus(Duration.ofMinutes(175)), "SUCCEEDED", 9, null);
            case "antivirus-scan" -> run(job, host, end.minus(Duration.ofSeconds(2)), null, 1, null);
            default -> {
            }
        }
    }

    /** @param factor of the usual duration @param exitStatus null: it runs still */
    private Made run(Job job, String host, Instant at, String exitStatus, double factor, Made restarts) {
        long millis = Math.max(3,
            (long) (job.takes.toMillis() * factor * Math.exp(random.nextGaussian() * job.spread)));
        Instant acquired = at.plusMillis(12 + random.nextInt(30));
        millis = Math.min(millis, Duration.between(acquired, end).toMillis() - 1000);
        Instant ended = exitStatus == null ? null : acquired.plusMillis(millis);
        String after = " after " + Text.duration(millis);
        String batchStatus = exitStatus == null ? "STARTED" : exitStatus.equals("SUCCEEDED") ? "COMPLETED"
            : exitStatus.equals("STOPPED") || exitStatus.equals("ABANDONED") ? exitStatus : "FAILED";
        String message = exitStatus == null ? null : switch (exitStatus) {
            case "SUCCEEDED" -> "command succeeded" + after + ": " + job.command;
            case "TIMEOUT" -> "command timed out" + after + ": " + job.command;
            case "STOPPED" -> "stopped by SIGTERM" + after + ", all processes of the command are gone: " + job.command;
            case "KILLED", "LOST" -> null;
            case "ABANDONED" -> "abandoned by ops@" + host + " (uid 1000): host was taken out of service";
            case "SIGNAL_11" -> "command failed with status 139 (signal SEGV)" + after + ": " + job.command;
            default -> "command failed with status " + exitStatus.substring(5) + after + ": " + job.command;
        };
        String evidence = "KILLED".equals(exitStatus) ? random.nextBoolean() ? "its runner, pid 20"
            + random.nextInt(999) + ", is dead" : "the host was rebooted since (boot id 5f1e0a52)"
            : "LOST".equals(exitStatus) ? "may lie in the spool of " + job.user + " on " + host : null;
        int exitCode = exitStatus == null || exitStatus.equals("SUCCEEDED") ? 0 : exitStatus.equals("TIMEOUT") ? 124
            : exitStatus.startsWith("EXIT_") ? Integer.parseInt(exitStatus.substring(5))
            : exitStatus.startsWith("SIGNAL_") ? 139 : 143;
        return add(job, host, at, acquired, ended, batchStatus, exitStatus, exitCode, job.threshold > 0 && ended != null
            ? 0L : null, null, message, evidence, restarts);
    }

    private Made add(Job job, String host, Instant at, Instant acquired, Instant ended, String batchStatus,
        String exitStatus, int exitCode, Long contentions, String holder, String message, String evidence,
        Made restarts) {
        String output = acquired == null ? null : "reading configuration\n" + job.name + ": " + random.nextInt(9000)
            + " records\n" + ("SUCCEEDED".equals(exitStatus) ? "done\n"
            : "ERROR: connection reset by peer (attempt 3 of 3)\n");
        Made execution = new Made("/run/lock/" + job.name + ".lock", host, job.user, job.command, job.threshold, at,
            acquired, ended, batchStatus, exitStatus, exitCode, contentions, holder, message, evidence, restarts,
            output);
        made.add(execution);
        return execution;
    }
}
