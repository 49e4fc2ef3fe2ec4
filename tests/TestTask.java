import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * A task in a directory of the test's: lock file, counter file, the requests for it, and commands that leave marks
 * there by which a test knows that they run or ran.
 */
final class TestTask {
    final Path directory;
    final Path lock;
    final Path gate;
    final Path counter;
    int threshold = 2;
    private final Path started;
    private final Path finish;
    private final Path ran;

    TestTask(Path directory) {
        this(directory, directory.resolve("task.lock"), directory.resolve("task.count"));
    }

    TestTask(Path directory, Path lock, Path counter) {
        this.directory = directory;
        this.lock = lock;
        this.counter = counter;
        gate = lock.resolveSibling(lock.getFileName() + ".tmp");
        started = directory.resolve("started");
        finish = directory.resolve("finish");
        ran = directory.resolve("ran");
    }

    /** The options that name the task. */
    String[] options() {
        return new String[] {"--lockfile", lock.toString(), "--threshold", Integer.toString(threshold),
            "--counter-file",
            counter.toString()};
    }

    Program request(String command, String... more) {
        return Program.taskrunner(directory, "--command", command).with(options()).with(more);
    }

    Program status(String... more) {
        return Program.taskrunner(directory, "status", "--lockfile", lock.toString()).with(more);
    }

    // A command that marks that it ran

    /** A command for the shell that makes a mark. */
    String mark() {
        return "echo >> " + ran;
    }

    Program markingRequest(String... more) {
        return request(mark(), more);
    }

    /** How many marks there are. */
    int marks() {
        return Files.exists(ran) ? Program.read(ran).length() : 0;
    }

    /** There is a mark; from here on there is none. */
    void assertRan() {
        assertTrue(marks() > 0, "the command did not run");
        delete(ran);
    }

    void assertDidNotRun() {
        assertFalse(Files.exists(ran), "the command ran");
    }

    // A command that runs for as long as the test wants

    /** A command for the shell by which {@link #start} knows that the command runs. */
    String markStart() {
        return "touch " + started;
    }

    /** A command that runs until {@link #finish}, or until the test's directory is removed. */
    String untilFinish() {
        return markStart() + "; while [ -e " + started + " ] && ! [ -e " + finish + " ]; do sleep 0.05; done";
    }

    /** Starts a request whose command has {@link #markStart}; returns when the command runs. */
    Running start(Program request) {
        delete(started);
        delete(finish);
        Running running = request.start();
        awaitStart();
        return running;
    }

    void awaitStart() {
        Program.await("the command runs", () -> Files.exists(started));
    }

    /** Starts a request whose command runs until {@link #finish}; returns when the command runs and is recorded. */
    Running hold(String... more) {
        return hold(request(untilFinish(), more));
    }

    /** The same with a request made of {@link #untilFinish}. */
    Running hold(Program request) {
        Running holder = start(request);
        Program.await("the command is recorded",
            () -> Files.exists(lock) && Program.read(lock).contains("\ncommand-start="));
        return holder;
    }

    /** Lets the command end. */
    void finish() {
        try {
            Files.createFile(finish);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Lets the holder's command end, and waits for the holder, which succeeds. */
    Result finish(Running holder) {
        finish();
        return holder.result().exitedWith(0);
    }

    /** Lets the command of a killed holder end, and waits until all its processes are dead. */
    void finishOrphan() {
        List<Long> pids = Program.processesOf(directory);
        finish();
        Program.awaitDeath(pids);
    }

    // What the files say

    /** A line of the lock file's record. */
    String recorded(String key) {
        return recorded(Program.read(lock), key);
    }

    static String recorded(String record, String key) {
        return record.replaceAll("(?s).*\n" + key + "=([^\n]*)\n.*", "$1");
    }

    /** The counter, 0 without a file. */
    long count() {
        String text = Files.exists(counter) ? Program.read(counter).strip() : "";
        return text.isEmpty() ? 0 : Long.parseLong(text);
    }

    /** Nothing of the lock is left. */
    void assertFree() {
        assertFalse(Files.exists(lock), () -> "lock file is left:\n" + Program.read(lock));
        assertFalse(Files.exists(gate), "the gate is left");
    }

    private static void delete(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
