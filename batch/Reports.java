import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Pattern;

/** What {@code history} and {@code show} print. */
final class Reports {
    private static final int OUTPUT_LINES = 10;
    private static final int FOLLOW_MILLIS = 200;
    private static final Pattern STATUS = Pattern.compile("STARTING|STARTED|STOPPING|STOPPED|FAILED|COMPLETED|ABANDONED"
        + "|SUCCEEDED|(EXIT|SIGNAL)_[0-9]{1,3}|TIMEOUT|CONTENDED|THRESHOLD_EXCEEDED|LOCK_ERROR|COUNTER_ERROR|KILLED"
        + "|LOST"
        + "|LOCK_LOST");
    private static final String[] COLUMNS = {"id", "task", "host", "user", "start", "duration", "status", "exit",
        "contentions"};
    private static final int TASK = 1;
    private static final int MIN_TASK_WIDTH = 12;
    /** What a spreadsheet would take for the beginning of a formula. */
    private static final String FORMULA = "=+-@\t\r";

    /** All that is known of an execution, by its names in JSON and CSV; null where it does not apply. */
    private static final Map<String, Function<ExecutionRow, Object>> VALUES = new LinkedHashMap<>();

    static {
        VALUES.put("id", row -> row.id());
        VALUES.put("job_instance", row -> row.instanceId());
        VALUES.put("task", row -> row.request().taskName());
        VALUES.put("lock_file", row -> row.request().lockFile());
        VALUES.put("fleet", row -> row.request().fleetTask());
        VALUES.put("fence", row -> row.fence());
        VALUES.put("command", row -> row.request().command());
        VALUES.put("host", row -> row.request().host());
        VALUES.put("user", row -> row.request().user());
        VALUES.put("uid", row -> row.request().uid());
        VALUES.put("login", row -> row.request().login());
        VALUES.put("pid", row -> row.request().pid());
        VALUES.put("run_id", row -> row.request().runId());
        VALUES.put("create_time", row -> row.request().createTime());
        VALUES.put("acquired", row -> row.acquired());
        VALUES.put("start_time", row -> row.startTime());
        VALUES.put("end_time", row -> row.endTime());
        VALUES.put("duration_seconds", row -> row.commandMillis() == null ? null
            : Text.seconds(row.commandMillis()));
        VALUES.put("batch_status", row -> row.batchStatus());
        VALUES.put("exit_status", row -> row.exitStatus());
        VALUES.put("exit_code", row -> row.exitCode());
        VALUES.put("contentions", row -> row.contentions());
        VALUES.put("threshold", row -> (long) row.request().threshold());
        VALUES.put("counter_file", row -> row.request().fleetTask() == null ? row.request().counterFile() : null);
        VALUES.put("holder", row -> row.holder());
        VALUES.put("message", row -> row.message());
        VALUES.put("evidence", row -> row.evidence());
        VALUES.put("output_file", row -> row.request().outputFile());
        VALUES.put("output_note", row -> row.outputNote());
        VALUES.put("restarted_from", row -> row.request().restartedFrom());
    }

    static int history(Arguments arguments) throws TaskException {
        Path lockFile = arguments.path("--lockfile");
        String format = format(arguments, "table", "json", "csv");
        String status = arguments.has("--status") ? arguments.text("--status").toUpperCase(Locale.ROOT) : null;
        if (status != null && !STATUS.matcher(status).matches()) {
            throw arguments.refused("invalid --status '" + arguments.text("--status")
                + "': give a batch status or exit status such as FAILED, COMPLETED, EXIT_3, CONTENDED, KILLED");
        }
        Filter filter = new Filter(lockFile == null ? null : lockFile.toString(), arguments.text("--fleet"),
            arguments.text("--host"),
            arguments.text("--user"), status, time(arguments, "--since"), time(arguments, "--until"),
            arguments.number("--limit", 0, Integer.MAX_VALUE, 20));
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            taskrunnerbatch.reconcile(repository);
            List<ExecutionRow> rows = repository.history(filter);
            // RFC 8259 wants UTF-8, whatever the locale
            PrintStream utf8 = new PrintStream(System.out, false, StandardCharsets.UTF_8);
            switch (format) {
                case "json" -> json(rows, utf8);
                case "csv" -> csv(rows, utf8);
                default -> table(rows, terminalWidth(), System.out);
            }
            return flushed(utf8);
        }
    }

    static int show(Arguments arguments) throws TaskException {
        boolean json = format(arguments, "text", "json").equals("json");
        long id = taskrunnerbatch.id(arguments);
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            taskrunnerbatch.reconcile(repository);
            ExecutionRow row = taskrunnerbatch.find(repository, id);
            if (arguments.has("--output") || arguments.has("--follow")) {
                return output(repository, row, arguments.has("--follow"));
            }
            PrintStream utf8 = new PrintStream(System.out, false, StandardCharsets.UTF_8);
            if (json) {
                showJson(repository, row, utf8);
            } else {
                show(repository, row, System.out);
            }
            return flushed(utf8);
        }
    }

    private static int flushed(PrintStream utf8) {
        utf8.flush();
        return taskrunner.printed(ExitStatus.OK, taskrunnerbatch.COMMANDS);
    }

    /** The first one is the default. */
    private static String format(Arguments arguments, String... formats) throws UsageException {
        String format = arguments.has("--format") ? arguments.text("--format") : formats[0];
        if (!List.of(formats).contains(format)) {
            throw arguments.refused("invalid --format '" + format + "': give " + String.join(" or ", formats));
        }
        return format;
    }

    /** The columns of the terminal; without one lines are as long as they need to be. */
    private static int terminalWidth() {
        try {
            if (!Files.readSymbolicLink(Path.of("/proc/self/fd/1")).toString().matches("/dev/(pts/|tty|console).*")) {
                return Integer.MAX_VALUE / 2;
            }
            Process process = new ProcessBuilder("sh", "-c", "stty size </dev/tty")
                .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            byte[] size = process.getInputStream().readAllBytes();
            return Integer.parseInt(new String(size, StandardCharsets.US_ASCII).strip().split(" ")[1]);
        } catch (IOException | RuntimeException e) {
            return 80;
        }
    }

    /** The time as rows have it, or null without the option. */
    static String time(Arguments arguments, String option) throws UsageException {
        if (!arguments.has(option)) {
            return null;
        }
        String text = arguments.text(option);
        try {
            Duration ago = Arguments.parseDuration(text);
            return Repository.time(ago != null ? Instant.now().minus(ago) : text.length() == 10
                ? LocalDate.parse(text).atStartOfDay().toInstant(ZoneOffset.UTC) : Instant.parse(text));
        } catch (DateTimeParseException e) {
            throw arguments.refused("invalid " + option + " '" + text
                + "': give a time such as 2026-11-24, 2026-11-24T02:00:00Z, or a duration ago such as 7d");
        }
    }

    /** The output that was kept, byte for byte; with follow until the execution has ended. */
    private static int output(Repository repository, ExecutionRow row, boolean follow) throws TaskException {
        Path file = OutputFile.of(repository.database().stateDirectory(), row.request().runId());
        try {
            boolean ended = !row.isUnfinished();
            repository.release();
            OutputFile.Reader reader = new OutputFile.Reader(file);
            while (true) {
                reader.copyTo(System.out);
                System.out.flush();
                if (ended || !follow || System.out.checkError()) {
                    break;
                }
                Thread.sleep(FOLLOW_MILLIS);
                ended = Reconciliation.death(row.request()) != null || !taskrunnerbatch.find(repository, row.id())
                    .isUnfinished();
                repository.release();
            }
            return flushed(System.out);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return ExitStatus.SIGNAL;
        } catch (IOException e) {
            throw TaskException.io("the output of job execution " + row.id() + " cannot be read: " + Text.reason(e)
                + "; it is kept by " + row.request().user() + " on " + row.request().host(), e);
        }
    }

    static Map<String, Object> values(ExecutionRow row) {
        Map<String, Object> values = new LinkedHashMap<>();
        VALUES.forEach((name, value) -> values.put(name, value.apply(row)));
        return values;
    }

    private static String[] cells(ExecutionRow row) {
        RequestRow request = row.request();
        return new String[] {Long.toString(row.id()), request.taskName(), request.host(), request.user(),
            request.createTime().substring(0, 19) + "Z", duration(row.commandMillis()), row.batchStatus(),
            text(row.exitStatus()), text(row.contentions())};
    }

    private static String text(Object value) {
        return value == null ? "-" : value.toString();
    }

    private static String duration(Long millis) {
        return millis == null ? "-" : Text.duration(millis);
    }

    /** A table whose task column is cut so that a line fits the width. */
    static void table(List<ExecutionRow> rows, int width, PrintStream out) {
        List<String[]> lines = new ArrayList<>();
        lines.add(String.join(",", COLUMNS).toUpperCase(Locale.ROOT).split(","));
        for (ExecutionRow row : rows) {
            String[] cells = cells(row);
            for (int i = 0; i < cells.length; i++) {
                cells[i] = safe(cells[i]);
            }
            lines.add(cells);
        }
        int[] widths = new int[COLUMNS.length];
        int others = 0;
        for (int i = 0; i < widths.length; i++) {
            for (String[] line : lines) {
                widths[i] = Math.max(widths[i], line[i].length());
            }
            others += i == TASK ? 0 : widths[i] + 2;
        }
        widths[TASK] = Math.min(widths[TASK], Math.max(MIN_TASK_WIDTH, width - others));
        for (String[] line : lines) {
            StringBuilder text = new StringBuilder();
            for (int i = 0; i < line.length; i++) {
                String cell = line[i].length() <= widths[i] ? line[i]
                    : "…" + line[i].substring(line[i].length() - widths[i] + 1);
                text.append(cell).append(" ".repeat(widths[i] - cell.length() + 2));
            }
            out.println(text.toString().stripTrailing());
        }
    }

    /** RFC 4180, with a header line; no cell is a formula to a spreadsheet. */
    static void csv(List<ExecutionRow> rows, PrintStream out) {
        out.print(String.join(",", VALUES.keySet()) + "\r\n");
        for (ExecutionRow row : rows) {
            List<String> cells = new ArrayList<>();
            values(row).values().forEach(value -> cells.add(value == null ? "" : cell(value)));
            out.print(String.join(",", cells) + "\r\n");
        }
    }

    private static String cell(Object value) {
        String text = value.toString();
        if (value instanceof String && !text.isEmpty() && FORMULA.indexOf(text.charAt(0)) >= 0) {
            text = "'" + text;
        }
        boolean quoted = text.contains(",") || text.contains("\"") || text.contains("\n") || text.contains("\r");
        return quoted ? "\"" + text.replace("\"", "\"\"") + "\"" : text;
    }

    /** An array with one object a line. */
    static void json(List<ExecutionRow> rows, PrintStream out) {
        out.println("[");
        for (int i = 0; i < rows.size(); i++) {
            out.println(json(values(rows.get(i))) + (i < rows.size() - 1 ? "," : ""));
        }
        out.println("]");
    }

    private static Json json(Map<String, Object> values) {
        Json json = new Json();
        values.forEach((name, value) -> {
            if (name.equals("duration_seconds") && value != null) {
                json.raw(name, value.toString());
            } else if (value instanceof Long number) {
                json.put(name, number);
            } else {
                json.put(name, (String) value);
            }
        });
        return json;
    }

    /** One execution whole, as one object: also its steps, its options and the executions of its job instance. */
    static void showJson(Repository repository, ExecutionRow row, PrintStream out) throws RepositoryException {
        Json json = json(values(row));
        Json options = new Json();
        row.request().options().forEach((name, value) -> options.put(name, value));
        json.put("options", options);
        List<String> steps = new ArrayList<>();
        for (StepRow step : repository.steps(row.id())) {
            steps.add(new Json().put("name", step.name()).put("start_time", step.startTime())
                .put("end_time", step.endTime()).put("batch_status", step.batchStatus())
                .put("exit_status", step.exitStatus()).toString());
        }
        json.raw("steps", "[" + String.join(",", steps) + "]");
        json.raw("executions", ids(repository, row).toString());
        out.println(json);
    }

    private static List<Long> ids(Repository repository, ExecutionRow row) throws RepositoryException {
        return repository.executionsOf(row.instanceId()).stream().map(ExecutionRow::id).toList();
    }

    /** One execution whole. Nothing that was stored can move the cursor, colour or forge a line. */
    static void show(Repository repository, ExecutionRow row, PrintStream out) throws RepositoryException {
        for (Map.Entry<String, Object> line : lines(repository, row).entrySet()) {
            if (line.getValue() != null) {
                String[] values = line.getValue().toString().split("\n", -1);
                for (int i = 0; i < values.length; i++) {
                    out.printf("%-18s %s%n", i == 0 ? safe(line.getKey()) : "", safe(values[i]));
                }
            }
        }
        out.println("steps");
        for (StepRow step : repository.steps(row.id())) {
            out.printf("  %-17s %s  %-8s %-10s %s%n", safe(step.name()), text(step.startTime()),
                step.startTime() == null || step.endTime() == null ? "-"
                    : Text.duration(Math.max(0, millis(step.startTime(), step.endTime()))),
                step.batchStatus(), safe(text(step.exitStatus())));
        }
        Path output = OutputFile.of(repository.database().stateDirectory(), row.request().runId());
        if (output != null && Files.exists(output)) {
            showOutput(output, out);
        } else if (row.request().outputFile() != null && row.startTime() != null) {
            out.printf("%-18s %s%n", "output", "on " + safe(row.request().host()) + ", kept by "
                + safe(row.request().user()) + ": " + safe(row.request().outputFile()));
        }
    }

    private static Map<String, Object> lines(Repository repository, ExecutionRow row) throws RepositoryException {
        RequestRow request = row.request();
        Map<String, Object> lines = new LinkedHashMap<>();
        lines.put("job execution", row.id() + " of job instance " + row.instanceId());
        lines.put("status", row.batchStatus() + (row.exitStatus() == null ? "" : ", " + row.exitStatus())
            + (row.exitCode() == null ? "" : ", exit code " + row.exitCode()));
        lines.put("message", row.message());
        lines.put("evidence", row.evidence());
        lines.put("command", request.command());
        lines.put("lock file", request.lockFile());
        boolean fleet = request.fleetTask() != null;
        lines.put("task of a fleet", fleet ? request.fleetTask() + (row.fence() == null ? "" : ", fence " + row.fence())
            : null);
        lines.put("counter file", (fleet ? "in the database" : request.counterFile()) + ", threshold "
            + request.threshold()
            + (row.contentions() == null ? "" : ", contentions afterwards " + row.contentions()));
        request.options().forEach((name, value) -> lines.put(name, value.isEmpty() ? "yes" : value));
        lines.put("by", request.user() + "@" + request.host() + (request.login() == null ? ""
            : " (logged in as " + request.login() + ")") + ", pid " + request.pid() + ", run " + request.runId());
        lines.put("requested", request.createTime());
        lines.put("acquired", row.acquired());
        lines.put("started", row.startTime());
        boolean foundDead = "KILLED".equals(row.exitStatus()) || "LOST".equals(row.exitStatus());
        lines.put(foundDead ? "found dead" : "ended", row.endTime() == null ? null : row.endTime()
            + (row.commandMillis() == null ? "" : ", the command ran for " + duration(row.commandMillis())));
        lines.put("holder met", row.holder());
        List<Long> executions = ids(repository, row);
        if (executions.size() > 1) {
            lines.put("restarts", String.join(" -> ", executions.stream().map(String::valueOf).toList())
                + (request.restartedFrom() == null ? "" : " (this one restarts " + request.restartedFrom() + ")"));
        }
        lines.put("output note", row.outputNote());
        return lines;
    }

    private static long millis(String from, String to) {
        return java.time.Duration.between(java.time.Instant.parse(from), java.time.Instant.parse(to)).toMillis();
    }

    private static void showOutput(Path file, PrintStream out) {
        try {
            List<String> lines = OutputFile.lastLines(file, OUTPUT_LINES);
            out.printf("%-18s %s%n", "output", lines.isEmpty() ? "none" : safe(file.toString()) + ", its last lines:");
            for (String line : lines) {
                out.println("  " + safe(line));
            }
        } catch (IOException e) {
            out.printf("%-18s %s%n", "output", safe(file + ": " + Text.reason(e)));
        }
    }

    /** The text with an escape for what a terminal would obey or a reader could not tell from something else. */
    static String safe(String text) {
        StringBuilder safe = new StringBuilder();
        text.codePoints().forEach(c -> {
            int type = Character.getType(c);
            if (c == '\t') {
                safe.append("\\t");
            } else if (type == Character.CONTROL || type == Character.FORMAT || type == Character.LINE_SEPARATOR
                    || type == Character.PARAGRAPH_SEPARATOR || type == Character.SURROGATE) {
                safe.append(String.format("\\u%04x", c));
            } else {
                safe.appendCodePoint(c);
            }
        });
        return safe.toString();
    }

    private Reports() {
    }
}
