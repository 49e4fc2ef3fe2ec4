import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.stream.Stream;

import com.sun.net.httpserver.HttpServer;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The catalog as a remote user gets it: over http, with a JBang that knows nothing yet. */
class CatalogTest extends TaskTest {
    private final Set<String> requested = new ConcurrentSkipListSet<>();
    private HttpServer server;
    private String url;

    @BeforeEach
    void serveTheRepository() throws Exception {
        // JBang trusts localhost and 127.0.0.1 from the start
        server = HttpServer.create(new InetSocketAddress("127.0.0.2", 0), 0);
        url = "http://127.0.0.2:" + server.getAddress().getPort() + "/";
        server.createContext("/", exchange -> {
            String path = exchange.getRequestURI().getPath().substring(1);
            requested.add(path);
            Path file = Project.ROOT.resolve(path).normalize();
            boolean found = file.startsWith(Project.ROOT) && Files.isRegularFile(file);
            byte[] body = found ? Files.readAllBytes(file) : new byte[0];
            exchange.sendResponseHeaders(found ? 200 : 404, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    /** Spares a fetch where the wrapper has fetched JBang for the tests; its settings and trust are elsewhere. */
    @BeforeEach
    void copyJBang() {
        shell("mkdir jbang; cp -r \"${1:-${2:-$3/.cache}}\"/jbang-cli-* jbang 2>/dev/null || true",
            Stream.of("JBANG_DIR", "XDG_CACHE_HOME", "HOME").map(name -> System.getenv().getOrDefault(name, ""))
                .toArray(String[]::new));
    }

    @AfterEach
    void stop() {
        server.stop(0);
    }

    @Test
    void aliasRunsOnceTheCatalogIsTrusted() throws Exception {
        Result untrusted = request().exitedWith(10);
        assertFalse(untrusted.out().contains("hello"));

        jbang("trust", "add", url).run().exitedWith(0);
        Result aliases = jbang("alias", "list", url).run().exitedWith(0);
        assertTrue(aliases.out().matches("(?s)taskrunner@.*taskrunner-batch@.*"), aliases::out);
        request().exitedWith(0).outIs("hello\n");
        task.assertFree();
        assertTrue(requested.containsAll(Set.of("jbang-catalog.json", "taskrunner.java")), requested::toString);
    }

    private Result request() {
        return jbang("taskrunner@" + url, "--command", "echo hello").with(task.options()).run();
    }

    private Program jbang(String... arguments) {
        return Program.jbang(directory, arguments).env("JBANG_DIR", directory.resolve("jbang").toString());
    }
}
