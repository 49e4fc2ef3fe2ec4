import static org.junit.jupiter.api.Assertions.fail;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;

/**
 * A command as the tests start it: in an environment that holds nothing but a PATH, a locale, and a home and a
 * temporary directory of the test's. Output goes to files, so that background processes that keep it open delay
 * nobody.
 */
final class Program {
    private static final Duration MAX_WAIT = Duration.ofSeconds(30);
    private static final AtomicInteger NUMBER = new AtomicInteger();

    private final Path directory;
    private final List<String> prefix = new ArrayList<>();
    private final List<String> command;
    private final Map<String, String> environment = new LinkedHashMap<>();
    private String stdin = "";
    private Path workingDirectory;

    /** @param directory the test's own, for the program's home, temporary files and output */
    Program(Path directory, String... command) {
        this.directory = directory;
        this.command = new ArrayList<>(List.of(command));
        this.workingDirectory = directory;
        environment.put("PATH", System.getenv("PATH"));
        environment.put("LC_ALL", "C.UTF-8");
        environment.put("HOME", directory.resolve("home").toString());
        environment.put("TMPDIR", directory.resolve("tmp").toString());
    }

    /** A main class of this project, in a JVM with the script's own options. */
    static Program java(Path directory, String mainClass, String... arguments) {
        return plainJava(directory, mainClass, arguments).jvm(TestArchive.options())
            .jvm(AlsoWithoutProc.Twice.jvmOptions());
    }

    /** The same without a start-up archive. */
    static Program plainJava(Path directory, String mainClass, String... arguments) {
        try {
            return new Program(directory, Path.of(System.getProperty("java.home"), "bin", "java").toString())
                .with(Project.scriptOptions().toArray(String[]::new))
                .with("-Djava.io.tmpdir=" + directory.resolve("tmp"))
                .with("-cp", System.getProperty("java.class.path"), mainClass).with(arguments);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static Program taskrunner(Path directory, String... arguments) {
        return java(directory, "taskrunner", arguments);
    }

    /**
     * The ./jbang wrapper, with the environment of the tests, by which JBang and Maven find what they have and their
     * way out.
     */
    static Program jbang(Path directory, String... arguments) {
        Program program = new Program(directory, Project.ROOT.resolve("jbang").toString()).with(arguments);
        System.getenv().forEach((name, value) -> {
            if (!name.equals("TMPDIR") && (!name.startsWith("JBANG_") || name.equals("JBANG_DIR"))) {
                program.env(name, value);
            }
        });
        return program.env("JAVA_HOME", System.getProperty("java.home"));
    }

    /**
     * Runs JBang with a script of the tests' directory. One at a time: several spoil each other's first fetch.
     *
     * @param arguments options for JBang, the script's name, and its arguments
     */
    static synchronized Result script(Path directory, String... arguments) {
        return jbang(directory, arguments).in(Project.ROOT.resolve("tests")).run().exitedWith(0);
    }

    static Program shell(Path directory, String script, String... arguments) {
        return new Program(directory, "sh", "-c", script, "sh").with(arguments);
    }

    /** Another program with the same arguments. */
    Program as(Path program) {
        command.set(0, program.toString());
        return this;
    }

    /** More arguments at the end. */
    Program with(String... more) {
        command.addAll(List.of(more));
        return this;
    }

    /** A command before it, such as {@code setpriv …}, {@code unshare …} or {@code strace …}. */
    Program under(String... more) {
        prefix.addAll(List.of(more));
        return this;
    }

    /** A shell before it, whose script has the program as {@code "$@"}. */
    Program underShell(String script) {
        return under("sh", "-c", script, "sh");
    }

    /** @param value null removes the variable */
    Program env(String name, String value) {
        environment.put(name, value);
        environment.values().remove(null);
        return this;
    }

    /** More options for the JVM. */
    Program jvm(String... options) {
        command.addAll(command.indexOf("-cp"), List.of(options));
        return this;
    }

    Program stdin(String text) {
        stdin = text;
        return this;
    }

    Program in(Path workingDirectory) {
        this.workingDirectory = workingDirectory;
        return this;
    }

    /** Runs it to its end. */
    Result run() {
        return start().result();
    }

    Running start() {
        try {
            Files.createDirectories(directory.resolve("home"));
            Files.createDirectories(directory.resolve("tmp"));
            int number = NUMBER.incrementAndGet();
            Path out = directory.resolve("stdout-" + number);
            Path err = directory.resolve("stderr-" + number);
            Path in = Files.writeString(directory.resolve("stdin-" + number), stdin);
            ProcessBuilder builder = new ProcessBuilder(line()).directory(workingDirectory.toFile())
                .redirectInput(in.toFile()).redirectOutput(out.toFile()).redirectError(err.toFile());
            builder.environment().clear();
            builder.environment().putAll(environment);
            return new Running(builder.start(), line(), out, err);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private List<String> line() {
        return Stream.concat(prefix.stream(), command.stream()).toList();
    }

    /** The program as a command for a shell, for one taskrunner inside another. */
    String shellCommand() {
        return String.join(" ", line().stream().map(word -> "'" + word.replace("'", "'\\''") + "'").toList());
    }

    Program asNobody() {
        return asUser(65534);
    }

    /**
     * Runs it as another user, from a copy of its classes, since others may not read a class path in a home
     * directory.
     */
    Program asUser(int uid) {
        try {
            Path classes = Path.of(taskrunner.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            Path copy = directory.resolve("classes");
            shell(directory, "chmod 1777 \"$1\"; [ -e \"$3\" ] || cp -r \"$2\" \"$3\"; chmod -R a+rX \"$3\"",
                directory.toString(), classes.toString(), copy.toString()).run().exitedWith(0);
            command.set(command.indexOf("-cp") + 1, copy.toString());
        } catch (URISyntaxException e) {
            throw new IllegalStateException(e);
        }
        return under("setpriv", "--reuid=" + uid, "--regid=" + uid, "--clear-groups");
    }

    /**
     * Waits up to 30 s until the condition holds, or fails with its name. It does not hold yet when it meets a file
     * that is not there: those it looks at may come, go and be renamed while it looks.
     */
    static void await(String what, BooleanSupplier condition) {
        long deadline = System.nanoTime() + MAX_WAIT.toNanos();
        for (UncheckedIOException missing = null;; missing = null) {
            try {
                if (condition.getAsBoolean()) {
                    return;
                }
            } catch (UncheckedIOException e) {
                missing = e;
            }
            if (System.nanoTime() > deadline) {
                fail("waited " + MAX_WAIT.toSeconds() + " s in vain until " + what, missing);
            }
            sleep(10);
        }
    }

    static void sleep(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** The live processes that have the text in their command line. */
    static List<Long> processesWith(String text) {
        return processes("cmdline", text);
    }

    /** The live processes that have the text in the file of theirs in /proc. */
    private static List<Long> processes(String file, String text) {
        List<Long> found = new ArrayList<>();
        for (String name : Path.of("/proc").toFile().list()) {
            if (Character.isDigit(name.charAt(0)) && Long.parseLong(name) != ProcessHandle.current().pid()) {
                try {
                    Path path = Path.of("/proc", name, file);
                    if (Files.readString(path, StandardCharsets.ISO_8859_1).replace('\0', ' ').contains(text)) {
                        found.add(Long.parseLong(name));
                    }
                } catch (IOException e) {
                    // it has just ended, or is another user's
                }
            }
        }
        return found;
    }

    /**
     * The live processes of a test: those that have its directory in their command line or, as HOME, in their
     * environment.
     */
    static List<Long> processesOf(Path directory) {
        return Stream.of("cmdline", "environ").flatMap(file -> processes(file, directory.toString()).stream())
            .distinct()
            .toList();
    }

    /** An exiting process has no command line any more and is not dead yet, so this goes by its id. */
    static boolean isDead(long pid) {
        Path stat = Path.of("/proc", Long.toString(pid), "stat");
        try {
            String text = Files.readString(stat, StandardCharsets.ISO_8859_1);
            return "ZX".indexOf(text.charAt(text.lastIndexOf(')') + 2)) >= 0;
        } catch (IOException e) {
            return !Files.exists(stat);
        }
    }

    static void awaitDeath(List<Long> pids) {
        await("processes " + pids + " are dead", () -> pids.stream().allMatch(Program::isDead));
    }

    /** Kills the processes of a test and waits until they are dead. */
    static void killProcessesOf(Path directory) {
        List<Long> left = processesOf(directory);
        while (!left.isEmpty()) {
            left.forEach(pid -> ProcessHandle.of(pid).ifPresent(ProcessHandle::destroyForcibly));
            awaitDeath(left);
            left = processesOf(directory);
        }
    }

    static void signal(long pid, String name) {
        try {
            if (new ProcessBuilder("kill", "-" + name, Long.toString(pid)).inheritIO().start().waitFor() != 0) {
                fail("cannot send " + name + " to pid " + pid);
            }
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    static String read(Path file) {
        try {
            return Files.readString(file, StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
