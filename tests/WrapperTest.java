import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The ./jbang wrapper, for real: with Maven, a JDK and a PATH of the test's own. */
class WrapperTest {
    private static final String INSTALL = "curl -Ls https://sh.jbang.dev | bash -s - app setup";
    @TempDir
    static Path shared;
    private static Path cache;
    private static Path script;
    private static List<Result> firstStarts;

    @TempDir
    Path folder;

    record Result(int status, String out, String err) {
        void is(int expectedStatus, String expectedOut) {
            assertEquals(expectedStatus, status, this::toString);
            assertEquals(expectedOut, out, this::toString);
        }
    }

    /** Two starts at once on an empty cache, in a folder with a space; the other tests share what they leave. */
    @BeforeAll
    static void fetch() throws Exception {
        cache = shared.resolve("a cache");
        script = Files.writeString(Files.createDirectories(shared.resolve("a folder")).resolve("Echo.java"), """
            class Echo {
                public static void main(String... args) throws Exception {
                    if (args[0].equals("wait")) {
                        System.out.println(ProcessHandle.current().pid());
                        Thread.sleep(60_000);
                    }
                    System.out.println(String.join("|", args));
                    System.in.transferTo(System.out);
                    System.exit(7);
                }
            }
            """);
        Process one = start(shared.resolve("one"), wrapper("version"));
        Process two = start(shared.resolve("two"), wrapper("version"));
        firstStarts = List.of(end(one, shared.resolve("one")), end(two, shared.resolve("two")));
    }

    @Test
    void twoStartsAtOnceOnAnEmptyCacheBothRunAndLeaveOneCopy() throws IOException {
        assertEquals(firstStarts.get(0).out(), firstStarts.get(1).out());
        firstStarts.forEach(start -> assertTrue(start.status() == 0 && start.out().matches("\\d+\\.\\d+\\.\\d+\n"), start::toString));
        try (Stream<Path> left = Files.list(cache)) {
            assertEquals(1, left.filter(path -> path.getFileName().toString().startsWith("jbang-cli")).count());
        }
    }

    @Test
    void argumentsStdinAndExitStatusPassThroughAndNothingElseIsOnStdout() throws Exception {
        Path input = Files.writeString(folder.resolve("input"), "in\n");
        Result result = run(wrapper(script.toString(), "a b", "it's", "$HOME", "two\nlines").redirectInput(input.toFile()));
        result.is(7, "a b|it's|$HOME|two\nlines\nin\n");
    }

    @Test
    void itRunsFromAnotherFolderThroughALink() throws Exception {
        Path link = Files.createSymbolicLink(Files.createDirectories(folder.resolve("my tools")).resolve("jbang"), root().resolve("jbang"));
        ProcessBuilder builder = wrapper("Echo.java", "x").directory(script.getParent().toFile());
        builder.command().set(0, link.toString());
        Result result = run(builder);
        Files.delete(link);
        result.is(7, "x\n");
    }

    @Test
    void withoutJavaHomeItTakesTheJdkOnPath() throws Exception {
        ProcessBuilder builder = wrapper(script.toString(), "x");
        builder.environment().remove("JAVA_HOME");
        builder.environment().put("PATH", Path.of(System.getProperty("java.home"), "bin") + ":" + tools());
        builder.environment().put("JBANG_JAVA_OPTIONS", "");
        run(builder).is(7, "x\n");
    }

    @Test
    void aSignalReachesTheScriptItself() throws Exception {
        Process process = start(folder, wrapper(script.toString(), "wait"));
        Path out = folder.resolve("out");
        for (int i = 0; i < 600 && !Files.readString(out).endsWith("\n"); i++) {
            Thread.sleep(50);
        }
        assertEquals(process.pid() + "\n", Files.readString(out));
        process.destroy();
        assertEquals(128 + 15, end(process, folder).status());
    }

    @Test
    void whatTheJvmOfJbangLogsIsNotTakenForItsAnswer() throws Exception {
        ProcessBuilder builder = wrapper("version");
        builder.environment().put("JAVA_TOOL_OPTIONS", "-Xlog:gc*");
        builder.environment().put("JBANG_JAVA_OPTIONS", "-Xmx128m");
        run(builder).is(0, firstStarts.get(0).out());
    }

    @Test
    void anInstalledJbangIsPreferred() throws Exception {
        Path other = executable("other/jbang", "#!/bin/sh\nprintf '%s;' installed \"$@\"\nexit 5\n");
        ProcessBuilder builder = wrapper("a b", "c");
        builder.environment().put("PATH", root() + ":" + other.getParent() + ":" + tools());
        run(builder).is(5, "installed;a b;c;");
    }

    @Test
    void aCopyOfItselfOnPathIsNotTakenForAnInstalledJbang() throws Exception {
        Path copy = executable("copy/jbang", Files.readString(root().resolve("jbang")));
        ProcessBuilder builder = wrapper(script.toString(), "x");
        builder.environment().merge("PATH", root() + ":" + copy.getParent(), (path, more) -> more + ":" + path);
        run(builder).is(7, "x\n");
    }

    @Test
    void withoutJdkItNamesTheInstallCommand() throws Exception {
        ProcessBuilder builder = wrapper("version");
        builder.environment().put("JAVA_HOME", folder.toString());
        builder.environment().put("PATH", tools());
        Result result = run(builder);
        result.is(4, "");
        assertTrue(result.err().matches("jbang: found no JDK .*\n") && result.err().contains(INSTALL), result::toString);
    }

    @Test
    void withoutMavenItNamesTheInstallCommand() throws Exception {
        ProcessBuilder builder = wrapper("version");
        builder.environment().put("JBANG_DIR", folder.resolve("empty").toString());
        builder.environment().put("PATH", tools());
        Result result = run(builder);
        result.is(4, "");
        assertTrue(result.err().matches("jbang: found neither JBang nor Maven .*\n") && result.err().contains(INSTALL), result::toString);
    }

    @Test
    void whatMavenSaysIsShownWhenItFailsAndNothingIsLeft() throws Exception {
        Path maven = executable("maven/mvn", "#!/bin/sh\necho no route to host\nexit 1\n");
        Path empty = folder.resolve("empty");
        ProcessBuilder builder = wrapper("version");
        builder.environment().put("JBANG_DIR", empty.toString());
        builder.environment().put("PATH", maven.getParent() + ":" + tools());
        Result result = run(builder);
        result.is(1, "");
        assertTrue(result.err().startsWith("no route to host\njbang: cannot fetch JBang"), result::toString);
        try (Stream<Path> left = Files.list(empty)) {
            assertEquals(0, left.count());
        }
    }

    private static ProcessBuilder wrapper(String... arguments) throws IOException {
        List<String> line = new ArrayList<>(List.of(root().resolve("jbang").toString()));
        line.addAll(List.of(arguments));
        ProcessBuilder builder = new ProcessBuilder(line).directory(shared.toFile()).redirectInput(new java.io.File("/dev/null"));
        builder.environment().keySet().removeIf(name -> name.startsWith("JBANG_"));
        builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
        builder.environment().put("JBANG_DIR", cache.toString());
        return builder;
    }

    /** A PATH with what the wrapper calls, but no Java, Maven or JBang. */
    private String tools() throws IOException {
        for (String tool : List.of("cat", "chmod", "cmp", "id", "mkdir", "mktemp", "mv", "readlink", "rm")) {
            Path real = Stream.of("/bin", "/usr/bin").map(bin -> Path.of(bin, tool)).filter(Files::exists).findFirst().orElseThrow();
            executable("tools/" + tool, "#!/bin/sh\nexec " + real + " \"$@\"\n");
        }
        return folder.resolve("tools").toString();
    }

    private Path executable(String name, String text) throws IOException {
        Path file = folder.resolve(name);
        Files.createDirectories(file.getParent());
        return Files.setPosixFilePermissions(Files.writeString(file, text), PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private Result run(ProcessBuilder builder) throws Exception {
        return end(start(folder, builder), folder);
    }

    private static Process start(Path folder, ProcessBuilder builder) throws IOException {
        Files.createDirectories(folder);
        return builder.redirectOutput(folder.resolve("out").toFile()).redirectError(folder.resolve("err").toFile()).start();
    }

    private static Result end(Process process, Path folder) throws Exception {
        if (!process.waitFor(120, TimeUnit.SECONDS)) {
            process.descendants().forEach(ProcessHandle::destroyForcibly);
            process.destroyForcibly();
            throw new AssertionError("still runs after two minutes: " + Files.readString(folder.resolve("err")));
        }
        return new Result(process.exitValue(), Files.readString(folder.resolve("out")), Files.readString(folder.resolve("err")));
    }

    private static Path root() {
        Path folder = Path.of(System.getProperty("taskrunner.root", "")).toAbsolutePath();
        while (!Files.exists(folder.resolve("jbang-catalog.json"))) {
            folder = folder.getParent();
        }
        return folder;
    }
}
