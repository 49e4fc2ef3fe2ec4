import java.io.StringReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

import jakarta.json.Json;
import jakarta.json.JsonObject;
import jakarta.json.JsonReader;
import jakarta.json.JsonValue;

/** Debian's Chromium without a window, driven through its DevTools protocol. */
final class Browser implements AutoCloseable {
    private static final int SECONDS = 120;

    private final Process process;
    private final Path profile;
    private final HttpClient client = HttpClient.newHttpClient();
    private final String address;

    private Browser(Process process, Path profile, String address) {
        this.process = process;
        this.profile = profile;
        this.address = address;
    }

    /** @param directory for its profile, which is the test's own */
    static Browser start(Path directory) throws Exception {
        Path profile = Files.createTempDirectory(directory, "chromium");
        ProcessBuilder builder = new ProcessBuilder("chromium", "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
            "--user-data-dir=" + profile, "about:blank").redirectErrorStream(true)
            .redirectOutput(directory.resolve("chromium.log").toFile());
        builder.environment().put("HOME", profile.toString());
        builder.environment().put("TZ", "Asia/Kolkata");
        Process process = builder.start();
        Path port = profile.resolve("DevToolsActivePort");
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
        while (!Files.exists(port) || Files.readAllLines(port).size() < 2) {
            if (!process.isAlive() || System.nanoTime() > deadline) {
                throw new AssertionError("chromium did not start: "
                    + Files.readString(directory.resolve("chromium.log")));
            }
            Thread.sleep(20);
        }
        return new Browser(process, profile, "127.0.0.1:" + Files.readAllLines(port).get(0));
    }

    /**
     * A page that is opened as a reader opens it: from a file.
     *
     * @param script whether JavaScript is on @param scheme light, dark or print
     */
    Page open(Path html, boolean script, int width, String scheme) throws Exception {
        HttpResponse<String> target = client.send(HttpRequest.newBuilder(URI.create("http://" + address
            + "/json/new?about:blank")).PUT(HttpRequest.BodyPublishers.noBody()).build(),
            HttpResponse.BodyHandlers.ofString());
        Page page = new Page();
        page.socket = client.newWebSocketBuilder().buildAsync(URI.create(parse(target.body())
            .getString("webSocketDebuggerUrl")), page).get(SECONDS, TimeUnit.SECONDS);
        for (String domain : List.of("Page", "Network", "Log", "Runtime")) {
            page.send(domain + ".enable", JsonValue.EMPTY_JSON_OBJECT);
        }
        page.send("Emulation.setScriptExecutionDisabled", Json.createObjectBuilder().add("value", !script).build());
        page.send("Emulation.setDeviceMetricsOverride", Json.createObjectBuilder().add("width", width).add("height",
            900).add("deviceScaleFactor", 1).add("mobile", width < 500).build());
        page.send("Emulation.setEmulatedMedia", Json.createObjectBuilder().add("media", scheme.equals("print") ? "print"
            : "screen").add("features", Json.createArrayBuilder().add(Json.createObjectBuilder().add("name",
            "prefers-color-scheme").add("value", scheme.equals("dark") ? "dark" : "light"))).build());
        page.send("Page.navigate", Json.createObjectBuilder().add("url", html.toUri().toString()).build());
        page.loaded.get(SECONDS, TimeUnit.SECONDS);
        return page;
    }

    private static JsonObject parse(String text) {
        try (JsonReader reader = Json.createReader(new StringReader(text))) {
            return reader.readObject();
        }
    }

    /** Ends all its processes, so that none writes into the profile any more. */
    @Override
    public void close() {
        List<ProcessHandle> processes = new ArrayList<>(process.descendants().toList());
        processes.add(process.toHandle());
        processes.forEach(ProcessHandle::destroyForcibly);
        processes.forEach(each -> each.onExit().join());
        Project.deleteTree(profile);
    }

    /** One open page, and what it did. */
    static final class Page implements WebSocket.Listener, AutoCloseable {
        /** URLs that it asked for, its own included. */
        final List<String> requests = new CopyOnWriteArrayList<>();
        /** What it complained of in the console, and what its policy refused. */
        final List<String> complaints = new CopyOnWriteArrayList<>();
        private final Map<Integer, CompletableFuture<JsonObject>> answers = new ConcurrentHashMap<>();
        private final CompletableFuture<Void> loaded = new CompletableFuture<>();
        private final AtomicInteger ids = new AtomicInteger();
        private final StringBuilder message = new StringBuilder();
        private WebSocket socket;

        @Override
        public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
            message.append(data);
            if (last) {
                JsonObject object = parse(message.toString());
                message.setLength(0);
                if (object.containsKey("id")) {
                    answers.getOrDefault(object.getInt("id"), new CompletableFuture<>()).complete(object);
                } else {
                    event(object.getString("method"), object.getJsonObject("params"));
                }
            }
            from.request(1);
            return null;
        }

        private void event(String method, JsonObject parameters) {
            switch (method) {
                case "Page.loadEventFired" -> loaded.complete(null);
                case "Network.requestWillBeSent" -> requests.add(parameters.getJsonObject("request").getString("url"));
                case "Log.entryAdded" -> complaints.add(parameters.getJsonObject("entry").getString("text"));
                case "Runtime.consoleAPICalled", "Runtime.exceptionThrown" -> complaints.add(parameters.toString());
                default -> {
                }
            }
        }

        private JsonObject send(String method, JsonObject parameters) throws Exception {
            int id = ids.incrementAndGet();
            CompletableFuture<JsonObject> answer = new CompletableFuture<>();
            answers.put(id, answer);
            socket.sendText(Json.createObjectBuilder().add("id", id).add("method", method).add("params", parameters)
                .build().toString(), true);
            JsonObject result = answer.get(SECONDS, TimeUnit.SECONDS);
            if (result.containsKey("error")) {
                throw new AssertionError(method + ": " + result);
            }
            return result.getJsonObject("result");
        }

        /** The value of an expression of JavaScript, as text; also where the page's own is off. */
        String evaluate(String expression) throws Exception {
            JsonObject result = send("Runtime.evaluate", Json.createObjectBuilder().add("expression", "JSON.stringify("
                + expression + ")").add("returnByValue", true).add("awaitPromise", true).build());
            if (result.containsKey("exceptionDetails")) {
                throw new AssertionError(expression + ": " + result);
            }
            JsonValue value = parse("{\"value\":" + result.getJsonObject("result").getString("value", "null") + "}")
                .get("value");
            return value instanceof jakarta.json.JsonString text ? text.getString() : value.toString();
        }

        /** An array of texts. */
        List<String> list(String expression) throws Exception {
            List<String> texts = new ArrayList<>();
            JsonObject object = parse("{\"value\":" + evaluate(expression) + "}");
            object.getJsonArray("value").forEach(value -> texts.add(value instanceof jakarta.json.JsonString text
                ? text.getString() : value.toString()));
            return texts;
        }

        /** What the keyboard does. @param key such as Tab or Enter */
        void press(String key) throws Exception {
            String text = key.equals("Enter") ? "\r" : key.length() == 1 ? key : "";
            for (String type : List.of("keyDown", "keyUp")) {
                send("Input.dispatchKeyEvent", Json.createObjectBuilder().add("type", type).add("key", key).add("code",
                    key).add("windowsVirtualKeyCode", key.equals("Tab") ? 9 : key.equals("Enter") ? 13 : key.charAt(0))
                    .add("text", text).build());
            }
        }

        /** A picture of the page. @param height in CSS pixels from the top */
        byte[] screenshot(int from, int height, double scale) throws Exception {
            int width = Integer.parseInt(evaluate("innerWidth"));
            JsonObject picture = send("Page.captureScreenshot", Json.createObjectBuilder().add("format", "png")
                .add("captureBeyondViewport", true).add("clip", Json.createObjectBuilder().add("x", 0).add("y", from)
                .add("width", width).add("height", height).add("scale", scale)).build());
            return Base64.getDecoder().decode(picture.getString("data"));
        }

        @Override
        public void close() {
            socket.sendText("{\"id\": 0, \"method\": \"Page.close\"}", true);
            socket.sendClose(WebSocket.NORMAL_CLOSURE, "");
        }
    }
}
