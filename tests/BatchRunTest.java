import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVRecord;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** How an execution ends, is restarted, reported and purged. */
@Execution(ExecutionMode.CONCURRENT)
class BatchRunTest extends BatchTest {
    private static final String ACQUIRED = "acquireLock COMPLETED ACQUIRED";
    private static final String RESET = "resetCounter COMPLETED RESET";
    private static final String RELEASED = "releaseLock COMPLETED RELEASED";


    // Endings

    @Test
    void aCommandThatSucceedsIsCompletedSucceeded() throws Exception {
        batch.request("echo hello").run().exitedWith(0).outIs("hello\n");
        long id = batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET, "runCommand COMPLETED SUCCEEDED", RELEASED);
        batch.show(id).outContains("command            echo hello\n").outContains("lock file          " + task.lock + "\n")
            .outContains("counter file       " + task.counter + ", threshold 2, counter afterwards 0\n").outContains("  hello\n");
    }

    @Test
    void aCommandThatFailsIsFailedWithItsStatus() throws Exception {
        batch.request("echo oops >&2; exit 3").run().exitedWith(3).errContains("oops\n");
        batch.assertEnded("FAILED", "EXIT_3", 3, ACQUIRED, RESET, "runCommand FAILED EXIT_3", RELEASED);
    }

    @Test
    void aCommandThatASignalEndsIsFailedWithTheSignal() throws Exception {
        batch.request("kill -KILL $$").run().exitedWith(137);
        batch.assertEnded("FAILED", "SIGNAL_9", 137, ACQUIRED, RESET, "runCommand FAILED SIGNAL_9", RELEASED);
    }

    @Test
    void aCommandThatTakesTooLongIsFailedTimeout() throws Exception {
        batch.request("sleep 60", "--timeout", "1s").run().exitedWith(124);
        batch.assertEnded("FAILED", "TIMEOUT", 124, ACQUIRED, RESET, "runCommand FAILED TIMEOUT", RELEASED);
    }

    @Test
    void contentionIsCompletedContendedUpToTheThresholdAndFailedBeyondIt() throws Exception {
        task.threshold = 1;
        Running holder = batch.hold();
        batch.markingRequest("--conflict-exit-code", "7").run().exitedWith(7);
        Map<String, String> row = batch.newest();
        assertEquals("COMPLETED CONTENDED 7 1", row.get("batch_status") + " " + row.get("exit_status") + " " + row.get("process_exit") + " "
            + row.get("count"));
        assertTrue(row.get("holder").contains("pid " + holder.pid()), row::toString);
        assertEquals(List.of("acquireLock COMPLETED CONTENDED", "incrementCounter COMPLETED COUNT_1"), BatchTask.steps(batch.show(BatchTask.id(row))));
        batch.markingRequest().run().exitedWith(0);
        batch.markingRequest().run().exitedWith(75);
        task.finish(holder);
        long id = batch.assertEnded("FAILED", "THRESHOLD_EXCEEDED", 75, "acquireLock COMPLETED THRESHOLD_EXCEEDED",
            "incrementCounter COMPLETED COUNT_0");
        batch.show(id).outContains("holder met").outContains("pid " + holder.pid()).outContains("counter afterwards 0\n");
        task.assertDidNotRun();
        assertEquals("COMPLETED", batch.history().get(3).get("batch_status"));
    }

    @Test
    void aLockFileThatCannotBeCreatedIsFailedLockError() throws Exception {
        Path lock = directory.resolve("missing/task.lock");
        batch.batch("--command", task.mark(), "--lockfile", lock.toString(), "--threshold", "1", "--counter-file",
            task.counter.toString()).run().exitedWith(73);
        batch.assertEnded("FAILED", "LOCK_ERROR", 73, "acquireLock FAILED LOCK_ERROR");
        task.assertDidNotRun();
    }

    @Test
    void aCounterFileThatHoldsSomethingElseIsFailedCounterError() throws Exception {
        Files.writeString(task.counter, "no number\n");
        batch.markingRequest().run().exitedWith(65);
        batch.assertEnded("FAILED", "COUNTER_ERROR", 65, "acquireLock FAILED COUNTER_ERROR");
        task.assertDidNotRun();
    }

    @Test
    void sigtermIsStoppedAndTheExecutionRestarts() throws Exception {
        Running runner = batch.hold();
        runner.signal("TERM");
        runner.result().exitedWith(143);
        long id = batch.assertEnded("STOPPED", "STOPPED", 143, ACQUIRED, RESET, "runCommand COMPLETED STOPPED", RELEASED);
        task.finish();
        batch.restart(id).exitedWith(0);
        assertRestarts(id, batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET, "runCommand COMPLETED SUCCEEDED", RELEASED));
    }

    @Test
    void stopEndsTheCommandAndWaitsForTheEndOfTheExecution() throws Exception {
        Running runner = batch.hold();
        String id = batch.newest().get("id");
        batch.batch("stop", id).run().exitedWith(0).outIs("job execution " + id + " is STOPPED\n");
        runner.result().exitedWith(143);
        batch.assertEnded("STOPPED", "STOPPED", 143, ACQUIRED, RESET, "runCommand COMPLETED STOPPED", RELEASED);
        batch.batch("stop", id).run().exitedWith(64).errContains("has ended already: STOPPED");
    }

    @Test
    void aKilledRunnerIsSettledAsKilledWithTheEvidenceAndTheExecutionRestarts() throws Exception {
        Running runner = batch.hold();
        runner.kill();
        long id = BatchTask.id(batch.newest());
        task.finishOrphan();
        Result show = batch.show(id).outContains("status             FAILED, KILLED\n")
            .outContains("evidence           its runner, pid " + runner.pid() + ", is dead\n");
        assertEquals(List.of(ACQUIRED, RESET, "runCommand FAILED KILLED"), BatchTask.steps(show));
        batch.restart(id).exitedWith(0);
        assertRestarts(id, batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET, "runCommand COMPLETED SUCCEEDED", RELEASED));
    }

    // Restart

    @Test
    void aFailedExecutionRestartsOnceAsANewExecutionOfTheSameInstance() throws Exception {
        batch.request("[ -e fixed ] || exit 3", "--exit-zero").run().exitedWith(0);
        long failed = batch.assertEnded("FAILED", "EXIT_3", 0, ACQUIRED, RESET, "runCommand FAILED EXIT_3", RELEASED);
        Files.createFile(directory.resolve("fixed"));
        batch.restart(failed).exitedWith(0);
        long restarted = batch.assertEnded("COMPLETED", "SUCCEEDED", 0, ACQUIRED, RESET, "runCommand COMPLETED SUCCEEDED", RELEASED);
        assertRestarts(failed, restarted);
        batch.restart(failed).exitedWith(64).errContains("execution " + failed + " was restarted already; its newest execution is " + restarted);
        batch.restart(restarted).exitedWith(64).errContains("execution " + restarted + " is COMPLETED: only FAILED and STOPPED ones restart");
        batch.restart(99).exitedWith(64).errContains("no job execution 99 in ");
        assertEquals(2, batch.history().size());
    }

    private void assertRestarts(long before, long after) throws Exception {
        List<Map<String, String>> rows = batch.history();
        assertEquals(after, BatchTask.id(rows.get(0)));
        assertEquals(before, BatchTask.id(rows.get(1)));
        assertNotEquals(before, after);
        assertEquals(Long.toString(before), rows.get(0).get("restarted_from"));
        assertEquals(rows.get(1).get("job_instance"), rows.get(0).get("job_instance"));
        assertEquals(rows.get(1).get("command"), rows.get(0).get("command"));
        batch.show(before).outContains("restarts           " + before + " -> " + after + "\n");
    }

    @Test
    void aRestartRunsWhereTheFirstExecutionRan() throws Exception {
        batch.request("pwd; exit 3").in(Files.createDirectories(directory.resolve("there"))).run().exitedWith(3);
        batch.batch("restart", "1").in(directory).run().exitedWith(3).outIs(directory.toRealPath().resolve("there") + "\n");
    }

    @Test
    void aLiveExecutionIsNotRestarted() throws Exception {
        Running runner = batch.hold();
        String id = batch.newest().get("id");
        batch.batch("restart", id).run().exitedWith(64).errContains("execution " + id + " of this job instance is STARTED");
        task.finish(runner);
        assertEquals(1, batch.history().size());
    }

    @Test
    void aRestartTakesTheLockFirst() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        Running holder = batch.hold();
        batch.restart(1).exitedWith(0);
        assertEquals("CONTENDED", batch.newest().get("exit_status"));
        task.finish(holder);
        assertEquals(1, task.marks());
        batch.restart(BatchTask.id(batch.newest())).exitedWith(3);
        assertEquals(2, task.marks());
    }

    @Test
    void ofRestartsAtTheSameTimeOneIsMade() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        List<Running> restarts = Stream.generate(() -> batch.batch("restart", "1").start()).limit(4).toList();
        List<Integer> statuses = new ArrayList<>(restarts.stream().map(restart -> restart.result().status()).sorted().toList());
        assertEquals(List.of(3, 64, 64, 64), statuses, restarts::toString);
        assertEquals(2, task.marks());
        assertEquals(2, batch.history().size());
    }

    @Test
    void aCommandOf100KilobytesComesBackByteForByteAndRestarts() throws Exception {
        String line = "it's \"quoted\" #{jobParameters['x']} ${y} \\n %s \t 'a''b' <x/>&amp; äöü€😀\r\n#{systemProperties['user.home']}?:x;\n";
        StringBuilder text = new StringBuilder();
        while (text.length() < 96_000) {
            text.append(line);
        }
        String command = "cat >>copy <<'END'\n" + text + "END\nexit 3";
        assertTrue(command.getBytes("UTF-8").length > 100_000, "it has " + command.getBytes("UTF-8").length + " bytes");
        batch.request(command).run().exitedWith(3);
        assertEquals(text.toString(), Program.read(directory.resolve("copy")));
        assertEquals(command, batch.newest().get("command"));
        assertEquals(List.of(command), batch.query("SELECT command FROM taskrunner_execution"));
        batch.show(1).outContains("command            " + command + "\n");
        batch.restart(1).exitedWith(3);
        assertEquals(text.toString() + text, Program.read(directory.resolve("copy")));
        assertEquals(List.of(command, command), batch.query("SELECT command FROM taskrunner_execution"));
    }

    @Test
    void whatIsRedactedIsStoredNowhereAndTheExecutionDoesNotRestart() throws Exception {
        batch.request(": secret-1234 secret-abcd; echo done; exit 3", "--redact", "secret-[a-z0-9]+", "--notify", ": secret-5678").run()
            .exitedWith(3).outIs("done\n");
        assertEquals(": *** ***; echo done; exit 3", batch.newest().get("command"));
        for (Path file : files()) {
            assertFalse(Files.readString(file, java.nio.charset.StandardCharsets.ISO_8859_1).contains("secret-"), () -> "a secret is in " + file);
        }
        batch.restart(1).exitedWith(65).errContains("was stored with --redact and cannot be restarted");
        batch.markingRequest("--redact", "(").run().exitedWith(64).errContains("invalid --redact");
        assertEquals(1, batch.history().size());
    }

    // Reports

    @Test
    void historyFiltersByTaskHostStatusAndTimeAndLimits() throws Exception {
        BatchTask other = batch.other(directory.resolve("other"));
        batch.request("exit 3").run().exitedWith(3);
        batch.request(": äöü").run().exitedWith(0);
        batch.batch("history", "--format", "json").env("LC_ALL", "C").run().exitedWith(0).outContains("\"command\":\": äöü\"");
        other.request("true").run().exitedWith(0);
        String host = batch.newest().get("host");
        String second = batch.history().get(1).get("started");
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
        assertEquals("2", ids("--lockfile", task.lock.toString(), "--status", "SUCCEEDED", "--host", host, "--since", "2026-01-01", "--limit", "1"));
        for (String[] bad : new String[][] {{"--since", "yesterday"}, {"--limit", "-1"}, {"--format", "xml"}}) {
            batch.batch("history").with(bad).run().exitedWith(64).errContains(bad[0]);
        }
    }

    private String ids(String... filters) throws Exception {
        return String.join(" ", batch.history(filters).stream().map(row -> row.get("id")).toList());
    }

    @Test
    void csvIsQuotedAndTheTableFitsTheTerminal() throws Exception {
        String name = "a \"quoted\", rather long name of a task that fits no line together with the rest of it";
        BatchTask long_ = batch.other(directory.resolve(name));
        long_.request("exit 3").run().exitedWith(3);
        batch.request("true").run().exitedWith(0);
        String csv = batch.batch("history", "--format", "csv").run().exitedWith(0).errIs("").out();
        assertEquals(3, csv.split("\r\n").length, csv);
        List<CSVRecord> executions = CSVFormat.RFC4180.builder().setHeader().get().parse(new StringReader(csv)).getRecords();
        assertEquals(List.of("id", "task", "host", "user", "start", "duration", "status", "exit", "contentions"),
            executions.get(0).getParser().getHeaderNames());
        assertEquals(2, executions.size(), csv);
        CSVRecord first = executions.get(1);
        assertEquals("1", first.get("id"));
        assertEquals(long_.task.lock.toString(), first.get("task"));
        assertEquals(List.of("FAILED", "EXIT_3", "0"), List.of(first.get("status"), first.get("exit"), first.get("contentions")));
        Result plain = batch.batch("history").run().exitedWith(0).outContains(long_.task.lock.toString());
        assertEquals(3, plain.out().split("\n").length);
        for (int columns : new int[] {110, 140}) {
            String table = onTerminal(columns, "history");
            assertEquals(3, table.split("\n").length, table);
            table.lines().forEach(line -> assertTrue(line.length() <= columns, () -> "longer than " + columns + ": " + line));
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
    void purgeDeletesOldExecutionsWithTheirOutputButKeepsTheNewest() throws Exception {
        for (String command : new String[] {"echo 1", "true", "echo 3", "echo 4; exit 3"}) {
            batch.request(command).run();
        }
        BatchTask other = batch.other(directory.resolve("other"));
        Running holder = other.hold();
        Program.sleep(1100);
        batch.batch("purge", "--older-than", "1h").run().exitedWith(0).outIs("purged 0 executions and the output of 0\n");
        batch.batch("purge", "--older-than", "1s", "--keep", "2").run().exitedWith(0).outIs("purged 2 executions and the output of 1\n");
        assertEquals("5 4 3", ids());
        assertEquals(2, files().stream().filter(file -> file.toString().endsWith(".log")).count());
        batch.batch("purge", "--older-than", "0s").run().exitedWith(0).outIs("purged 2 executions and the output of 2\n");
        assertEquals("5", ids());
        assertEquals(0, files().stream().filter(file -> file.toString().endsWith(".log")).count());
        assertEquals(List.of("1 1 1"), batch.query("SELECT (SELECT count(*) FROM taskrunner_execution), (SELECT count(*) FROM job_instance),"
            + " (SELECT count(DISTINCT jobexecutionid) FROM step_execution)"));
        other.task.finish(holder);
        batch.batch("purge").run().exitedWith(64).errContains("--older-than");
    }

    // The repository

    @Test
    void whatIsKeptIsForItsUserAlone() throws Exception {
        batch.request("seq 2000; touch inside", "--output-limit", "2000").underShell("umask 000; exec \"$@\"").run().exitedWith(0);
        batch.request("seq 2000", "--output-limit", "2000").underShell("umask 000; exec \"$@\"").run().exitedWith(0);
        assertEquals("rw-rw-rw-", mode(directory.resolve("inside")), "the umask has no effect on this file system");
        assertTrue(files().size() >= 4, files()::toString);
        for (Path file : files()) {
            assertEquals("rw-------", mode(file), file::toString);
        }
        try (Stream<Path> all = Files.walk(directory.resolve("state"))) {
            for (Path each : all.filter(Files::isDirectory).toList()) {
                assertEquals("rwx------", mode(each), each::toString);
            }
        }
    }

    private static String mode(Path path) throws Exception {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(path, LinkOption.NOFOLLOW_LINKS));
    }

    private List<Path> files() throws Exception {
        try (Stream<Path> all = Files.walk(batch.state)) {
            return all.filter(Files::isRegularFile).toList();
        }
    }

    @Test
    void aPasswordInTheUrlIsRefusedAndNotShown() throws Exception {
        for (String url : new String[] {"jdbc:postgresql://me:sesame@127.0.0.1/db", "jdbc:postgresql://127.0.0.1/db?user=me&password=sesame",
            "postgres://me:sesame@127.0.0.1/db"}) {
            Result result = batch.markingRequest("--repository", url).run().exitedWith(64).errContains("--repository");
            result.errHasNo("sesame");
        }
        assertNothingRan();
    }

    @Test
    void withoutItsRepositoryARequestDoesNothing() throws Exception {
        batch.markingRequest("--repository", "jdbc:postgresql://127.0.0.1:1/db").run().exitedWith(69)
            .errContains("audit repository jdbc:postgresql://127.0.0.1:1/db: cannot be opened: ").errContains("check that the server runs");
        Path file = Files.createFile(directory.resolve("file"));
        batch.markingRequest("--repository", "jdbc:sqlite:" + file + "/x/executions.db").run().exitedWith(69)
            .errContains("audit repository " + file + "/x/executions.db: cannot be opened: ");
        Path garbage = Files.writeString(directory.resolve("garbage.db"), "no database at all, but quite some text\n".repeat(100));
        batch.markingRequest("--repository", "jdbc:sqlite:" + garbage).run().exitedWith(69).errContains("audit repository " + garbage);
        assertNothingRan();
    }

    private void assertNothingRan() {
        task.assertDidNotRun();
        assertFalse(Files.exists(task.counter));
        task.assertFree();
    }
}
