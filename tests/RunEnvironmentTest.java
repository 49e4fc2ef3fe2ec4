import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;

/** Where and with what taskrunner may be started: streams, limits, working directory, the JVM's own variables. */
class RunEnvironmentTest extends TaskTest {
    private static final String[] JVM_VARIABLES = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"};

    @Test
    void noLineIsLostOnAStderrThatIsNonBlockingAndFull() {
        // perl makes the pipe non-blocking and small, since a reader that comes late finds it full
        String perl = "pipe(R, W); use Fcntl; fcntl(W, 1031, 4096);"
            + " fcntl(W, F_SETFL, fcntl(W, F_GETFL, 0) | O_NONBLOCK);"
            + " if (!fork) { open(STDERR, '>&', W); close(W); close(R); exec(@ARGV) } close(W);"
            + " sleep 2; print while <R>; wait; exit($? >> 8)";
        String out = task.request("seq 1 20000; exit 3", "--quiet").under("perl", "-e", perl).run().exitedWith(3).out();
        String[] lines = out.split("\n");
        assertEquals(20_002, lines.length, out.substring(0, Math.min(300, out.length())));
        assertEquals("20000", lines[20_000]);
        assertTrue(lines[20_001].contains("command failed with status 3"), lines[20_001]);
    }

    @AlsoWithoutProc
    void closedAndFullStreamsChangeNothingElse() {
        for (String streams : List.of("<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-",
            ">/dev/full", "2>/dev/full")) {
            task.request("cat; cp " + task.lock + " record; exit 5").underShell("exec \"$@\" " + streams).run()
                .exitedWith(5);
            String record = Program.read(directory.resolve("record"));
            assertTrue(record.startsWith("taskrunner-lock 1\n") && !record.contains("running"), streams + ": "
                + record);
            task.assertFree();
        }
    }

    @Test
    void theWorkingDirectoryMayBeUnreadableOrBeyondReach() throws IOException {
        Path beyond = Files.createDirectories(directory.resolve("beyond"));
        Path working = Files.createDirectories(beyond.resolve("working"));
        shell("chmod 777 beyond/working");
        Program request = task.request("pwd -P; : > made").in(working).asNobody();
        shell("chmod 700 beyond");
        request.run().exitedWith(0).outIs(working.toRealPath() + "\n");
        shell("chmod 755 beyond; chmod 311 beyond/working");
        task.request("pwd -P").in(working).asNobody().run().exitedWith(0).outIs(working.toRealPath() + "\n");
        assertTrue(Files.exists(working.resolve("made")));
        task.assertFree();
    }

    @Test
    void theWorkingDirectoryMayBeRenamedWhileARequestWaits() throws IOException {
        Path working = Files.createDirectory(directory.resolve("working"));
        Running holder = task.hold();
        Running waiting = task.request("pwd -P; : > made", "--wait", "1h", "--verbose").in(working).start();
        waiting.awaitErr("waiting for up to ");
        Files.move(working, directory.resolve("renamed"));
        task.finish(holder);
        waiting.result().exitedWith(0).outIs(directory.toRealPath() + "/renamed\n");
        assertTrue(Files.exists(directory.resolve("renamed").resolve("made")));
    }

    @Test
    void itStartsWithOneGigabyteOfAddresses() {
        task.request("ulimit -v").underShell("ulimit -v 1000000; exec \"$@\"").run().exitedWith(0).outIs("1000000\n");
    }

    @Test
    void quietOutputHasNoNameWhileTheCommandRunsAndLiesInTmpdir() throws IOException {
        Path temporary = Files.createDirectory(directory.resolve("temporary"));
        String err = task.request("ls -A temporary; readlink /proc/self/fd/1; exit 3", "--quiet")
            .env("TMPDIR", temporary.toString()).run()
            .exitedWith(3).err();
        assertTrue(err.contains("\n" + temporary + "/taskrunner-") && err.contains(".out (deleted)\n"), err);
        assertFalse(err.contains("\ntaskrunner-"), err);
    }

    @Test
    void theLaunchersJvmDoesNotObeyWhatIsMeantForTheCommands() throws IOException {
        Path launcher = launcher();
        String values = "for n in " + String.join(" ", JVM_VARIABLES)
            + "; do eval \"echo \\\"$n=\\$$n\\\"\"; done; env | grep -c TASKRUNNER_J; echo $name";
        Program request = new Program(directory, launcher.toString(), "--command", values).with(task.options())
            .env("name", "exported")
            .env("JAVA_TOOL_OPTIONS", "-Dname=\u00fc -Xmx1k \"q\" 'p'").env("_JAVA_OPTIONS", "")
            .env("JDK_JAVA_OPTIONS", "-no-such-option")
            .env("LC_ALL", "C");
        Result result = request.run().exitedWith(0);
        result.errHasNo("Picked up").errHasNo("-no-such-option");
        assertEquals("JAVA_TOOL_OPTIONS=-Dname=\u00fc -Xmx1k \"q\" 'p'\n_JAVA_OPTIONS=\n"
            + "JDK_JAVA_OPTIONS=-no-such-option\n0\nexported\n",
            result.out());
    }

    @Test
    void aCommandThatFindsTooFewDescriptorsIsToldInOneLine() {
        boolean told = false;
        for (int descriptors = 7; descriptors < 15; descriptors++) {
            Result result = task.markingRequest().underShell("ulimit -n " + descriptors + "; exec \"$@\"").run();
            if (result.status() == 126) {
                result.errHasNo("JDK").errHasNo("Possible").errHasNo("\\n");
                told |= result.err().contains(": too many open files; the lock was released\n");
                task.assertDidNotRun();
            }
            task.assertFree();
        }
        assertTrue(told, "no command lacked descriptors");
    }

    @Test
    void theLauncherSaysThatTheWorkingDirectoryWasRemoved() throws IOException {
        String launcher = launcher().toString();
        for (String back : List.of("", "mkdir ../gone; ")) {
            launched(launcher).underShell("mkdir gone; cd gone; rmdir ../gone; " + back + "\"$@\"; status=$?; cd ..;"
                + " rm -rf gone; exit $status").run().exitedWith(126)
                .errContains("taskrunner: the working directory was removed; cd to one that is there\n");
        }
        task.assertDidNotRun();
        launched(launcher).env("PWD", "/nowhere").run().exitedWith(0);
        launched(launcher).underShell("unset PWD; exec \"$@\"").run().exitedWith(0);
        task.assertRan();
    }

    private Program launched(String launcher) {
        return new Program(directory, launcher, "--command", task.mark()).with(task.options());
    }

    /** The launcher as {@code install} writes it, without the archive. */
    private Path launcher() throws IOException {
        Path bin = directory.resolve("bin");
        taskrunner("install", "--bin", bin.toString()).run().exitedWith(0);
        return bin.resolve("taskrunner");
    }
}
