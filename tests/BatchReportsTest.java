import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVRecord;
import org.junit.jupiter.api.Test;

/** {@code history}, its formats, and {@code purge}. */
@Concurrent
class BatchReportsTest extends BatchTest {
    @Test
    void historyFilters() throws Exception {
        BatchTask other = batch.other(directory.resolve("other"));
        batch.request("exit 3").run().exitedWith(3);
        batch.request(": äöü").run().exitedWith(0);
        batch.batch("history", "--format", "json").env("LC_ALL", "C").run().exitedWith(0)
            .outContains("\"command\":\": äöü\"");
        other.request("true").run().exitedWith(0);
        String host = batch.newest().get("host");
        String second = batch.history().get(1).get("create_time");
        assertEquals("3 2 1", ids());
        assertEquals("3 2", ids("--limit", "2"));
        assertEquals("3 2 1", ids("--limit", "0"));
        assertEquals("2 1", ids("--lockfile", task.lock.toString()));
        assertEquals("1", ids("--status", "FAILED"));
        assertEquals("1", ids("--status", "failed"));
        assertEquals("1", ids("--status", "EXIT_3"));
        assertEquals("3 2", ids("--status", "COMPLETED", "--since", "1h"));
        assertEquals("3 2 1", ids("--host", host));
        assertEquals("", ids("--host", host + "x"));
        assertEquals("3 2", ids("--since", second));
        assertEquals("1", ids("--until", second));
        assertEquals("", ids("--until", "2026-01-01"));
        assertEquals("2", ids("--lockfile", task.lock.toString(), "--status", "SUCCEEDED", "--host", host, "--since",
            "2026-01-01", "--limit", "1"));
        for (String[] bad : new String[][] {{"--since", "yesterday"}, {"--limit", "-1"}, {"--format", "xml"}}) {
            batch.batch("history").with(bad).run().exitedWith(64).errContains(bad[0]);
        }
    }

    private String ids(String... filters) throws Exception {
        return String.join(" ", batch.history(filters).stream().map(row -> row.get("id")).toList());
    }

    @Test
    void csvIsQuotedAndTableFitsTheTerminal() throws Exception {
        String name = "a \"quoted\", rather long name of a task that fits no line together with the rest of it";
        BatchTask long_ = batch.other(directory.resolve(name));
        long_.request("exit 3").run().exitedWith(3);
        batch.request("true").run().exitedWith(0);
        String csv = batch.batch("history", "--format", "csv").run().exitedWith(0).errIs("").out();
        assertEquals(3, csv.split("\r\n").length, csv);
        List<CSVRecord> executions = CSVFormat.RFC4180.builder().setHeader().get().parse(new StringReader(csv))
            .getRecords();
        List<String> columns = executions.get(0).getParser().getHeaderNames();
        assertTrue(columns.containsAll(List.of("id", "task", "host", "user", "create_time", "acquired", "start_time",
            "end_time",
            "duration_seconds", "batch_status", "exit_status", "exit_code", "contentions", "command", "message",
            "evidence", "holder",
            "restarted_from", "output_file")), columns::toString);
        assertEquals(2, executions.size(), csv);
        CSVRecord first = executions.get(1);
        assertEquals("1", first.get("id"));
        assertEquals(long_.task.lock.toString(), first.get("task"));
        assertEquals(List.of("FAILED", "EXIT_3", "0"), List.of(first.get("batch_status"),
            first.get("exit_status"), first.get("contentions")));
        Result plain = batch.batch("history").run().exitedWith(0).outContains(long_.task.lock.toString());
        assertEquals(3, plain.out().split("\n").length);
        for (int width : new int[] {110, 140}) {
            String table = onTerminal(width, "history");
            assertEquals(3, table.split("\n").length, table);
            table.lines().forEach(line -> assertTrue(line.length() <= width, () -> "longer than " + width + ": "
                + line));
            assertTrue(table.contains("…") && table.contains("/task.lock ") && table.contains(" EXIT_3 "), table);
        }
    }

    private String onTerminal(int columns, String... arguments) throws Exception {
        String command = "stty cols " + columns + "; exec " + batch.batch(arguments).shellCommand();
        Result result = new Program(directory, "script", "-qec", command, "/dev/null")
            .env("XDG_STATE_HOME", directory.resolve("state").toString()).run().exitedWith(0);
        return result.out().replace("\r", "");
    }

    @Test
    void purgeDeletesOldExecutionsButKeepsTheNewest() throws Exception {
        for (String command : new String[] {"echo 1", "true", "echo 3", "echo 4; exit 3"}) {
            batch.request(command).run();
        }
        BatchTask other = batch.other(directory.resolve("other"));
        Running holder = other.hold();
        Program.sleep(1100);
        batch.batch("purge", "--older-than", "1h").run().exitedWith(0)
            .outIs("purged 0 executions and the output of 0\n");
        batch.batch("purge", "--older-than", "1s", "--keep", "2").run().exitedWith(0)
            .outIs("purged 2 executions and the output of 1\n");
        assertEquals("5 4 3", ids());
        assertEquals(2, files().stream().filter(file -> file.toString().endsWith(".log")).count());
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0)
            .outIs("purged 2 executions and the output of 2\n");
        assertEquals("5", ids());
        assertEquals(0, files().stream().filter(file -> file.toString().endsWith(".log")).count());
        assertEquals(List.of("1 1 1"),
            batch.query("SELECT (SELECT count(*) FROM taskrunner_execution), (SELECT count(*) FROM job_instance),"
            + " (SELECT count(DISTINCT jobexecutionid) FROM step_execution)"));
        other.task.finish(holder);
        batch.batch("purge").run().exitedWith(64).errContains("--older-than");
    }

    private List<Path> files() throws Exception {
        try (Stream<Path> all = Files.walk(batch.state)) {
            return all.filter(Files::isRegularFile).toList();
        }
    }
}
