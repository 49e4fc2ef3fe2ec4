import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HarnessTest {
    @Test
    void aProgramSeesNothingOfTheEnvironmentOfTheTests(@TempDir Path folder) {
        Program.Task task = new Program.Task(folder);
        Program.Result result = task.request("env").env("ONE", "1").run().exitedWith(0);
        List<String> names = Arrays.stream(result.out().split("\n")).map(line -> line.replaceAll("=.*", "")).sorted().toList();
        assertEquals(List.of("HOME", "LC_ALL", "ONE", "PATH", "PWD", "TASKRUNNER_LOCKFILE", "TASKRUNNER_RUN_ID", "TMPDIR"), names);
        assertTrue(result.out().contains("HOME=" + folder));
    }

    @Test
    void aFailedExpectationShowsTheWholeProgram(@TempDir Path folder) {
        Program.Result result = new Program.Task(folder).request("echo out; echo err >&2").run();
        AssertionError error = org.junit.jupiter.api.Assertions.assertThrows(AssertionError.class, () -> result.exitedWith(9));
        assertTrue(error.getMessage().contains("--command echo out") && error.getMessage().contains("stderr: "), error.getMessage());
    }
}
