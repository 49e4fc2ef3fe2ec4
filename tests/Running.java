import static org.junit.jupiter.api.Assertions.fail;

import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A program that may still run. */
final class Running {
    private static final long MAX_SECONDS = 240;

    /** Where its standard output goes. */
    final Path out;
    private final Process process;
    private final List<String> line;
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
        return Program.read(err);
    }

    /** Sends the signal, such as TERM, to the program alone. */
    void signal(String name) {
        Program.signal(pid(), name);
    }

    Running awaitErr(String text) {
        Program.await("stderr has '" + text + "'", () -> err().contains(text));
        return this;
    }

    /** Sends SIGKILL to the program alone, and waits for its death. */
    Result kill() {
        process.destroyForcibly();
        return result();
    }

    /** Waits for its end, at most four minutes. */
    Result result() {
        try {
            if (!process.waitFor(MAX_SECONDS, TimeUnit.SECONDS)) {
                process.descendants().forEach(ProcessHandle::destroyForcibly);
                process.destroyForcibly();
                fail("still runs after " + MAX_SECONDS + " s: " + this);
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        return new Result(this, process.exitValue(), Program.read(out), err());
    }

    @Override
    public String toString() {
        List<String> shown = line.subList(line.contains("-cp") ? line.indexOf("-cp") + 2 : 0, line.size());
        return String.join(" ", shown) + "\nstdout: " + Program.read(out) + "\nstderr: " + err();
    }
}
