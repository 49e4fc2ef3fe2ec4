import java.io.IOException;
import java.nio.file.Files;

import org.junit.jupiter.api.Test;

/**
 * {@code status --nagios}: one line on stdout, performance data, and a status from 0 to 3, by the plugins'
 * guidelines.
 */
class NagiosTest extends TaskTest {
    private Result check(String... more) {
        return task.status("--nagios").with(more).run();
    }

    @Test
    void eachStateHasItsStatusAndItsLine() throws IOException {
        String[] counter = {"--threshold", "1", "--counter-file", task.counter.toString()};
        check().exitedWith(0).outIs("TASKRUNNER OK - lock " + task.lock + " is free | held=0s;;;0\n").errIs("");
        check(counter).exitedWith(0).outIs("TASKRUNNER OK - lock " + task.lock
            + " is free; contentions 0, threshold 1 | held=0s;;;0 contentions=0;;1;0\n");
        Running holder = task.hold();
        Files.writeString(task.counter, "1\n");
        check(counter).exitedWith(0).outContains("TASKRUNNER OK - lock ").outContains(" is held by ")
            .outContains(" contentions=1;;1;0\n");
        Files.writeString(task.counter, "2\n");
        check(counter).exitedWith(2).outContains("TASKRUNNER CRITICAL - ")
            .outContains("; contentions 2, threshold 1 | held=")
            .outContains(" contentions=2;;1;0\n");
        holder.kill();
        check().exitedWith(1).outContains("TASKRUNNER WARNING - ").outContains(" is orphaned: ");
        task.finishOrphan();
        check().exitedWith(1).outContains("TASKRUNNER WARNING - ").outContains(" is stale: ");
        Files.writeString(task.lock, "");
        check().exitedWith(2).outContains("TASKRUNNER CRITICAL - ").outContains("it was not created by taskrunner")
            .errIs("");
    }

    @Test
    void errorsAreOneLineToo() throws IOException {
        Files.writeString(task.counter, "no | counter\n");
        check("--threshold", "1", "--counter-file", task.counter.toString()).exitedWith(3).errIs("")
            .outContains("TASKRUNNER UNKNOWN - counter file ").outContains("'no / counter'");
        taskrunner("status", "--nagios").run().exitedWith(3).outIs("TASKRUNNER UNKNOWN - missing --lockfile\n")
            .errIs("");
        taskrunner("status", "--nagios", "--lokfile", "x").run().exitedWith(3).errIs("")
            .outIs("TASKRUNNER UNKNOWN - unknown option --lokfile; did you mean --lockfile?\n");
        taskrunner("status", "--nagios", "--lockfile", directory + "/no/x").run().exitedWith(3).errIs("")
            .outContains("TASKRUNNER UNKNOWN - cannot read lock file ");
    }
}
