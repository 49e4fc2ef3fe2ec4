import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** The geometry of the pictures; the template draws them. Text is not escaped here. */
final class ReportChart {
    /** A label at a place, in the picture's own unit. @param minor may be left out where there is little room */
    public record Tick(String at, String label, boolean minor) {
    }

    /** A path in SVG's words. @param symbol of its kind @param title or null */
    public record Path(String symbol, String d, String title) {
    }

    /** A shape at a place. @param href the id of an execution that it leads to, or null */
    public record Glyph(String symbol, String x, int y, String title, Long href) {
    }

    /**
     * Durations over time, in a box of 360 × 96.
     *
     * @param band where the usual durations are: y of the 95 % and of the median, or null
     */
    public record Durations(List<Tick> x, List<Tick> y, List<Path> paths, int[] band, String summary) {
    }

    /** @param label of the host, or null where the task has one host only */
    public record HostRow(String label, int y, List<Path> paths, List<Glyph> glyphs) {
    }

    /** A lane of a timeline. @param more hosts that are not shown */
    public record Lane(String name, String href, int height, List<HostRow> rows, int more) {
    }

    /** @param grid the path of its vertical lines */
    public record Timeline(String id, String title, List<Tick> ticks, String grid, List<Lane> lanes) {
    }

    static final int STRIP = 32;
    static final int STRIP_STEP = 10;
    private static final int WIDTH = 2000;
    private static final int MIN_BAR = 5;
    /** A bar so wide gets a title of its own. */
    private static final int TITLED_BAR = 60;
    /** Shapes nearer than this hide each other. */
    private static final int SHAPE = 15;
    private static final int MAX_HOSTS = 16;
    private static final int LEFT = 40;
    private static final int RIGHT = 352;
    private static final int TOP = 8;
    private static final int BOTTOM = 76;
    private static final long SECOND = 1000;
    private static final long MINUTE = 60 * SECOND;
    private static final long HOUR = 60 * MINUTE;
    private static final long DAY = 24 * HOUR;
    /** 1970 began on a Thursday, weeks begin on Monday. */
    private static final long MONDAY = 4 * DAY;
    private static final long[] TIME_STEPS = {SECOND, 10 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR,
        6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY, 3640 * DAY};
    private static final long[] DURATIONS = {1, 10, 100, SECOND, 10 * SECOND, MINUTE, 10 * MINUTE, HOUR, 10 * HOUR,
        4 * DAY, 40 * DAY};
    private static final long[] DURATION_STEPS = {1, 2, 5, 10, 20, 50, 100, 200, 500, SECOND, 2 * SECOND, 5 * SECOND,
        10 * SECOND, 20 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE,
        HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 30 * DAY, 100 * DAY};
    private static final DateTimeFormatter CLOCK = DateTimeFormatter.ofPattern("HH:mm", Locale.ROOT)
        .withZone(ZoneOffset.UTC);
    private static final DateTimeFormatter CLOCK_WITH_SECONDS = DateTimeFormatter.ofPattern("HH:mm:ss", Locale.ROOT)
        .withZone(ZoneOffset.UTC);
    private static final DateTimeFormatter DATE = DateTimeFormatter.ofPattern("MM-dd", Locale.ROOT)
        .withZone(ZoneOffset.UTC);

    private final long from;
    private final long to;

    /** @param from where the pictures begin, milliseconds since 1970 @param to where they end, later */
    ReportChart(long from, long to) {
        this.from = from;
        this.to = Math.max(to, from + SECOND);
    }

    private int x(long time, int left, int right) {
        return (int) (left + (right - left) * (Math.max(from, Math.min(to, time)) - from) / (to - from));
    }

    private static String percent(int x) {
        return String.format(Locale.ROOT, "%.1f%%", 100.0 * x / WIDTH);
    }

    /** What is told about a mark where the pointer rests on it. */
    private static String title(ReportTask.Mark mark) {
        return mark.id() + " " + mark.kind().word() + (mark.kind() == ReportRow.Kind.FAILED ? " ("
            + ReportText.line(mark.ending(), 30) + ")" : "") + ", " + ReportText.line(mark.host(), 30) + ", "
            + ReportText.time(mark.at()) + "Z" + (mark.duration() < 0 ? "" : ", "
            + ReportText.duration(mark.duration()));
    }

    /** The newest runs, oldest first. @param shown ids of the executions that have a row in the page */
    static List<Glyph> strip(List<ReportTask.Mark> runs, Set<Long> shown) {
        List<Glyph> strip = new ArrayList<>();
        int count = Math.min(STRIP, runs.size());
        for (int i = count - 1; i >= 0; i--) {
            ReportTask.Mark run = runs.get(i);
            boolean leads = run.kind() != ReportRow.Kind.SUCCEEDED && shown.contains(run.id());
            strip.add(new Glyph(run.kind().symbol(), Integer.toString((count - 1 - i) * STRIP_STEP), 0, title(run),
                leads ? run.id() : null));
        }
        return strip;
    }

    // Durations over time

    /** @return null where no run has a duration */
    Durations durations(List<ReportTask.Mark> runs, long median, long most) {
        long min = Long.MAX_VALUE;
        long max = -1;
        for (ReportTask.Mark run : runs) {
            if (run.duration() >= 0) {
                min = Math.min(min, Math.max(1, run.duration()));
                max = Math.max(max, Math.max(1, run.duration()));
            }
        }
        if (max < 0) {
            return null;
        }
        boolean logarithmic = max > 100 * min;
        long low = logarithmic ? min : 0;
        long high = Math.max(max, low + 1);
        Map<ReportRow.Kind, Set<String>> dots = new EnumMap<>(ReportRow.Kind.class);
        for (ReportTask.Mark run : runs) {
            if (run.duration() >= 0) {
                dots.computeIfAbsent(run.kind(), kind -> new LinkedHashSet<>())
                    .add(dot(run.kind(), x(run.at(), LEFT, RIGHT), y(run.duration(), low, high, logarithmic)));
            }
        }
        List<Path> paths = new ArrayList<>();
        dots.forEach((kind, places) -> paths.add(new Path(kind.symbol(), String.join("", places), kind.word())));
        List<Tick> heights = new ArrayList<>();
        for (long duration : logarithmic ? decades(low, high) : steps(high)) {
            heights.add(new Tick(Integer.toString(y(duration, low, high, logarithmic)), ReportText.duration(duration),
                false));
        }
        List<Tick> times = new ArrayList<>();
        for (long time : times(4)) {
            times.add(new Tick(Integer.toString(x(time, LEFT, RIGHT)), label(time, 4), false));
        }
        int[] band = median < 0 ? null : new int[] {y(most, low, high, logarithmic), y(median, low, high, logarithmic)};
        return new Durations(times, heights, paths, band, "Duration of " + runs.size() + " runs, from "
            + ReportText.duration(min) + " to " + ReportText.duration(max) + (logarithmic ? ", logarithmic scale"
            : ""));
    }

    private static int y(long duration, long low, long high, boolean logarithmic) {
        double share = logarithmic ? Math.log((double) Math.max(1, duration) / low) / Math.log((double) high / low)
            : (double) (duration - low) / (high - low);
        return (int) Math.round(BOTTOM - (BOTTOM - TOP) * share);
    }

    private static String dot(ReportRow.Kind kind, int x, int y) {
        return switch (kind.symbol()) {
            case "f" -> "M" + (x - 2) + " " + (y - 2) + "l4 4m0-4l-4 4";
            case "t" -> "M" + x + " " + (y - 3) + "l3 5h-6z";
            case "k" -> "M" + x + " " + (y - 3) + "l3 3-3 3-3-3z";
            case "x" -> "M" + (x - 2) + " " + (y - 2) + "h4v4h-4z";
            case "a" -> "M" + (x - 2) + " " + (y - 3) + "l5 3-5 3z";
            default -> "M" + x + " " + y + "h0";
        };
    }

    private static List<Long> decades(long low, long high) {
        List<Long> decades = new ArrayList<>();
        for (long duration : DURATIONS) {
            if (duration >= low && duration <= high) {
                decades.add(duration);
            }
        }
        while (decades.size() > 4) {
            for (int i = decades.size() - 2; i > 0; i -= 2) {
                decades.remove(i);
            }
        }
        return decades;
    }

    private static List<Long> steps(long high) {
        for (long step : DURATION_STEPS) {
            if (high / step <= 3) {
                List<Long> steps = new ArrayList<>();
                for (long value = 0; value <= high; value += step) {
                    steps.add(value);
                }
                return steps;
            }
        }
        return List.of(0L, high);
    }

    // Time

    private long step(int max) {
        for (long step : TIME_STEPS) {
            if ((to - from) / step <= max) {
                return step;
            }
        }
        return TIME_STEPS[TIME_STEPS.length - 1];
    }

    private List<Long> times(int max) {
        long step = step(max);
        long origin = step >= 7 * DAY ? MONDAY : 0;
        List<Long> times = new ArrayList<>();
        for (long time = Math.floorDiv(from - origin + step - 1, step) * step + origin; time <= to; time += step) {
            times.add(time);
        }
        return times;
    }

    private String label(long time, int max) {
        long step = step(max);
        return (step >= DAY || step > MINUTE && time % DAY == 0 ? DATE : step < MINUTE ? CLOCK_WITH_SECONDS : CLOCK)
            .format(Instant.ofEpochMilli(time));
    }

    // The timeline

    /** @param hrefs the tasks, in order, with the part of the page that a lane's name leads to */
    Timeline timeline(String id, String title, Map<ReportTask, String> hrefs) {
        List<Tick> ticks = new ArrayList<>();
        StringBuilder grid = new StringBuilder();
        int number = 0;
        for (long time : times(12)) {
            int x = x(time, 0, WIDTH);
            grid.append('M').append(x).append(" 0v999");
            if (x > WIDTH / 50 && x < WIDTH - WIDTH / 30) {
                ticks.add(new Tick(percent(x), label(time, 12), number++ % 3 != 0));
            }
        }
        List<Lane> lanes = new ArrayList<>();
        for (Map.Entry<ReportTask, String> task : hrefs.entrySet()) {
            Lane lane = lane(task.getKey(), task.getValue());
            if (lane != null) {
                lanes.add(lane);
            }
        }
        return new Timeline(id, title, ticks, grid.toString(), lanes);
    }

    private Lane lane(ReportTask task, String href) {
        Map<String, List<ReportTask.Mark>> byHost = new LinkedHashMap<>();
        for (List<ReportTask.Mark> marks : List.of(task.runs, task.contentions)) {
            for (ReportTask.Mark mark : marks) {
                if (mark.end(to) >= from && mark.at() <= to) {
                    byHost.computeIfAbsent(mark.host(), host -> new ArrayList<>()).add(mark);
                }
            }
        }
        if (byHost.isEmpty()) {
            return null;
        }
        boolean one = task.hosts.size() == 1;
        List<String> hosts = new ArrayList<>(byHost.keySet());
        Comparator<String> troubledFirst = Comparator.comparing(host -> byHost.get(host).stream()
            .noneMatch(mark -> mark.kind().isFailure()));
        hosts.sort(troubledFirst.thenComparing(Comparator.naturalOrder()));
        int more = Math.max(0, hosts.size() - MAX_HOSTS);
        hosts = new ArrayList<>(hosts.subList(0, hosts.size() - more));
        hosts.sort(null);
        List<HostRow> rows = new ArrayList<>();
        for (int i = 0; i < hosts.size(); i++) {
            int y = one ? 0 : 18 + 14 * i;
            rows.add(hostRow(one ? null : ReportText.line(hosts.get(i), 30), y, byHost.get(hosts.get(i))));
        }
        return new Lane(ReportText.line(task.name, 60), href, one ? 18 : 20 + 14 * hosts.size() + (more > 0 ? 14 : 0),
            rows, more);
    }

    private HostRow hostRow(String host, int y, List<ReportTask.Mark> marks) {
        Map<String, StringBuilder> pools = new LinkedHashMap<>();
        Map<String, Integer> ends = new LinkedHashMap<>();
        List<Path> paths = new ArrayList<>();
        List<Glyph> glyphs = new ArrayList<>();
        List<ReportTask.Mark> oldestFirst = new ArrayList<>(marks);
        oldestFirst.sort(Comparator.comparing(ReportTask.Mark::at));
        for (ReportTask.Mark mark : oldestFirst) {
            ReportRow.Kind kind = mark.kind();
            int start = x(mark.at(), 0, WIDTH);
            int width = Math.max(MIN_BAR, x(mark.end(to), 0, WIDTH) - start);
            boolean tick = kind.isContention();
            int end = start + (tick ? MIN_BAR : width);
            String pool = kind.symbol() + (tick ? "" : "b");
            if (kind.symbol().equals("k")) {
                pool += " dash";
            }
            int at = Math.min(WIDTH - 12, start + width);
            if (!tick && kind != ReportRow.Kind.SUCCEEDED && at >= ends.getOrDefault("glyph " + pool, 0)) {
                glyphs.add(new Glyph(kind.symbol(), percent(at), y + 9, title(mark), null));
                ends.put("glyph " + pool, at + SHAPE);
            }
            boolean alone = !tick && width >= TITLED_BAR;
            // what cannot be told apart is one
            int begin = alone ? start : Math.max(start, ends.getOrDefault(pool, 0));
            String d = tick ? "M" + start + " " + y + "v" + (kind == ReportRow.Kind.REPORTED ? 9 : 5)
                : "M" + begin + " " + (y + 9) + "h" + (end - begin);
            if (alone) {
                paths.add(new Path(pool, d, title(mark)));
            } else if (begin < end && (!tick || begin == start)) {
                pools.computeIfAbsent(pool, key -> new StringBuilder()).append(d);
                ends.put(pool, end);
            }
        }
        List<Path> all = new ArrayList<>();
        pools.forEach((pool, d) -> all.add(new Path(pool, d.toString(), null)));
        all.addAll(paths);
        return new HostRow(host, y, all, glyphs);
    }
}
