import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;

/**
 * A main class of this project, started as users start it: a JVM of its own with the script's own JVM options, in an environment that
 * holds nothing but a PATH, a locale, and a home and a temporary folder of the test's. Output goes to files, so that background
 * processes that keep it open delay nobody.
 */
final class Program {
    static final Path ROOT = root();
    private static final Duration MAX_LENGTH = Duration.ofSeconds(60);
    private static final AtomicInteger NUMBER = new AtomicInteger();

    private final Path folder;
    private final List<String> prefix = new ArrayList<>();
    private final List<String> jvmOptions = new ArrayList<>();
    private final List<String> arguments = new ArrayList<>();
    private final Map<String, String> environment = new LinkedHashMap<>();
    private final String mainClass;
    private String classPath = System.getProperty("java.class.path");
    private String stdin = "";
    private Path workingFolder;

    /** @param folder the test's own, for its home, temporary files and output */
    Program(Path folder, String mainClass, String... arguments) {
        this.folder = folder;
        this.mainClass = mainClass;
        this.workingFolder = folder;
        this.arguments.addAll(List.of(arguments));
        environment.put("PATH", System.getenv("PATH"));
        environment.put("LC_ALL", "C.UTF-8");
        environment.put("HOME", folder.resolve("home").toString());
        environment.put("TMPDIR", folder.resolve("tmp").toString());
    }

    static Program taskrunner(Path folder, String... arguments) {
        return new Program(folder, "taskrunner", arguments);
    }

    /** More arguments at the end. */
    Program with(String... more) {
        arguments.addAll(List.of(more));
        return this;
    }

    /** A command before {@code java}, such as {@code setpriv …}, {@code unshare …} or {@code strace …}. */
    Program under(String... command) {
        prefix.addAll(List.of(command));
        return this;
    }

    Program env(String name, String value) {
        environment.put(name, value);
        return this;
    }

    /** More options for the JVM. */
    Program jvm(String... options) {
        jvmOptions.addAll(List.of(options));
        return this;
    }

    Program stdin(String text) {
        stdin = text;
        return this;
    }

    Program in(Path folder) {
        workingFolder = folder;
        return this;
    }

    /** Runs it to its end, for at most a minute. */
    Result run() {
        return start().result();
    }

    Running start() {
        try {
            Files.createDirectories(folder.resolve("home"));
            Files.createDirectories(folder.resolve("tmp"));
            int number = NUMBER.incrementAndGet();
            Path out = folder.resolve("stdout-" + number);
            Path err = folder.resolve("stderr-" + number);
            Path in = Files.writeString(folder.resolve("stdin-" + number), stdin);
            List<String> line = commandLine();
            ProcessBuilder builder = new ProcessBuilder(line).directory(workingFolder.toFile()).redirectInput(in.toFile())
                .redirectOutput(out.toFile()).redirectError(err.toFile());
            builder.environment().clear();
            builder.environment().putAll(environment);
            return new Running(builder.start(), line, out, err);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private List<String> commandLine() throws IOException {
        List<String> line = new ArrayList<>(prefix);
        line.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        line.addAll(scriptOptions());
        line.add("-Djava.io.tmpdir=" + folder.resolve("tmp"));
        line.addAll(jvmOptions);
        line.addAll(List.of("-cp", classPath, mainClass));
        line.addAll(arguments);
        return line;
    }

    /** The program as a command for a shell, for one taskrunner inside another. */
    String shellCommand() throws IOException {
        return String.join(" ", commandLine().stream().map(word -> "'" + word.replace("'", "'\\''") + "'").toList());
    }

    /** Runs it as the user nobody, from a copy of its classes, since others may not read a class path in a home folder. */
    Program asNobody() {
        try {
            Path classes = Path.of(taskrunner.class.getProtectionDomain().getCodeSource().getLocation().toURI());
            Path copy = folder.resolve("classes");
            assertEquals(0, new ProcessBuilder("sh", "-c", "chmod 1777 \"$1\"; [ -e \"$3\" ] || cp -r \"$2\" \"$3\"; chmod -R a+rX \"$3\"", "sh",
                folder.toString(), classes.toString(), copy.toString()).inheritIO().start().waitFor());
            classPath = copy.toString();
        } catch (IOException | InterruptedException | URISyntaxException e) {
            throw new IllegalStateException(e);
        }
        return under("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups");
    }

    /** The options of the script's {@code //JAVA_OPTIONS} lines. */
    static List<String> scriptOptions() throws IOException {
        List<String> options = new ArrayList<>();
        for (String line : Files.readAllLines(ROOT.resolve("taskrunner.java"))) {
            if (line.startsWith("//JAVA_OPTIONS ")) {
                options.addAll(Arrays.asList(line.substring("//JAVA_OPTIONS ".length()).trim().split(" +")));
            }
        }
        return options;
    }

    private static Path root() {
        for (Path folder = Path.of("").toAbsolutePath(); folder != null; folder = folder.getParent()) {
            if (Files.exists(folder.resolve("jbang-catalog.json"))) {
                return folder;
            }
        }
        throw new IllegalStateException("run the tests inside the repository");
    }

    /**
     * Waits up to 30 s until the condition holds, or fails with its name. It does not hold yet when it meets a file that is not there:
     * those it looks at may come, go and be renamed while it looks.
     */
    static void await(String what, BooleanSupplier condition) {
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        for (UncheckedIOException missing = null;; missing = null) {
            try {
                if (condition.getAsBoolean()) {
                    return;
                }
            } catch (UncheckedIOException e) {
                missing = e;
            }
            if (System.nanoTime() > deadline) {
                fail("waited 30 s in vain until " + what, missing);
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

    /** The processes, zombies left out, that have the text in their command line. */
    static List<Long> processesWith(String text) {
        List<Long> found = new ArrayList<>();
        for (String name : new File("/proc").list()) {
            if (Character.isDigit(name.charAt(0))) {
                try {
                    String line = Files.readString(Path.of("/proc", name, "cmdline"), StandardCharsets.ISO_8859_1).replace('\0', ' ');
                    if (line.contains(text) && Long.parseLong(name) != ProcessHandle.current().pid()) {
                        found.add(Long.parseLong(name));
                    }
                } catch (IOException e) {
                    // it has just ended
                }
            }
        }
        return found;
    }

    /** Kills the processes that have the text in their command line, such as a test's folder, and waits until they are dead. */
    static void killProcessesWith(String text) {
        await("no process has " + text, () -> {
            List<Long> left = processesWith(text);
            left.forEach(pid -> ProcessHandle.of(pid).ifPresent(ProcessHandle::destroyForcibly));
            return left.isEmpty();
        });
    }

    static String read(Path file) {
        try {
            return Files.readString(file, StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A task of its own in the test's folder: lock file, counter file and the requests for it. */
    static final class Task {
        final Path folder;
        final Path lock;
        final Path gate;
        final Path counter;
        int threshold = 2;

        Task(Path folder) {
            this.folder = folder;
            lock = folder.resolve("task.lock");
            gate = folder.resolve("task.lock.tmp");
            counter = folder.resolve("task.count");
        }

        Program request(String command, String... more) {
            return taskrunner(folder, "--command", command, "--lockfile", lock.toString(), "--threshold", Integer.toString(threshold),
                "--counter-file", counter.toString()).with(more);
        }

        /** A command that runs until {@link #finish}, or until the test's folder is removed. */
        String untilFinish() {
            return "touch " + folder + "/runs; while [ -e " + folder + "/runs ] && ! [ -e " + folder + "/finish ]; do sleep 0.05; done";
        }

        /** Starts a request whose command runs until {@link #finish}; returns when the command runs. */
        Running hold(String... more) {
            return hold(request(untilFinish(), more));
        }

        /** The same with a request made of {@link #untilFinish}; returns when the command runs and is recorded. */
        Running hold(Program request) {
            Running holder = request.start();
            await("the command runs", () -> Files.exists(folder.resolve("runs")) && Files.exists(lock)
                && read(lock).contains("\ncommand-start="));
            return holder;
        }

        void finish() {
            try {
                Files.createFile(folder.resolve("finish"));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        Program status(String... more) {
            return taskrunner(folder, "status", "--lockfile", lock.toString()).with(more);
        }

        /** The counter, 0 without a file. */
        long count() {
            String text = Files.exists(counter) ? read(counter).strip() : "";
            return text.isEmpty() ? 0 : Long.parseLong(text);
        }

        /** Nothing of the lock is left. */
        void assertFree() {
            assertFalse(Files.exists(lock), () -> "lock file is left:\n" + read(lock));
            assertFalse(Files.exists(gate), "the gate is left");
        }
    }

    /** A program that may still run. */
    static final class Running {
        private final Process process;
        private final List<String> line;
        private final Path out;
        private final Path err;

        Running(Process process, List<String> line, Path out, Path err) {
            this.process = process;
            this.line = line;
            this.out = out;
            this.err = err;
        }

        long pid() {
            return process.pid();
        }

        boolean alive() {
            return process.isAlive();
        }

        String err() {
            return read(err);
        }

        /** Sends the signal, such as TERM, to the program alone. */
        void signal(String name) {
            try {
                assertEquals(0, new ProcessBuilder("kill", "-" + name, Long.toString(pid())).inheritIO().start().waitFor());
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        Running awaitErr(String text) {
            await("stderr has '" + text + "'", () -> err().contains(text));
            return this;
        }

        /** Kills the program alone, if it still runs. */
        void kill() {
            process.destroyForcibly();
        }

        /** Waits for its end, at most a minute. */
        Result result() {
            try {
                if (!process.waitFor(MAX_LENGTH.toSeconds(), TimeUnit.SECONDS)) {
                    process.destroyForcibly();
                    fail("still runs after a minute: " + this);
                }
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
            return new Result(this, process.exitValue(), read(out), read(err));
        }

        @Override
        public String toString() {
            return String.join(" ", line.subList(Math.max(0, line.indexOf("-cp") + 2), line.size())) + "\nstdout: " + read(out)
                + "\nstderr: " + read(err);
        }
    }

    /** How a program ended; each assertion shows the whole of it when it fails. */
    record Result(Running program, int status, String out, String err) {
        Result exitedWith(int expected) {
            assertEquals(expected, status, () -> "exit status of " + program);
            return this;
        }

        Result outIs(String expected) {
            assertEquals(expected, out, () -> "stdout of " + program);
            return this;
        }

        Result errIs(String expected) {
            assertEquals(expected, err, () -> "stderr of " + program);
            return this;
        }

        Result outContains(String expected) {
            assertTrue(out.contains(expected), () -> "no '" + expected + "' in stdout of " + program);
            return this;
        }

        Result errContains(String expected) {
            assertTrue(err.contains(expected), () -> "no '" + expected + "' in stderr of " + program);
            return this;
        }

        Result errHasNo(String unexpected) {
            assertFalse(err.contains(unexpected), () -> "'" + unexpected + "' in stderr of " + program);
            return this;
        }

        /** The last line of stderr. */
        String lastErr() {
            String[] lines = err.split("\n");
            return lines[lines.length - 1];
        }
    }
}
