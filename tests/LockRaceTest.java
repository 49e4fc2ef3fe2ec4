import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;

import org.junit.jupiter.api.Test;

/**
 * Requests that meet in the gate at the worst moments, and what others do there meanwhile. A request is halted by
 * SIGSTOP right after one of its system calls, by the fault injection of strace(1), and goes on when the test says so.
 */
class LockRaceTest extends TaskTest {
    /** A request that halts after certain system calls on the lock's files. */
    private final class Halting {
        private final Path trace;
        private final Running running;
        private int halts;

        /**
         * @param path whose calls count
         * @param calls {@code SYSCALL:when=N}, of those on that path, or what else strace is to do than to halt there
         */
        Halting(Program request, String name, Path path, String... calls) {
            trace = directory.resolve("trace-" + name);
            List<String> line = new ArrayList<>(List.of("strace", "-f", "-qq", "-o", trace.toString(), "-P",
                path.toString()));
            for (String call : calls) {
                line.addAll(List.of("-e", "inject=" + (call.contains("delay_") ? call
                    : call.replace(":", ":signal=STOP:"))));
            }
            running = request.under(line.toArray(new String[0])).start();
        }

        /** Waits until it is halted after the next of its calls. */
        Halting awaitHalt() {
            halts++;
            Program.await("halt " + halts + " of " + running, () -> {
                String[] signals = Program.read(trace).split("--- SIGSTOP \\{", -1);
                return signals.length > halts && signals[halts].contains("stopped by SIGSTOP");
            });
            return this;
        }

        void goOn() {
            Program.signal(pid(), "CONT");
        }

        void kill() {
            Program.signal(pid(), "KILL");
            Program.awaitDeath(List.of(pid()));
        }

        private long pid() {
            String text = Program.read(trace);
            return Long.parseLong(text.substring(text.lastIndexOf('\n', text.lastIndexOf("--- SIGSTOP {")) + 1)
                .split(" ")[0]);
        }
    }

    /** A command that notices when another one runs. */
    private String alone() {
        return "cd " + directory + "; mkdir guard || echo >> overlaps; sleep 0.5; rmdir guard; " + task.mark();
    }

    private void assertNeverTwoAtOnce() {
        assertFalse(Files.exists(directory.resolve("overlaps")), "two commands at once");
    }

    @Test
    void aRequestThatDiesAtItsLinkLosesNoContentions() throws Exception {
        Files.writeString(task.counter, "3\n");
        task.markingRequest().under("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=link", "-e",
            "inject=link:signal=KILL:when=1")
            .run();
        assertEquals(3, task.count());
        task.assertDidNotRun();
        task.markingRequest("--wait", "20s").run().exitedWith(0);
        task.assertRan();
        assertEquals(0, task.count());
        task.assertFree();
    }

    @Test
    void aRequestThatIsStillAtTheGateDoesNotMakeADeadHolderLookAlive() throws Exception {
        Halting holder = new Halting(task.request(task.untilFinish()), "holder", task.gate, "fdatasync:when=1")
            .awaitHalt();
        Halting passing = new Halting(task.markingRequest(), "passing", task.gate, "openat:when=1", "fcntl:when=1")
            .awaitHalt();
        holder.goOn();
        task.awaitStart();
        Program.await("the command is recorded", () -> Program.read(task.lock).contains("\ncommand-start="));
        long pid = Long.parseLong(task.recorded("pid"));
        Program.signal(pid, "KILL");
        Program.awaitDeath(List.of(pid));
        passing.goOn();
        passing.awaitHalt();
        task.markingRequest().run().exitedWith(0).errContains(" is orphaned: holder pid " + pid + " ")
            .errHasNo("is held");
        task.status().run().exitedWith(21).outContains(" is orphaned: ");
        task.assertDidNotRun();
        passing.goOn();
        passing.running.result().exitedWith(0).errContains(" is orphaned: ");
        task.finishOrphan();
        task.markingRequest().run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
    }

    @Test
    void aPasserDoesNotKeepADeadRunsLock() throws Exception {
        Halting holder = new Halting(task.request(task.untilFinish()), "holder", task.gate, "fdatasync:when=1")
            .awaitHalt();
        Halting passing = new Halting(task.markingRequest(), "passing", task.gate, "openat:when=1",
            "fcntl:delay_exit=8000000:when=1").awaitHalt();
        holder.goOn();
        task.awaitStart();
        long pid = Long.parseLong(task.recorded("pid"));
        Program.signal(pid, "KILL");
        String inode = ":" + Files.getAttribute(task.lock, "unix:ino") + " ";
        // a zombie may have threads that keep its files open
        Program.await("its fcntl lock is gone", () -> !Program.read(Path.of("/proc/locks")).contains(inode));
        passing.goOn();
        Program.await("it has the lock in passing", () -> Program.read(Path.of("/proc/locks")).contains(inode));
        task.finish();
        Program.await("the command has ended", () -> Program.processesWith("touch " + directory).isEmpty());
        task.markingRequest().run().exitedWith(0).errHasNo(" is held")
            .errContains("it is dead, but another process has the fcntl lock");
        passing.running.result().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }

    @Test
    void whenTmpIsRemovedAnEmptyFileNeverStaysAsTheLock() throws Exception {
        Halting linking = new Halting(task.request(alone()), "linking", task.gate, "fdatasync:when=1").awaitHalt();
        Files.delete(task.gate);
        Halting entering = new Halting(task.request(alone()), "entering", task.gate, "openat:when=1").awaitHalt();
        assertEquals("", Program.read(task.gate));
        linking.goOn();
        Program.await("it enters anew and runs", () -> Files.exists(directory.resolve("guard")));
        entering.goOn();
        linking.running.result().exitedWith(0);
        entering.running.result().exitedWith(0);
        assertNeverTwoAtOnce();
        task.request(alone(), "--wait", "20s").run().exitedWith(0);
        task.assertRan();
        task.assertFree();
    }

    @Test
    void anEmptyLockFileOfTwoDeadRequestsIsALeftover() throws Exception {
        Halting linking = new Halting(task.request(alone()), "linking", task.gate, "fdatasync:when=1").awaitHalt();
        Files.delete(task.gate);
        Halting entering = new Halting(task.request(alone()), "entering", task.gate, "openat:when=1").awaitHalt();
        Files.createLink(task.lock, task.gate);
        linking.kill();
        entering.kill();
        assertEquals("", Program.read(task.lock));
        for (boolean status : new boolean[] {false, true}) {
            if (status) {
                Files.createFile(task.gate,
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
                Files.createLink(task.lock, task.gate);
                task.status().run().exitedWith(21).outContains(" is stale: ");
            }
            task.markingRequest().run().exitedWith(0);
            task.assertRan();
            task.assertFree();
        }
    }

    @Test
    void whenTmpIsRemovedTheRecordOfWhoEnteredNextIsWhole() throws Exception {
        Halting linking = new Halting(task.request(alone()), "linking", task.gate, "fdatasync:when=1").awaitHalt();
        Files.delete(task.gate);
        Halting inside = new Halting(task.request(alone()), "inside", task.gate, "pwrite64:when=1").awaitHalt();
        String record = Program.read(task.gate);
        assertTrue(record.startsWith("taskrunner-lock 1\n")
            && record.contains("\ninode=" + Files.getAttribute(task.gate, "unix:ino") + "\n"),
            record);
        linking.goOn();
        Program.await("it has linked the other's", () -> Files.exists(task.lock));
        inside.goOn();
        linking.running.result().exitedWith(0);
        inside.running.result().exitedWith(0);
        assertNeverTwoAtOnce();
        task.request(alone(), "--wait", "20s").run().exitedWith(0);
        task.assertRan();
        task.assertFree();
    }

    @Test
    void whenTmpIsRemovedBesideAHolderThereAreNeverTwo() throws Exception {
        Running holder = task.hold();
        Halting before = new Halting(task.request(alone(), "--wait", "20s"), "before", task.gate, "pwrite64:when=1")
            .awaitHalt();
        Files.delete(task.gate);
        Halting looking = new Halting(task.request(alone(), "--wait", "20s"), "looking", task.lock, "openat:when=1")
            .awaitHalt();
        task.finish(holder);
        before.goOn();
        Program.await("it has linked the other's", () -> Files.exists(task.lock));
        looking.goOn();
        looking.running.result().exitedWith(0).errHasNo("recovered");
        before.running.result().exitedWith(0);
        assertEquals(2, task.marks());
        assertNeverTwoAtOnce();
        task.assertFree();
    }

    @Test
    void whoEntersWithoutTmpBeingMadeAnewRunsToo() throws Exception {
        Halting linking = new Halting(task.markingRequest(), "linking", task.gate, "fdatasync:when=1").awaitHalt();
        Files.delete(task.gate);
        linking.goOn();
        linking.running.result().exitedWith(0);
        task.assertRan();
        task.assertFree();
    }

    @Test
    void aSecondExecutionInTheSameProcessKeepsItsLockWhenTheFirstReleases() throws Exception {
        Execution first = execution();
        assertTrue(first.acquireLock());
        assertFalse(execution().acquireLock(), "acquired twice");
        Files.delete(task.lock);
        Execution second = execution();
        assertTrue(second.acquireLock());
        // to read it here would drop this process's fcntl lock
        Object inode = Files.getAttribute(task.lock, "unix:ino");
        first.releaseLock();
        assertEquals(inode, Files.getAttribute(task.lock, "unix:ino"));
        task.markingRequest().run().exitedWith(0).errContains(" is held by pid " + ProcessHandle.current().pid())
            .errHasNo("fcntl lock is gone");
        task.assertDidNotRun();
        second.releaseLock();
        task.assertFree();
    }

    /** Two executions in one process, one after the other; prints whether one acquires and has its fcntl lock. */
    static final class Two {
        public static void main(String[] options) throws Exception {
            Thread[] threads = new Thread[2];
            Execution[] executions = new Execution[2];
            boolean[] acquired = new boolean[2];
            for (int i = 0; i < 2; i++) {
                int number = i;
                executions[i] = execution(options);
                threads[i] = new Thread(() -> acquired[number] = executions[number].acquireLock());
                threads[i].start();
                Thread.sleep(500);
            }
            for (Thread thread : threads) {
                thread.join();
            }
            String lock = "WRITE " + ProcessHandle.current().pid() + " ";
            System.out.println((acquired[0] ^ acquired[1]) + " "
                + Files.readString(Path.of("/proc/locks")).contains(lock));
            for (Execution execution : executions) {
                execution.releaseLock();
            }
        }
    }

    @Test
    void aLookFromOutsideTheGateDropsNoLockOfAnotherExecutionInTheProcess() throws Exception {
        task.hold();
        long pid = Long.parseLong(task.recorded("pid"));
        Program.signal(pid, "KILL");
        Program.awaitDeath(List.of(pid));
        task.finishOrphan();
        // a look opens the file twice; the next one, from outside, is slow, so that the second execution opens what the
        // first has linked meanwhile
        Program.java(directory, Two.class.getName(), task.options())
            .under("strace", "-f", "-qq", "-o", "/dev/null", "-P", task.lock.toString(), "-e",
                "inject=openat:delay_enter=1500000:when=3")
            .run().exitedWith(0).outContains("true true");
        task.assertFree();
    }

    private Execution execution() throws TaskException {
        return execution(task.options());
    }

    private static Execution execution(String... options) throws TaskException {
        List<String> arguments = new ArrayList<>(List.of("--command", "true"));
        arguments.addAll(List.of(options));
        return new Execution(new Request(Arguments.parse(Options.COMMANDS, arguments.toArray(new String[0]))));
    }

    @Test
    void theGateIsItsOwnersAloneUntilItBecomesTheLock() throws Exception {
        Halting inside = new Halting(task.markingRequest(), "inside", task.gate, "fdatasync:when=1").awaitHalt();
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(task.gate)));
        inside.goOn();
        inside.running.result().exitedWith(0);
        task.assertRan();
        task.hold(task.request(task.untilFinish()).underShell("umask 077; exec \"$@\""));
        assertEquals("rw-r--r--", PosixFilePermissions.toString(Files.getPosixFilePermissions(task.lock)));
    }

    @Test
    void theStatusOfAnotherUserNeverEntersTheGate() throws Exception {
        task.threshold = 0;
        Running holder = task.hold();
        Path trace = directory.resolve("trace");
        Program status = task.status().asNobody();
        for (int i = 0; i < 2; i++) {
            Files.deleteIfExists(trace);
            Program.shell(directory, "exec strace -f -qq -o " + trace + " -e trace=openat,open,unlink "
                + status.shellCommand()).run()
                .exitedWith(i == 0 ? 20 : 0);
            assertFalse(Program.read(trace).contains(".lock.tmp"), "it opened the gate");
            if (i == 0) {
                task.finish(holder);
            }
        }
    }

    @Test
    void whatIsNotAGateIsNeitherOpenedNorWritten() throws Exception {
        Path notes = Files.createFile(directory.resolve("notes"));
        shell("mkfifo task.lock.tmp");
        task.markingRequest().run().exitedWith(73).errContains("a special file is at " + task.gate);
        Files.delete(task.gate);
        Files.createLink(task.gate, notes);
        task.markingRequest().run().exitedWith(73).errContains(task.gate + " is a hard link to another file");
        assertEquals("", Program.read(notes));
        Files.writeString(notes, "taskrunner-lock 1\n");
        task.markingRequest().run().exitedWith(73).errContains(task.gate + " is a hard link to another file");
        assertEquals("taskrunner-lock 1\n", Program.read(notes));
        task.assertDidNotRun();
        Files.delete(task.gate);
        task.markingRequest().run().exitedWith(0);
    }

    @Test
    void anotherUsersGateIsNeverAdopted() throws Exception {
        Files.createFile(task.gate);
        shell("chown nobody task.lock.tmp");
        task.markingRequest().run().exitedWith(74).errContains("belongs to another user, nobody")
            .errContains("rm " + task.gate);
        task.assertDidNotRun();
        assertEquals("nobody", Files.getOwner(task.gate).getName());
    }

    @Test
    void aLockFileThatIsNamedLikeAGateIsAUsageError() throws IOException {
        for (Program program : List.of(taskrunner("--command", "true", "--lockfile", "a.lock.tmp", "--threshold", "0",
            "--counter-file", "c"),
            taskrunner("status", "--lockfile", "a.lock.tmp"))) {
            program.run().exitedWith(64).errContains("a.lock.tmp ends in .tmp");
        }
        assertFalse(Files.exists(directory.resolve("a.lock.tmp")));
    }
}
