import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What {@code history} and {@code show} print. */
final class Reports {
    private static final int OUTPUT_LINES = 10;
    private static final String[] COLUMNS = {"id", "task", "host", "user", "start", "duration", "status", "exit", "contentions"};
    private static final int TASK = 1;
    private static final int NARROWEST_TASK = 12;

    /** The cells of an execution, in the order of the columns. */
    private static String[] cells(ExecutionRow row) {
        RequestRow request = row.request();
        return new String[] {Long.toString(row.id()), request.lockFile(), request.host(), request.user(),
            request.started().substring(0, 19) + "Z", duration(request.started(), row.ended()), row.batchStatus(), text(row.exitStatus()),
            text(row.counter())};
    }

    private static String text(Object value) {
        return value == null ? "-" : value.toString();
    }

    private static String duration(String from, String to) {
        return to == null ? "-" : Text.duration(Math.max(0, millis(from, to)));
    }

    private static long millis(String from, String to) {
        return java.time.Duration.between(java.time.Instant.parse(from), java.time.Instant.parse(to)).toMillis();
    }

    /** A table whose task column is cut so that a line fits the width. */
    static void table(List<ExecutionRow> rows, int width, PrintStream out) {
        List<String[]> lines = new ArrayList<>();
        String[] heads = COLUMNS.clone();
        for (int i = 0; i < heads.length; i++) {
            heads[i] = heads[i].toUpperCase(java.util.Locale.ROOT);
        }
        lines.add(heads);
        for (ExecutionRow row : rows) {
            String[] cells = cells(row);
            for (int i = 0; i < cells.length; i++) {
                cells[i] = Text.printable(cells[i]);
            }
            lines.add(cells);
        }
        int[] widths = new int[COLUMNS.length];
        for (String[] line : lines) {
            for (int i = 0; i < line.length; i++) {
                widths[i] = Math.max(widths[i], line[i].length());
            }
        }
        int others = 0;
        for (int i = 0; i < widths.length; i++) {
            others += i == TASK ? 0 : widths[i] + 2;
        }
        widths[TASK] = Math.min(widths[TASK], Math.max(NARROWEST_TASK, width - others));
        for (String[] line : lines) {
            StringBuilder text = new StringBuilder();
            for (int i = 0; i < line.length; i++) {
                String cell = line[i].length() <= widths[i] ? line[i] : "…" + line[i].substring(line[i].length() - widths[i] + 1);
                text.append(cell).append(" ".repeat(widths[i] - cell.length() + 2));
            }
            out.println(text.toString().stripTrailing());
        }
    }

    /** RFC 4180, with a header line. */
    static void csv(List<ExecutionRow> rows, PrintStream out) {
        out.print(String.join(",", COLUMNS) + "\r\n");
        for (ExecutionRow row : rows) {
            String[] cells = cells(row);
            cells[4] = row.request().started();
            cells[5] = row.ended() == null ? "" : Text.seconds(Math.max(0, millis(row.request().started(), row.ended())));
            for (int i = 0; i < cells.length; i++) {
                String cell = cells[i].equals("-") ? "" : cells[i];
                boolean quoted = cell.contains(",") || cell.contains("\"") || cell.contains("\n") || cell.contains("\r");
                cells[i] = quoted ? "\"" + cell.replace("\"", "\"\"") + "\"" : cell;
            }
            out.print(String.join(",", cells) + "\r\n");
        }
    }

    /** An array with one object a line. */
    static void json(List<ExecutionRow> rows, PrintStream out) {
        out.println("[");
        for (int i = 0; i < rows.size(); i++) {
            out.println(json(rows.get(i)) + (i < rows.size() - 1 ? "," : ""));
        }
        out.println("]");
    }

    private static Json json(ExecutionRow row) {
        RequestRow request = row.request();
        Json json = new Json().put("id", row.id()).put("job_instance", row.instanceId()).put("task", request.lockFile())
            .put("command", request.command()).put("host", request.host()).put("user", request.user()).put("run_id", request.runId())
            .put("started", request.started()).put("batch_status", row.batchStatus());
        put(json, "acquired", row.acquired());
        put(json, "ended", row.ended());
        if (row.ended() != null) {
            json.raw("duration_seconds", Text.seconds(Math.max(0, millis(request.started(), row.ended()))));
        }
        put(json, "exit_status", row.exitStatus());
        if (row.processExit() != null) {
            json.put("process_exit", row.processExit());
        }
        if (row.counter() != null) {
            json.put("count", row.counter());
        }
        json.put("threshold", request.threshold());
        put(json, "holder", row.holder());
        put(json, "message", row.message());
        put(json, "evidence", row.evidence());
        put(json, "output_file", request.outputFile());
        if (request.restartedFrom() != null) {
            json.put("restarted_from", request.restartedFrom());
        }
        return json;
    }

    private static void put(Json json, String name, String value) {
        if (value != null) {
            json.put(name, value);
        }
    }

    /** One execution whole. */
    static void show(Repository repository, ExecutionRow row, PrintStream out) throws RepositoryException {
        RequestRow request = row.request();
        line(out, "job execution", row.id() + " of job instance " + row.instanceId());
        line(out, "status", row.batchStatus() + (row.exitStatus() == null ? "" : ", " + row.exitStatus())
            + (row.processExit() == null ? "" : ", process exit " + row.processExit()));
        line(out, "message", row.message());
        line(out, "evidence", row.evidence());
        line(out, "command", request.command());
        line(out, "lock file", request.lockFile());
        line(out, "counter file", request.counterFile() + ", threshold " + request.threshold()
            + (row.counter() == null ? "" : ", counter afterwards " + row.counter()));
        for (Map.Entry<String, String> option : request.options().entrySet()) {
            line(out, option.getKey(), option.getValue().isEmpty() ? "yes" : option.getValue());
        }
        line(out, "by", request.user() + "@" + request.host() + ", pid " + request.pid() + ", run " + request.runId());
        line(out, "requested", request.started());
        line(out, "acquired", row.acquired());
        line(out, "ended", row.ended() == null ? null : row.ended() + ", after " + duration(request.started(), row.ended()));
        line(out, "holder met", row.holder());
        List<Long> others = new ArrayList<>();
        for (ExecutionRow other : repository.executionsOf(row.instanceId())) {
            others.add(other.id());
        }
        if (others.size() > 1) {
            line(out, "restarts", others.toString().replaceAll("[\\[\\]]", "").replace(", ", " -> ")
                + (request.restartedFrom() == null ? "" : " (this one restarts " + request.restartedFrom() + ")"));
        }
        out.println("steps");
        for (StepRow step : repository.steps(row.id())) {
            out.printf("  %-17s %s  %-8s %-10s %s%n", step.name(), step.startedMillis() == null ? "-" : Text.time(step.startedMillis()),
                step.startedMillis() == null || step.endedMillis() == null ? "-" : Text.duration(step.endedMillis() - step.startedMillis()),
                step.batchStatus(), text(step.exitStatus()));
        }
        if (request.outputFile() != null) {
            showOutput(Path.of(request.outputFile()), out);
        }
    }

    private static void showOutput(Path file, PrintStream out) {
        try {
            List<String> lines = OutputFile.lastLines(file, OUTPUT_LINES);
            line(out, "output", lines.isEmpty() ? "none" : file + ", its last lines:");
            for (String line : lines) {
                out.println("  " + line);
            }
        } catch (IOException e) {
            line(out, "output", file + ": " + Text.reason(e));
        }
    }

    private static void line(PrintStream out, String name, String value) {
        if (value != null) {
            out.printf("%-18s %s%n", name, value);
        }
    }

    private Reports() {
    }
}
