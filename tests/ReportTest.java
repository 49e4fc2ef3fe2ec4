//SOURCES Browser.java
//SOURCES ReportData.java

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code report}: what the page says, and that it is made safely. */
@Concurrent
class ReportTest extends BatchTest {
    private static final Instant END = Instant.parse("2026-11-25T02:00:00Z");

    @TempDir
    static Path shared;
    private static Browser browser;

    private static synchronized Browser browser() throws Exception {
        browser = browser == null ? Browser.start(shared) : browser;
        return browser;
    }

    @AfterAll
    static void closeBrowser() {
        browser.close();
    }

    /** The page of thirty tasks, made once. */
    private static final class Thirty {
        static final List<ReportData.Made> EXECUTIONS = ReportData.thirtyTasks(END, 6);
        static final Path PAGE = make();

        private static Path make() {
            try {
                return page(new BatchTask(new TestTask(shared)), ReportData.store(EXECUTIONS, shared.resolve("data")),
                    "2026-10-01");
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private static Path page(BatchTask batch, String url, String since) {
        Path page = batch.task.directory.resolve("page.html");
        batch.batch("report", "--since", since, "--until", END.toString(), "--repository", url, "--output",
            page.toString()).run().exitedWith(0).outIs("").errIs("");
        return page;
    }

    private Path page(List<ReportData.Made> executions) throws Exception {
        return page(batch, ReportData.store(executions, directory.resolve("data")), "2026-10-01");
    }

    private static String text(Path page) throws Exception {
        return Files.readString(page);
    }

    private static List<String> found(String page, String regex) {
        Matcher matcher = Pattern.compile(regex, Pattern.DOTALL).matcher(page);
        List<String> found = new ArrayList<>();
        while (matcher.find()) {
            found.add(matcher.group(1));
        }
        return found;
    }

    // Where it goes

    @Test
    void withoutExecutionsThePageSaysSo() throws Exception {
        batch.batch("report").run().exitedWith(69).outIs("").errContains("taskrunner-batch: ");
        String page = text(page(List.of()));
        assertTrue(page.contains("no executions in this window"), page);
        assertEquals(0, found(page, "(<tr)").size(), page);
    }

    @Test
    void thePageIsWrittenToStdoutOrRenamedIntoPlace() throws Exception {
        batch.request("echo precious; exit 3").run().exitedWith(3);
        String[] until = {"--until", Instant.now().toString()};
        Result stdout = batch.batch("report").with(until).run().exitedWith(0).errIs("");
        Path page = directory.resolve("served/page.html");
        Files.createDirectories(page.getParent());
        Files.writeString(page, "old");
        Files.createSymbolicLink(directory.resolve("served/link.html"), page);
        batch.batch("report", "--output", "served/link.html").with(until).run().exitedWith(0).outIs("").errIs("");
        String made = "Made</dt><dd><time>[^<]*";
        assertEquals(stdout.out().replaceAll(made, ""), text(page).replaceAll(made, ""));
        assertTrue(Files.isSymbolicLink(directory.resolve("served/link.html")));
        assertEquals(List.of("link.html", "page.html"), names(page.getParent()));
        assertEquals("rw-r--r--", PosixFilePermissions.toString(Files.getPosixFilePermissions(page)));
        batch.batch("report", "--output", "/dev/stdout").run().exitedWith(0).outContains("</html>").errIs("");

        batch.batch("report", "--output", directory.resolve("none/page.html").toString()).run().exitedWith(73)
            .errContains("none").errContains("mkdir -p ");
        batch.batch("report", "--output", page.getParent().toString()).run().exitedWith(73)
            .errContains("cannot write ");
        batch.batch("report").under("sh", "-c", "exec \"$@\" >/dev/full", "sh").run().exitedWith(74);
        batch.batch("report", "--since", "2026-01-02", "--until", "2026-01-01").run().exitedWith(64)
            .errContains("--since");
        batch.batch("report", "--since", "yesterday").run().exitedWith(64).errContains("--since");
    }

    private static List<String> names(Path directory) throws Exception {
        try (Stream<Path> files = Files.list(directory)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void itShowsWhatRunsHaveLeftAndEndsTheDeadFirst() throws Exception {
        batch.request("echo precious; exit 3").run().exitedWith(3);
        batch.request("true").run().exitedWith(0);
        BatchTask other = batch.other(directory.resolve("other"));
        Running held = other.hold();
        other.request("true").run().exitedWith(0);
        held.kill();
        String page = batch.batch("report").run().exitedWith(0).errIs("").out();
        assertEquals("KILLED", other.history("--lockfile", other.task.lock.toString()).get(1).get("exit_status"));
        assertEquals(List.of("EXIT_3", "SUCCEEDED", "CONTENDED", "KILLED").size(), found(page, "<tr[^>]*><td>(\\d+)")
            .size());
        for (String word : List.of("EXIT_3", "SUCCEEDED", "CONTENDED", "KILLED", "precious", "its runner",
            "runCommand ")) {
            assertTrue(page.contains(word), word + "\n" + page);
        }
        assertFalse(batch.batch("report", "--no-output").run().exitedWith(0).out().contains("<pre>precious"));
        String one = batch.batch("report", "--lockfile", task.lock.toString()).run().exitedWith(0).out();
        assertEquals(2, found(one, "<tr[^>]*><td>(\\d+)").size(), one);
        assertEquals(0, found(batch.batch("report", "--host", "elsewhere").run().exitedWith(0).out(), "(<tr)").size());
        assertEquals(0, found(batch.batch("report", "--until", "2026-01-01").run().exitedWith(0).out(), "(<tr)")
            .size());
    }

    // What it says

    @Test
    void whatNeedsAPersonComesFirst() throws Exception {
        String page = text(Thirty.PAGE);
        List<String> needs = found(page, "<p class=\"need\"><svg[^>]*>.*?</svg> ([^<]*)</p>");
        assertEquals(needs, needs.stream().sorted(Comparator.comparing(List.of("busy", "killed", "failed", "timed out",
            "overdue", "slow") ::indexOf)).toList());
        for (String[] task : new String[][] {{"sync-crm", "on <bdi>app2</bdi>: running for 2h40m (execution",
            "found it held (threshold 3)"}, {"eod-report", "on <bdi>etl1</bdi>: killed, and not run since",
            "taskrunner-batch restart"}, {"nightly-backup", "on <bdi>db3</bdi>: last run failed: exit 28, ",
            "failures in a row since 2026-11-2"}, {"vacuum-analyze", "on <bdi>db1</bdi>: timed out, at 2026-11-25",
            "taskrunner-batch show"}, {"renew-certificates", "on <bdi>web1</bdi>: no success for ",
            "usually every 12h"}, {"load-warehouse", "on <bdi>etl2</bdi>: last run took 2h",
            "95 % of its runs take at most"}}) {
            String line = found(page, "<li[^>]*>((?:(?!</li>).)*<b>" + task[0] + "</b>.*?)</li>").toString();
            assertTrue(line.contains(task[1]) && line.contains(task[2].replace("'", "&#39;")), task[0] + ": " + line);
        }
        assertEquals(30, found(page, "(<article)").size());
        assertEquals(Thirty.EXECUTIONS.size(), found(page, "<tr[^>]*><td>(\\d+)").size());
        assertTrue(page.contains("the other " + (30 - needs.size()) + " tasks are well"), needs::toString);
        assertTrue(page.getBytes(StandardCharsets.UTF_8).length < 1_000_000);
    }

    @Test
    void aTaskThatIsWellIsToldInGreen() throws Exception {
        String page = text(page(ReportData.oneTask(END)));
        assertTrue(page.contains("the only task is well"), page);
        assertEquals(List.of("99 %"), found(page, "<dt>succeeded</dt><dd>([^<]*)"));
        assertEquals(List.of("144", "144"), found(page, "<dt>runs</dt><dd>([^<]*)"));
        assertEquals(1, found(page, "<td>(EXIT_3)").size());
    }

    @Test
    void aTaskThatFellSilentBeforeTheWindowIsNotForgotten() throws Exception {
        String url = ReportData.store(ReportData.oneTask(END.minusSeconds(864000)), directory.resolve("data"));
        String page = text(page(batch, url, "2026-11-24"));
        assertTrue(page.contains("overdue") && page.contains("no success for 10d"), page);
        assertEquals(0, found(page, "(<tr[^>]*><td>)").size());
    }

    // In a browser

    @Test
    void itLooksTheSameInABrowserWithAndWithoutJavaScript() throws Exception {
        Path file = Thirty.PAGE;
        List<String> texts = new ArrayList<>();
        for (boolean script : new boolean[] {true, false}) {
            try (Browser.Page page = browser().open(file, script, 1400, "light")) {
                texts.add(page.evaluate("[...document.querySelectorAll('section')]"
                    + ".map(s => (s.querySelector('tbody') || s).innerText).join()"));
                assertEquals(Boolean.toString(!script), page.evaluate("document.getElementById('filter').hidden"));
                assertEquals(List.of(file.toUri().toString()), page.requests);
                assertEquals(List.of(), page.complaints);
                assertTrue(page.list("[...document.querySelectorAll('svg.chart .dots')].map(p => 1)").size() > 30);
            }
        }
        assertEquals(texts.get(0), texts.get(1));
        for (String look : List.of("380 light", "380 dark", "800 light", "1210 dark", "700 print")) {
            String[] words = look.split(" ");
            try (Browser.Page page = browser().open(file, true, Integer.parseInt(words[0]), words[1])) {
                assertEquals(words[0], page.evaluate("document.documentElement.scrollWidth"), look);
                assertEquals(List.of(), page.list(CONTRAST), look);
            }
        }
    }

    /** Texts whose contrast with what is behind them is below 4.5 : 1. */
    private static final String CONTRAST = """
        (() => {
          const parse = text => text.match(/[\\d.]+/g).map(Number);
          const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
          const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
          const behind = element => {
            for (; element; element = element.parentElement) {
              const color = parse(getComputedStyle(element).backgroundColor);
              if (color.length === 3 || color[3] === 1) return color;
            }
            return [255, 255, 255];
          };
          const low = new Set();
          for (const element of [...document.querySelectorAll('body *')].filter((e, i) => i < 8000)) {
            const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            if (!own || element.closest('title, defs, script, style')) continue;
            const style = getComputedStyle(element);
            const a = luminance(parse(element instanceof SVGElement ? style.fill : style.color));
            const b = luminance(behind(element));
            const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (contrast < 4.5) low.add(element.outerHTML.slice(0, 80) + ' ' + contrast.toFixed(2));
          }
          return [...low];
        })()""";

    @Test
    void itSortsFiltersAndOpensByMouseAndKeyboard() throws Exception {
        Path file = Thirty.PAGE;
        try (Browser.Page page = browser().open(file, true, 1400, "light")) {
            String column = "[...document.querySelectorAll('tbody tr')].filter(r => !r.hidden)"
                + ".map(r => r.cells[%d].textContent)";
            List<String> ids = page.list(String.format(column, 0));
            List<String> durations = page.list(String.format(column, 5));
            page.evaluate("document.querySelectorAll('th button')[5].focus()");
            page.press("Enter");
            List<String> sorted = page.list(String.format(column, 5));
            assertEquals(durations.stream().sorted(Comparator.comparing(ReportTest::seconds)).map(ReportTest::seconds)
                .toList(), sorted.stream().map(ReportTest::seconds).toList());
            assertEquals("ascending", page.evaluate("document.querySelectorAll('th')[5].getAttribute('aria-sort')"));
            page.evaluate("document.querySelectorAll('th button')[0].click()");
            page.evaluate("document.querySelectorAll('th button')[0].click()");
            assertEquals(ids, page.list(String.format(column, 0)));

            page.evaluate("document.getElementById('words').focus()");
            for (String key : "db3 exit_28".split("")) {
                page.press(key);
            }
            assertTrue(page.list(String.format(column, 2)).stream().allMatch("db3"::equals));
            List<String> left = page.list(String.format(column, 7));
            assertTrue(left.size() >= 4 && left.stream().allMatch("EXIT_28"::equals), left::toString);
            assertEquals(left.size() + " of " + ids.size() + " executions",
                page.evaluate("document.getElementById('count').textContent"));
            page.evaluate("(words.value = '', outcome.value = 'c', outcome.dispatchEvent(new Event('change')))");
            assertTrue(page.list(String.format(column, 7)).stream().allMatch("CONTENDED"::equals));
            page.evaluate("(outcome.value = '', outcome.dispatchEvent(new Event('change')))");
            assertEquals(ids.size(), page.list(String.format(column, 0)).size());

            page.evaluate("document.querySelector('summary').focus()");
            page.press("Enter");
            assertEquals("true", page.evaluate("document.querySelector('details').open"));
            String href = page.evaluate("document.querySelector('.alerts .do a').getAttribute('href')");
            page.evaluate("document.querySelector('.alerts .do a').click()");
            page.evaluate("new Promise(done => setTimeout(done))");
            assertEquals("true", page.evaluate("document.querySelector('" + href + " details').open"));
            // the browser runs in India's time
            String start = page.evaluate("document.querySelector('tbody tr').cells[4].textContent");
            String title = page.evaluate("document.querySelector('tbody tr').cells[4].title");
            String local = start.substring(11).equals("01:59:58") ? "7:29:58" : title;
            assertTrue(title.contains(local) && title.contains("your time"), start + " " + title);
            assertEquals(List.of(), page.complaints);
        }
    }

    private static double seconds(String duration) {
        double seconds = 0;
        Matcher part = Pattern.compile("([\\d.]+)([dhms])").matcher(duration);
        while (part.find()) {
            seconds += Double.parseDouble(part.group(1)) * List.of(86400, 3600, 60, 1)
                .get("dhms".indexOf(part.group(2)));
        }
        return duration.isEmpty() ? -1 : seconds;
    }

    @Test
    void hostileTextStaysText() throws Exception {
        String url = ReportData.store(ReportData.hostile(END, 500), directory.resolve("data"));
        ReportData.multiply(url, 10);
        Path file = page(batch, url, "2026-10-01");
        assertTrue(Files.size(file) <= 1_000_000, () -> file + " is too large");
        assertTrue(Files.size(file) > 900_000, () -> file + " leaves out too much");
        String raw = text(file);
        assertEquals(List.of(), found(raw, "([\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f])"));
        assertEquals(List.of(), found(raw, "([\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff])"));
        assertEquals(5000, found(raw, "<tr[^>]*><td>(\\d+)").size());
        assertTrue(raw.contains("Left out</dt><dd>to keep the page small: "));
        for (String scheme : List.of("light", "print")) {
            try (Browser.Page page = browser().open(file, true, scheme.equals("print") ? 700 : 380, scheme)) {
                assertTrue(page.evaluate("document.title").endsWith(" need a person · taskrunner report"));
                assertEquals("0", page.evaluate("document.querySelectorAll('img, iframe, object, embed, base,"
                    + " form[action], a[href^=\"javascript\"], [onload], [onerror], [style]').length"));
                assertEquals("1", page.evaluate("document.scripts.length"));
                assertEquals("1", page.evaluate("document.querySelectorAll('style').length"));
                assertEquals("5000", page.evaluate("document.querySelectorAll('tbody tr').length"));
                assertEquals(scheme.equals("print") ? "700" : "380",
                    page.evaluate("document.documentElement.scrollWidth"));
                String shown = page.evaluate("document.body.innerText");
                assertTrue(shown.contains("<img src=x onerror=\"document.title='owned'\">"), shown);
                assertTrue(shown.contains("⟨U+202E⟩gnp.exe"), shown);
                assertEquals(List.of(file.toUri().toString()), page.requests);
                assertEquals(List.of(), page.complaints);
            }
        }
    }
}
