import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** What proves a run dead, and what does not. Needs root, for other users, namespaces and control groups. */
class LockEvidenceTest extends TaskTest {
    private static final String[] CONTAINER = {"unshare", "-pf", "--mount-proc", "--"};
    private static final String BOOT_ID = "/proc/sys/kernel/random/boot_id";

    // The record

    @Test
    void aClassThatCannotBeLoadedProvesNothing() throws Exception {
        task.hold().kill();
        Program.killProcessesOf(directory);
        Path classes = Files.createDirectory(directory.resolve("classes"));
        Path home = Path.of(System.getProperty("java.home"), "bin");
        new Program(directory, home.resolve("jar").toString(), "-x", "-f", System.getProperty("java.class.path")
            .split(":")[0]).in(classes).run().exitedWith(0);
        Files.delete(classes.resolve("Processes$Belongs.class"));
        // one to ask whose it is
        Running stranger = Program.shell(directory, "exec sleep 60").start();
        new Program(directory, home.resolve("java").toString(), "-cp", classes.toString(), "taskrunner", "--command",
            task.mark()).with(task.options()).run().exitedWith(0).errHasNo("Exception")
            .errContains(" is in an unknown state: ");
        stranger.kill();
        task.assertDidNotRun();
    }

    @Test
    void theRecordNamesAllThatTellsAHolderAndItsCommandApart() throws Exception {
        Running holder = task.hold();
        awaitWholeRecord();
        String stat = Program.read(Path.of("/proc", task.recorded("command-pid"), "stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        assertEquals("0", task.recorded("uid"));
        assertEquals("no", task.recorded("process-1"));
        assertEquals(Files.readSymbolicLink(Path.of("/proc/self/ns/time")).toString(), task.recorded("time-namespace"));
        assertEquals(Files.getAttribute(task.lock, "unix:ino").toString(), task.recorded("inode"));
        assertEquals(fields[2], task.recorded("command-group"));
        assertEquals(fields[3], task.recorded("command-session"));
        String ancestors = task.recorded("ancestors");
        assertTrue(ancestors.startsWith(ProcessHandle.current().pid() + ":"), ancestors);
        assertTrue(("," + ancestors).contains(",1:"), ancestors);
        task.finish(holder);
    }

    @Test
    void aCommandRunsOnWhenItsSurroundingsCannotBeRecorded() {
        Path ancestor = Path.of("/proc", Long.toString(ProcessHandle.current().pid()), "stat");
        task.markingRequest().under("strace", "-f", "-qq", "-o", "/dev/null", "-P", ancestor.toString(), "-e",
            "inject=openat:error=EMFILE").run().exitedWith(0).errHasNo("Exception");
        task.assertRan();
        task.assertFree();
    }

    // Containers

    @Test
    void aKilledContainersLockHealsItselfFromTheHostAndFromOtherContainers() throws Exception {
        for (String[] observer : new String[][] {{"env"}, CONTAINER}) {
            killContainer();
            assertEquals("1", task.recorded("pid"));
            if (observer != CONTAINER) {
                // a new namespace may have got the number of the one that is gone
                task.status().run().exitedWith(21).outContains("it was process 1 of a container that is gone");
            }
            task.markingRequest().under(observer).run().exitedWith(0).errContains("recovered stale lock");
            task.assertRan();
            task.assertFree();
        }
    }

    @Test
    void theCopyOfAKilledContainersLockProvesNothing() throws Exception {
        killContainer();
        shell("cp task.lock copy && mv copy task.lock");
        assertUnknown(task.markingRequest(), "it was made in another container (pid namespace)");
    }

    @Test
    void pidsThatProcShowsOfAnotherNamespaceProveNothing() throws Exception {
        Running holder = task.hold(task.request(task.untilFinish()).under("unshare", "-pf", "--")
            .underShell("\"$@\"; exit $?"));
        assertEquals("", task.recorded("pid-namespace"));
        Program.killProcessesOf(directory);
        holder.result();
        assertUnknown(task.markingRequest(), "it was made in another container (pid namespace)");
    }

    @Test
    void startsOfAnotherTimeNamespaceProveNothing() throws Exception {
        Running holder = task.hold(task.request(task.untilFinish())
            .under("unshare", "-T", "--boottime", "100000", "-f", "--"));
        Program.killProcessesOf(directory);
        holder.result();
        assertUnknown(task.markingRequest(), "it was made in another container (time namespace)");
    }

    private void killContainer() throws IOException {
        Running holder = task.hold(task.request(task.untilFinish()).under(CONTAINER));
        Program.killProcessesOf(directory);
        assertNotEquals(0, holder.result().status());
    }

    // Restarts of the machine

    @Test
    void anotherBootIdProvesARestartOnlyBeforeTheKernelsOwnStart() throws Exception {
        killRun(task.hold());
        edit("boot", "00000000-0000-4000-8000-000000000000");
        assertUnknown(task.markingRequest(), "its boot id is another one, but the kernel has not been started since");
        edit("started", "2001-02-03T04:05:06.789Z");
        edit("boot", "");
        assertUnknown(task.markingRequest(), "the boot id is hidden");
        edit("boot", "00000000-0000-4000-8000-000000000000");
        task.markingRequest().run().exitedWith(0).errContains("(the host was rebooted since)");
        task.assertRan();
    }

    @Test
    void aBootIdThatIsHiddenOrAContainersOwnProvesNothing() throws Exception {
        killRun(task.hold());
        String own = Files.writeString(directory.resolve("boot_id"), "00000000-0000-4000-8000-000000000000\n")
            .toString();
        for (String bound : List.of(own, "/dev/null")) {
            assertUnknown(task.markingRequest().under("unshare", "-m", "--")
                .underShell("mount --bind " + bound + " " + BOOT_ID
                + " && exec \"$@\""), bound.equals(own) ? "but the kernel has not been started since"
                : "the boot id is hidden");
        }
        assertRecovers();
    }

    // What may be of the run

    @Test
    void aProgramThatOverwroteItsEnvironmentMayBeOfTheRun() throws Exception {
        long titled = orphan("perl -e '$0 = \"title of " + directory + "\"; sleep 60'", "title of " + directory);
        assertUnknown(task.markingRequest(), "cannot tell whether pid " + titled + " belongs to its run");
        kill(titled);
        assertRecovers();
    }

    @Test
    void aProgramOfAnotherSessionThatOverwroteItsEnvironmentIsNotOfTheRun() throws Exception {
        stranger("exec setsid perl -e '$0 = \"title of " + directory + "\"; sleep 60'", "title of " + directory,
            task.request(task.untilFinish()));
        assertRecovers();
    }

    @Test
    void whoCopiesTheRunIdDoesNotKeepADeadRunsLock() throws Exception {
        stranger("exec setpriv --reuid=65534 --clear-groups env TASKRUNNER_RUN_ID=$(sed -n s/^run=//p task.lock) "
            + nap(), nap(),
            task.request(task.untilFinish()));
        assertRecovers();
    }

    @Test
    void theRunIdOfAnotherUsersProcessThatMayBeOfTheRunCounts() throws Exception {
        long orphan = orphan("setsid setpriv --reuid=65534 --clear-groups " + nap(), nap());
        task.markingRequest().run().exitedWith(0).errContains(" is orphaned: ")
            .errContains("still runs: pid " + orphan + "; wait for it to end; contention").errHasNo("kill ");
        task.assertDidNotRun();
    }

    @Test
    void aRunsProcessThatItsOwnerMayNotReadIsKnownByItsTreeElseUnknown() throws Exception {
        task.threshold = 0;
        nap();
        shell("cp nap suid && chmod 4755 suid");
        Running holder = task.hold(task.request(task.markStart() + "; " + directory + "/suid 60 & exec " + nap())
            .asNobody());
        killHolder(holder);
        long suid = only(directory + "/suid");
        task.markingRequest().asNobody().run().exitedWith(0).errContains(" is orphaned: ")
            .errContains("," + suid + "; wait");
        kill(Long.parseLong(task.recorded("command-pid")));
        assertUnknown(task.markingRequest().asNobody(), "cannot tell whether pid", "" + suid);
    }

    @Test
    void aStrangerThatCannotBeReadDoesNotKeepADeadRunsLock() throws Exception {
        task.threshold = 0;
        // not below the tests, whose other processes this user could not read either
        stranger("exec " + nap(), nap(), task.request(task.untilFinish()).asNobody().underShell("setsid \"$@\" &"));
        task.markingRequest().asNobody().run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
    }

    @Test
    void whoCannotBeReadIsNotOfTheRunInAnotherControlGroup() throws Exception {
        task.threshold = 0;
        Path groups = controlGroups();
        Path own = Files.createDirectory(groups.resolve("taskrunner-own-" + directory.getFileName()));
        Path other = Files.createDirectory(groups.resolve("taskrunner-other-" + directory.getFileName()));
        try {
            killRun(task.hold(task.request(task.untilFinish())
                .underShell("echo $$ > " + own + "/cgroup.procs; exec \"$@\"").asNobody()));
            for (Path group : List.of(own, other)) {
                shell("setsid sh -c 'echo $$ > " + group + "/cgroup.procs; exec " + nap() + "' > /dev/null 2>&1 &");
                Program.await("it runs in its group", () -> running(nap()).size() == 1);
                if (group.equals(own)) {
                    assertUnknown(task.markingRequest().asNobody(), "cannot tell whether pid", "" + only(nap()));
                } else {
                    task.markingRequest().asNobody().run().exitedWith(0).errContains("recovered stale lock");
                    task.assertRan();
                }
                kill(only(nap()));
            }
        } finally {
            Program.killProcessesOf(directory);
            Files.delete(own);
            Files.delete(other);
        }
    }

    /** A hierarchy of control groups in which this user can make groups. */
    private static Path controlGroups() {
        return Stream.of("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids").map(Path::of)
            .filter(groups -> Files.isWritable(groups.resolve("cgroup.procs"))).findFirst().orElseThrow();
    }

    @Test
    void theJvmsHelperIsOneOfTheRunOnlyAsItsChild() throws Exception {
        nap();
        shell("mv nap jspawnhelper");
        stranger("exec env -i " + directory + "/jspawnhelper 60", directory + "/jspawnhelper",
            task.request(task.untilFinish()));
        assertRecovers();
    }

    @Test
    void anEndlessEnvironmentIsNotRead() throws Exception {
        stranger("ulimit -s unlimited; exec perl -e 'for $i (1 .. 30) { $ENV{\"A$i\"} = \"x\" x 130000 } exec split /"
            + " /, \""
            + nap() + "\"'", nap(), task.request(task.untilFinish()));
        assertTrue(Files.readAllBytes(Path.of("/proc", "" + only(nap()), "environ")).length > 2 << 20);
        assertRecovers();
    }

    // What a record may make others do

    @Test
    void aPidIsOfferedToBeKilledOnlyWhenItIsTheLockFilesOwners() throws Exception {
        task.threshold = 0;
        Running holder = task.hold(task.request(task.untilFinish()).asNobody());
        task.status().run().exitedWith(20).outContains("kill " + holder.pid() + " ");
        long here = ProcessHandle.current().pid();
        String stat = Program.read(Path.of("/proc/self/stat"));
        edit("pid", Long.toString(here));
        edit("start", stat.substring(stat.lastIndexOf(')') + 2).split(" ")[19]);
        task.status().run().exitedWith(20).outContains(" is held by pid " + here + " ")
            .outContains("fuser -v " + task.lock);
        task.markingRequest("--replace").run().exitedWith(0);
        task.assertDidNotRun();
    }

    @Test
    void aRecordThatIsNotWellFormedIsNone() throws Exception {
        killRun(task.hold());
        String record = Program.read(task.lock);
        task.threshold = 0;
        for (String[] field : new String[][] {{"pid", "1"}, {"pid", "0"}, {"pid", "-1"}, {"command-pid", "1"},
            {"start", "-5"},
            {"run", "a b"}, {"run", ""}, {"started", "yesterday, at about noon"}, {"user", "x".repeat(300)},
            {"user", "\u2066root"}, {"command-start", "x"}}) {
            Files.writeString(task.lock, record);
            edit(field[0], field[1]);
            task.status().run().exitedWith(22).outContains("it was not created by taskrunner");
        }
    }

    /** The command line of a program that does nothing for a minute. */
    private String nap() {
        Path nap = directory.resolve("nap");
        if (!Files.exists(nap)) {
            shell("cp /bin/sleep nap; chmod 755 .");
        }
        return nap + " 60";
    }

    /** The live processes whose command line starts with the text. */
    private static List<Long> running(String start) {
        return Program.processesWith(start).stream().filter(pid -> {
            try {
                return Program.read(Path.of("/proc", "" + pid, "cmdline")).replace('\0', ' ').startsWith(start);
            } catch (UncheckedIOException e) {
                return false;
            }
        }).toList();
    }

    private static long only(String start) {
        List<Long> pids = running(start);
        assertEquals(1, pids.size(), start);
        return pids.get(0);
    }

    private static void kill(long pid) {
        Program.signal(pid, "KILL");
        Program.awaitDeath(List.of(pid));
    }

    private static void killHolder(Running holder) {
        holder.kill().exitedWith(137);
    }

    private void awaitWholeRecord() {
        Program.await("the record is whole", () -> Program.read(task.lock).contains("\nancestors="));
    }

    /** Ends all processes of a run, its holder first. */
    private void killRun(Running holder) {
        awaitWholeRecord();
        kill(Long.parseLong(task.recorded("pid")));
        holder.result();
        kill(Long.parseLong(task.recorded("command-pid")));
        // its last sleep
        Program.await("the run has ended", () -> !task.status().run().out().contains(" is orphaned: "));
    }

    /** A process of a run whose holder and command are dead. */
    private long orphan(String command, String start) {
        Running holder = task.hold(task.request(task.markStart() + "; " + command + " & exec sleep 60; : "
            + directory));
        Program.await("it runs: " + start, () -> running(start).size() == 1);
        killHolder(holder);
        kill(Long.parseLong(task.recorded("command-pid")));
        return only(start);
    }

    /**
     * A dead run, and a process that is younger than it, made by a shell that is older and no ancestor of the holder's.
     */
    private void stranger(String script, String start, Program request) throws IOException {
        Path go = directory.resolve("go");
        Program.shell(directory, "touch waits; while ! [ -e go ]; do sleep 0.05; done; (" + script + ") & wait")
            .start();
        Program.await("the shell runs", () -> Files.exists(directory.resolve("waits")));
        // so that it is older by clock ticks, of 10 ms
        Program.sleep(50);
        killRun(task.hold(request));
        Files.createFile(go);
        Program.await("it runs: " + start, () -> running(start).size() == 1);
    }

    private void assertUnknown(Program request, String... why) {
        Result result = request.run().exitedWith(0).errContains(" is in an unknown state: ");
        Stream.of(why).forEach(result::errContains);
        task.assertDidNotRun();
    }

    private void assertRecovers() {
        task.markingRequest().run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }

    /** Gives a line of the record another value, in place. */
    private void edit(String key, String value) throws IOException {
        String record = Program.read(task.lock);
        String edited = record.replaceAll("\n" + key + "=[^\n]*\n", "\n" + key + "=" + value + "\n");
        assertNotEquals(record, edited);
        Files.writeString(task.lock, edited);
    }
}
