import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * {@code report}: the executions of a window, by task, and what needs a person. Pictures and statistics keep a little
 * of each execution; its texts are kept only as far as one page has room for them.
 */
final class Report {
    /**
     * What the page is about; times are milliseconds since 1970.
     *
     * @param until the end of the window, and the time for which the page tells whether something is wrong
     * @param filters in words, or empty
     * @param output whether the last lines of outputs are shown
     */
    record Scope(long since, long until, String filters, boolean output, long made) {
    }

    /** So many rows are read whole; no page has room for more. */
    private static final int MAX_ROWS = 8_000;
    private static final Duration DEFAULT_WINDOW = Duration.ofDays(7);
    /** A task that was last requested longer before the window is retired. */
    private static final Duration LOOK_BACK = Duration.ofDays(60);
    /** Of each task before the window, so that its usual interval and its silence are known. */
    private static final int BEFORE = 60;

    final Repository repository;
    final Scope scope;
    final Map<String, ReportTask> tasks = new LinkedHashMap<>();
    /** The newest executions, newest first. */
    final List<ReportRow> rows = new ArrayList<>();
    /** What needs a person, by task; the tasks are in the order in which the page shows them. */
    final Map<ReportTask, List<ReportTask.Concern>> concerns = new LinkedHashMap<>();
    /** Executions that the page's beginning leads to. */
    final Set<Long> concerning = new HashSet<>();
    private final Map<String, String> known = new HashMap<>();
    long executions;
    long earliest = Long.MAX_VALUE;

    private Report(Repository repository, Scope scope) {
        this.repository = repository;
        this.scope = scope;
    }

    static int run(Arguments arguments) throws TaskException {
        Instant now = Instant.now();
        String until = Reports.time(arguments, "--until");
        String since = Reports.time(arguments, "--since");
        String lockFile = arguments.has("--lockfile") ? arguments.path("--lockfile").toString() : null;
        String host = arguments.has("--host") ? arguments.text("--host") : null;
        long end = until == null ? now.toEpochMilli() : Instant.parse(until).toEpochMilli();
        long begin = since == null ? end - DEFAULT_WINDOW.toMillis() : Instant.parse(since).toEpochMilli();
        if (begin >= end) {
            throw arguments.refused("--since " + Text.time(begin) + " is not before --until " + Text.time(end));
        }
        Path file = arguments.path("--output");
        List<String> filters = new ArrayList<>();
        for (String option : List.of("--lockfile", "--fleet", "--host")) {
            if (arguments.has(option)) {
                filters.add(option + " " + ReportText.quoted(arguments.text(option)));
            }
        }
        Filter filter = new Filter(lockFile, arguments.text("--fleet"), host, null, null, Text.time(begin), until,
            0);
        Scope scope = new Scope(begin, end, String.join(" ", filters), !arguments.has("--no-output"),
            now.toEpochMilli());
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            taskrunnerbatch.reconcile(repository);
            Report report = new Report(repository, scope);
            report.read(filter);
            write(ReportPage.of(report), file);
        }
        return taskrunner.printed(ExitStatus.OK, taskrunnerbatch.COMMANDS);
    }

    // What was stored

    private void read(Filter filter) throws TaskException {
        repository.report(filter, stored -> {
            ReportRow row = ReportRow.of(stored, known);
            executions++;
            earliest = Math.min(earliest, Math.max(row.requested(), scope.since()));
            task(row).add(row, true);
            if (rows.size() < MAX_ROWS) {
                rows.add(row);
            }
        });
        repository.reportBefore(filter, Text.time(scope.since() - LOOK_BACK.toMillis()), BEFORE, stored -> {
            ReportRow row = ReportRow.of(stored, known);
            task(row).add(row, false);
        });
        name();
        List<ReportTask> inOrder = new ArrayList<>(tasks.values());
        Map<ReportTask, List<ReportTask.Concern>> found = new HashMap<>();
        inOrder.forEach(task -> found.put(task, task.concerns(scope.until())));
        inOrder.sort(Comparator.comparing((ReportTask task) -> found.get(task).isEmpty() ? Integer.MAX_VALUE
            : found.get(task).get(0).need().ordinal())
            .thenComparing(task -> task.name).thenComparing(task -> task.key));
        for (ReportTask task : inOrder) {
            concerns.put(task, found.get(task));
            found.get(task).forEach(concern -> concerning.add(concern.id()));
        }
    }

    private ReportTask task(ReportRow row) {
        return tasks.computeIfAbsent(row.task(), ReportTask::new);
    }

    /** The file's name, with the directories before it that tell it from others. */
    private void name() {
        List<ReportTask> unnamed = new ArrayList<>(tasks.values());
        for (int depth = 1; !unnamed.isEmpty(); depth++) {
            Map<String, Integer> times = new HashMap<>();
            for (ReportTask task : unnamed) {
                task.name = end(task.key, depth);
                times.merge(task.name, 1, Integer::sum);
            }
            int tried = depth;
            unnamed.removeIf(task -> times.get(task.name) == 1 || task.name.length() >= task.key.length()
                || tried > 20);
        }
    }

    private static String end(String path, int depth) {
        int from = path.length();
        for (int i = 0; i < depth && from > 0; i++) {
            from = path.lastIndexOf('/', from - 1);
        }
        String name = path.substring(from < 0 || depth > 20 ? 0 : Math.min(path.length(), from + 1));
        int stem = name.length() - ".lock".length();
        return name.endsWith(".lock") && stem > 0 ? name.substring(0, stem) : name;
    }

    // Where the page goes

    /** @param file null for stdout; written to a temporary file and renamed, so that nobody reads half a page */
    private static void write(byte[] page, Path file) throws TaskException {
        if (file == null) {
            System.out.write(page, 0, page.length);
            return;
        }
        try {
            Path target = Files.exists(file) ? file.toRealPath() : file;
            if (Files.exists(target) && !Files.isRegularFile(target)) {
                // a pipe or a device, which must not be replaced
                Files.write(target, page, StandardOpenOption.WRITE);
                return;
            }
            Path temporary = target.resolveSibling("." + target.getFileName() + "." + ProcessHandle.current().pid());
            try {
                Files.write(temporary, page);
                Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
            } finally {
                Files.deleteIfExists(temporary);
            }
        } catch (IOException e) {
            String directory = RegularFiles.unusableDirectory(file);
            throw TaskException.cannotCreate("cannot write " + file + ": " + (directory == null ? Text.reason(e)
                : directory), e);
        }
    }
}
