import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;

import org.junit.jupiter.api.Test;

/** What a request and {@code status} make of each kind of lock. Needs root, for other users and pid namespaces. */
class LockStateTest extends TaskTest {
    private static final String[] OWN_PID_NAMESPACE = {"unshare", "-pf", "--mount-proc", "--"};
    private static final int FREE = 0;
    private static final int HELD = 20;
    private static final int BLOCKED = 22;
    private static final int LEFT_BEHIND = 21;

    @Test
    void free() {
        assertStatus(FREE, "free", " is free");
        assertFalse(Files.exists(task.gate));
    }

    @AlsoWithoutProc
    void heldWhileTheHolderLives() throws Exception {
        Running holder = task.hold();
        assertContention(" is held by pid " + holder.pid() + " (root@");
        assertStatus(HELD, "held", " is held by pid " + holder.pid() + " (root@");
        assertTrue(holder.alive());
        task.finish(holder).errHasNo("WARN");
        task.assertFree();
    }

    @AlsoWithoutProc
    void copyOfALiveLockIsHeldWithoutItsFcntlLock() throws Exception {
        Running holder = task.hold();
        shell("cp task.lock copy && mv copy task.lock");
        String why = "whose fcntl lock is gone (was the lock file copied or restored?)";
        assertContention(" is held by pid " + holder.pid() + " ", why);
        assertStatus(HELD, "held", why);
        task.finish(holder).errContains("WARN").errContains("was removed or replaced while the command was running");
        assertTrue(Files.exists(task.lock), "the holder removed a lock file that is not its own");
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @AlsoWithoutProc
    void orphanedWhileTheCommandOfAKilledHolderLives() throws Exception {
        Running holder = task.hold();
        kill(holder);
        String state = " is orphaned: holder pid " + holder.pid() + " (root@";
        assertContention(state, " died, its command still runs: pid", "" + commandPid());
        assertStatus(LEFT_BEHIND, "orphaned", state);
        assertContention(state);
        task.finishOrphan();
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @Test
    void orphanedByGrandchildOutsideTheTree() throws Exception {
        Running holder = task.hold(task.request("setsid sh -c 'echo $$ > grandchild; " + task.untilFinish()
            + "' & exec sleep 60; : " + directory));
        kill(holder);
        long command = Long.parseLong(commandPid());
        Program.signal(command, "KILL");
        Program.awaitDeath(List.of(command));
        String grandchild = Program.read(directory.resolve("grandchild")).strip();
        assertContention(" is orphaned: ", "its command still runs: pid", grandchild);
        assertStatus(LEFT_BEHIND, "orphaned", " is orphaned: ");
        task.finishOrphan();
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @Test
    void orphanedByTheCommandOfANestedTaskrunner() throws Exception {
        TestTask inner = new TestTask(directory, directory.resolve("inner.lock"), directory.resolve("inner.count"));
        Running holder = task.hold(task.request(inner.request(task.untilFinish()).shellCommand() + "; :"));
        Program.await("the inner command is recorded", () -> Program.read(inner.lock).contains("\ncommand-start="));
        String innermost = inner.recorded("command-pid");
        kill(holder);
        List<Long> middle = List.of(Long.parseLong(commandPid()), Long.parseLong(inner.recorded("pid")));
        middle.forEach(pid -> Program.signal(pid, "KILL"));
        Program.awaitDeath(middle);
        assertContention(" is orphaned: ", "its command still runs: pid", innermost);
        assertStatus(LEFT_BEHIND, "orphaned", innermost);
        task.finishOrphan();
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @AlsoWithoutProc
    void staleLockIsRecoveredWithAWarning() throws Exception {
        Running holder = task.hold();
        assertContention(" is held by ");
        killAll(holder);
        assertStatus(LEFT_BEHIND, "stale", " is stale: holder pid " + holder.pid() + " (root@");
        assertEquals(1, task.count());
        assertRecovers("holder pid " + holder.pid() + " (root@");
        assertFalse(Files.exists(task.counter), "the counter was not cleared");
    }

    @Test
    void onStaleReportCountsAStaleLock() throws Exception {
        Running holder = task.hold();
        killAll(holder);
        for (int count = 1; count <= 3; count++) {
            assertContentionOf(task.markingRequest("--on-stale", "report"), " is stale: holder pid "
                + holder.pid() + " ", "contention " + count + ", threshold 2");
        }
        task.markingRequest("--on-stale", "report").run().exitedWith(75)
            .errContains("the next request without --on-stale report"
            + " recovers it");
        assertEquals(0, task.count());
        task.assertDidNotRun();
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @Test
    void lockOfAnEarlierBootIsStale() throws Exception {
        Running holder = task.hold();
        kill(holder);
        assertContention(" is orphaned: ");
        edit("boot", "00000000-0000-4000-8000-000000000000");
        edit("started", "2001-02-03T04:05:06.789Z");
        assertStatus(LEFT_BEHIND, "stale", "(the host was rebooted since)");
        assertRecovers("(the host was rebooted since)");
        task.finishOrphan();
    }

    @AlsoWithoutProc
    void lockOfAnotherHostIsUnknown() throws Exception {
        killAll(task.hold());
        edit("boot", "00000000-0000-4000-8000-000000000000");
        edit("host", "elsewhere");
        String state = "it was made on another machine";
        assertContention(state);
        assertStatus(BLOCKED, "unknown", state);
    }

    @Test
    void renamedHostKnowsItsLocks() throws Exception {
        killAll(task.hold());
        edit("host", "formerly");
        assertRecovers("@formerly)");
    }

    @Test
    void liveHolderInAnotherPidNamespaceIsHeld() throws Exception {
        Running holder = task.hold(task.request(task.untilFinish()).under(OWN_PID_NAMESPACE));
        assertContention(" is held by pid 1 (root@");
        assertStatus(HELD, "held", " is held by pid 1 (root@");
        task.finish(holder);
        task.assertFree();
    }

    @Test
    void holderKilledInAnotherPidNamespaceIsUnknown() throws Exception {
        Running holder = task.hold(task.request(task.untilFinish()).under(OWN_PID_NAMESPACE)
            .underShell("\"$@\"; exit $?"));
        Program.killProcessesOf(directory);
        assertNotEquals(0, holder.result().status());
        String state = ": it was made in another container (pid namespace)";
        assertContention(state);
        assertStatus(BLOCKED, "unknown", state);
    }

    @Test
    void liveHolderIsHeldSeenFromAnotherPidNamespace() throws Exception {
        Running holder = task.hold();
        assertContentionOf(task.markingRequest().under(OWN_PID_NAMESPACE), " is held by pid " + holder.pid() + " ");
        task.status().under(OWN_PID_NAMESPACE).run().exitedWith(HELD)
            .outContains(" is held by pid " + holder.pid() + " ");
        task.finish(holder);
        task.assertFree();
    }

    @Test
    void killedHolderIsUnknownFromAnotherPidNamespace() throws Exception {
        kill(task.hold());
        String state = ": it was made in another container (pid namespace)";
        assertContentionOf(task.markingRequest().under(OWN_PID_NAMESPACE), state);
        task.status().under(OWN_PID_NAMESPACE).run().exitedWith(BLOCKED).outContains(state);
        task.finishOrphan();
        // a process that is ending, its environment gone, may be any run's for a moment
        assertRecovers(task.markingRequest().with("--wait", "30s"), "holder pid ");
    }

    @AlsoWithoutProc
    void rootDoesNotRecoverAnotherUsersStaleLock() throws Exception {
        task.threshold = 0;
        killAll(task.hold(task.request(task.untilFinish()).asNobody()));
        task.threshold = 2;
        assertEquals("nobody", Files.getOwner(task.lock).getName());
        String state = ": its run is dead, but the file belongs to another user, nobody";
        assertContention(state);
        assertStatus(BLOCKED, "unknown", state);
    }

    @AlsoWithoutProc
    void rootsLockIsHeldForAnotherUser() throws Exception {
        Running holder = task.hold();
        assertEquals("rw-r--r--", PosixFilePermissions.toString(Files.getPosixFilePermissions(task.lock)));
        task.threshold = 0;
        assertContentionOf(task.markingRequest().asNobody(), " is held by pid " + holder.pid() + " (root@");
        task.status().asNobody().run().exitedWith(HELD).outContains(" is held by pid " + holder.pid() + " (root@");
        task.finish(holder);
        task.markingRequest().asNobody().run().exitedWith(0);
        task.assertRan();
        task.assertFree();
    }

    @Test
    void anotherUserDoesNotRecoverRootsStaleLock() throws Exception {
        killAll(task.hold());
        task.threshold = 0;
        assertContentionOf(task.markingRequest().asNobody(), " is in an unknown state: ");
        task.threshold = 2;
        assertRecovers("holder pid ");
    }

    @Test
    void commandIsTerminatedWhereProcHidesOtherUsers() throws Exception {
        task.request("sleep 60", "--timeout", "1s", "--kill-after", "2s")
            .under("unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c",
            "mount -o remount,hidepid=1 /proc && exec \"$@\"", "sh").asNobody().run().exitedWith(124);
        task.assertFree();
    }

    @Test
    void unreadableLockIsUnknown() throws Exception {
        Files.createFile(task.lock, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        task.threshold = 0;
        String state = " is in an unknown state: no permission to read it";
        assertContentionOf(task.markingRequest().asNobody(), state);
        task.status().asNobody().run().exitedWith(BLOCKED).outContains(state);
    }

    @Test
    void emptyFileBlocksTheTaskUntilItIsRemoved() throws Exception {
        Files.createFile(task.lock);
        String state = " blocks the task: it was not created by taskrunner (touch? flock?); see who made it: ls -l "
            + task.lock;
        assertContention(state);
        assertStatus(BLOCKED, "foreign", state);
        Files.delete(task.lock);
        task.markingRequest().run().exitedWith(0).errHasNo("WARN");
        task.assertRan();
    }

    @Test
    void fileWithOtherTextIsForeign() throws Exception {
        for (String text : List.of("4711\n", "taskrunner-lock 2\npid=1\n", "taskrunner-lock 1\nrun=x\npid=1\nstart=1\n",
            "taskrunner-lock 1\nrun=x\npid=one\nstart=1\nstarted=now\n", "\0\0\0\0")) {
            Files.writeString(task.lock, text);
            Files.deleteIfExists(task.counter);
            assertContention(" blocks the task: it was not created by taskrunner");
            assertStatus(BLOCKED, "foreign", " blocks the task: it was not created by taskrunner");
        }
    }

    @Test
    void leftoverTmpBlocksNothing() throws Exception {
        killAll(task.hold());
        String record = Program.read(task.lock);
        Files.delete(task.lock);
        for (String leftover : List.of("", "task", "taskrunner-lock 1\n", record.substring(0, record.length() / 2),
            record)) {
            Files.writeString(task.gate, leftover);
            assertStatus(FREE, "free", " is free");
            Files.writeString(task.gate, leftover);
            task.markingRequest().run().exitedWith(0).errHasNo("WARN");
            task.assertFree();
        }
    }

    @AlsoWithoutProc
    void leftoverTmpDoesNotBlockRecovery() throws Exception {
        Running holder = task.hold();
        killAll(holder);
        Files.writeString(task.gate, Program.read(task.lock));
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @AlsoWithoutProc
    void recoveredAfterACrashBetweenLinkAndUnlink() throws Exception {
        killAll(task.hold());
        Files.createLink(task.gate, task.lock);
        Running holder = task.hold();
        holder.awaitErr("recovered stale lock " + task.lock).awaitErr("(killed before the command started)");
        String state = " is held by pid " + holder.pid() + " ";
        task.markingRequest().run().exitedWith(0).errContains(state).errHasNo("fcntl lock");
        assertContention(state);
        task.finish(holder);
        task.assertFree();
    }

    @Test
    void tmpWithOtherContentIsLeftAloneAndAnError() throws Exception {
        for (String text : List.of("my notes\n", "taskrunner-lock 2\n", "x")) {
            Files.writeString(task.gate, text);
            task.markingRequest().run().exitedWith(73).errContains(task.gate + " exists and is not taskrunner's");
            assertEquals(text, Program.read(task.gate));
            assertFalse(Files.exists(task.lock) || Files.exists(task.counter));
            task.assertDidNotRun();
        }
    }

    @Test
    void tornLastLineOfARecordIsIgnored() throws Exception {
        Running holder = task.hold();
        String record = Program.read(task.lock);
        kill(holder);
        for (String torn : List.of(record.substring(0, record.indexOf("command-pid=") + 14),
            record.substring(0, record.length() - 1))) {
            Files.writeString(task.lock, torn);
            assertStatus(LEFT_BEHIND, "orphaned", TestTask.recorded(record, "command-pid"));
        }
        task.finishOrphan();
        assertRecovers("holder pid " + holder.pid() + " ");
    }

    @Test
    void recordWithoutAllFieldsIsForeign() throws Exception {
        killAll(task.hold());
        task.threshold = 10;
        for (String field : List.of("run", "pid", "start", "pid-namespace", "host", "boot", "user", "started")) {
            String record = Program.read(task.lock);
            Files.writeString(task.lock, record.replaceFirst("\n" + field + "=.*", ""));
            assertContention(" blocks the task: it was not created by taskrunner");
            Files.writeString(task.lock, record);
        }
    }

    @Test
    void controlCharactersDoNotReachTheTerminal() throws Exception {
        killAll(task.hold());
        for (String host : List.of("db1\u001b[31m", "db1\u202egnp.exe", "db1\u0085", "db1\t")) {
            edit("host", host);
            Files.deleteIfExists(task.counter);
            assertContention(" blocks the task: it was not created by taskrunner");
            assertStatus(BLOCKED, "foreign", " blocks the task: it was not created by taskrunner");
        }
    }

    @Test
    void withoutProcAKilledHoldersLockIsUnknown() throws Exception {
        kill(task.hold());
        // without /proc the loader does not find the JVM's libraries by itself
        String libraries = System.getProperty("java.home") + "/lib:" + System.getProperty("java.home") + "/lib/server";
        assertContentionOf(task.markingRequest().env("LD_LIBRARY_PATH", libraries)
            .under("unshare", "-m", "--", "sh", "-c",
            "mount -t tmpfs none /proc && exec \"$@\"", "sh"), " is in an unknown state: ");
        task.finishOrphan();
    }

    @Test
    void unreadableProcessIsNoProofOfAStaleLock() throws Exception {
        kill(task.hold());
        Path stat = Path.of("/proc", commandPid(), "stat");
        Program judging = task.markingRequest().under("strace", "-f", "-qq", "-o", "/dev/null", "-P", stat.toString(),
            "-e",
            "inject=open,openat:error=EMFILE");
        judging.run().exitedWith(0).errContains("its processes cannot be looked at: " + stat + " (Too many open files)")
            .errContains("contention 1, threshold 2");
        task.assertDidNotRun();
        task.finishOrphan();
    }

    @Test
    void reusedPidIsNotTheHolder() throws Exception {
        killAll(task.hold());
        long here = ProcessHandle.current().pid();
        String stat = Program.read(Path.of("/proc/self/stat"));
        long start = Long.parseLong(stat.substring(stat.lastIndexOf(')') + 2).split(" ")[19]);
        edit("pid", Long.toString(here));
        edit("start", Long.toString(start));
        assertContention(" is held by pid " + here + " ", "whose fcntl lock is gone");
        edit("start", Long.toString(start - 1));
        assertRecovers("holder pid " + here + " ");
    }

    @AlsoWithoutProc
    void reusedPidIsNotTheCommand() throws Exception {
        killAll(task.hold());
        edit("command-pid", Long.toString(ProcessHandle.current().pid()));
        assertRecovers("holder pid ");
    }

    @AlsoWithoutProc
    void zombiesAreDead() throws Exception {
        // The shell becomes a tail that never waits for the holder it started, so that this stays a zombie.
        Running parent = Program.shell(directory, task.request(task.untilFinish()).shellCommand()
            + " & exec tail -f /dev/null " + directory + "/none").start();
        {
            Program.await("the command is recorded", () -> Program.read(task.lock).contains("\ncommand-start="));
            String holder = task.recorded("pid");
            String command = commandPid();
            for (String pid : List.of(holder, command)) {
                Program.signal(Long.parseLong(pid), "KILL");
            }
            Program.await("the runner is a zombie", () -> Program.read(Path.of("/proc", holder, "stat"))
                .contains(") Z"));
            assertRecovers("holder pid " + holder + " ");
            assertTrue(Program.read(Path.of("/proc", holder, "stat")).contains(") Z"), "it was no zombie any more");
        }
        parent.kill();
    }

    @Test
    void requestWithTheRunIdInItsEnvironmentIsNoProof() throws Exception {
        killAll(task.hold());
        String run = task.recorded("run");
        task.status().env("TASKRUNNER_RUN_ID", run).run().exitedWith(LEFT_BEHIND).outContains(" is stale: ");
        task.markingRequest().env("TASKRUNNER_RUN_ID", run).run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }

    /** A request finds contention: it says so, counts once, runs nothing and leaves the lock file as it is. */
    private void assertContention(String... state) throws IOException {
        long before = task.count();
        Result result = assertContentionOf(task.markingRequest(), state);
        result.errContains("; contention " + (before + 1) + ", threshold " + task.threshold);
        assertEquals(before + 1, task.count());
    }

    private Result assertContentionOf(Program request, String... state) throws IOException {
        byte[] record = Files.readAllBytes(task.lock);
        Object inode = Files.getAttribute(task.lock, "unix:ino");
        Result result = request.run().exitedWith(0).errContains("WARN").errContains("lock " + task.lock);
        for (String part : state) {
            result.errContains(part);
        }
        assertArrayEquals(record, Arrays.copyOf(Files.readAllBytes(task.lock), record.length), "a record only grows");
        assertEquals(inode, Files.getAttribute(task.lock, "unix:ino"));
        task.assertDidNotRun();
        assertFalse(Files.exists(task.gate), "the gate is left");
        return result;
    }

    /** A request takes the lock over, warns why, runs its command and releases the lock. */
    private void assertRecovers(String why) {
        assertRecovers(task.markingRequest(), why);
    }

    private void assertRecovers(Program request, String why) {
        request.run().exitedWith(0).errContains("WARN")
            .errContains("recovered stale lock " + task.lock + ": ").errContains(why);
        task.assertRan();
        task.assertFree();
    }

    /** {@code status} says so, in text and JSON, and changes nothing. */
    private void assertStatus(int exitStatus, String state, String message) {
        String before = Files.exists(task.lock) ? Program.read(task.lock) : null;
        long count = task.count();
        task.status().run().exitedWith(exitStatus).outContains("lock " + task.lock).outContains(message).errIs("");
        task.status("--json").run().exitedWith(exitStatus).outContains("\"state\":\"" + state + "\"").errIs("");
        assertEquals(before, Files.exists(task.lock) ? Program.read(task.lock) : null);
        assertEquals(count, task.count());
    }

    private static void kill(Running holder) {
        holder.kill().exitedWith(137);
    }

    /** Kills the holder, then all that is left of its run. */
    private void killAll(Running holder) {
        kill(holder);
        Program.killProcessesOf(directory);
    }

    private String commandPid() {
        return task.recorded("command-pid");
    }

    /** Gives a line of the record another value, in place. */
    private void edit(String key, String value) throws IOException {
        String record = Program.read(task.lock);
        String edited = record.replaceAll("\n" + key + "=[^\n]*\n", "\n" + key + "=" + value + "\n");
        assertNotEquals(record, edited);
        Files.writeString(task.lock, edited);
    }

}
