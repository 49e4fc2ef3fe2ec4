import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;

import org.junit.jupiter.api.Test;

class HarnessTest extends TaskTest {
    @Test
    void programSeesNothingOfTheTestsEnvironment() {
        Result result = task.request("env").env("ONE", "1").run().exitedWith(0);
        List<String> names = Arrays.stream(result.out().split("\n")).map(line -> line.replaceAll("=.*", "")).sorted()
            .toList();
        assertEquals(List.of("HOME", "LC_ALL", "ONE", "PATH", "PWD", "TASKRUNNER_LOCKFILE", "TASKRUNNER_RUN_ID",
            "TMPDIR"), names);
        assertTrue(result.out().contains("HOME=" + directory));
    }

    @Test
    void failedExpectationShowsTheWholeProgram() {
        Result result = task.request("echo out; echo err >&2").run();
        AssertionError error = org.junit.jupiter.api.Assertions.assertThrows(AssertionError.class,
            () -> result.exitedWith(9));
        assertTrue(error.getMessage().contains("--command echo out") && error.getMessage().contains("stderr: "),
            error.getMessage());
    }
}
