import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import org.junit.jupiter.api.Test;

/**
 * Who is sent which signal when a run is stopped, and what of it is told. Commands write what they get to a file
 * "got".
 */
class StopTest extends TaskTest {
    /** A loop that ends by itself only after minutes; a trap of the shell runs within 50 ms. */
    private static final String LOOP = "i=0; while [ $i -lt 4000 ]; do sleep 0.05; i=$((i+1)); done";

    /** Waits until the file got has it, and then for half a second in which it may come again. */
    private static String untilGot(String text) {
        return "until grep -qs '^" + text + "' got; do sleep 0.05; done;"
            + " i=0; while [ $i -lt 10 ]; do sleep 0.05; i=$((i+1)); done";
    }

    private static String note(String signals) {
        StringBuilder traps = new StringBuilder();
        for (String signal : signals.split(" ")) {
            traps.append("trap 'echo ").append(signal).append(" >> got' ").append(signal).append("; ");
        }
        return traps.toString();
    }

    /** A script of the test's, for a command that needs quotes of its own. */
    private String script(String name, String text) throws IOException {
        return "sh " + Files.writeString(directory.resolve(name), text + "\n");
    }

    private List<String> got() throws IOException {
        Path got = directory.resolve("got");
        return Files.exists(got) ? Files.readAllLines(got) : List.of();
    }

    /** Nothing of the command lives, and the lock is free. */
    private void assertGone() {
        Program.await("nothing of the run lives", () -> Program.processesOf(directory).isEmpty());
        task.assertFree();
    }

    @Test
    void aRunThatCannotBeLookedAtKeepsTheLock() {
        Running holder = task.hold("--kill-after", "0s");
        shell("prlimit --pid " + holder.pid() + " --nofile=3");
        holder.signal("TERM");
        holder.result().exitedWith(74).errContains(" (it cannot be looked at: ")
            .errHasNo("Exception");
        task.status().run().exitedWith(21).outContains(" is orphaned: ");
        task.finishOrphan();
        task.markingRequest().run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }

    @Test
    void whatIsStartedInOrderToEndIsNotSentSigterm() throws IOException {
        String cleanup = script("cleanup",
            "trap 'echo TERM >> got' TERM; sleep 1; (sleep 0.3; echo below >> got); echo cleaned >> got");
        Running running = task.start(task.request("trap '" + cleanup + "; exit 0' TERM; touch started; " + LOOP));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of("below", "cleaned"), got());
        assertGone();
    }

    @AlsoWithoutProc
    void whatIsStartedInOrderToEndIsKilledWithTheRest() throws IOException {
        Running running = task.start(task.request("trap 'sleep 300' TERM; touch started; " + LOOP, "--kill-after",
            "1"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertGone();
    }

    @Test
    void whatWasForkedInTheInstantBeforeIsSignalled() throws IOException {
        // the signal comes in the middle of it; --kill-after would keep the test waiting for its minute
        Running running = task.start(task.request("touch started; i=0; while [ $i -lt 300 ]; do sleep 300 &"
            + " i=$((i+1)); done; wait",
            "--kill-after", "1h"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertGone();
    }

    @AlsoWithoutProc
    void eachProcessIsSignalledOnce() throws IOException {
        String child = script("child", note("TERM") + "touch started; " + untilGot("TERM"));
        Running running = task.start(task.request("trap : TERM; setsid " + child + " & wait; wait"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of("TERM"), got());
        assertGone();
    }

    @Test
    void aSignalThatComesTwiceAtOnceAsFromTimeoutIsOne() throws IOException {
        Running running = task.start(task.request("trap 'sleep 0.5; echo cleaned >> got; exit 0' TERM; touch started; "
            + LOOP)
            .under("timeout", "1h"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of("cleaned"), got());
        assertGone();
    }

    @Test
    void aNestedTaskrunnerStopsItsOwnRun() throws IOException {
        TestTask inner = new TestTask(Files.createDirectory(directory.resolve("inner")));
        Files.createDirectory(inner.directory.resolve("tmp"));
        String daemon = script("daemon", "trap 'echo daemon TERM >> got' TERM; touch daemon-started; "
            + untilGot("daemon"));
        String command = script("command", note("TERM") + "(setsid " + daemon + " &);"
            + " until [ -e daemon-started ]; do sleep 0.05; done; touch started; " + untilGot("TERM"));
        Running running = task.start(task.request(inner.request(command).shellCommand()));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertEquals(List.of("TERM", "daemon TERM"), got().stream().sorted().toList());
        assertGone();
        inner.assertFree();
    }

    @Test
    void aNestedTaskrunnerIsKilledWithItsRunAfterKillAfter() throws IOException {
        TestTask inner = new TestTask(Files.createDirectory(directory.resolve("inner")));
        Files.createDirectory(inner.directory.resolve("tmp"));
        String nested = inner.request("trap '' TERM; touch started; setsid sleep 300 & " + LOOP, "--kill-after", "1h")
            .shellCommand();
        Running running = task.start(task.request(nested, "--kill-after", "1"));
        running.signal("TERM");
        running.result().exitedWith(143);
        assertGone();
    }

    @Test
    void aSignalThatEndsAProcessStopsTheRunAsTermDoes() throws IOException {
        for (List<String> signal : List.of(List.of("ALRM", "142"), List.of("XCPU", "152"), List.of("PROF", "155"),
            List.of("VTALRM", "154"),
            List.of("POLL", "157"), List.of("PWR", "158"), List.of("SYS", "159"), List.of("ABRT", "134"))) {
            Running running = task.start(task.request(note("TERM") + "touch started; setsid sleep 300 & "
                + untilGot("TERM"))
                .under("env", "--default-signal"));
            running.signal(signal.get(0));
            running.result().exitedWith(Integer.parseInt(signal.get(1))).errContains("stopped by SIG" + signal.get(0));
            assertEquals(List.of("TERM"), got());
            Files.delete(directory.resolve("got"));
            assertGone();
        }
    }

    @Test
    void otherSignalsGoToTheCommand() throws IOException {
        String all = "USR1 USR2 WINCH CONT";
        String below = script("below", note(all) + "touch started; " + LOOP);
        for (String command : List.of(note(all) + "touch started; " + LOOP, below + "; exit 1", "cd . && setsid "
            + below + " | cat")) {
            Running running = task.start(task.request(command).under("env", "--default-signal"));
            for (String signal : all.split(" ")) {
                running.signal(signal);
                Program.await("the command got " + signal, () -> Program.read(directory.resolve("got"))
                    .contains(signal));
            }
            running.signal("TERM");
            running.result().exitedWith(143);
            assertEquals(List.of(all.split(" ")), got());
            Files.delete(directory.resolve("got"));
            assertGone();
        }
    }

    @Test
    void anIgnoredSignalStaysIgnored() throws IOException {
        Running running = task.hold(task.request(task.untilFinish()).under("env", "--ignore-signal=USR1,ALRM,HUP"));
        for (String signal : List.of("USR1", "ALRM", "HUP")) {
            running.signal(signal);
        }
        String ignored = Program.read(Path.of("/proc/" + running.pid() + "/status"))
            .replaceAll("(?s).*\nSigIgn:\t(\\w+).*", "$1");
        assertEquals((1 << 9) + (1 << 13) + 1, Long.parseLong(ignored, 16) & ((1 << 9) + (1 << 13) + 1));
        task.finish(running);
    }

    @Test
    void whatAShellLeavesThatSomebodyKilledIsTerminated() throws IOException {
        String child = script("child", note("TERM") + "touch started; " + untilGot("TERM"));
        Running running = task.start(task.request("echo $$ > shell; setsid " + child + " & sleep 300 & wait"));
        long shell = Long.parseLong(Program.read(directory.resolve("shell")).strip());
        Program.signal(shell, "KILL");
        running.result().exitedWith(137).errContains("WARN")
            .errContains("the command was killed by SIGKILL; terminating what is left of it: pids ");
        assertEquals(List.of("TERM"), got());
        assertGone();
    }

    @Test
    void whatMayBeOfTheRunAndCannotBeToldKeepsTheLock() throws IOException {
        shell("cp \"$(command -v setpriv)\" become && chmod 4755 become");
        assertKeptFor("./become --reuid=0 --regid=0 --clear-groups sh -c 'echo $$ > left; exec sleep 300'",
            "it may be of the run, and belongs to root");
        // nobody may see the memory of what runs a program that it may not read, see ptrace(2)
        shell("cp \"$(command -v sleep)\" unreadable && chmod 711 unreadable; rm left started task.lock");
        assertKeptFor("sh -c 'echo $$ > left; exec ./unreadable 300'",
            "it may be of the run: its environment cannot be read");
    }

    /** What the command leaves in another session keeps the lock. */
    private void assertKeptFor(String left, String why) throws IOException {
        Running running = task.start(task.request("(setsid " + left + " &); until [ -s left ]; do sleep 0.05; done;"
            + " touch started; sleep 300").asNobody());
        running.signal("TERM");
        String pid = Program.read(directory.resolve("left")).strip();
        running.result().exitedWith(74).errContains("pid " + pid + " (" + why + ")")
            .errContains("lock file " + task.lock + " is kept");
        assertTrue(Files.exists(task.lock));
        Program.signal(Long.parseLong(pid), "KILL");
    }

    @Test
    void theOutOfMemoryKillerIsNamed() throws IOException {
        // the kernel's own file, as a directory of the test's in its place
        String mount = "c=$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir -p cg\"$c\";"
            + " echo 'oom 0\noom_kill 3\noom_group_kill 0' > cg\"$c\"/memory.events;"
            + " mount --bind cg /sys/fs/cgroup; export EVENTS=/sys/fs/cgroup$c/memory.events; exec \"$@\"";
        task.request("sleep 1; echo 'oom 1\noom_kill 4\noom_group_kill 0' > $EVENTS; kill -KILL $$")
            .under("unshare", "-m").underShell(mount).run()
            .exitedWith(137).errContains("(killed by SIGKILL from the kernel's OOM killer: out of memory)");
        task.request("kill -KILL $$").under("unshare", "-m").underShell(mount).run().exitedWith(137)
            .errContains("(killed by SIGKILL)");
    }

    @Test
    void aShellsStatusThatTheCommandCannotBeExecutedIsSaid() {
        task.request("/etc/passwd").run().exitedWith(126)
            .errContains("command failed with status 126 (found, but it cannot be executed)");
        task.request("no-such-command").run().exitedWith(127).errContains("command failed with status 127 (not found)");
    }

    @AlsoWithoutProc
    void aRequestInsideTheRunThatHoldsTheLockDoesNotWaitForItself() {
        String nested = task.request("true", "--wait", "1h").shellCommand();
        task.request("env " + nested + "; echo inner $?").run().exitedWith(0).outIs("inner 0\n")
            .errContains("this request runs inside that run and cannot wait for its end; contention 1");
        task.assertFree();
    }

    @Test
    void theOuterRunIdsStayBounded() {
        String outers = "20260101T000000000Z-1-abcdef ".repeat(500).strip();
        String[] out = task.request("echo \"$TASKRUNNER_OUTER_RUN_IDS\"").env("TASKRUNNER_RUN_ID", "the-last-one")
            .env("TASKRUNNER_OUTER_RUN_IDS", outers).run().exitedWith(0).out().strip().split(" ");
        assertEquals("the-last-one", out[out.length - 1]);
        assertEquals("20260101T000000000Z-1-abcdef", out[0]);
        assertTrue(out.length > 30 && out.length < 100, out.length + " ids");
    }

    @Test
    void nothingLivesOfACommandForWhichTheJvmHasNoThread() throws IOException {
        // at one of these limits the fork succeeds and the JDK's thread that waits for the child does not start
        boolean seen = false;
        for (int limit = 8; limit < 40 && !seen; limit++) {
            Program request = task.request("touch " + directory + "/ran; sleep 300; true").asUser(47_110)
                .under("prlimit", "--nproc=" + limit);
            Result result = request.run();
            seen = result.err().contains("unable to create native thread: possibly out of memory"
                + " or process/resource limits reached; the lock");
            if (seen) {
                result.exitedWith(126);
            }
            assertFalse(result.status() == 143, "it ran");
            Program.await("nothing of the run lives", () -> Program.processesOf(directory).isEmpty());
            if (result.status() == 1 || result.status() == 134
                || result.status() == 74 && result.err().contains("(it may be of the run, and belongs to root)")) {
                // the JVM ended itself, for want of a thread of its own, before or after it logged: as after kill -9;
                // or it met a process of another test that it cannot tell from a child of the run that became root
                Files.deleteIfExists(task.lock);
            } else {
                assertFalse(Files.exists(task.lock), "limit " + limit + ": " + result);
            }
        }
        assertTrue(seen, "no limit met the case");
    }

    @Test
    void asProcessOneItReapsWhatIsReparentedToIt() throws IOException {
        String orphans = script("orphans",
            "for i in 1 2 3; do (sleep 0.1 & exec true); done; (sh -c 'sleep 0.2; exit 7' &); sleep 0.3\n"
            + "n=0; while ps -eo ppid=,stat= | grep -q '^ *1 Z' && [ $n -lt 200 ]; do sleep 0.05; n=$((n+1)); done\n"
            + "ps -eo ppid=,stat= | grep '^ *1 Z'; exit 9");
        task.request(orphans).under("unshare", "--pid", "--fork", "--mount-proc").run().exitedWith(9).outIs("");
        task.assertFree();
    }

    @Test
    void asProcessOneItStopsTheRun() throws IOException {
        Running running = task.start(task.request("sleep 300 & setsid sleep 300 & touch started; wait")
            .under("unshare", "--pid", "--fork",
            "--mount-proc", "--kill-child"));
        Program.signal(ProcessHandle.of(running.pid()).orElseThrow().children().findFirst().orElseThrow()
            .pid(), "TERM");
        running.result().exitedWith(143).errContains("taskrunner[1]").errContains("stopped by SIGTERM");
        assertGone();
    }

    // At a terminal: script(1) gives one to the program and passes on what is typed

    /** @param typed shell commands whose output is typed once the command runs */
    private Result atTerminal(Program request, String typed) throws IOException {
        Files.writeString(directory.resolve("terminal"), "exec " + request.shellCommand() + "\n");
        return Program.shell(directory, "rm -f started ended got; { until [ -e started ]; do sleep 0.05; done; " + typed
            + "; until [ -e ended ]; do sleep 0.05; done; } | { script -qec 'sh terminal' /dev/null; status=$?; "
            + "touch ended; exit $status; }")
            .under("env", "--default-signal").run();
    }

    @Test
    void whatTheTerminalHasSignalledIsNotSentSigtermToo() throws IOException {
        String job = script("job", note("INT TERM") + "until [ -e other-started ]; do sleep 0.05; done; touch started; "
            + untilGot("INT") + "; echo end >> got");
        String other = script("other", "trap 'echo own TERM >> got; exit' TERM; touch other-started; " + LOOP);
        atTerminal(task.request("setsid " + other + " & exec " + job), "printf '\\003'").exitedWith(130);
        assertEquals(List.of("INT", "end", "own TERM"), got().stream().sorted().toList());
        assertGone();
    }

    @Test
    void atATerminalKillAfterAndASecondControlCKill() throws IOException {
        String job = script("job", note("INT TERM") + "touch started; " + LOOP);
        atTerminal(task.request(job, "--kill-after", "1"), "printf '\\003'").exitedWith(130);
        assertEquals(List.of("INT"), got());
        assertGone();
        atTerminal(task.request(job, "--kill-after", "1h"), "while ! [ -e ended ]; do printf '\\003'; sleep 0.5; done")
            .exitedWith(130);
        assertGone();
    }

    @Test
    void aThreadDumpGoesToStderr() throws IOException {
        Running running = task.hold();
        running.signal("QUIT");
        running.awaitErr("Full thread dump");
        task.finish(running).outIs("");
    }
}
