import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** What is refused before anything is touched, and how values are written. */
class UsageTest extends TaskTest {
    @Test
    void missingRequiredOptionsAreNamed() {
        List<String> all = List.of("--command", "touch ran", "--lockfile", "task.lock", "--threshold", "2",
            "--counter-file", "task.count");
        for (int i = 0; i < all.size(); i += 2) {
            List<String> less = new ArrayList<>(all);
            less.subList(i, i + 2).clear();
            refused("missing " + all.get(i), less);
        }
        refused("missing --command, --lockfile, --threshold, --counter-file", List.of());
        refused("missing --lockfile, --counter-file", List.of("--threshold", "1", "--command", "touch ran"));
    }

    @Test
    void thresholdIsAnIntOfAtLeastZero() {
        for (String threshold : List.of("-1", "1.5", "2147483648", "abc", "", "+1", " 1", "0x1")) {
            refused("invalid --threshold '" + threshold + "': give an integer from 0 to 2147483647",
                with("--threshold", threshold));
        }
        for (String threshold : List.of("0", "2147483647")) {
            request(with("--threshold", threshold)).run().exitedWith(0).outIs("ran\n");
        }
    }

    @Test
    void malformedOptionsAreRefused() {
        String duration = "': give a duration such as 90, 0.5s, 500ms, 15m, 1h30m, 1d, 1w or PT15M";
        refused("invalid --wait 'soon" + duration, with("--wait", "soon"));
        refused("invalid --timeout '" + duration, with("--timeout", ""));
        refused("invalid --kill-after '-1" + duration, with("--kill-after", "-1"));
        refused("invalid --on-stale 'ignore': give recover or report", with("--on-stale", "ignore"));
        refused("invalid --log-format 'xml': give text or json", with("--log-format", "xml"));
        refused("invalid --conflict-exit-code '256': give an integer from 0 to 255",
            with("--conflict-exit-code", "256"));
        refused("--command is empty", with("--command", " \n "));
        refused("--lockfile is empty", with("--lockfile", ""));
        refused("invalid --counter-file 'counts/': give a file, not a directory", with("--counter-file", "counts/"));
        refused("unknown option --frobnicate", with("--frobnicate", null));
        refused("unexpected argument 'extra': the command is one argument: quote it, or put it after --",
            with("extra", null));
        refused("missing required parameter for option '--notify' (CMD)", with("--notify", null));
    }

    @Test
    void statusRefusesToGuess() {
        assertEquals(HelpTest.STATUS_HELP + "taskrunner: status: missing --lockfile\n",
            taskrunner("status").run().exitedWith(64).outIs("").err());
        assertEquals("taskrunner: status: --threshold and --counter-file go together\ntry 'taskrunner status --help'\n",
            taskrunner("status", "--lockfile", "task.lock", "--threshold", "1").run().exitedWith(64).outIs("").err());
    }

    @Test
    void durationsAreSecondsOrHaveAUnit() {
        assertEquals(Duration.ZERO, Arguments.parseDuration("0"));
        assertEquals(Duration.ofSeconds(90), Arguments.parseDuration("90"));
        assertEquals(Duration.ofSeconds(90), Arguments.parseDuration("90s"));
        assertEquals(Duration.ofMinutes(15), Arguments.parseDuration("15m"));
        assertEquals(Duration.ofHours(2), Arguments.parseDuration("2h"));
        assertEquals(Duration.ofDays(1), Arguments.parseDuration("1d"));
        assertEquals(Duration.ofMinutes(15), Arguments.parseDuration("PT15M"));
        assertEquals(Duration.ofMillis(1500), Arguments.parseDuration("PT1.5S"));
        assertEquals(Duration.ofHours(36), Arguments.parseDuration("P1DT12H"));
        assertEquals(Duration.ofMillis(500), Arguments.parseDuration("500ms"));
        assertEquals(Duration.ofMillis(500), Arguments.parseDuration("0.5s"));
        assertEquals(Duration.ofMillis(1500), Arguments.parseDuration("1.5"));
        assertEquals(Duration.ofMinutes(15), Arguments.parseDuration("15min"));
        assertEquals(Duration.ofMinutes(90), Arguments.parseDuration("1h30m"));
        assertEquals(Duration.ofMinutes(90), Arguments.parseDuration("1.5h"));
        assertEquals(Duration.ofDays(7), Arguments.parseDuration("1w"));
        assertEquals(Duration.ofMillis(694_861_001), Arguments.parseDuration("1w1d1h1m1s1ms"));
        for (String text : List.of("", "s", "-1", "-1s", "+1", "1.5.5s", "1x", "h1", "1m1h", "1h1h", "1h30", ".", "1e3",
            "1 s", " 1", "1S", "P", "PT", "PT-1S", "9223372036854775807",
            "9223372036854775808", "9223372036854775807d", "PT9223372036854775807H", "٣s")) {
            assertNull(Arguments.parseDuration(text), text);
        }
    }

    @Test
    void lastOfARepeatedOptionCounts() {
        request(with("--wait", "x")).with("--command", "echo last", "--wait", "0").run().exitedWith(0).outIs("last\n");
    }

    @Test
    void argumentFiles() throws IOException {
        Path file = Files.writeString(directory.resolve("arguments"), """
            # the nightly job
            --command "echo 'two  words' $HOME"
            --lockfile=task.lock --threshold 2
            --counter-file task.count
            """);
        taskrunner("@" + file).run().exitedWith(0).outIs("two  words " + directory.resolve("home") + "\n");
        Files.writeString(file, "--lockfile\ntask.lock\n");
        refused("missing --command, --threshold, --counter-file", List.of("@" + file));
    }

    @Test
    void textThatTheLocaleCannotEncodeIsRefused() throws IOException {
        String remedy = " contains non-ASCII characters, which the locale cannot encode: set LC_ALL=C.UTF-8, in a"
            + " crontab as a line of its own\ntry 'taskrunner --help'\n";
        assertEquals("taskrunner: --command" + remedy,
            utf8("--command", "touch ran # \\303\\251", with("--command", null))
            .env("LC_ALL", "C").run().exitedWith(64).outIs("").err());
        assertEquals("taskrunner: --lockfile" + remedy,
            utf8("--lockfile", "t\\303\\242che.lock", with("--lockfile", null))
            .env("LC_ALL", "C").run().exitedWith(64).outIs("").err());
        Path file = Files.writeString(directory.resolve("arguments"), "--command 'touch ran # é'\n");
        assertEquals("taskrunner: --command" + remedy, request(with("--command", null)).with("@" + file)
            .env("LC_ALL", "C").run().exitedWith(64).outIs("").err());
        assertNothingTouched();
    }

    @Test
    void unencodableDirectoryMattersToRelativePathsOnly() throws IOException {
        Path umlaut = Files.createDirectory(directory.resolve("\u00fc"));
        TestTask task = new TestTask(directory);
        task.request("touch ran").in(umlaut).env("LC_ALL", "C").run().exitedWith(0);
        assertTrue(Files.exists(umlaut.resolve("ran")));
        taskrunner("--command", "touch ran", "--lockfile", "task.lock", "--threshold", "2", "--counter-file", "count")
            .in(umlaut)
            .env("LC_ALL", "C").run().exitedWith(64)
            .errContains("--lockfile, relative to the working directory, contains non-ASCII characters");
    }

    @Test
    void utf8TextArrivesByteForByte() throws IOException {
        utf8("--lockfile", "t\\303\\242che.lock", with("--lockfile", null)).run().exitedWith(0).outIs("ran\n");
        utf8("--command", "printf %%s '\\303\\251\\360\\237\\232\\200' > bytes", with("--command", null)).run()
            .exitedWith(0);
        assertEquals("é🚀", Program.read(directory.resolve("bytes")));
    }

    @Test
    void filesAreDifferent() throws IOException {
        Path real = Files.createDirectory(directory.resolve("real"));
        Path link = Files.createSymbolicLink(directory.resolve("link"), real);
        for (List<String> same : List.of(
            List.of("real/x", "real/x", "x"), List.of("real/x", "real/x.tmp", "x.tmp"),
            List.of("real/x", "link/x", "x"),
            List.of("link/x", real + "/x.tmp", "x.tmp"), List.of("real/../real/x", "real/./x", "x"))) {
            refused("--counter-file " + directory.toRealPath() + "/real/" + same.get(2)
                + " is the lock file or its .tmp; choose another file",
                List.of("--command", "touch ran", "--lockfile", same.get(0), "--threshold", "2", "--counter-file",
                same.get(1)));
        }
        refused("--log-file " + directory.toRealPath() + "/task.lock is the lock file or its .tmp; choose another file",
            with("--log-file", "task.lock"));
        refused("--metrics-file " + directory.toRealPath()
            + "/task.lock.tmp is the lock file or its .tmp; choose another file",
            with("--metrics-file", "task.lock.tmp"));
        List<String> aside = new ArrayList<>(List.of("--command", "touch ran", "--lockfile", "l", "--threshold", "2",
            "--counter-file", "m.tmp",
            "--metrics-file", "m"));
        String why = "--metrics-file is first written to " + directory.toRealPath()
            + "/m.tmp, which is the counter or log file";
        refused(why + "; choose another file", aside);
        refused("--counter-file, --log-file and --metrics-file must be different files",
            with("--log-file", "task.count"));
        try (Stream<Path> made = Files.list(link)) {
            assertEquals(List.of(), made.toList());
        }
    }

    /** A good request, with one option set, or with the text added and, for a known option, that option left out. */
    private static List<String> with(String option, String value) {
        List<String> good = new ArrayList<>(List.of("--command", "echo ran", "--lockfile", "task.lock", "--threshold",
            "2",
            "--counter-file", "task.count"));
        int at = good.indexOf(option);
        if (at >= 0) {
            good.subList(at, at + 2).clear();
        }
        if (value != null) {
            good.addAll(List.of(option, value));
        } else if (at < 0) {
            good.add(option);
        }
        return good;
    }

    private Program request(List<String> arguments) {
        return taskrunner(arguments.toArray(String[]::new));
    }

    /** A request with one more option, whose value printf(1) makes: the locale of the tests need not carry it. */
    private Program utf8(String option, String format, List<String> arguments) {
        return request(arguments).underShell("exec \"$@\" " + option + " \"$(printf \"" + format.replace("\"", "\\\"")
            + "\")\"");
    }

    /** Only who leaves out what is required gets the whole help; all other mistakes take two lines. */
    private void refused(String why, List<String> arguments) {
        boolean missing = why.startsWith("missing --");
        request(arguments).run().exitedWith(64).outIs("").errIs((missing ? HelpTest.HELP : "") + "taskrunner: " + why
            + "\n"
            + (missing ? "" : "try 'taskrunner --help'\n"));
        assertNothingTouched();
    }

    private void assertNothingTouched() {
        String[] made = directory.toFile().list((in, name) -> name.equals("ran") || name.endsWith(".lock")
            || name.endsWith(".tmp")
            || name.endsWith(".count"));
        assertEquals(List.of(), Arrays.asList(made));
    }
}
