import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/**
 * What {@code show}, {@code stop} and {@code purge} do, and what a reader of {@code show} and {@code history} can be
 * made to believe.
 */
@Concurrent
class BatchShowTest extends BatchTest {
    @Test
    void nothingThatIsStoredMovesTheCursorOrForgesALine() throws Exception {
        String command = "printf 'a\\rb\\033[2J\\u202Ec\\n'; exit 3 # \u001b[31m\nstatus             COMPLETED,"
            + " SUCCEEDED\u202e\u2028";
        batch.request(command).env("LC_ALL", "C.UTF-8").run().exitedWith(3);
        String show = batch.show(1).out();
        show.codePoints().forEach(c -> assertTrue(c == '\n' || Character.getType(c) != Character.CONTROL
            && Character.getType(c) != Character.FORMAT && Character.getType(c) != Character.LINE_SEPARATOR, () -> "U+"
            + Integer.toHexString(c)));
        assertEquals(List.of("status             FAILED, EXIT_3, exit code 3"),
            show.lines().filter(line -> line.startsWith("status ")).toList());
        String json = batch.batch("show", "1", "--format", "json").run().exitedWith(0).out();
        assertEquals(command, BatchTask.parse("[" + json + "]").get(0).get("command"));
        assertFalse(json.contains("\u001b"));
    }

    @Test
    void outputIsPrintedRawAndFollowed() throws Exception {
        batch.request("printf 'a\\033[31m\\r\\nb'").run().exitedWith(0);
        batch.batch("show", "1", "--output").run().exitedWith(0).outIs("a\u001b[31m\r\nb");
        Running runner = task.hold(batch.request("echo first; " + task.untilFinish() + "; echo last"));
        Running follower = batch.batch("show", "2", "--follow").start();
        Program.await("the first line", () -> Program.read(follower.out).equals("first\n"));
        task.finish();
        runner.result().exitedWith(0);
        follower.result().exitedWith(0).outIs("first\nlast\n");
        batch.request("seq 2000", "--output-limit", "2000").run().exitedWith(0);
        String kept = batch.batch("show", "3", "--output").run().exitedWith(0).out();
        assertTrue(kept.startsWith("1\n2\n") && kept.contains(" bytes left out]\n") && kept.endsWith("1999\n2000\n"),
            kept);
    }

    @Test
    void noCellOfTheCsvIsAFormula() throws Exception {
        batch.request("=cmd|' /C calc'!A0", "--exit-zero").run().exitedWith(0);
        String csv = batch.batch("history", "--format", "csv").run().exitedWith(0).out();
        assertTrue(csv.contains(",'=cmd|' /C calc'!A0,"), csv);
    }

    @Test
    void typosAreErrorsAndMakeNothing() throws Exception {
        Path typo = directory.resolve("typo.db");
        for (String[] command : new String[][] {{"history"}, {"show", "1"}, {"purge", "--older-than", "1d"},
            {"stop", "1"}}) {
            batch.batch(command).with("--repository", "jdbc:sqlite:" + typo).run().exitedWith(69)
                .errContains("no such file or directory");
        }
        assertFalse(Files.exists(typo));
        batch.request("true").run().exitedWith(0);
        batch.batch("history", "--status", "FIALED").run().exitedWith(64).errContains("FIALED");
        batch.markingRequest("--repository", "jdbc:foo:x").run().exitedWith(64)
            .errContains("use jdbc:postgresql://HOST/DATABASE or jdbc:sqlite:FILE");
        assertEquals(0, task.marks());
    }

    @Test
    void credentialsAreRefusedInAnySpelling() throws Exception {
        for (String url : List.of("jdbc:postgresql://h/d;password=sesame", "jdbc:postgresql://h/d?%70assword=sesame",
                "jdbc:postgresql://h/d?PASSWORD=sesame", "jdbc:postgresql://u:sesame@h/d",
                "jdbc:postgresql://h/d?a=b&sslpassword=sesame",
                "jdbc:sqlite:" + directory + "/x.db?password=sesame")) {
            batch.markingRequest("--repository", url).run().exitedWith(64).errContains("no credentials in the URL")
                .errHasNo("sesame");
        }
        assertEquals(0, task.marks());
    }

    @Test
    void historyTellsOfOneUser() throws Exception {
        batch.request("true").run().exitedWith(0);
        String user = batch.newest().get("user");
        assertEquals(1, batch.history("--user", user).size());
        assertEquals(0, batch.history("--user", user + "x").size());
        Map<String, String> row = batch.newest();
        for (String name : List.of("command", "message", "exit_code", "acquired", "start_time", "end_time",
            "duration_seconds", "uid", "output_file")) {
            assertTrue(row.get(name) != null, () -> name + " of " + row);
        }
    }

    @Test
    void aStoppedRunnerIsContinuedAndStops() throws Exception {
        Running runner = batch.hold();
        runner.signal("STOP");
        batch.batch("stop", "1").run().exitedWith(0).outIs("job execution 1 is STOPPED\n")
            .errContains("waiting for up to 30s for job execution 1");
        runner.result().exitedWith(143);
    }

    @Test
    void stopSaysWhenItsWaitIsOver() throws Exception {
        Running runner = task.hold(batch.request("trap '' TERM; " + task.untilFinish(), "--kill-after", "100s"));
        batch.batch("stop", "1", "--wait", "200ms").run().exitedWith(75)
            .errContains("SIGTERM was sent, but after 0.200s it has not ended");
        task.finish();
        runner.result().exitedWith(143);
    }

    @Test
    void purgesAtTheSameTimeCountEachExecutionOnce() throws Exception {
        batch.program("BatchLoop", "12").with(batch.arguments("echo # " + "x".repeat(5000))).run().exitedWith(0);
        long before = Files.size(batch.database());
        List<Running> purges = Stream.generate(() -> batch.batch("purge", "--older-than", "0s").start()).limit(3)
            .toList();
        long purged = purges.stream().mapToLong(purge ->
            Long.parseLong(purge.result().exitedWith(0).out().split(" ")[1])).sum();
        assertEquals(12, purged);
        assertEquals(0, batch.history().size());
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0);
        assertTrue(Files.size(batch.database()) <= before, () -> "it had " + before + " bytes");
        try (Stream<Path> output = Files.list(batch.state.resolve("output"))) {
            assertEquals(0, output.count());
        }
    }

    @Test
    void outputOfAnotherUserIsDeletedByItsNextRun() throws Exception {
        batch.request("echo kept").run().exitedWith(0);
        Path output = Path.of(batch.newest().get("output_file"));
        batch.query("SELECT 1");
        try (java.sql.Connection connection = java.sql.DriverManager.getConnection("jdbc:sqlite:" + batch.database())) {
            connection.createStatement().execute("UPDATE taskrunner_execution SET host = 'elsewhere'");
        }
        Path aside = Files.move(output, directory.resolve("aside"));
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0)
            .outIs("purged 1 executions and the output of 0\n");
        Files.move(aside, output);
        batch.request("true").under("unshare", "--uts", "sh", "-c", "hostname elsewhere; exec \"$@\"", "sh").run()
            .exitedWith(0);
        assertFalse(Files.exists(output));
        assertEquals(List.of("0"), batch.query("SELECT count(*) FROM taskrunner_purged"));
    }
}
