import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.function.Executable;

/** A task of its own and the audit repository that keeps its executions. */
final class BatchTask {
    final TestTask task;
    /** The directory of the embedded database, of output and spool files. */
    final Path state;
    private final Map<String, String> environment = new LinkedHashMap<>();

    BatchTask(TestTask task) {
        this.task = task;
        state = task.directory.resolve("state/taskrunner");
        environment.put("XDG_STATE_HOME", task.directory.resolve("state").toString());
    }

    private BatchTask(BatchTask of, Path directory) {
        task = new TestTask(directory);
        state = of.state;
        environment.putAll(of.environment);
    }

    BatchTask env(String name, String value) {
        environment.put(name, value);
        return this;
    }

    /** Another task in the same repository. */
    BatchTask other(Path directory) throws Exception {
        return new BatchTask(this, Files.createDirectories(directory));
    }

    Path database() {
        return state.resolve("executions.db");
    }

    Program program(String mainClass, String... arguments) {
        Program program = Program.java(task.directory, mainClass, arguments).jvm("--enable-native-access=ALL-UNNAMED");
        environment.forEach(program::env);
        return program;
    }

    Program batch(String... arguments) {
        return program("taskrunnerbatch", arguments);
    }

    Program request(String command, String... more) {
        return batch(arguments(command)).with(more);
    }

    String[] arguments(String command) {
        return Stream.concat(Stream.of("--command", command), Stream.of(task.options())).toArray(String[]::new);
    }

    Program markingRequest(String... more) {
        return request(task.mark(), more);
    }

    /** Starts a request whose command runs until the task's {@code finish}; returns when the command runs. */
    Running hold(String... more) {
        return task.hold(request(task.untilFinish(), more));
    }

    Result restart(long id) {
        return batch("restart", Long.toString(id)).run();
    }

    Result show(long id) {
        return batch("show", Long.toString(id)).run().exitedWith(0).errIs("");
    }

    /** Executions, newest first, as {@code history --format json} tells them. */
    List<Map<String, String>> history(String... filters) {
        return parse(batch("history", "--format", "json").with(filters).run().exitedWith(0).errIs("").out());
    }

    Map<String, String> newest() {
        return history("--limit", "1").get(0);
    }

    /** An array of JSON objects, with the text of each value. */
    static List<Map<String, String>> parse(String json) {
        return JsonText.objects(json).stream().map(object -> {
            Map<String, String> texts = new LinkedHashMap<>();
            object.forEach((name, value) -> texts.put(name, value == null ? null : value.toString()));
            return texts;
        }).toList();
    }

    static long id(Map<String, String> execution) {
        return Long.parseLong(execution.get("id"));
    }

    /** The steps that {@code show} lists: name, batch status and exit status. */
    static List<String> steps(Result show) {
        List<String> steps = new ArrayList<>();
        boolean inSteps = false;
        for (String line : show.out().split("\n")) {
            if (inSteps && line.startsWith("  ")) {
                String[] words = line.strip().split(" +");
                steps.add(words[0] + " " + words[words.length - 2] + " " + words[words.length - 1]);
            }
            inSteps = line.equals("steps") || inSteps && line.startsWith("  ");
        }
        return steps;
    }

    /** The newest execution ended like this, its steps too, and the lock is free. Returns its id. */
    long assertEnded(String batchStatus, String exitStatus, Integer processExit, String... steps) {
        Map<String, String> row = newest();
        assertEquals(batchStatus, row.get("batch_status"), row::toString);
        assertEquals(exitStatus, row.get("exit_status"), row::toString);
        assertEquals(processExit == null ? null : processExit.toString(), row.get("exit_code"), row::toString);
        assertTrue(row.get("end_time") != null, row::toString);
        Result show = show(id(row)).outContains("status             " + batchStatus + ", " + exitStatus
            + (processExit == null ? "" : ", exit code " + processExit) + "\n");
        assertEquals(List.of(steps), steps(show), () -> show.program().toString());
        task.assertFree();
        return id(row);
    }

    /**
     * A run whose row is gone, its id another run's, leaves a row of its own beside it.
     *
     * @param empty empties the database and lets ids begin anew
     */
    void assertKeepsToItsOwnRow(Path otherTask, Executable empty) throws Throwable {
        Running holder = hold();
        empty.execute();
        other(otherTask).request("exit 5").run().exitedWith(5);
        task.finish(holder);
        assertEquals(List.of("2 SUCCEEDED", "1 EXIT_5"), history().stream()
            .map(row -> row.get("id") + " " + row.get("exit_status")).sorted(Comparator.reverseOrder()).toList());
    }

    /** Each row of the query on the embedded database, its columns joined by blanks. */
    List<String> query(String sql) throws SQLException {
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + database())) {
            return query(connection, sql);
        }
    }

    static List<String> query(Connection connection, String sql) throws SQLException {
        List<String> lines = new ArrayList<>();
        try (PreparedStatement select = connection.prepareStatement(sql); ResultSet rows = select.executeQuery()) {
            while (rows.next()) {
                List<String> columns = new ArrayList<>();
                for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
                    columns.add(rows.getString(i));
                }
                lines.add(String.join(" ", columns));
            }
        }
        return lines;
    }
}
