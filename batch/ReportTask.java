import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What is known of a task's executions, which come newest first; statistics of them, and what needs a person. */
final class ReportTask {
    /** An execution in a picture. @param at when it acquired the lock, else when it was requested @param ended or -1 */
    record Mark(long id, ReportRow.Kind kind, String host, long at, long ended, long duration, String ending) {
        long end(long now) {
            return ended < 0 ? now : ended;
        }
    }

    /** Why a task needs a person, worst first. */
    enum Need {
        BUSY("r"), KILLED("k"), FAILED("f"), TIMED_OUT("t"), OVERDUE("o"), SLOW("o");

        final String symbol;

        Need(String symbol) {
            this.symbol = symbol;
        }

        String word() {
            return name().toLowerCase(Locale.ROOT).replace('_', ' ');
        }
    }

    /**
     * Something that needs a person.
     *
     * @param id of the execution that tells more
     * @param command what to do
     * @param at the host, or user and host, where to do it
     */
    record Concern(Need need, long id, String reason, String command, String at) {
    }

    private static final Pattern HOLDER_HOST = Pattern.compile("@([^@()\\s]+)\\)");
    /** What is usual needs so many runs or intervals. */
    private static final int USUAL = 5;
    private static final int STALE_INTERVALS = 3;
    private static final int SLOW_FACTOR = 2;
    /** A run that is slow by less than this, in milliseconds, is nobody's concern. */
    private static final long SLOW_BY = 1000;

    /** Its lock file, or its name in a fleet. */
    final String key;
    /** Newest first. */
    final List<Mark> runs = new ArrayList<>();
    /** Newest first. */
    final List<Mark> contentions = new ArrayList<>();
    final Set<String> hosts = new TreeSet<>();
    final Set<String> users = new TreeSet<>();
    private final Map<String, Series> byHost = new LinkedHashMap<>();
    ReportRow newest;
    String name;
    private boolean shared;

    ReportTask(String key) {
        this.key = key;
    }

    /** Executions under one lock: those of a task on a host, or of a task whose hosts share the lock. */
    private static final class Series {
        final List<Mark> runs = new ArrayList<>();
        final List<Mark> contentions = new ArrayList<>();
        ReportRow running;
        ReportRow ended;
        ReportRow contended;

        void add(ReportRow row, Mark mark) {
            if (mark.kind().isContention()) {
                contentions.add(mark);
                contended = contended == null ? row : contended;
            } else {
                runs.add(mark);
                if (row.ended() < 0) {
                    running = running == null ? row : running;
                } else {
                    ended = ended == null ? row : ended;
                }
            }
        }

        /** @param older the same task's on another host */
        void merge(Series other) {
            runs.addAll(other.runs);
            contentions.addAll(other.contentions);
            runs.sort(Comparator.comparing(Mark::id).reversed());
            contentions.sort(Comparator.comparing(Mark::id).reversed());
            running = newer(running, other.running);
            ended = newer(ended, other.ended);
            contended = newer(contended, other.contended);
        }

        private static ReportRow newer(ReportRow one, ReportRow other) {
            return one == null || other != null && other.id() > one.id() ? other : one;
        }
    }

    /** @param inWindow whether it counts, or only tells what is usual and what came last */
    void add(ReportRow row, boolean inWindow) {
        newest = newest == null ? row : newest;
        Mark mark = new Mark(row.id(), row.kind(), row.host(), row.acquired() < 0 ? row.requested() : row.acquired(),
            row.ended(), row.duration(), row.ending());
        if (inWindow) {
            hosts.add(row.host());
            users.add(row.user());
            (mark.kind().isContention() ? contentions : runs).add(mark);
        }
        Matcher holder = row.kind().isContention() && row.holder() != null ? HOLDER_HOST.matcher(row.holder()) : null;
        shared |= row.fleetTask() != null || holder != null && holder.find() && !holder.group(1).equals(row.host());
        byHost.computeIfAbsent(row.host(), host -> new Series()).add(row, mark);
    }

    // Statistics

    long count(ReportRow.Kind kind) {
        return contentions.stream().filter(mark -> mark.kind() == kind).count();
    }

    /** In percent, of the runs that ended; -1 without any. */
    int successRate() {
        long ended = runs.stream().filter(mark -> mark.ended() >= 0).count();
        return ended == 0 ? -1 : (int) (100 * runs.stream().filter(mark -> mark.kind() == ReportRow.Kind.SUCCEEDED)
            .count() / ended);
    }

    /** Of the successful runs, in milliseconds, by nearest rank; -1 without any. @param percent 1 to 100 */
    long duration(int percent) {
        return percentile(durations(runs), percent);
    }

    private static long[] durations(List<Mark> runs) {
        return runs.stream().filter(run -> run.kind() == ReportRow.Kind.SUCCEEDED && run.duration() >= 0)
            .mapToLong(Mark::duration).toArray();
    }

    private static long percentile(long[] values, int percent) {
        if (values.length == 0) {
            return -1;
        }
        Arrays.sort(values);
        return values[Math.max(0, (values.length * percent + 99) / 100 - 1)];
    }

    // What needs a person

    /** The worst of each host, worst first. */
    List<Concern> concerns(long now) {
        List<Concern> concerns = new ArrayList<>();
        if (shared && byHost.size() > 1) {
            Series all = new Series();
            byHost.values().forEach(all::merge);
            byHost.clear();
            byHost.put("", all);
        }
        for (Series series : byHost.values()) {
            Concern concern = concern(series, now);
            if (concern != null) {
                concerns.add(concern);
            }
        }
        concerns.sort(Comparator.comparing(Concern::need));
        return concerns;
    }

    private static Concern concern(Series series, long now) {
        Concern concern = busy(series, now);
        concern = concern == null && series.running == null ? dead(series) : concern;
        concern = concern == null ? failing(series) : concern;
        concern = concern == null ? overdue(series, now) : concern;
        return concern == null ? slow(series, now) : concern;
    }

    /** The lock is held while more requests came than are tolerated. */
    private static Concern busy(Series series, long now) {
        ReportRow last = series.contended;
        if (last == null || last.threshold() == 0) {
            return null;
        }
        long since = series.running != null ? series.running.acquired() : series.ended == null ? 0
            : series.ended.ended();
        List<Mark> met = series.contentions.stream()
            .filter(mark -> mark.at() > since && mark.kind() != ReportRow.Kind.WAITING).toList();
        if (met.size() <= last.threshold() && met.stream().noneMatch(mark -> mark.kind() == ReportRow.Kind.REPORTED)) {
            return null;
        }
        String requests = met.size() + (met.size() == 1 ? " request" : " requests") + " found it held (threshold "
            + last.threshold() + ")";
        if (series.running != null) {
            long id = series.running.id();
            return new Concern(Need.BUSY, id, "running for " + ReportText.duration(now - since) + " (execution " + id
                + ", since " + ReportText.time(since) + "Z), and " + requests, "taskrunner-batch stop " + id,
                series.running.host());
        }
        return new Concern(Need.BUSY, last.id(), requests + ", though no execution here holds its lock"
            + (last.holder() == null ? "" : "; held by: " + ReportText.line(last.holder(), 120)),
            "taskrunner-batch status " + last.taskOption(), last.host());
    }

    private static Concern dead(Series series) {
        ReportRow last = series.ended;
        if (last == null || last.kind() != ReportRow.Kind.KILLED && last.kind() != ReportRow.Kind.LOST) {
            return null;
        }
        if (last.kind() == ReportRow.Kind.LOST) {
            return new Concern(Need.KILLED, last.id(),
                "not run since its taskrunner died without telling how execution " + last.id() + " ended (requested "
                + ReportText.time(last.requested()) + "Z); its outcome may lie in the spool of " + last.user()
                + " there", "taskrunner-batch history", last.user() + "@" + last.host());
        }
        boolean orphaned = series.contended != null && series.contended.id() > last.id()
            && series.contended.message() != null && series.contended.message().contains("orphaned");
        String reason = "killed, and not run since (execution " + last.id() + ", requested "
            + ReportText.time(last.requested()) + "Z" + (last.evidence() == null ? "" : "; "
            + ReportText.line(last.evidence(), 120)) + ")";
        return orphaned ? new Concern(Need.KILLED, last.id(),
            "orphaned: its command still runs though its taskrunner was " + reason,
            "taskrunner-batch status " + last.taskOption(), last.host())
            : new Concern(Need.KILLED, last.id(), reason, "taskrunner-batch restart " + last.id(), last.host());
    }

    private static Concern failing(Series series) {
        ReportRow last = series.ended;
        if (last == null || !last.kind().isFailure()) {
            return null;
        }
        long first = last.requested();
        int times = 0;
        for (Mark run : series.runs) {
            if (run.ended() >= 0 && !run.kind().isFailure()) {
                break;
            }
            if (run.ended() >= 0) {
                times++;
                first = run.at();
            }
        }
        String what = switch (last.kind()) {
            case TIMED_OUT -> "timed out";
            case KILLED -> "last run was killed";
            case LOST -> "the outcome of the last run is lost";
            default -> "last run failed: " + ReportText.line(last.ending(), 40);
        };
        String often = times == 1 ? ", at " + ReportText.time(last.ended()) + "Z" : ", " + times
            + " failures in a row since " + ReportText.time(first) + "Z";
        return new Concern(last.kind() == ReportRow.Kind.TIMED_OUT ? Need.TIMED_OUT : Need.FAILED, last.id(), what
            + often + (series.running == null ? "" : "; running again since "
            + ReportText.time(series.running.acquired()) + "Z"), "taskrunner-batch show " + last.id(), last.host());
    }

    private static Concern overdue(Series series, long now) {
        long[] intervals = new long[Math.max(0, series.runs.size() - 1)];
        for (int i = 0; i < intervals.length; i++) {
            intervals[i] = series.runs.get(i).at() - series.runs.get(i + 1).at();
        }
        Mark success = series.runs.stream().filter(run -> run.kind() == ReportRow.Kind.SUCCEEDED).findFirst()
            .orElse(null);
        ReportRow last = series.ended;
        if (success == null || last == null || intervals.length < USUAL) {
            return null;
        }
        long usual = percentile(intervals, 50);
        // a run that is under way gets the time that it takes
        if (now - success.ended() <= STALE_INTERVALS * usual + Math.max(0, percentile(durations(series.runs), 95))) {
            return null;
        }
        return new Concern(Need.OVERDUE, success.id(), "no success for " + ReportText.duration(now - success.ended())
            + ", usually every " + ReportText.duration(usual) + "; last one ended at "
            + ReportText.time(success.ended()) + "Z; is its schedule still there?",
            "taskrunner-batch history " + last.taskOption(), last.host());
    }

    private static Concern slow(Series series, long now) {
        if (series.runs.isEmpty()) {
            return null;
        }
        Mark newest = series.runs.get(0);
        long[] before = durations(series.runs.subList(1, series.runs.size()));
        long took = newest.ended() < 0 ? now - newest.at() : newest.duration();
        long usual = percentile(before, 95);
        if (before.length < USUAL || took <= Math.max(SLOW_FACTOR * usual, usual + SLOW_BY)) {
            return null;
        }
        return new Concern(Need.SLOW, newest.id(), (newest.ended() < 0 ? "has been running for " : "last run took ")
            + ReportText.duration(took) + ", 95 % of its runs take at most " + ReportText.duration(usual),
            "taskrunner-batch show " + newest.id(), newest.host());
    }
}
