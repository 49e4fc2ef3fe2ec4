import java.nio.file.Path;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;

/** A test with a directory and a task of its own, after which none of its processes lives on. */
abstract class TaskTest {
    @TempDir
    Path directory;
    TestTask task;

    @BeforeEach
    final void makeTask() {
        task = new TestTask(directory);
    }

    @AfterEach
    final void killWhatIsLeft() {
        Program.killProcessesOf(directory);
    }

    final Program taskrunner(String... arguments) {
        return Program.taskrunner(directory, arguments);
    }

    /** Runs a shell's script in the test's directory, which must succeed. */
    final Result shell(String script, String... arguments) {
        return Program.shell(directory, script, arguments).run().exitedWith(0);
    }
}
