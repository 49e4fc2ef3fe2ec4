import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class SignalTest extends TaskTest {
    private static final AtomicInteger NUMBER = new AtomicInteger(100);

    /** In the command line of every process of this test's command. */
    private final String mark = "1000." + ProcessHandle.current().pid() + NUMBER.incrementAndGet();
    private final String sleep = "sleep " + mark;
    @AfterEach
    void killMarked() {
        for (long pid : Program.processesWith(mark)) {
            ProcessHandle.of(pid).ifPresent(ProcessHandle::destroyForcibly);
        }
    }

    /** A child, a grandchild, one in a session of its own, a double fork, and all of it; then the shell waits. */
    private String tree() {
        return sleep + " & (" + sleep + " & wait) & setsid " + sleep + " & ( (" + sleep + " &) & ) ; (setsid sh -c '"
            + sleep + " & " + sleep + " & ' &) ; " + task.markStart() + "; wait; " + sleep;
    }

    @Test
    void wholeTreeIsTerminatedAndTheLockReleased() throws IOException {
        for (List<String> signal : List.of(List.of("TERM", "143"), List.of("INT", "130"), List.of("HUP", "129"))) {
            Running running = task.start(task.request(tree()).under("env", "--default-signal"));
            Program.await("the whole tree runs", () -> Program.processesWith(sleep).size() >= 6);
            running.signal(signal.get(0));
            running.result().exitedWith(Integer.parseInt(signal.get(1)))
                .errContains("WARN").errContains("stopped by SIG" + signal.get(0) + " after ")
                .errContains("all processes of the command are gone");
            assertEquals(List.of(), Program.processesWith(mark));
            task.assertFree();
        }
    }

    @AlsoWithoutProc
    void commandMayCleanUp() throws IOException {
        Running running = task.start(task.request("trap 'echo cleaned up; exit 0' TERM; " + task.markStart()
            + "; while :; do sleep 0.05; done"));
        running.signal("TERM");
        running.result().exitedWith(143).outIs("cleaned up\n");
        task.assertFree();
    }

    @AlsoWithoutProc
    void ignoringTermIsKilledAfterKillAfter() throws IOException {
        String stubborn = "trap '' TERM; " + sleep + " & setsid " + sleep
            + " & " + task.markStart() + "; while :; do sleep 0.1; done; : " + mark;
        Running running = task.start(task.request(stubborn, "--kill-after", "1"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
        task.request(stubborn, "--kill-after", "1", "--timeout", "1").run().exitedWith(124)
            .errContains("command timed out after 1s (--timeout)");
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
    }

    @Test
    void wholeTreeIsTerminatedAfterATimeout() {
        task.request(tree(), "--timeout", "1", "--kill-after", "1h").run().exitedWith(124);
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
    }

    @Test
    void signalOverridesATimeout() throws IOException {
        Running running = task.hold(task.request("trap '' TERM; " + task.markStart()
            + "; while :; do sleep 0.05; done # "
            + mark, "--timeout", "1s",
            "--kill-after", "50s"));
        Program.sleep(1500);
        running.signal("TERM");
        Program.sleep(200);
        running.signal("TERM");
        running.result().exitedWith(143);
        task.assertFree();
    }

    @AlsoWithoutProc
    void secondSignalKillsAtOnce() throws IOException {
        Running running = task.start(task.request("trap '' TERM; " + task.markStart()
            + "; while :; do sleep 0.1; done; : "
            + mark, "--kill-after", "1h"));
        running.signal("TERM");
        Program.sleep(500);
        assertTrue(running.alive(), "the first signal waits");
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
    }

    @AlsoWithoutProc
    void signalStopsAWaitingRequest() {
        Running holder = task.hold();
        Running waiting = task.markingRequest("--wait", "1h", "--verbose").start();
        waiting.awaitErr("waiting for up to ");
        Program.sleep(300);
        waiting.signal("TERM");
        waiting.result().exitedWith(143).errContains("stopped by SIGTERM before the command started: " + task.mark());
        assertEquals(0, task.count());
        assertTrue(holder.alive() && Files.exists(task.lock));
        task.finish(holder);
        task.assertDidNotRun();
    }

    @Test
    void timeoutZeroIsNoLimit() {
        task.request("sleep 0.5; echo done", "--timeout", "0").run().exitedWith(0).outIs("done\n");
    }

    @Test
    void backgroundProcessLivesOn() {
        task.request(sleep + " & echo left").run().exitedWith(0).outIs("left\n");
        task.assertFree();
        assertEquals(1, Program.processesWith(sleep).size());
        task.request("echo next").run().exitedWith(0).outIs("next\n");
        assertEquals(1, Program.processesWith(sleep).size());
    }

    @Test
    void hangupIsIgnoredUnderNohup() throws IOException {
        Running running = task.hold(task.request(task.untilFinish()).under("nohup"));
        running.signal("HUP");
        Program.sleep(500);
        assertTrue(running.alive());
        task.finish(running);
    }

    @Test
    void controlCAtATerminal() throws IOException {
        Path job = Files.writeString(directory.resolve("job"),
            "#!/bin/sh\ntest -t 0 && test -t 1 && : < /dev/tty && touch terminal\n" + tree() + "\n");
        Files.setPosixFilePermissions(job, PosixFilePermissions.fromString("rwxr-xr-x"));
        Result result = task.request(job.toString()).under("env", "--default-signal", "sh", "-c",
            "{ until [ -e started ]; do sleep 0.1; done; printf '\\003'; until [ -e ended ]; do sleep 0.1; done; }"
                + " | { script -qec \"$*\" /dev/null; status=$?; touch ended; exit $status; }", "sh").run();
        result.exitedWith(130).outContains("^C").outContains("stopped by SIGINT");
        assertTrue(Files.exists(directory.resolve("terminal")), "the command has the terminal");
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
    }

    @AlsoWithoutProc
    void nestedRunIsTerminatedWithTheOuterOne() throws IOException {
        TestTask inner = new TestTask(Files.createDirectory(directory.resolve("inner")));
        Files.createDirectories(inner.directory.resolve("tmp"));
        String nested = inner.request("setsid " + sleep + " & " + task.markStart() + "; wait").shellCommand();
        Running running = task.start(task.request("setsid " + nested + " & wait"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of(), Program.processesWith(mark));
        task.assertFree();
        inner.assertFree();
    }

    @AlsoWithoutProc
    void lockStaysWhileAProcessCannotBeKilled() throws IOException {
        assertUnkillable(task.request(unkillable(), "--timeout", "2", "--kill-after", "1").asNobody().start());
    }

    @Test
    void signalDoesNotWaitForeverForAnUnkillableCommand() throws IOException {
        Running running = task.request(unkillable(), "--kill-after", "1").asNobody().start();
        Program.await("the command runs", () -> rootsSleep().size() == 1);
        running.signal("TERM");
        assertUnkillable(running);
    }

    /** A command that becomes root's, so that the user nobody may not signal it. */
    private String unkillable() throws IOException {
        Path setuid = directory.resolve("become");
        shell("cp \"$(command -v setpriv)\" become && chmod 4755 become");
        return "exec " + setuid + " --reuid=0 --regid=0 --clear-groups " + sleep;
    }

    private List<Long> rootsSleep() {
        return Program.processesWith(sleep).stream().filter(pid -> {
            try {
                return Files.readString(Path.of("/proc/" + pid + "/comm")).equals("sleep\n");
            } catch (IOException e) {
                return false;
            }
        }).toList();
    }

    private void assertUnkillable(Running running) {
        Result result = running.result().exitedWith(74);
        assertEquals(1, rootsSleep().size());
        long pid = rootsSleep().get(0);
        result.errContains("cannot kill pid " + pid + " (it belongs to root: EPERM); lock file " + task.lock
            + " is kept");
        assertTrue(Files.exists(task.lock));
        task.status().asNobody().run().exitedWith(21).outContains("orphaned").outContains("pid " + pid);
        task.markingRequest().asNobody().run().exitedWith(0).errContains("orphaned").errContains("contention 1");
        task.assertDidNotRun();
    }
}
