import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** The shell that kills a run when its taskrunner cannot. */
@Execution(ExecutionMode.CONCURRENT)
class WatchdogTest {
    @TempDir
    Path directory;
    /** Seconds that no other test's command sleeps for. */
    private final long seconds = 1_000_000_000L + System.nanoTime() % 1_000_000_000L;

    /** Starts a watchdog and a command, and does nothing else. */
    static final class Holder {
        public static void main(String[] args) throws Exception {
            String run = args[2];
            Watchdog watchdog = new Watchdog(run, BootClock.now() + Long.parseLong(args[1]) * BootClock.PER_SECOND);
            ProcessBuilder command = new ProcessBuilder("sh", "-c", args[0]).inheritIO();
            command.environment().put("TASKRUNNER_RUN_ID", run);
            watchdog.watch(Processes.entry(command.start()).id());
            System.out.println("runs");
            while (args.length > 3) {
                watchdog = watchdog.isAlive() ? watchdog : watchdog.again(run);
                Thread.sleep(10);
            }
            System.in.read();
            watchdog.close();
        }
    }

    private String run() {
        return "run-of-" + directory.getFileName();
    }

    /** Returns when the command runs, which marks its processes with the test's directory. */
    private Running holder(String command, int seconds, String... more) {
        Running holder = Program.java(directory, "WatchdogTest$Holder", command, Integer.toString(seconds), run())
            .with(more)
            .underShell("sleep 100 | \"$@\"").start();
        Program.await("the command runs", () -> Program.read(holder.out).contains("runs"));
        return holder;
    }

    @AfterEach
    void killWhatIsLeft() {
        Program.killProcessesOf(directory);
        processes().forEach(pid -> Program.signal(pid, "KILL"));
    }

    /** The sleeping processes, zombies of a paused parent left out. */
    private List<Long> processes() {
        return Program.processesWith("sleep " + seconds).stream().filter(pid -> {
            String stat = Program.read(Path.of("/proc/" + pid + "/stat"));
            return stat.contains(" (sleep) ") && !stat.contains(") Z ");
        }).toList();
    }

    private static long jvm(Path directory) {
        return Program.processesWith("WatchdogTest$Holder").stream()
            .filter(pid -> Program.read(Path.of("/proc/" + pid + "/cmdline"))
            .contains(directory.toString()) && Program.read(Path.of("/proc/" + pid + "/comm")).startsWith("java"))
                .findFirst().orElseThrow();
    }

    @Test
    void theDeathOfTheJvmIsThatOfTheRun() {
        // one that left the tree, one that has another environment, and one that did both while its parent lives
        Running holder = holder("setsid sleep " + seconds + ".1 & env -i sleep " + seconds
            + ".2 & env -i sh -c 'sleep " + seconds + ".3; true' & wait", 60);
        Program.await("all run", () -> processes().size() == 3);
        Program.signal(jvm(directory), "KILL");
        Program.await("all are dead", () -> processes().isEmpty());
        holder.awaitErr("watchdog: taskrunner is dead: ended run " + run() + ", killed pids: ");
    }

    @Test
    void theDeadlineEndsTheRunOfAJvmThatIsPaused() {
        Running holder = holder("sleep " + seconds, 2);
        Program.signal(jvm(directory), "STOP");
        holder.awaitErr("watchdog: taskrunner did not renew the lock in time: ended run " + run());
        assertEquals(List.of(), processes());
        Program.signal(jvm(directory), "CONT");
    }

    @Test
    void oneThatIsKilledIsReplacedAndSignalsOfATerminalPassItBy() {
        Running holder = holder("sleep " + seconds, 3600, "and replace it");
        List<Long> before = shells();
        assertEquals(2, before.size());
        for (String signal : new String[] {"INT", "HUP", "TERM", "QUIT"}) {
            before.forEach(pid -> Program.signal(pid, signal));
        }
        assertEquals(before, shells());
        before.forEach(pid -> Program.signal(pid, "KILL"));
        Program.await("there is another", () -> shells().size() == 2 && !shells().contains(before.get(0)));
        assertEquals(1, processes().size(), holder::toString);
        Program.signal(jvm(directory), "KILL");
        Program.await("the command is dead", () -> processes().isEmpty());
    }

    private List<Long> shells() {
        List<Long> ours = Program.processesWith(directory.toString());
        return Program.processesWith("taskrunner-watchdog").stream().filter(ours::contains).toList();
    }

    @Test
    void aNormalEndLeavesBackgroundProcessesAndNothingElse() throws Exception {
        Running holder = Program.java(directory, "WatchdogTest$Holder", "setsid sleep " + seconds + " &", "60", run())
            .start();
        assertEquals(0, holder.result().status());
        Program.await("the watchdog is gone", () -> shells().isEmpty());
        assertEquals(1, processes().size());
        try (Stream<Path> left = Files.list(directory.resolve("tmp"))) {
            assertTrue(left.noneMatch(file -> file.getFileName().toString().startsWith("taskrunner-")));
        }
    }
}
