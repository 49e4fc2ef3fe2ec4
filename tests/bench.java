///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES Project.java
//DEPS org.xerial:sqlite-jdbc:3.53.4.0
//DEPS org.postgresql:postgresql:42.7.13

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/**
 * Measures what a run costs: {@code ./jbang tests/bench.java [ROUNDS [URL…]]}, where the URLs are those of empty
 * PostgreSQL databases, two for each JDK. Every figure is the median of rounds in which all rows take turns, and the
 * ratio to the first row in the same rounds, such as the floor: a JVM of the same JDK with the same options that prints
 * one line.
 */
public class bench {
    private static final Path FOLDER = directory();
    private static final int FEW = 100;
    private static final int MANY = 1_000_000;
    private static final List<String> SERVER = new ArrayList<>();

    public static void main(String[] args) throws Exception {
        int rounds = args.length > 0 ? Integer.parseInt(args[0]) : 15;
        SERVER.addAll(Arrays.asList(args).subList(Math.min(1, args.length), args.length));
        Files.createFile(FOLDER.resolve("held.lock"));
        Files.createDirectory(FOLDER.resolve("floor"));
        for (String name : new String[] {"bench$Hello.class", "bench$Waiter.class"}) {
            Files.copy(bench.class.getResourceAsStream(name), FOLDER.resolve("floor").resolve(name));
        }
        System.out.println(rounds + " rounds, " + Runtime.getRuntime().availableProcessors() + " processors, "
            + System.getProperty("os.name")
            + "; milliseconds");
        for (Map.Entry<Integer, Path> jdk : jdks().entrySet()) {
            new bench(jdk.getKey(), jdk.getValue()).measure(rounds);
        }
    }

    /** What every JVM costs. */
    static final class Hello {
        public static void main(String[] args) {
            System.out.println("hello");
        }
    }

    /** What every JVM costs that waits for a process. */
    static final class Waiter {
        public static void main(String[] args) throws Exception {
            System.exit(new ProcessBuilder("/bin/sh", "-c", args[0]).inheritIO().start().waitFor());
        }
    }

    private final int feature;
    private final Path home;
    private final List<String> virtualMachine = new ArrayList<>();
    private final String script;
    private final String batch;
    private final String stock;
    private final String installed;
    private final String installedBatch;

    private bench(int feature, Path home) throws IOException, InterruptedException {
        this.feature = feature;
        this.home = home;
        virtualMachine.add(home.resolve("bin/java").toString());
        virtualMachine.addAll(Project.scriptOptions());
        script = classPath("taskrunner.java");
        batch = classPath("batch/taskrunnerbatch.java");
        stock = classPath("tests/stock/stock.java");
        Path bin = FOLDER.resolve("bin" + feature);
        run(join(jvm(script, "taskrunner"), "install", "--bin", bin.toString()));
        run(join(jvm(batch, "taskrunnerbatch"), "install", "--bin", bin.toString()));
        installed = bin.resolve("taskrunner").toString();
        installedBatch = bin.resolve("taskrunner-batch").toString();
    }

    /** The class path with which JBang runs the script; compiled if need be. */
    private String classPath(String source) throws IOException, InterruptedException {
        List<String> jbang = List.of("env", "JAVA_HOME=" + home, Project.ROOT + "/jbang");
        run(join(jbang, "build", Project.ROOT.resolve(source).toString()));
        run(join(jbang, "info", "classpath", Project.ROOT.resolve(source).toString()));
        String[] lines = Files.readString(FOLDER.resolve("out")).strip().split("\n");
        return lines[lines.length - 1];
    }

    private void measure(int rounds) throws Exception {
        Map<String, List<String>> rows = new LinkedHashMap<>();
        rows.put("JVM floor: hello world", jvm(FOLDER.resolve("floor").toString(), "bench$Hello"));
        rows.put("JVM that waits for `true`", jvm(FOLDER.resolve("floor").toString(), "bench$Waiter", "true"));
        if (new File("/usr/bin/flock").exists()) {
            rows.put("`flock -n` of `true`", List.of("/usr/bin/flock", "-n", FOLDER + "/flock.lock", "true"));
        }
        if (succeeds("python3", "-c", "")) {
            rows.put("the same in Python: exclusive create, run, remove",
                List.of("python3", "-c", "import os,subprocess,sys\n"
                + "os.close(os.open(sys.argv[1], os.O_CREAT|os.O_EXCL))\ns = subprocess.call(sys.argv[2], shell=True)\n"
                + "os.unlink(sys.argv[1])\n"
                + "sys.exit(s)", FOLDER + "/python.lock", "true"));
        }
        for (boolean plain : new boolean[] {false, true}) {
            String how = plain ? "plain jar" : "installed";
            List<String> program = plain ? jvm(script, "taskrunner") : List.of(installed);
            rows.put(how + ": run of `true`", request(program, "free"));
            rows.put(how + ": run of `true`, --quiet", join(request(program, "free"), "--quiet"));
            rows.put(how + ": contention", request(program, "held"));
            rows.put(how + ": status", join(program, "status", "--lockfile", FOLDER + "/free.lock"));
        }
        table(rows, rounds);
        Path hello = Files.createDirectories(FOLDER.resolve("hello")).resolve("hello.java");
        Files.writeString(hello, """
            //JAVA 17+
            //DEPS info.picocli:picocli:4.7.7
            @picocli.CommandLine.Command
            public class hello implements Runnable {
                public static void main(String[] args) {
                    System.exit(new picocli.CommandLine(new hello()).execute(args));
                }
                public void run() { System.out.println("hello"); }
            }
            """);
        List<String> jbang = List.of("env", "JAVA_HOME=" + home, Project.ROOT + "/jbang");
        Map<String, List<String>> throughJBang = new LinkedHashMap<>();
        throughJBang.put("`./jbang` of a hello world with picocli", join(jbang, hello.toString()));
        throughJBang.put("`./jbang taskrunner.java`: run of `true`",
            request(join(jbang, Project.ROOT + "/taskrunner.java"), "free"));
        table(throughJBang, Math.max(3, rounds / 2));
        footprint();
        throughput();
        batch(Math.max(3, rounds / 2));
    }

    /** The batch variant against the stock set-up, and with many executions in its repository. */
    private void batch(int rounds) throws Exception {
        String few = "jdbc:sqlite:" + FOLDER + "/few" + feature + ".db";
        List<String> plain = jvm(batch, "taskrunnerbatch");
        Map<String, List<String>> rows = new LinkedHashMap<>();
        rows.put("JBeret SE, Weld and an H2 file, as its guide shows",
            List.of(home.resolve("bin/java").toString(), "-cp", stock, "stock"));
        rows.put("the same with taskrunner's JVM options", jvm(stock, "stock"));
        rows.put("taskrunner-batch, plain jars: run of `true`", join(request(plain, "batch"), "--repository", few));
        rows.put("taskrunner-batch, installed: run of `true`",
            join(request(List.of(installedBatch), "batch"), "--repository", few));
        table(rows, rounds);
        Map<String, List<String>> both = new LinkedHashMap<>();
        both.put("installed: run of `true`", request(List.of(installed), "free"));
        both.put("taskrunner-batch, installed: run of `true`",
            join(request(List.of(installedBatch), "batch"), "--repository", few));
        table(both, rounds);
        flatness(rounds, "jdbc:sqlite:" + FOLDER + "/hundred" + feature + ".db",
            "jdbc:sqlite:" + FOLDER + "/million" + feature + ".db");
        if (SERVER.size() >= 2) {
            flatness(rounds, SERVER.remove(0), SERVER.remove(0));
        }
    }

    /** What a run and a report cost with many executions in the repository, against few. */
    private void flatness(int rounds, String few, String many) throws Exception {
        Map<String, List<String>> runs = new LinkedHashMap<>();
        Map<String, List<String>> reports = new LinkedHashMap<>();
        for (String url : List.of(few, many)) {
            List<String> request = join(request(List.of(installedBatch), "batch"), "--repository", url);
            run(request);
            int executions = url.equals(few) ? FEW : MANY;
            fill(url, executions);
            String where = url.replaceAll("^jdbc:([a-z]+):.*", "$1") + ", " + executions + " executions: ";
            runs.put(where + "run of `true`", request);
            reports.put(where + "history --limit 20", List.of(installedBatch, "history", "--limit", "20",
                "--repository", url));
        }
        table(runs, rounds);
        table(reports, rounds);
    }

    /** Copies the execution that the database holds, with its steps, until it has so many. */
    private static void fill(String url, int executions) throws SQLException {
        try (Connection connection = DriverManager.getConnection(url); Statement statement =
            connection.createStatement()) {
            connection.setAutoCommit(false);
            long first;
            try (ResultSet one = statement.executeQuery("SELECT min(job_execution_id) FROM taskrunner_execution")) {
                first = one.next() ? one.getLong(1) : 0;
            }
            for (String[] table : new String[][] {{"job_instance", "jobinstanceid", ""},
                {"job_execution", "jobexecutionid", "jobinstanceid"},
                {"step_execution", "stepexecutionid", "jobexecutionid"},
                {"taskrunner_execution", "job_execution_id", "run_id"}}) {
                List<String> columns = new ArrayList<>();
                List<String> values = new ArrayList<>();
                try (ResultSet none = statement.executeQuery("SELECT * FROM " + table[0] + " WHERE 1 = 0")) {
                    ResultSetMetaData all = none.getMetaData();
                    for (int i = 1; i <= all.getColumnCount(); i++) {
                        String name = all.getColumnName(i);
                        if (!table[0].equals("step_execution") || !name.equals(table[1])) {
                            columns.add(name);
                            values.add(name.equals("run_id") ? "CAST(n.i AS text)"
                                : name.equals(table[1]) || name.equals(table[2]) ? "n.i" : "t." + name);
                        }
                    }
                }
                statement.executeUpdate("WITH RECURSIVE n(i) AS (SELECT " + (first + 1) + " UNION ALL SELECT i + 1"
                    + " FROM n WHERE i < " + (first + executions - 1) + ") INSERT INTO " + table[0] + " ("
                    + String.join(", ", columns) + ") SELECT " + String.join(", ", values) + " FROM n CROSS JOIN "
                    + table[0] + " t");
                if (url.startsWith("jdbc:postgresql:") && !table[1].equals("job_execution_id")) {
                    statement.execute("SELECT setval(pg_get_serial_sequence('" + table[0] + "', '" + table[1]
                        + "'), max(" + table[1] + ")) FROM " + table[0]);
                }
            }
            connection.commit();
            connection.setAutoCommit(true);
            statement.execute("ANALYZE");
        }
    }

    private List<String> jvm(String classPath, String mainClass, String... arguments) {
        List<String> line = join(virtualMachine, "-cp", classPath, mainClass);
        line.addAll(List.of(arguments));
        return line;
    }

    private static List<String> request(List<String> program, String lock) {
        return join(program, "--command", "true", "--lockfile", FOLDER + "/" + lock + ".lock", "--threshold", "1000000",
            "--counter-file",
            FOLDER + "/" + lock + ".count");
    }

    private static List<String> join(List<String> some, String... more) {
        List<String> all = new ArrayList<>(some);
        all.addAll(List.of(more));
        return all;
    }

    /** All rows take turns; the first is the floor. */
    private void table(Map<String, List<String>> rows, int rounds) throws Exception {
        Map<String, double[]> times = new LinkedHashMap<>();
        for (String row : rows.keySet()) {
            run(rows.get(row));
            times.put(row, new double[rounds]);
        }
        for (int round = 0; round < rounds; round++) {
            for (String row : rows.keySet()) {
                times.get(row)[round] = run(rows.get(row));
            }
        }
        double[] floor = times.values().iterator().next();
        System.out.printf("%n| JDK %-62d | median | least | ratio |%n|%s|---|---|---|%n", feature, "-".repeat(68));
        for (Map.Entry<String, double[]> row : times.entrySet()) {
            System.out.printf("| %-66s | %6.1f | %5.1f | %5.2f |%n", row.getKey(), median(row.getValue()),
                Arrays.stream(row.getValue()).min().orElseThrow(), median(row.getValue()) / median(floor));
        }
    }

    /** Resident memory and threads while a command runs. */
    private void footprint() throws Exception {
        Map<String, List<String>> rows = new LinkedHashMap<>();
        rows.put("JVM that waits for a process", jvm(FOLDER.resolve("floor").toString(), "bench$Waiter", "sleep 1.5"));
        for (boolean plain : new boolean[] {false, true}) {
            List<String> line = request(plain ? jvm(script, "taskrunner") : List.of(installed), "free");
            line.set(line.indexOf("--command") + 1, "sleep 1.5");
            rows.put((plain ? "plain jar" : "installed") + ", waiting", line);
        }
        List<String> audited = join(request(List.of(installedBatch), "batch"), "--repository", "jdbc:sqlite:" + FOLDER
            + "/few" + feature + ".db");
        audited.set(audited.indexOf("--command") + 1, "sleep 1.5");
        rows.put("taskrunner-batch, installed, waiting", audited);
        double floor = 0;
        System.out.printf("%n| JDK %-41d | resident MiB | threads | ratio |%n|%s|---|---|---|%n", feature,
            "-".repeat(47));
        for (Map.Entry<String, List<String>> row : rows.entrySet()) {
            ProcessBuilder builder = new ProcessBuilder(row.getValue()).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD);
            builder.environment().put("XDG_STATE_HOME", FOLDER.toString());
            Process process = builder.start();
            Thread.sleep(1200);
            double mebibytes = 0;
            String threads = "";
            for (String line : Files.readAllLines(Path.of("/proc/" + process.pid() + "/status"))) {
                if (line.startsWith("VmRSS:")) {
                    mebibytes = Double.parseDouble(line.replaceAll("[^0-9]", "")) / 1024;
                } else if (line.startsWith("Threads:")) {
                    threads = line.replaceAll("[^0-9]", "");
                }
            }
            process.waitFor();
            floor = floor == 0 ? mebibytes : floor;
            System.out.printf("| %-45s | %12.1f | %7s | %5.2f |%n", row.getKey(), mebibytes, threads,
                mebibytes / floor);
        }
    }

    /** How fast 50 contenders that start at once are counted. */
    private void throughput() throws Exception {
        Path counter = FOLDER.resolve("held.count");
        Files.deleteIfExists(counter);
        long start = System.nanoTime();
        List<Process> contenders = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            contenders.add(new ProcessBuilder(request(List.of(installed), "held")).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start());
        }
        for (Process contender : contenders) {
            contender.waitFor();
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf("%nJDK %d: 50 contenders at once counted %s in %.1f s, %.0f a second%n", feature,
            Files.readString(counter).strip(),
            seconds, 50 / seconds);
    }

    /** @return milliseconds from the start to the end of the process */
    private static double run(List<String> line) throws IOException, InterruptedException {
        long start = System.nanoTime();
        ProcessBuilder builder = new ProcessBuilder(line).directory(FOLDER.toFile())
            .redirectOutput(FOLDER.resolve("out").toFile())
            .redirectError(FOLDER.resolve("err").toFile());
        builder.environment().put("XDG_DATA_HOME", FOLDER + "/data" + line.get(0).hashCode());
        builder.environment().put("XDG_STATE_HOME", FOLDER.toString());
        Process process = builder.start();
        if (!process.waitFor(2, TimeUnit.MINUTES) || process.exitValue() != 0) {
            throw new IllegalStateException(line + ": " + Files.readString(FOLDER.resolve("err")));
        }
        return (System.nanoTime() - start) / 1e6;
    }

    private static boolean succeeds(String... line) {
        try {
            run(List.of(line));
            return true;
        } catch (IOException | InterruptedException | IllegalStateException e) {
            return false;
        }
    }

    private static double median(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        return sorted[sorted.length / 2];
    }

    /** This JDK and those installed beside it, one of each feature release from 17 on. */
    private static Map<Integer, Path> jdks() throws IOException {
        Map<Integer, Path> jdks = new TreeMap<>();
        Path own = Path.of(System.getProperty("java.home")).toRealPath();
        for (File home : own.getParent().toFile().listFiles()) {
            Path release = home.toPath().resolve("release");
            if (Files.exists(release) && Files.exists(home.toPath().resolve("bin/javac"))) {
                String version = Files.readString(release).replaceAll("(?s).*JAVA_VERSION=\"([0-9]+).*", "$1");
                jdks.putIfAbsent(Integer.parseInt(version), home.toPath());
            }
        }
        jdks.keySet().removeIf(feature -> feature < 17);
        jdks.put(Runtime.version().feature(), own);
        return jdks;
    }

    private static Path directory() {
        try {
            Path directory = Files.createTempDirectory("taskrunner-bench");
            Runtime.getRuntime().addShutdownHook(new Thread(() -> Project.deleteTree(directory)));
            return directory;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
