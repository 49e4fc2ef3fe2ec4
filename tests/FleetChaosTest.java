//SOURCES FleetChaos.java

import java.nio.file.Path;
import java.time.Duration;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Four hosts and five tasks under random faults; {@code tests/fleetbench.java SECONDS} does the same for longer. */
@Execution(ExecutionMode.CONCURRENT)
class FleetChaosTest {
    private static final Duration DURATION = Duration.ofSeconds(40);

    @TempDir
    Path directory;

    @Test
    void noTwoCommandsRunAtATimeUnderRandomFaults() throws Exception {
        run(directory, DURATION);
    }

    static void run(Path directory, Duration duration) throws Exception {
        try (FleetNet net = new FleetNet()) {
            FleetNet.Server server = net.server("db");
            FleetTest.prepare(server, directory, "12 s");
            FleetChaos chaos = new FleetChaos(net, server, 4, 5, directory);
            chaos.run(duration);
            chaos.check();
        }
    }
}
