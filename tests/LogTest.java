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

import org.junit.jupiter.api.Test;

/** taskrunner's own log lines. */
class LogTest extends TaskTest {
    static final String TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}";

    @Test
    void logLinesAreOnStderrInUtc() {
        Result result = task.request("echo out; echo err >&2").env("TZ", "Asia/Tokyo").run().exitedWith(0)
            .outIs("out\n");
        long now = java.time.Instant.now().getEpochSecond();
        assertTrue(result.err().matches(TIME + "Z INFO taskrunner\\[[0-9]+\\]: running: echo out; echo err >&2\nerr\n"
            + TIME + "Z INFO taskrunner\\[[0-9]+\\]: command succeeded after [0-9.]+s: echo out; echo err >&2\n"),
            result.err());
        assertTrue(Math.abs(now - java.time.Instant.parse(result.err().substring(0, 20)).getEpochSecond()) < 60,
            result.err());
    }

    @Test
    void commandOfSeveralLinesIsLoggedAsOne() {
        task.request("echo 1\necho 2").run().exitedWith(0).errContains("running: echo 1\\necho 2\n");
    }

    @Test
    void logFileIsAppendedToAndErrorsGoToStderrAsWell() throws IOException {
        Path log = directory.resolve("log");
        task.request("echo out", "--log-file", log.toString()).run().exitedWith(0).outIs("out\n").errIs("");
        Result failed = task.request("echo err >&2; exit 3", "--log-file", log.toString()).run().exitedWith(3);
        List<String> lines = Files.readAllLines(log);
        assertEquals(4, lines.size(), lines::toString);
        assertTrue(lines.get(0).endsWith(": running: echo out") && lines.get(1).contains("command succeeded after"),
            lines::toString);
        assertTrue(lines.get(3).contains("ERROR") && lines.get(3).contains("command failed with status 3"),
            lines::toString);
        failed.errIs("err\n" + lines.get(3) + "\n");
        task.request("exit 3", "--log-file", log.toString(), "--quiet").run().exitedWith(3).outIs("")
            .errHasNo("running").errContains("ERROR");
    }

    @Test
    void unwritableLogFileDoesNotStopTheCommand() throws IOException {
        Path log = Files.createDirectory(directory.resolve("log"));
        task.request("echo ran", "--log-file", log.toString()).run().exitedWith(0).outIs("ran\n")
            .errContains("WARN").errContains("cannot write log file " + log + ": ")
            .errContains("; log lines go to stderr\n")
            .errContains("command succeeded");
        task.request("echo ran", "--log-file", "/dev/full").run().exitedWith(0).outIs("ran\n")
            .errContains("cannot write log file /dev/full: ")
            .errContains("command succeeded");
    }

    @Test
    void jsonLinesAreObjectsAndTheLastIsTheOutcome() throws IOException {
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
        assertEquals(List.of("INFO", 0L, 2L), List.of(outcome.get("level"), outcome.get("exit_status"),
            outcome.get("threshold")));
        assertTrue(((String) outcome.get("started")).matches(TIME + "\\.[0-9]{3}Z"));
        assertTrue(outcome.get("duration_seconds") instanceof Double seconds && seconds >= 0 && seconds < 60,
            outcome::toString);
        assertFalse(outcome.containsKey("signal") || outcome.containsKey("holder"), outcome::toString);

        Files.delete(log);
        task.request("kill -9 $$", json).run().exitedWith(137).errContains(" ERROR taskrunner[");
        outcome = last(log);
        assertEquals(List.of("ERROR", "failed", 137L, "KILL"), List.of(outcome.get("level"), outcome.get("event"),
            outcome.get("exit_status"),
            outcome.get("signal")));

        Files.delete(log);
        Running holder = task.hold();
        task.request("true", json).run().exitedWith(0).errIs("");
        outcome = last(log);
        assertEquals(List.of("WARN", "contention", 0L, 1L, 2L), List.of(outcome.get("level"), outcome.get("event"),
            outcome.get("exit_status"),
            outcome.get("contentions"), outcome.get("threshold")));
        assertEquals(holder.pid(), ((Map<?, ?>) outcome.get("holder")).get("pid"));
        Files.writeString(task.counter, "3\n");
        task.request("true", json).run().exitedWith(75);
        outcome = last(log);
        assertEquals(List.of("ERROR", "threshold", 75L, 4L), List.of(outcome.get("level"), outcome.get("event"),
            outcome.get("exit_status"),
            outcome.get("contentions")));
        Files.writeString(task.counter, "no counter");
        task.request("true", json).run().exitedWith(65);
        outcome = last(log);
        assertEquals(List.of("ERROR", "error", 65L), List.of(outcome.get("level"), outcome.get("event"),
            outcome.get("exit_status")));
        assertFalse(outcome.containsKey("started") || outcome.containsKey("duration_seconds"), outcome::toString);
        task.finish(holder);

        Files.delete(log);
        Files.delete(task.counter);
        task.request("exec sleep 100", json).with("--timeout", "PT0.3S").run().exitedWith(124);
        assertEquals(List.of("timeout", 124L), List.of(last(log).get("event"), last(log).get("exit_status")));
        String err = task.request("exit 3", "--log-format", "json").run().exitedWith(3).err();
        assertEquals(List.of("started", "failed"), err.lines().map(line -> JsonText.object(line).get("event"))
            .toList());
    }

    private static List<Map<String, Object>> jsonLines(Path log) throws IOException {
        List<Map<String, Object>> lines = new ArrayList<>();
        for (String line : Files.readAllLines(log)) {
            Map<String, Object> object = JsonText.object(line);
            assertTrue(object.keySet().containsAll(Set.of("time", "level", "event", "message", "run_id", "lockfile")),
                line);
            assertTrue(((String) object.get("time")).matches(TIME + "\\.[0-9]{3}Z"), line);
            lines.add(object);
        }
        return lines;
    }

    private static Map<String, Object> last(Path log) throws IOException {
        List<Map<String, Object>> lines = jsonLines(log);
        return lines.get(lines.size() - 1);
    }
}
