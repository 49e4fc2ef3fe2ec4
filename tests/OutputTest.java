import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

class OutputTest extends TaskTest {
    private static final String TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}";


    @Test
    void logLinesAreOnStderrInUtc() {
        Result result = task.request("echo out; echo err >&2").env("TZ", "Asia/Tokyo").run().exitedWith(0).outIs("out\n");
        long now = java.time.Instant.now().getEpochSecond();
        assertTrue(result.err().matches(TIME + "Z INFO taskrunner\\[[0-9]+\\]: running: echo out; echo err >&2\nerr\n"
            + TIME + "Z INFO taskrunner\\[[0-9]+\\]: command succeeded after [0-9.]+s: echo out; echo err >&2\n"), result.err());
        assertTrue(Math.abs(now - java.time.Instant.parse(result.err().substring(0, 20)).getEpochSecond()) < 60, result.err());
    }

    @Test
    void aCommandOfSeveralLinesIsLoggedAsOne() {
        task.request("echo 1\necho 2").run().exitedWith(0).errContains("running: echo 1\\necho 2\n");
    }

    @Test
    void quietPrintsNothingAsLongAsAllIsWell() {
        task.request("echo out; echo err >&2", "--quiet").run().exitedWith(0).outIs("").errIs("");
        task.request("echo out; exit 3", "--quiet", "--exit-zero").run().exitedWith(0).outIs("").errIs("");
        Running holder = task.hold("--quiet");
        task.request("echo out", "--quiet").run().exitedWith(0).outIs("").errIs("");
        assertEquals(1, task.count());
        task.finish(holder).outIs("").errIs("");
        assertNothingHeldBack();
    }

    @Test
    void quietPrintsAllInItsOrderOnStderrWhenSomethingWentWrong() {
        String steps = "echo 1; echo 2 >&2; printf 3; echo 4 >&2; ";
        assertShown(task.request(steps + "exit 3", "--quiet").run().exitedWith(3), "ERROR taskrunner[", "command failed with status 3");
        assertShown(task.request(steps + "sleep 100", "--quiet", "--timeout", "PT0.5S").run().exitedWith(124), "ERROR taskrunner[",
            "command ended by --timeout 0.500s");
        Running running = task.start(task.request(steps + task.markStart() + "; sleep 100", "--quiet"));
        assertEquals("", running.err());
        running.signal("TERM");
        assertShown(running.result().exitedWith(143), "WARN taskrunner[", "stopped by SIGTERM");
        assertNothingHeldBack();
    }

    private static void assertShown(Result result, String level, String outcome) {
        result.outIs("").errContains(" INFO taskrunner[").errContains("\n1\n2\n34\n");
        assertTrue(result.lastErr().contains(level) && result.lastErr().contains(outcome), result.err());
        assertTrue(result.err().indexOf("running: ") < result.err().indexOf("\n1\n2\n34\n"), result.err());
    }

    @Test
    void quietHoldsBackMoreOutputThanTheMemoryHasRoomFor() throws IOException {
        task.request("head -c 50000000 /dev/zero | tr '\\0' x; exit 3", "--quiet").jvm("-Xmx16m")
            .underShell("exec \"$@\" 2> large").run().exitedWith(3).outIs("").errIs("");
        Path large = directory.resolve("large");
        assertTrue(Files.size(large) > 50_000_000 && Files.size(large) < 50_001_000, "size " + Files.size(large));
        Files.delete(large);
        assertNothingHeldBack();
    }

    @Test
    void quietDoesNotWaitForABackgroundProcessThatGoesOnWriting() {
        Path status = directory.resolve("status");
        String writer = "while [ -e " + directory + " ]; do head -c 50000 /dev/zero; sleep 0.01; done & sleep 0.1; exit 3";
        String slowReader = "while [ \"$(head -c 20000 | wc -c)\" -gt 0 ]; do sleep 0.05; done";
        task.request(writer, "--quiet").underShell("{ \"$@\" 2>&1; echo $? > status; } | " + slowReader)
            .run();
        assertEquals("3\n", Program.read(status));
        task.assertFree();
    }

    @Test
    void quietLeavesNoFileBehindWhenItIsKilled() {
        Running running = task.hold("--quiet");
        assertNothingHeldBack();
        running.kill().exitedWith(137);
        assertNothingHeldBack();
        task.finish();
    }

    @Test
    void withoutATemporaryFolderQuietShowsTheOutput() {
        task.request("echo out", "--quiet").jvm("-Djava.io.tmpdir=" + directory.resolve("no")).run().exitedWith(0).outIs("out\n")
            .errContains("WARN").errContains("cannot hold output back in " + directory.resolve("no") + ": no such file or folder; it is shown");
        task.assertFree();
    }

    private void assertNothingHeldBack() {
        assertEquals(List.of(), List.of(directory.resolve("tmp").toFile().list((in, name) -> name.startsWith("taskrunner"))));
    }

    @Test
    void theLogFileIsAppendedToAndErrorsGoToStderrAsWell() throws IOException {
        Path log = directory.resolve("log");
        task.request("echo out", "--log-file", log.toString()).run().exitedWith(0).outIs("out\n").errIs("");
        Result failed = task.request("echo err >&2; exit 3", "--log-file", log.toString()).run().exitedWith(3);
        List<String> lines = Files.readAllLines(log);
        assertEquals(4, lines.size(), lines::toString);
        assertTrue(lines.get(0).endsWith(": running: echo out") && lines.get(1).contains("command succeeded after"), lines::toString);
        assertTrue(lines.get(3).contains("ERROR") && lines.get(3).contains("command failed with status 3"), lines::toString);
        failed.errIs("err\n" + lines.get(3) + "\n");
        task.request("exit 3", "--log-file", log.toString(), "--quiet").run().exitedWith(3).outIs("").errHasNo("running").errContains("ERROR");
    }

    @Test
    void aLogFileThatCannotBeWrittenDoesNotStopTheCommand() throws IOException {
        Path log = Files.createDirectory(directory.resolve("log"));
        task.request("echo ran", "--log-file", log.toString()).run().exitedWith(0).outIs("ran\n")
            .errContains("WARN").errContains("cannot write log file " + log + ": ").errContains("; log lines go to stderr\n")
            .errContains("command succeeded");
        task.request("echo ran", "--log-file", "/dev/full").run().exitedWith(0).outIs("ran\n").errContains("cannot write log file /dev/full: ")
            .errContains("command succeeded");
    }

    @Test
    void inJsonEachLineIsAnObjectAndTheLastIsTheOutcome() throws IOException {
        Path log = directory.resolve("log");
        String[] json = {"--log-format", "json", "--log-file", log.toString()};
        String command = "printf '\"\\\\\t\001'\n:";
        task.request(command, json).run().exitedWith(0).outIs("\"\\\t\001");
        List<Map<String, Object>> lines = jsonLines(log);
        assertEquals(2, lines.size());
        assertEquals(List.of("started", "succeeded"), lines.stream().map(line -> line.get("event")).toList());
        assertEquals(1, lines.stream().map(line -> line.get("run_id")).distinct().count());
        assertTrue(((String) lines.get(0).get("message")).contains("printf '\"\\\\\\t?'\\n:"), lines::toString);
        Map<String, Object> outcome = lines.get(1);
        assertEquals(List.of("INFO", 0L, 2L), List.of(outcome.get("level"), outcome.get("exit_status"), outcome.get("threshold")));
        assertTrue(((String) outcome.get("started")).matches(TIME + "\\.[0-9]{3}Z"));
        assertTrue(outcome.get("duration_seconds") instanceof Double seconds && seconds >= 0 && seconds < 60, outcome::toString);
        assertFalse(outcome.containsKey("signal") || outcome.containsKey("holder"), outcome::toString);

        Files.delete(log);
        task.request("kill -9 $$", json).run().exitedWith(137).errContains(" ERROR taskrunner[");
        outcome = last(log);
        assertEquals(List.of("ERROR", "failed", 137L, "KILL"), List.of(outcome.get("level"), outcome.get("event"), outcome.get("exit_status"),
            outcome.get("signal")));

        Files.delete(log);
        Running holder = task.hold();
        task.request("true", json).run().exitedWith(0).errIs("");
        outcome = last(log);
        assertEquals(List.of("WARN", "contention", 0L, 1L, 2L), List.of(outcome.get("level"), outcome.get("event"), outcome.get("exit_status"),
            outcome.get("count"), outcome.get("threshold")));
        assertEquals(holder.pid(), ((Map<?, ?>) outcome.get("holder")).get("pid"));
        Files.writeString(task.counter, "3\n");
        task.request("true", json).run().exitedWith(75);
        outcome = last(log);
        assertEquals(List.of("ERROR", "threshold", 75L, 0L), List.of(outcome.get("level"), outcome.get("event"), outcome.get("exit_status"),
            outcome.get("count")));
        Files.writeString(task.counter, "no counter");
        task.request("true", json).run().exitedWith(65);
        outcome = last(log);
        assertEquals(List.of("ERROR", "error", 65L), List.of(outcome.get("level"), outcome.get("event"), outcome.get("exit_status")));
        assertFalse(outcome.containsKey("started") || outcome.containsKey("duration_seconds"), outcome::toString);
        task.finish(holder);

        Files.delete(log);
        Files.delete(task.counter);
        task.request("exec sleep 100", json).with("--timeout", "PT0.3S").run().exitedWith(124);
        assertEquals(List.of("timeout", 124L), List.of(last(log).get("event"), last(log).get("exit_status")));
        String err = task.request("exit 3", "--log-format", "json").run().exitedWith(3).err();
        assertEquals(List.of("started", "failed"), err.lines().map(line -> JsonText.object(line).get("event")).toList());
    }

    private static List<Map<String, Object>> jsonLines(Path log) throws IOException {
        List<Map<String, Object>> lines = new ArrayList<>();
        for (String line : Files.readAllLines(log)) {
            Map<String, Object> object = JsonText.object(line);
            assertTrue(object.keySet().containsAll(Set.of("time", "level", "event", "message", "run_id", "lockfile")), line);
            assertTrue(((String) object.get("time")).matches(TIME + "\\.[0-9]{3}Z"), line);
            lines.add(object);
        }
        return lines;
    }

    private static Map<String, Object> last(Path log) throws IOException {
        List<Map<String, Object>> lines = jsonLines(log);
        return lines.get(lines.size() - 1);
    }

    @Test
    void theMetricsFileIsInPrometheusTextFormat() throws IOException {
        Path metrics = directory.resolve("task.prom");
        task.request("sleep 0.1", "--metrics-file", metrics.toString()).run().exitedWith(0);
        String label = "{lockfile=\"" + task.lock + "\"} ";
        String text = Program.read(metrics);
        assertEquals("""
            # HELP taskrunner_last_start_timestamp_seconds when the command was last started
            # TYPE taskrunner_last_start_timestamp_seconds gauge
            taskrunner_last_start_timestamp_seconds@TIME
            # HELP taskrunner_last_success_timestamp_seconds when the command last succeeded
            # TYPE taskrunner_last_success_timestamp_seconds gauge
            taskrunner_last_success_timestamp_seconds@TIME
            # HELP taskrunner_last_duration_seconds how long the command last ran
            # TYPE taskrunner_last_duration_seconds gauge
            taskrunner_last_duration_seconds@TIME
            # HELP taskrunner_last_exit_status exit status of the last run or error
            # TYPE taskrunner_last_exit_status gauge
            taskrunner_last_exit_status@0
            # HELP taskrunner_contentions contentions since the lock was last acquired or the threshold last reported
            # TYPE taskrunner_contentions gauge
            taskrunner_contentions@0
            # HELP taskrunner_threshold contentions that are tolerated
            # TYPE taskrunner_threshold gauge
            taskrunner_threshold@2
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
        assertEquals(contended, metrics(metrics));
        task.finish(holder);
        assertEquals("rw-r--r--", java.nio.file.attribute.PosixFilePermissions.toString(Files.getPosixFilePermissions(metrics)));
        assertFalse(Files.exists(directory.resolve("task.prom.tmp")));
    }

    @Test
    void aNameThatPrometheusReservesIsEscapedInTheLabel() throws IOException {
        Path metrics = directory.resolve("task.prom");
        taskrunner("--command", "true", "--lockfile", directory + "/a\"b\\c\nd.lock", "--threshold", "1", "--counter-file",
            task.counter.toString(), "--metrics-file", metrics.toString()).run().exitedWith(0);
        assertTrue(Program.read(metrics).contains("taskrunner_threshold{lockfile=\"" + directory + "/a\\\"b\\\\c\\nd.lock\"} 1\n"),
            Program.read(metrics));
    }

    @Test
    void metricsThatCannotBeWrittenDoNotChangeTheOutcome() throws IOException {
        Path nowhere = directory.resolve("no/task.prom");
        task.request("echo ran", "--metrics-file", nowhere.toString()).run().exitedWith(0).outIs("ran\n").errContains("WARN")
            .errContains("cannot write metrics file " + nowhere + ": ").errContains("no such file or folder");
        Path mine = Files.writeString(directory.resolve("task.prom.tmp"), "my notes\n");
        task.request("exit 3", "--metrics-file", directory + "/task.prom").run().exitedWith(3).errContains("cannot write metrics file");
        assertEquals("my notes\n", Program.read(mine));
    }

    private static Map<String, Double> metrics(Path file) {
        Map<String, Double> values = new TreeMap<>();
        Matcher line = Pattern.compile("(?m)^taskrunner_([a-z_]+)\\{lockfile=\"[^\"]*\"\\} ([0-9.]+)$").matcher(Program.read(file));
        while (line.find()) {
            values.put(line.group(1), Double.valueOf(line.group(2)));
        }
        return values;
    }

    @Test
    void aPersonIsNotifiedOfEachEventAfterTheLockWasReleased() throws IOException {
        Map<String, String> failed = notified(task.request("exit 3"), 3);
        assertEquals(Map.of("EVENT", "failed", "LOCKFILE", task.lock.toString(), "COMMAND", "exit 3", "EXIT_STATUS", "3", "COUNT", "",
            "THRESHOLD", "2", "HOLDER_PID", "", "LOCK", "free"), without(failed, "MESSAGE", "RUN"));
        assertTrue(failed.get("MESSAGE").startsWith("command failed with status 3 after ") && !failed.get("RUN").isEmpty(), failed::toString);
        assertEquals("timeout", notified(task.request("exec sleep 100", "--timeout", "PT0.3S"), 124).get("EVENT"));
        Files.writeString(task.counter, "no counter");
        Map<String, String> broken = notified(task.request("true"), 65);
        assertEquals("error", broken.get("EVENT"));
        assertTrue(broken.get("MESSAGE").contains("counter file " + task.counter), broken::toString);
        Files.delete(task.counter);
        assertEquals("error", notified(taskrunner("--command", "true", "--lockfile", directory + "/no/task.lock", "--threshold", "1",
            "--counter-file", task.counter.toString()), 73).get("EVENT"));
        assertEquals("error", notified(task.request("rm \"$TASKRUNNER_LOCKFILE\"; mkdir \"$TASKRUNNER_LOCKFILE\""), 74).get("EVENT"));
        Files.delete(task.lock);

        assertEquals(Map.of(), notified(task.request("true"), 0));
        Running holder = task.hold();
        assertEquals(Map.of(), notified(task.request("true"), 0));
        Files.writeString(task.counter, "3\n");
        Map<String, String> threshold = notified(task.request("true"), 75);
        assertEquals(List.of("threshold", "0", Long.toString(holder.pid()), "75"), List.of(threshold.get("EVENT"), threshold.get("COUNT"),
            threshold.get("HOLDER_PID"), threshold.get("EXIT_STATUS")));
        holder.kill();
        task.finishOrphan();
        Map<String, String> recovered = notified(task.request("true"), 0);
        assertEquals("recovered", recovered.get("EVENT"));
        assertTrue(recovered.get("MESSAGE").contains("took over stale lock " + task.lock + ": its taskrunner, pid " + holder.pid()),
            recovered::toString);
    }

    /** The environment of the notification without the prefix, empty when there was none. */
    private Map<String, String> notified(Program request, int status) throws IOException {
        Path notes = directory.resolve("notes");
        request.with("--notify", "env | grep ^TASKRUNNER_ > notes; [ -e \"$TASKRUNNER_LOCKFILE\" ] && echo TASKRUNNER_LOCK=held >> notes"
            + " || echo TASKRUNNER_LOCK=free >> notes").run().exitedWith(status);
        Map<String, String> environment = new TreeMap<>();
        if (Files.exists(notes)) {
            for (String line : Files.readAllLines(notes)) {
                String[] pair = line.substring("TASKRUNNER_".length()).split("=", 2);
                environment.put(pair[0], pair[1]);
            }
            Files.delete(notes);
        }
        return environment;
    }

    private static Map<String, String> without(Map<String, String> map, String... names) {
        Map<String, String> rest = new TreeMap<>(map);
        rest.keySet().removeAll(Set.of(names));
        return rest;
    }

    @Test
    void aNotificationNeverChangesTheOutcome() {
        Result result = task.request("exit 3", "--notify", "echo notified; exit 9").run().exitedWith(3).outIs("")
            .errContains("notified\n").errContains("WARN").errContains("notification command failed with status 9");
        assertTrue(result.lastErr().contains("command failed with status 3"), result.err());
        assertTrue(task.request("x".repeat(100_000), "--notify", "touch long").run().status() == 127 && Files.exists(directory.resolve("long")));
    }

    @Test
    @Execution(ExecutionMode.CONCURRENT)
    void aNotificationThatHangsIsEndedAfterHalfAMinute() {
        String sleep = "sleep 1001." + ProcessHandle.current().pid() + System.nanoTime() % 1_000_000;
        task.request("exit 3", "--notify", sleep + " & " + sleep).run().exitedWith(3)
            .errContains("notification command was ended after 30 s: " + sleep);
        assertEquals(List.of(), Program.processesWith(sleep));
    }

    @Test
    void statusTellsStateHolderAndCounter() throws IOException {
        String[] counter = {"--threshold", "2", "--counter-file", task.counter.toString()};
        task.status().run().exitedWith(0).outIs("lock " + task.lock + " is free\n").errIs("");
        assertEquals(Map.of("lockfile", task.lock.toString(), "state", "free", "message", "lock " + task.lock + " is free", "count", 0L,
            "threshold", 2L), json(task.status("--json").with(counter).run().exitedWith(0)));

        Running holder = task.hold();
        task.request("true").run().exitedWith(0);
        task.status(counter).run().exitedWith(20).outContains("lock " + task.lock + " is held by pid " + holder.pid() + " (root@")
            .outContains(", running for ").outContains("; contentions 1, threshold 2\n");
        Map<String, Object> held = json(task.status("--json").with(counter).run().exitedWith(20));
        assertEquals(List.of("held", 1L, 2L), List.of(held.get("state"), held.get("count"), held.get("threshold")));
        Map<?, ?> who = (Map<?, ?>) held.get("holder");
        assertEquals(holder.pid(), who.get("pid"));
        assertTrue(ProcessHandle.of((Long) who.get("command_pid")).isPresent());
        assertTrue(((String) who.get("started")).matches(TIME + "\\.[0-9]{3}Z"));
        assertFalse(json(task.status("--json").run()).containsKey("count"));

        holder.kill();
        assertEquals("orphaned", json(task.status("--json").run().exitedWith(21)).get("state"));
        task.finishOrphan();
        task.status().run().exitedWith(21).outContains("is stale: its taskrunner, pid " + holder.pid()).errIs("");
        assertEquals("stale", json(task.status("--json").run().exitedWith(21)).get("state"));
        assertTrue(Files.exists(task.lock), "status changes nothing");

        Files.writeString(task.lock, "");
        task.status().run().exitedWith(20).outContains("is foreign: taskrunner did not make it").outContains("rm " + task.lock);
        assertEquals("foreign", json(task.status("--json").run().exitedWith(20)).get("state"));
        Files.writeString(task.counter, "no counter\n");
        task.status(counter).run().exitedWith(65).outIs("").errContains("counter file " + task.counter + " holds something other than a counter");
        assertEquals("no counter\n", Program.read(task.counter));
    }

    private static Map<String, Object> json(Result result) {
        assertTrue(result.out().endsWith("}\n") && result.out().indexOf('\n') == result.out().length() - 1, result.out());
        return JsonText.object(result.out());
    }
}
