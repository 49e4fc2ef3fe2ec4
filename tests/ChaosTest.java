//SOURCES TaskChaos.java

import java.nio.file.Path;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Requests under random faults; {@code tests/chaos.java REQUESTS [SEED]} makes more of them, or the same again. */
class ChaosTest {
    private static final int REQUESTS = 200;

    @TempDir
    Path directory;

    @Test
    void randomFaultsBreakNothing() throws Exception {
        System.out.println(run(directory, REQUESTS, System.nanoTime() % 1_000_000));
    }

    static String run(Path directory, int requests, long seed) throws Exception {
        try (TaskChaos chaos = new TaskChaos(directory, seed)) {
            chaos.run(requests);
            return chaos.check();
        }
    }
}
