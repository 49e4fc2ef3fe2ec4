import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.junit.jupiter.api.Test;

/** {@code --metrics-file}. */
class MetricsTest extends TaskTest {
    @Test
    void prometheusTextFormat() throws IOException {
        Path metrics = directory.resolve("task.prom");
        task.request("sleep 0.1", "--metrics-file", metrics.toString()).run().exitedWith(0);
        String label = "lockfile=\"" + task.lock + "\"";
        String text = Program.read(metrics);
        assertEquals("""
            # HELP taskrunner_running 1 from the start of the command to its end
            # TYPE taskrunner_running gauge
            taskrunner_running{@} 0
            # HELP taskrunner_last_start_timestamp_seconds when the command was last started
            # TYPE taskrunner_last_start_timestamp_seconds gauge
            taskrunner_last_start_timestamp_seconds{@} TIME
            # HELP taskrunner_last_success_timestamp_seconds when the command last succeeded, 0 before the first time
            # TYPE taskrunner_last_success_timestamp_seconds gauge
            taskrunner_last_success_timestamp_seconds{@} TIME
            # HELP taskrunner_last_duration_seconds how long the command last ran
            # TYPE taskrunner_last_duration_seconds gauge
            taskrunner_last_duration_seconds{@} TIME
            # HELP taskrunner_last_exit_status exit status of the last run, report or error
            # TYPE taskrunner_last_exit_status gauge
            taskrunner_last_exit_status{@} 0
            # HELP taskrunner_last_cpu_seconds CPU time of the last run, of the processes that it waited for
            # TYPE taskrunner_last_cpu_seconds gauge
            taskrunner_last_cpu_seconds{mode="user",@} TIME
            taskrunner_last_cpu_seconds{mode="system",@} TIME
            # HELP taskrunner_contentions contentions since the lock was last acquired; at a report the number reported
            # TYPE taskrunner_contentions gauge
            taskrunner_contentions{@} 0
            # HELP taskrunner_threshold contentions that are tolerated
            # TYPE taskrunner_threshold gauge
            taskrunner_threshold{@} 2
            # HELP taskrunner_runs_total runs of the command by their outcome; errors without a run as well
            # TYPE taskrunner_runs_total counter
            taskrunner_runs_total{outcome="succeeded",@} 1
            taskrunner_runs_total{outcome="failed",@} 0
            taskrunner_runs_total{outcome="timeout",@} 0
            taskrunner_runs_total{outcome="stopped",@} 0
            taskrunner_runs_total{outcome="error",@} 0
            taskrunner_runs_total{outcome="lost",@} 0
            # HELP taskrunner_contentions_total requests that found the lock held
            # TYPE taskrunner_contentions_total counter
            taskrunner_contentions_total{@} 0
            # HELP taskrunner_reports_total contentions that were reported as an error
            # TYPE taskrunner_reports_total counter
            taskrunner_reports_total{@} 0
            """.replace("@", label), text.replaceAll("\\} [0-9]+\\.[0-9]{3}\n", "} TIME\n"));
        Map<String, Double> first = metrics(metrics);
        double now = System.currentTimeMillis() / 1000.0;
        assertTrue(Math.abs(now - first.get("last_start_timestamp_seconds")) < 60, text);
        assertTrue(first.get("last_duration_seconds") >= 0.1, text);
        assertEquals(first.get("last_start_timestamp_seconds") + first.get("last_duration_seconds"),
            first.get("last_success_timestamp_seconds"), 0.002, text);

        task.request("exit 3", "--metrics-file", metrics.toString()).run().exitedWith(3);
        Map<String, Double> failed = metrics(metrics);
        assertEquals(first.get("last_success_timestamp_seconds"), failed.get("last_success_timestamp_seconds"));
        assertTrue(failed.get("last_start_timestamp_seconds") > first.get("last_start_timestamp_seconds"));
        assertEquals(3, failed.get("last_exit_status"));

        Running holder = task.hold();
        task.request("true", "--metrics-file", metrics.toString()).run().exitedWith(0);
        Map<String, Double> contended = new TreeMap<>(failed);
        contended.put("contentions", 1.0);
        contended.put("contentions_total", 1.0);
        assertEquals(contended, metrics(metrics));
        task.finish(holder);
        assertEquals("rw-r--r--",
            java.nio.file.attribute.PosixFilePermissions.toString(Files.getPosixFilePermissions(metrics)));
        assertFalse(Files.exists(directory.resolve("task.prom.tmp")));
    }

    @Test
    void reservedCharactersAreEscapedInTheLabel() throws IOException {
        Path metrics = directory.resolve("task.prom");
        taskrunner("--command", "true", "--lockfile", directory + "/a\"b\\c\nd.lock", "--threshold", "1",
            "--counter-file",
            task.counter.toString(), "--metrics-file", metrics.toString()).run().exitedWith(0);
        assertTrue(Program.read(metrics).contains("taskrunner_threshold{lockfile=\"" + directory
            + "/a\\\"b\\\\c\\nd.lock\"} 1\n"),
            Program.read(metrics));
    }

    @Test
    void unwritableMetricsDoNotChangeTheOutcome() throws IOException {
        Path nowhere = directory.resolve("no/task.prom");
        task.request("echo ran", "--metrics-file", nowhere.toString()).run().exitedWith(0).outIs("ran\n")
            .errContains("WARN")
            .errContains("cannot write metrics file " + nowhere + ": ").errContains("no such directory: ");
        Path mine = Files.writeString(directory.resolve("task.prom.tmp"), "my notes\n");
        task.request("exit 3", "--metrics-file", directory + "/task.prom").run().exitedWith(3)
            .errContains("cannot write metrics file");
        assertEquals("my notes\n", Program.read(mine));
    }

    @Test
    void aRunIsSeenFromItsStartAndCountersSurvive() {
        Path file = directory.resolve("task.prom");
        String[] metrics = {"--metrics-file", file.toString()};
        task.threshold = 0;
        task.request("exit 3", metrics).run().exitedWith(3);
        assertEquals(List.of(0.0, 0.0),
            List.of(sample(file, "running{"), sample(file, "last_success_timestamp_seconds{")));
        task.threshold = 1;
        Running holder = task.hold(metrics);
        Program.await("the start is written", () -> sample(file, "running{") == 1);
        assertEquals(3, sample(file, "last_exit_status{"));
        for (int status : new int[] {0, 0, 75}) {
            task.request("true", metrics).run().exitedWith(status);
        }
        assertEquals(List.of(1.0, 3.0, 3.0, 1.0, 75.0), List.of(sample(file, "running{"), sample(file, "contentions{"),
            sample(file, "contentions_total{"), sample(file, "reports_total{"), sample(file, "last_exit_status{")));
        task.finish(holder);
        task.request("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done", metrics).run().exitedWith(0);
        assertEquals(List.of(0.0, 0.0, 2.0, 1.0, 0.0), List.of(sample(file, "running{"), sample(file, "contentions{"),
            sample(file, "runs_total{outcome=\"succeeded\","), sample(file, "runs_total{outcome=\"failed\","),
            sample(file, "runs_total{outcome=\"timeout\",")));
        assertTrue(sample(file, "last_cpu_seconds{mode=\"user\",") > 0, Program.read(file));
        task.request("true", "--lockfile", directory.resolve("other.lock").toString(), "--metrics-file",
            file.toString()).run();
        assertEquals(1, sample(file, "runs_total{outcome=\"succeeded\","), "counters are a task's");
    }

    @Test
    void aDamagedOrStrangeFileIsNoSourceOfCounters() throws IOException {
        Path file = Files.writeString(directory.resolve("task.prom"), "taskrunner_reports_total{lockfile=\"" + task.lock
            + "\"} x\n"
            + "taskrunner_contentions_total{lockfile=\"" + task.lock + "\"} 7\n" + "x".repeat(100_000));
        task.request("true", "--metrics-file", file.toString()).run().exitedWith(0);
        assertEquals(List.of(0.0, 7.0), List.of(sample(file, "reports_total{"), sample(file, "contentions_total{")));
        shell("chown 65534 task.prom");
        task.request("true", "--metrics-file", file.toString()).run().exitedWith(0);
        assertEquals(List.of(0.0, 1.0),
            List.of(sample(file, "contentions_total{"), sample(file, "runs_total{outcome=\"succeeded\",")));
    }

    private double sample(Path file, String name) {
        String line = "taskrunner_" + name + "lockfile=\"";
        return Program.read(file).lines().filter(text -> text.startsWith(line))
            .mapToDouble(text -> Double.parseDouble(text.substring(text.lastIndexOf(' ')))).findFirst().orElseThrow();
    }

    private static Map<String, Double> metrics(Path file) {
        Map<String, Double> values = new TreeMap<>();
        Matcher line = Pattern.compile("(?m)^taskrunner_([a-z_]+)\\{lockfile=\"[^\"]*\"\\} ([0-9.]+)$")
            .matcher(Program.read(file));
        while (line.find()) {
            values.put(line.group(1), Double.valueOf(line.group(2)));
        }
        return values;
    }
}
