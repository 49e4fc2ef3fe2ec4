import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

import freemarker.core.TemplateClassResolver;
import freemarker.template.Configuration;
import freemarker.template.TemplateException;
import freemarker.template.Version;

/**
 * The page that shows what a {@link Report} has read: what the template {@code report.ftlh} needs, as records.
 * Everything that was stored passes through {@link ReportText}, which makes it visible, and through the template, which
 * escapes it; no other way leads into the page.
 */
final class ReportPage {
    public record Tile(String value, String name, String symbol) {
    }

    /** @param href the id of the task's part of the page, or null */
    public record Alert(String symbol, String word, String task, String href, List<Trouble> troubles) {
    }

    /** @param at where the command is to be given @param row the execution, or null where it has no row in the page */
    public record Trouble(String at, String reason, String command, Long row) {
    }

    public record Task(String href, String name, String symbol, String state, String lockFile, String command,
        String hosts, String users, List<Tile> facts, List<ReportChart.Glyph> strip, ReportChart.Durations durations) {
    }

    /**
     * @param linked whether something in the page leads to it
     * @param details or null where there is no room for them
     */
    public record Row(long id, boolean linked, String symbol, String task, String host, String user, String start,
        String duration, String batchStatus, String exitStatus, String contentions, Details details) {
    }

    public record Details(String summary, List<Fact> facts, String output) {
    }

    public record Fact(String name, String value) {
    }

    private static final long DAY = 24 * 60 * 60 * 1000L;
    private static final int MAX_BYTES = 1_000_000;
    private static final int MAX_TASKS = 200;
    private static final int MAX_ALERTS = 100;
    private static final int MAX_TROUBLES = 3;
    private static final int OUTPUT_LINES = 10;
    private static final int MAX_OUTPUT_LINE = 160;
    private static final int ROW_MARKUP = 64;
    private static final int DETAILS_MARKUP = 60;
    private static final int MIN_NAME = 8;
    private static final int[] NAME_LENGTHS = {40, 20, 12, MIN_NAME};
    /** What the page needs without tasks and executions, in bytes. */
    private static final int FIXED = 40_000;
    /** What the details of executions get at the least, in bytes. */
    private static final int DETAILS = 100_000;
    private static final ReportRow.Kind[] LEGEND = {ReportRow.Kind.SUCCEEDED, ReportRow.Kind.FAILED,
        ReportRow.Kind.TIMED_OUT, ReportRow.Kind.KILLED, ReportRow.Kind.STOPPED, ReportRow.Kind.RUNNING,
        ReportRow.Kind.CONTENDED, ReportRow.Kind.REPORTED};

    private final Report report;
    private boolean leavesOut;

    private ReportPage(Report report) {
        this.report = report;
    }

    /** The page, at most {@value #MAX_BYTES} bytes of UTF-8. */
    static byte[] of(Report report) throws TaskException {
        ReportPage page = new ReportPage(report);
        byte[] best = null;
        int budget = MAX_BYTES;
        // what a budget makes is known when it is spent; a second look uses up what is left, or saves what was too much
        for (int attempt = 1; best == null || attempt <= 2 && page.leavesOut
                && best.length < MAX_BYTES - MAX_BYTES / 50; attempt++) {
            byte[] made = page.render(budget);
            if (made.length <= MAX_BYTES) {
                best = made;
            }
            budget += MAX_BYTES - made.length - MAX_BYTES / 200;
        }
        return best;
    }

    private byte[] render(int budget) throws TaskException {
        Map<String, Object> model = new HashMap<>();
        String style = resource("report.css");
        String script = resource("report.js");
        model.put("style", style);
        model.put("script", script);
        model.put("policy", "default-src 'none'; style-src 'sha256-" + hash(style) + "'; script-src 'sha256-"
            + hash(script) + "'; img-src data:; base-uri 'none'; form-action 'none'");
        Pictures pictures = pictures(MAX_TASKS);
        int room = Math.max(budget / 8, Math.min(budget / 2, budget - FIXED - DETAILS
            - report.rows.stream().mapToInt(row -> cost(row(row, MIN_NAME, null))).sum()));
        for (int count = MAX_TASKS / 2; pictures.cost() > room && count > 0; count = count * 2 / 3) {
            pictures = pictures(count);
        }
        List<ReportTask> shown = List.copyOf(pictures.hrefs().keySet());
        head(model);
        model.put("timelines", pictures.timelines());
        List<String> omitted = new ArrayList<>();
        int left = budget - FIXED - pictures.cost();
        List<Row> page = rows(left, omitted);
        Set<Long> ids = new HashSet<>();
        page.forEach(row -> ids.add(row.id()));
        alerts(model, pictures.hrefs(), ids);
        List<Task> parts = new ArrayList<>();
        for (ReportTask task : shown) {
            parts.add(task(task, pictures.hrefs().get(task), pictures.durations().get(parts.size()), ids));
        }
        model.put("tasks", parts);
        if (shown.size() < report.tasks.size()) {
            omitted.add(report.tasks.size() - shown.size() + " of " + report.tasks.size()
                + " tasks are not shown one by one");
        }
        model.put("rows", page);
        model.put("omitted", omitted);
        leavesOut = !omitted.isEmpty();
        return process(model).getBytes(StandardCharsets.UTF_8);
    }

    /** @param cost in bytes of the page, about */
    private record Pictures(Map<ReportTask, String> hrefs, List<ReportChart.Durations> durations,
        List<ReportChart.Timeline> timelines, int cost) {
    }

    /** Of the first report.tasks. */
    private Pictures pictures(int count) {
        Map<ReportTask, String> hrefs = new LinkedHashMap<>();
        report.concerns.keySet().stream().limit(count).forEach(task -> hrefs.put(task, "t" + hrefs.size()));
        List<ReportChart.Timeline> timelines = timelines(hrefs);
        int cost = timelines.stream().mapToInt(ReportPage::cost).sum();
        ReportChart chart = new ReportChart(begin(), report.scope.until());
        List<ReportChart.Durations> charts = new ArrayList<>();
        for (ReportTask task : hrefs.keySet()) {
            ReportChart.Durations durations = chart.durations(task.runs, task.duration(50), task.duration(95));
            charts.add(durations);
            cost += 1900 + Math.min(ReportChart.STRIP, task.runs.size()) * 100 + (durations == null ? 0
                : durations.paths().stream().mapToInt(path -> path.d().length()).sum());
        }
        return new Pictures(hrefs, charts, timelines, cost);
    }

    /** Where pictures of the window begin: at its first execution. */
    private long begin() {
        return report.earliest == Long.MAX_VALUE ? report.scope.until() - DAY : report.earliest;
    }

    private static int cost(ReportChart.Timeline timeline) {
        int cost = 1000;
        for (ReportChart.Lane lane : timeline.lanes()) {
            cost += 450 + 2 * cost(lane.name());
            for (ReportChart.HostRow row : lane.rows()) {
                cost += 80 + (row.label() == null ? 0 : 2 * cost(row.label()));
                cost += row.glyphs().stream().mapToInt(glyph -> 75 + cost(glyph.title())).sum();
                cost += row.paths().stream().mapToInt(path -> 30 + path.d().length() + (path.title() == null ? 0 : 20
                    + cost(path.title()))).sum();
            }
        }
        return cost;
    }

    private void head(Map<String, Object> model) {
        long runs = 0;
        long running = 0;
        Map<ReportRow.Kind, Long> counts = new HashMap<>();
        for (ReportTask task : report.tasks.values()) {
            runs += task.runs.size();
            task.runs.forEach(run -> counts.merge(run.kind(), 1L, Long::sum));
            task.contentions.forEach(mark -> counts.merge(mark.kind(), 1L, Long::sum));
        }
        running = counts.getOrDefault(ReportRow.Kind.RUNNING, 0L);
        long succeeded = counts.getOrDefault(ReportRow.Kind.SUCCEEDED, 0L);
        long failed = counts.entrySet().stream().filter(count -> count.getKey().isFailure())
            .mapToLong(Map.Entry::getValue).sum();
        long reported = counts.getOrDefault(ReportRow.Kind.REPORTED, 0L);
        List<Tile> tiles = new ArrayList<>();
        tiles.add(new Tile(Integer.toString(report.tasks.size()), report.tasks.size() == 1 ? "task" : "tasks", ""));
        tiles.add(new Tile(grouped(runs), runs == 1 ? "run" : "runs", ""));
        tiles.add(new Tile(runs == running ? "–" : 100 * succeeded / (runs - running) + " %", "succeeded", "s"));
        tiles.add(new Tile(grouped(failed), "failed, timed out or killed", "f"));
        tiles.add(new Tile(grouped(running), "running", "a"));
        tiles.add(new Tile(grouped(counts.getOrDefault(ReportRow.Kind.CONTENDED, 0L) + reported), "contentions", "c"));
        tiles.add(new Tile(grouped(reported), "reported", "r"));
        model.put("tiles", report.executions == 0 ? List.of() : tiles);
        model.put("kinds", List.of(LEGEND));
        long needy = report.concerns.values().stream().filter(list -> !list.isEmpty()).count();
        model.put("needy", needy);
        model.put("well", report.tasks.size() - needy);
        model.put("executions", report.executions);
        model.put("window", ReportText.time(report.scope.since()) + "Z to "
            + ReportText.time(report.scope.until()) + "Z");
        model.put("now", report.scope.made() - report.scope.until() < DAY / 24);
        model.put("until", ReportText.time(report.scope.until()) + "Z");
        model.put("made", ReportText.time(report.scope.made()) + "Z");
        model.put("filters", ReportText.line(report.scope.filters(), 400));
        model.put("repository", ReportText.line(report.repository.database().toString(), 400));
        model.put("version", taskrunner.VERSION);
    }

    private static String grouped(long number) {
        return String.format(Locale.ROOT, "%,d", number);
    }

    private void alerts(Map<String, Object> model, Map<ReportTask, String> hrefs, Set<Long> ids) {
        List<Alert> alerts = new ArrayList<>();
        for (Map.Entry<ReportTask, List<ReportTask.Concern>> entry : report.concerns.entrySet()) {
            List<Trouble> troubles = new ArrayList<>();
            for (ReportTask.Concern concern : entry.getValue()) {
                troubles.add(new Trouble(ReportText.line(concern.at(), 60), ReportText.line(concern.reason(), 400),
                    ReportText.line(concern.command(), 300), ids.contains(concern.id()) ? concern.id() : null));
            }
            if (!troubles.isEmpty() && alerts.size() < MAX_ALERTS) {
                ReportTask.Need need = entry.getValue().get(0).need();
                alerts.add(new Alert(need.symbol, need.word(), ReportText.line(entry.getKey().name, 80),
                    hrefs.get(entry.getKey()), troubles.subList(0, Math.min(MAX_TROUBLES, troubles.size()))));
            }
        }
        model.put("alerts", alerts);
    }

    private List<ReportChart.Timeline> timelines(Map<ReportTask, String> hrefs) {
        List<ReportChart.Timeline> timelines = new ArrayList<>();
        if (report.scope.until() - begin() > 2 * DAY) {
            timelines.add(new ReportChart(report.scope.until() - DAY, report.scope.until()).timeline("day",
                "The last 24 hours", hrefs));
        }
        timelines.add(new ReportChart(begin(), report.scope.until()).timeline("all", "The whole window", hrefs));
        timelines.removeIf(timeline -> timeline.lanes().isEmpty());
        return timelines;
    }

    private Task task(ReportTask task, String href, ReportChart.Durations durations, Set<Long> ids) {
        List<Tile> facts = new ArrayList<>();
        ReportTask.Mark last = task.runs.isEmpty() ? null : task.runs.get(0);
        facts.add(new Tile(last == null ? "–" : ReportText.time(last.at()) + "Z", "last run", ""));
        facts.add(new Tile(task.successRate() < 0 ? "–" : task.successRate() + " %", "succeeded", ""));
        facts.add(new Tile(grouped(task.runs.size()), "runs", ""));
        facts.add(new Tile(grouped(task.contentions.size()), "contentions", ""));
        facts.add(new Tile(grouped(task.count(ReportRow.Kind.REPORTED)), "reported", ""));
        facts.add(new Tile(task.duration(50) < 0 ? "–" : ReportText.duration(task.duration(50)), "median", ""));
        facts.add(new Tile(task.duration(95) < 0 ? "–" : ReportText.duration(task.duration(95)), "95 % within", ""));
        ReportRow.Kind kind = last == null ? ReportRow.Kind.CONTENDED : last.kind();
        String state = last == null ? "no run in this window" : kind == ReportRow.Kind.FAILED ? "failed: "
            + ReportText.line(last.ending(), 30) : kind.word();
        String symbol = kind.symbol();
        if (!report.concerns.get(task).isEmpty()) {
            ReportTask.Concern worst = report.concerns.get(task).get(0);
            String needed = worst.need().symbol;
            state = worst.need().word() + " on " + ReportText.line(worst.at(), 60) + (needed.equals(symbol)
                || last == null ? "" : "; last run: " + state);
            symbol = needed;
        }
        return new Task(href, ReportText.line(task.name, 120), symbol, state,
            ReportText.line(task.newest.fleetTask() == null ? task.key : "one lock for the fleet", 300),
            ReportText.lines(task.newest.command(), 400), listed(task.hosts), listed(task.users), facts,
            ReportChart.strip(task.runs, ids), durations);
    }

    private static String listed(Set<String> names) {
        StringBuilder list = new StringBuilder();
        int number = 0;
        for (String name : names) {
            if (number++ == 16) {
                return list.append(" and ").append(names.size() - 16).append(" more").toString();
            }
            list.append(number == 1 ? "" : ", ").append(ReportText.line(name, 40));
        }
        return list.toString();
    }

    // The report.executions

    private List<Row> rows(int budget, List<String> omitted) throws TaskException {
        List<Row> page = new ArrayList<>();
        int left = budget;
        for (int length : NAME_LENGTHS) {
            page.clear();
            left = budget;
            for (ReportRow row : report.rows) {
                Row shown = row(row, length, null);
                left -= cost(shown);
                page.add(shown);
            }
            if (left >= DETAILS) {
                break;
            }
        }
        while (left < DETAILS && !page.isEmpty()) {
            left += cost(page.remove(page.size() - 1));
        }
        if (page.size() < report.executions) {
            omitted.add("the table shows the newest " + grouped(page.size()) + " of " + grouped(report.executions)
                + " executions: the others are counted and drawn; a shorter window, --lockfile or --host shows them");
        }
        details(page, left, omitted);
        return page;
    }

    private Row row(ReportRow row, int length, Details details) {
        boolean linked = row.kind() != ReportRow.Kind.SUCCEEDED || report.concerning.contains(row.id());
        return new Row(row.id(), linked, row.kind().symbol(), ReportText.line(report.tasks.get(row.task()).name,
            length), ReportText.line(row.host(), length), ReportText.line(row.user(), length),
            ReportText.time(row.requested()), row.duration() < 0 ? "" : ReportText.duration(row.duration()),
            row.batchStatus(), row.exitStatus() == null ? "" : ReportText.line(row.exitStatus(), 30),
            row.contentions() == null ? "" : row.contentions().toString(), details);
    }

    private static int cost(Row row) {
        return ROW_MARKUP + (row.linked() ? 16 : 0) + cost(row.task()) + cost(row.host()) + cost(row.user())
            + row.duration().length() + row.batchStatus().length() + row.exitStatus().length()
            + row.contentions().length();
    }

    /** In bytes, escaped. */
    private static int cost(String text) {
        int cost = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            cost += c == '<' || c == '>' ? 4 : c == '&' || c == '\'' ? 5 : c == '"' ? 6 : c < 0x80 ? 1 : c < 0x800 ? 2
                : 3;
        }
        return cost;
    }

    /** First of what went wrong, then of contentions, then of the rest, newest first, as long as there is room. */
    private void details(List<Row> page, int budget, List<String> omitted) throws TaskException {
        List<Integer> order = new ArrayList<>();
        for (int i = 0; i < page.size(); i++) {
            order.add(i);
        }
        order.sort(Comparator.comparing(i -> dullness(report.rows.get(i))));
        Map<Long, List<Long>> instances = new HashMap<>();
        report.rows.forEach(row -> instances.computeIfAbsent(row.instance(), instance -> new ArrayList<>())
            .add(row.id()));
        int left = budget;
        int done = 0;
        for (int from = 0; from < order.size() && left > 0; from += 200) {
            List<Integer> some = order.subList(from, Math.min(order.size(), from + 200));
            Map<Long, List<StepRow>> steps = report.repository.steps(some.stream().map(i -> report.rows.get(i).id())
                .toList());
            for (int i : some) {
                Details details = details(report.rows.get(i), steps.getOrDefault(report.rows.get(i).id(), List.of()),
                    instances);
                left -= cost(details);
                if (left < 0) {
                    break;
                }
                page.set(i, row(page.get(i), details));
                done++;
            }
        }
        if (done < page.size()) {
            omitted.add("the details of " + grouped(page.size() - done)
                + " executions, of successes and contentions first: taskrunner-batch show ID tells them");
        }
    }

    private static Row row(Row row, Details details) {
        return new Row(row.id(), row.linked(), row.symbol(), row.task(), row.host(), row.user(), row.start(),
            row.duration(), row.batchStatus(), row.exitStatus(), row.contentions(), details);
    }

    private static int dullness(ReportRow row) {
        return row.kind().isContention() ? 1 : row.kind() == ReportRow.Kind.SUCCEEDED && row.restartedFrom() == null ? 2
            : 0;
    }

    private static int cost(Details details) {
        int cost = DETAILS_MARKUP + cost(details.summary()) + (details.output() == null ? 0 : 40
            + cost(details.output()));
        for (Fact fact : details.facts()) {
            cost += 10 + fact.name().length() + cost(fact.value());
        }
        return cost;
    }

    private Details details(ReportRow row, List<StepRow> steps, Map<Long, List<Long>> instances) {
        List<Fact> facts = new ArrayList<>();
        String message = row.message() == null ? "" : row.message();
        boolean succeeded = row.kind() == ReportRow.Kind.SUCCEEDED;
        String summary = succeeded || message.isEmpty() ? row.kind().word() : ReportText.line(message, 300);
        add(facts, "evidence", row.evidence() == null ? null : ReportText.line(row.evidence(), 300));
        if (row.holder() != null && !message.contains(row.holder())) {
            add(facts, "holder met", ReportText.line(row.holder(), 200));
        }
        if (!row.command().equals(report.tasks.get(row.task()).newest.command())
            && !message.endsWith(row.command())) {
            add(facts, "command", ReportText.lines(row.command(), 300));
        }
        if (row.exitCode() != null && !succeeded && !row.kind().isContention()) {
            add(facts, "exit code", row.exitCode().toString());
        }
        List<Long> ids = instances.get(row.instance());
        if (row.restartedFrom() != null || ids.size() > 1) {
            List<Long> inOrder = new ArrayList<>(ids);
            inOrder.sort(null);
            add(facts, "restarts", (row.restartedFrom() == null || inOrder.contains(row.restartedFrom()) ? ""
                : row.restartedFrom() + " → ")
                + String.join(" → ", inOrder.stream().map(String::valueOf).toList()));
        }
        add(facts, "times", times(row));
        add(facts, "steps", steps.isEmpty() ? null : steps(steps));
        return new Details(summary, facts, output(row));
    }

    /** The last lines of what the command printed, where they are kept on this host by this user, or null. */
    private String output(ReportRow row) {
        Path file = OutputFile.of(report.repository.database().stateDirectory(), row.runId());
        if (!report.scope.output() || file == null || row.acquired() < 0) {
            return null;
        }
        try {
            List<String> lines = OutputFile.lastLines(file, OUTPUT_LINES);
            return lines.isEmpty() ? null : String.join("\n", lines.stream()
                .map(line -> ReportText.line(line, MAX_OUTPUT_LINE)).toList());
        } catch (IOException e) {
            return Text.reason(e);
        }
    }

    private static String times(ReportRow row) {
        return Text.time(row.requested()).substring(11) + " requested" + (row.acquired() < 0 ? "" : ", acquired after "
            + ReportText.duration(row.acquired() - row.requested())) + (row.ended() < 0 ? "" : ", ended after "
            + ReportText.duration(row.ended() - row.requested()));
    }

    private static String steps(List<StepRow> steps) {
        StringBuilder text = new StringBuilder();
        for (StepRow step : steps) {
            text.append(text.isEmpty() ? "" : ", ").append(ReportText.line(step.name(), 30));
            if (step.startTime() != null && step.endTime() != null) {
                long took = Instant.parse(step.endTime()).toEpochMilli() - Instant.parse(step.startTime())
                    .toEpochMilli();
                text.append(' ').append(ReportText.duration(Math.max(0, took)));
            }
            if (!"COMPLETED".equals(step.batchStatus())) {
                text.append(' ').append(step.batchStatus());
            }
            if (step.exitStatus() != null && !step.exitStatus().equals("COMPLETED")) {
                text.append(' ').append(ReportText.line(step.exitStatus(), 30));
            }
        }
        return text.toString();
    }

    private static void add(List<Fact> facts, String name, String value) {
        if (value != null) {
            facts.add(new Fact(name, value));
        }
    }

    // The template

    private static String process(Map<String, Object> model) {
        Configuration configuration = new Configuration(new Version("2.3.35"));
        configuration.setClassLoaderForTemplateLoading(Report.class.getClassLoader(), "");
        configuration.setDefaultEncoding("UTF-8");
        configuration.setNumberFormat("computer");
        configuration.setLocale(Locale.ROOT);
        configuration.setLocalizedLookup(false);
        configuration.setNewBuiltinClassResolver(TemplateClassResolver.ALLOWS_NOTHING_RESOLVER);
        configuration.setLogTemplateExceptions(false);
        StringWriter page = new StringWriter();
        try {
            configuration.getTemplate("report.ftlh").process(model, page);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (TemplateException e) {
            throw new IllegalStateException(e);
        }
        return page.toString();
    }

    private static String resource(String name) {
        try (InputStream in = Report.class.getResourceAsStream("/" + name)) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String hash(String text) {
        try {
            return Base64.getEncoder().encodeToString(MessageDigest.getInstance("SHA-256")
                .digest(text.getBytes(StandardCharsets.UTF_8)));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
