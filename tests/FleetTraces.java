import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What the commands of one fleet task wrote themselves, each line the time, the run and its fence; and the checker that
 * reads it.
 */
final class FleetTraces {
    /**
     * Writes a line each 30 ms, without another process, for so many seconds; with a trap for SIGTERM if it is to
     * survive one.
     */
    private static final String SCRIPT = """
        exec 9<>"$3"
        [ "$4" = stubborn ] && trap '' TERM
        [ "$4" = random ] && set -- "$1" $((1 + RANDOM % $2))
        end=$((${EPOCHREALTIME/.} + $2 * 1000000))
        while [ "${EPOCHREALTIME/.}" -lt "$end" ]; do
            echo "${EPOCHREALTIME/.} $TASKRUNNER_RUN_ID $TASKRUNNER_FENCE" >>"$1"
            read -t 0.03 -u 9
        done
        exit 0
        """;

    final Path file;

    /** @param first and last in microseconds since 1970 */
    record Span(String runId, long fence, long first, long last) {
    }

    FleetTraces(Path file) {
        this.file = file;
    }

    /**
     * A command that leaves traces for so many seconds.
     *
     * @param how stubborn: SIGTERM is ignored; random: for at most so many
     */
    String command(int seconds, String... how) throws IOException {
        Path script = file.resolveSibling("trace.sh");
        synchronized (FleetTraces.class) {
            if (!Files.exists(script)) {
                Files.writeString(script, SCRIPT);
                FleetNet.shell("mkfifo " + script + ".fifo");
            }
        }
        return "exec bash " + script + " " + file + " " + seconds + " " + script + ".fifo " + String.join(" ", how);
    }

    /** The runs, by their first trace. */
    List<Span> spans() {
        Map<String, Span> spans = new LinkedHashMap<>();
        try {
            for (String line : Files.exists(file) ? Files.readAllLines(file) : List.<String>of()) {
                String[] words = line.split(" ");
                long time = Long.parseLong(words[0]);
                spans.merge(words[1], new Span(words[1], Long.parseLong(words[2]), time, time),
                    (one, other) -> new Span(one.runId, one.fence, Math.min(one.first, time),
                        Math.max(one.last, time)));
            }
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
        List<Span> sorted = new ArrayList<>(spans.values());
        sorted.sort(Comparator.comparingLong(Span::first));
        return sorted;
    }

    /** Whether the last command has been silent for a second. */
    boolean isQuiet() {
        List<Span> spans = spans();
        return !spans.isEmpty() && System.currentTimeMillis() * 1000 - spans.get(spans.size() - 1).last > 1_000_000;
    }

    /** The runs that began before an earlier one had ended. */
    List<String> overlaps() {
        List<String> overlaps = new ArrayList<>();
        Span before = null;
        for (Span span : spans()) {
            if (before != null && span.first <= before.last) {
                overlaps.add(file.getFileName() + ": " + span.runId + " began " + (before.last - span.first) / 1000
                    + " ms before the end of "
                    + before.runId);
            }
            before = before == null || span.last > before.last ? span : before;
        }
        return overlaps;
    }

    /** From the last trace of a run to the first one of the next, the shortest, in milliseconds. */
    long margin() {
        long margin = Long.MAX_VALUE;
        List<Span> spans = spans();
        for (int i = 1; i < spans.size(); i++) {
            margin = Math.min(margin, (spans.get(i).first - spans.get(i - 1).last) / 1000);
        }
        return margin;
    }

    /** No two runs at a time, and fences that grow. */
    void assertExclusive() {
        assertEquals(List.of(), overlaps());
        long fence = 0;
        for (Span span : spans()) {
            assertTrue(span.fence > fence, () -> "fences do not grow: " + spans());
            fence = span.fence;
        }
    }
}
