import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.TimeUnit;

import com.sun.net.httpserver.HttpServer;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The catalog as a remote user gets it: over http, with a JBang that knows nothing yet. */
class CatalogTest {
    private final Set<String> requested = new ConcurrentSkipListSet<>();
    private HttpServer server;
    private String url;
    @TempDir
    Path folder;

    @BeforeEach
    void serveTheRepository() throws Exception {
        // JBang trusts localhost and 127.0.0.1 from the start
        server = HttpServer.create(new InetSocketAddress("127.0.0.2", 0), 0);
        url = "http://127.0.0.2:" + server.getAddress().getPort() + "/";
        server.createContext("/", exchange -> {
            String path = exchange.getRequestURI().getPath().substring(1);
            requested.add(path);
            Path file = root().resolve(path).normalize();
            boolean found = file.startsWith(root()) && Files.isRegularFile(file);
            byte[] body = found ? Files.readAllBytes(file) : new byte[0];
            exchange.sendResponseHeaders(found ? 200 : 404, body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    @AfterEach
    void stop() {
        server.stop(0);
    }

    @Test
    void aCatalogRunsTaskrunnerByItsAliasOnceItIsTrusted() throws Exception {
        Path lock = folder.resolve("task.lock");
        String[] request = {"taskrunner@" + url, "--command", "echo hello", "--lockfile", lock.toString(), "--threshold", "3",
            "--counter-file", folder.resolve("task.count").toString()};
        assertEquals(10, jbang(request), "an untrusted catalog");
        assertFalse(Files.readString(folder.resolve("out")).contains("hello"));

        assertEquals(0, jbang("trust", "add", url));
        assertEquals(0, jbang("alias", "list", url), () -> read("err"));
        assertTrue(read("out").matches("(?s)taskrunner@.*taskrunner-batch@.*"), () -> read("out"));
        assertEquals(0, jbang(request), () -> read("err"));
        assertEquals("hello\n", read("out"));
        assertFalse(Files.exists(lock), "the lock file is left");
        assertTrue(requested.containsAll(Set.of("jbang-catalog.json", "taskrunner.java")), requested::toString);
    }

    private int jbang(String... arguments) throws Exception {
        List<String> line = new ArrayList<>(List.of(root().resolve("jbang").toString()));
        line.addAll(List.of(arguments));
        ProcessBuilder builder = new ProcessBuilder(line).directory(folder.toFile()).redirectInput(new File("/dev/null"))
            .redirectOutput(folder.resolve("out").toFile()).redirectError(folder.resolve("err").toFile());
        builder.environment().keySet().removeIf(name -> name.startsWith("JBANG_"));
        builder.environment().putAll(Map.of("JAVA_HOME", System.getProperty("java.home"), "JBANG_DIR", folder.resolve("jbang").toString()));
        Process process = builder.start();
        if (!process.waitFor(120, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new AssertionError("still runs after two minutes: " + line + "\n" + read("err"));
        }
        return process.exitValue();
    }

    private String read(String name) {
        try {
            return Files.readString(folder.resolve(name));
        } catch (java.io.IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private static Path root() {
        Path folder = Path.of(System.getProperty("taskrunner.root", "")).toAbsolutePath();
        while (!Files.exists(folder.resolve("jbang-catalog.json"))) {
            folder = folder.getParent();
        }
        return folder;
    }
}
