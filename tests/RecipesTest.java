import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

import org.junit.jupiter.api.Test;

import com.sun.net.httpserver.HttpServer;

/** The recipes of README.md, as they stand there. */
class RecipesTest extends TaskTest {
    private static final Path README = Project.ROOT.resolve("README.md");
    private static final Pattern INVOCATION =
        Pattern.compile("(?m)^(?:\\$ |\\*/5 \\* \\* \\* \\* |\\w*=|command\\[\\w+\\]=)?(?:/usr/local/bin/)?"
        + "taskrunner (?=[-@su])(.*)$");

    private static List<String> blocks() {
        List<String> blocks = new ArrayList<>();
        Matcher block = Pattern.compile("(?ms)^```\n(.*?)^```$").matcher(Program.read(README));
        while (block.find()) {
            blocks.add(block.group(1));
        }
        return blocks;
    }

    private static String block(String part) {
        return blocks().stream().filter(block -> block.contains(part)).findFirst().orElseThrow();
    }

    private Path argumentFile() throws IOException {
        return Files.writeString(directory.resolve("sync-orders"), block("--threshold 3 --overdue 2h --quiet"));
    }

    @Test
    void everyCommandLineIsAccepted() throws Exception {
        int found = 0;
        String task = block("$ TASK=").replaceAll("(?s).*TASK=\"([^\"]*)\".*", "$1");
        for (String block : blocks()) {
            Matcher line = INVOCATION.matcher(block.replace("\\\n", " ").replace("$TASK", task));
            while (line.find()) {
                String arguments = line.group(1).replaceAll(" &$", "")
                    .replace("@/etc/taskrunner/sync-orders", "@" + argumentFile());
                Arguments parsed = Arguments.parse(Options.COMMANDS, ArgumentFile.words(arguments)
                    .toArray(String[]::new));
                if (parsed.command() == Options.RUN) {
                    assertNotNull(new Request(parsed));
                } else {
                    parsed.requireAll("--lockfile");
                }
                found++;
            }
        }
        assertTrue(found >= 9, "only " + found);
    }

    @Test
    void aDeadMansSwitchIsPingedAsItsServiceWants() throws IOException {
        List<String> pings = new CopyOnWriteArrayList<>();
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", exchange -> {
            pings.add(exchange.getRequestURI().toString());
            exchange.sendResponseHeaders(200, -1);
            exchange.close();
        });
        server.start();
        try {
            String here = "http://127.0.0.1:" + server.getAddress().getPort();
            for (String service : new String[] {"hc-ping.com", "cronitor.link", "ORG.ingest.sentry.io"}) {
                Path file = Files.writeString(directory.resolve(service), block("https://" + service)
                    .replace("https://" + service, here));
                task.request("true", "@" + file).run().exitedWith(0).errHasNo("notification");
                task.request("exit 3", "@" + file).run().exitedWith(3).errHasNo("notification");
            }
        } finally {
            server.stop(0);
        }
        String cronitor = "/p/KEY/sync-orders?state=";
        String sentry = "/api/PROJECT/cron/sync-orders/KEY/?status=";
        assertEquals(List.of("/UUID/start", "/UUID/0", "/UUID/start", "/UUID/3",
            cronitor + "run&status_code=", cronitor + "complete&status_code=0", cronitor + "run&status_code=", cronitor
            + "fail&status_code=3",
            sentry + "in_progress", sentry + "ok", sentry + "in_progress", sentry + "error"), pings);
    }

    @Test
    void systemdAcceptsTheUnits() throws IOException {
        for (String suffix : new String[] {"service", "timer"}) {
            String unit = block("# /etc/systemd/system/sync-orders." + suffix);
            Files.writeString(directory.resolve("sync-orders." + suffix),
                unit.replace("/usr/local/bin/taskrunner", "/bin/true"));
        }
        shell("systemd-analyze verify ./sync-orders.service ./sync-orders.timer 2>&1").outIs("");
    }

    @Test
    void alertsAndDashboardNameMetricsThatThereAre() throws IOException {
        Path file = directory.resolve("task.prom");
        task.request("true", "--metrics-file", file.toString()).run().exitedWith(0);
        Set<String> written = names(Program.read(file));
        String readme = Program.read(README);
        assertEquals(written, names(readme.substring(readme.indexOf("### Prometheus"), readme.indexOf("### Scripts"))));
        String dashboard = Program.read(Project.ROOT.resolve("batch/dashboard.json"));
        assertNotNull(JsonText.object(dashboard));
        assertTrue(written.containsAll(names(dashboard)), dashboard);
    }

    private static Set<String> names(String text) {
        return Pattern.compile("taskrunner_\\w+").matcher(text).results().map(result -> result.group())
            .collect(Collectors.toCollection(TreeSet::new));
    }
}
