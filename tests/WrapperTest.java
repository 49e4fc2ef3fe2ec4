import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The ./jbang wrapper, for real: with Maven, a JDK and a PATH of the test's own. */
class WrapperTest extends TaskTest {
    private static final String INSTALL = "curl -Ls https://sh.jbang.dev | bash -s - app setup";
    private static final Path WRAPPER = Project.ROOT.resolve("jbang");
    @TempDir
    static Path shared;
    private static Path cache;
    private static Path script;
    private static List<Result> firstStarts;

    /** Two starts at once on an empty cache, in a directory with a space; the other tests share what they leave. */
    @BeforeAll
    static void fetch() throws IOException {
        cache = shared.resolve("a cache");
        script = Files.writeString(Files.createDirectories(shared.resolve("a directory")).resolve("Echo.java"), """
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
        Running one = wrapper(shared, "version").start();
        Running two = wrapper(shared, "version").start();
        firstStarts = List.of(one.result(), two.result());
    }

    private static Program wrapper(Path directory, String... arguments) {
        return Program.jbang(directory, arguments).env("JBANG_DIR", cache.toString());
    }

    private Program wrapper(String... arguments) {
        return wrapper(directory, arguments);
    }

    @Test
    void twoStartsAtOnceLeaveOneCopy() throws IOException {
        assertEquals(firstStarts.get(0).out(), firstStarts.get(1).out());
        firstStarts.forEach(start -> assertTrue(start.exitedWith(0).out().matches("\\d+\\.\\d+\\.\\d+\n"),
            start::toString));
        try (Stream<Path> left = Files.list(cache)) {
            assertEquals(1, left.filter(path -> path.getFileName().toString().startsWith("jbang-cli")).count());
        }
    }

    @Test
    void argumentsStdinAndExitStatusPassThrough() {
        wrapper(script.toString(), "a b", "it's", "$HOME", "two\nlines").stdin("in\n").run().exitedWith(7)
            .outIs("a b|it's|$HOME|two\nlines\nin\n");
    }

    @Test
    void argumentsPassThroughInTheCLocaleToo() throws IOException {
        Path bytes = Files.writeString(directory.resolve("Bytes.java"), """
            class Bytes {
                public static void main(String... args) throws Exception {
                    System.out.write(java.nio.file.Files.readAllBytes(java.nio.file.Path.of("/proc/self/cmdline")));
                    System.out.println(System.getenv("LC_ALL"));
                }
            }
            """);
        wrapper(bytes.toString()).underShell("exec \"$@\" \"$(printf '\\303\\251')\"").env("LC_ALL", "C").run()
            .exitedWith(0)
            .outContains("\0\u00e9\0C\n");
    }

    @Test
    void itRunsFromAnotherDirectoryThroughALink() throws IOException {
        Path link = Files.createSymbolicLink(Files.createDirectories(directory.resolve("my tools")).resolve("jbang"),
            WRAPPER);
        Result result = wrapper("Echo.java", "x").as(link).in(script.getParent()).run();
        Files.delete(link);
        result.exitedWith(7).outIs("x\n");
    }

    @Test
    void withoutJavaHomeTakesTheJdkOnPath() throws IOException {
        wrapper(script.toString(), "x").env("JAVA_HOME", null)
            .env("PATH", Path.of(System.getProperty("java.home"), "bin") + ":" + tools()).env("JBANG_JAVA_OPTIONS", "")
            .run()
            .exitedWith(7).outIs("x\n");
    }

    @Test
    void signalReachesTheScript() {
        Running running = wrapper(script.toString(), "wait").start();
        Program.await("the script runs", () -> Program.read(running.out).endsWith("\n"));
        running.signal("TERM");
        running.result().exitedWith(128 + 15).outIs(running.pid() + "\n");
    }

    @Test
    void logsOfJbangsJvmAreNotItsAnswer() {
        wrapper("version").env("JAVA_TOOL_OPTIONS", "-Xlog:gc*").env("JBANG_JAVA_OPTIONS", "-Xmx128m").run()
            .exitedWith(0)
            .outIs(firstStarts.get(0).out());
    }

    @Test
    void installedJbangIsPreferred() throws IOException {
        Path other = executable("other/jbang", "#!/bin/sh\nprintf '%s;' installed \"$@\"\nexit 5\n");
        wrapper("a b", "c").env("PATH", Project.ROOT + ":" + other.getParent() + ":" + tools()).run().exitedWith(5)
            .outIs("installed;a b;c;");
    }

    @Test
    void copyOfItselfIsNotAnInstalledJbang() throws IOException {
        Path copy = executable("copy/jbang", Files.readString(WRAPPER));
        wrapper(script.toString(), "x")
            .env("PATH", Project.ROOT + ":" + copy.getParent() + ":" + System.getenv("PATH")).run().exitedWith(7)
            .outIs("x\n");
    }

    @Test
    void withoutJdkNamesTheInstallCommand() throws IOException {
        assertRefused(wrapper("version").env("JAVA_HOME", directory.toString()).env("PATH", tools()), "found no JDK");
    }

    @Test
    void withoutMavenNamesTheInstallCommand() throws IOException {
        assertRefused(wrapper("version").env("JBANG_DIR", directory.resolve("empty").toString()).env("PATH", tools()),
            "found neither JBang nor Maven");
    }

    private static void assertRefused(Program program, String why) {
        Result result = program.run().exitedWith(4).outIs("").errContains(INSTALL);
        assertTrue(result.err().matches("jbang: " + why + " .*\n"), result::toString);
    }

    @Test
    void mavensErrorIsShownAndNothingIsLeft() throws IOException {
        Path maven = executable("maven/mvn", "#!/bin/sh\necho no route to host\nexit 1\n");
        Path empty = directory.resolve("empty");
        Result result = wrapper("version").env("JBANG_DIR", empty.toString())
            .env("PATH", maven.getParent() + ":" + tools()).run()
            .exitedWith(1).outIs("");
        assertTrue(result.err().startsWith("no route to host\njbang: cannot fetch JBang"), result::toString);
        try (Stream<Path> left = Files.list(empty)) {
            assertEquals(0, left.count());
        }
    }

    /** A PATH with what the wrapper calls, but no Java, Maven or JBang. */
    private String tools() throws IOException {
        for (String tool : List.of("cat", "chmod", "cmp", "id", "mkdir", "mktemp", "mv", "readlink", "rm")) {
            Path real = Stream.of("/bin", "/usr/bin").map(bin -> Path.of(bin, tool)).filter(Files::exists).findFirst()
                .orElseThrow();
            executable("tools/" + tool, "#!/bin/sh\nexec " + real + " \"$@\"\n");
        }
        return directory.resolve("tools").toString();
    }

    private Path executable(String name, String text) throws IOException {
        Path file = directory.resolve(name);
        Files.createDirectories(file.getParent());
        return Files.setPosixFilePermissions(Files.writeString(file, text),
            PosixFilePermissions.fromString("rwxr-xr-x"));
    }
}
