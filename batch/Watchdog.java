import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/**
 * The time since boot in hundredths of a second, suspend included (CLOCK_BOOTTIME, proc_uptime(5)), which {@link
 * System#nanoTime} leaves out.
 */
final class BootClock {
    static final int PER_SECOND = 100;
    private static final int LONGEST = 64;

    static long now() {
        try (FileInputStream file = new FileInputStream("/proc/uptime")) {
            String text = new String(file.readNBytes(LONGEST), StandardCharsets.US_ASCII);
            int point = text.indexOf('.');
            return Long.parseLong(text.substring(0, point)) * PER_SECOND
                + Long.parseLong(text.substring(point + 1, point + 3));
        } catch (IOException | RuntimeException e) {
            throw new IllegalStateException("cannot read the time since boot from /proc/uptime", e);
        }
    }

    private BootClock() {
    }
}

/**
 * Kills a run when its taskrunner cannot: a POSIX shell beside the command (not above it, so that the command keeps its
 * terminal, its session and its stdin).
 * <ol>
 * <li>taskrunner writes a deadline by {@link BootClock} to a file, and a later one by rename each time the database has
 *     answered.
 * <li>Deadline past: taskrunner was paused, or starved. The shell looks each second, since sleep(1) does not count
 *     suspend.
 * <li>stdin, a pipe, ends while the file is there: taskrunner is dead.
 * <li>Both kill all processes that carry the run's id or are below the command, again until two looks in a row find
 *     none.
 * <li>A normal end removes the file first.
 * </ol>
 * When the shell itself is killed {@link #isAlive} says so, and another is started. Not for several threads at once.
 */
final class Watchdog implements AutoCloseable {
    private static final String SCRIPT = """
        # watchdog of the taskrunner run $2
        run=$2
        trap '' HUP INT QUIT TERM
        exec 3<&0 </dev/null
        printf 'a\\0b\\0' | grep -qz '^b$' || { echo "grep -z does not work here"; exit 1; }
        echo ready
        exec >/dev/null

        # the command, if its pid still has the start that goes with it, and all below it
        below() {
            all=
            for stat in /proc/[0-9]*/stat; do
                line=
                { while read -r part; do line="$line $part"; done <"$stat"; } 2>/dev/null || continue
                pid=${line# }
                pid=${pid%% *}
                set -- ${line##*) }
                case $1 in
                    ''|Z|X) ;;
                    *) all="$all $pid:$2:${20}" ;;
                esac
            done
            tree=' '
            case "$all " in *" $command:"*":$start "*) tree=" $command " ;; esac
            before=
            while [ "$before" != "$tree" ]; do
                before=$tree
                for each in $all; do
                    pid=${each%%:*}
                    parent=${each#*:}
                    case $tree in
                        *" $pid "*) ;;
                        *" ${parent%%:*} "*) tree="$tree$pid " ;;
                    esac
                done
            done
        }

        end() {
            killed=
            looks=0
            pause=0.05
            while [ $looks -lt 2 ]; do
                pids=
                carriers=$(grep -lsz -e "^TASKRUNNER_RUN_ID=$run\\$" -e "^TASKRUNNER_OUTER_RUN_IDS=.*$run" \\
                    /proc/[0-9]*/environ)
                for environ in $carriers
                do
                    environ=${environ#/proc/}
                    pids="$pids ${environ%/environ}"
                done
                below
                for pid in $tree; do
                    case "$pids " in *" $pid "*) ;; *) pids="$pids $pid" ;; esac
                done
                if [ -z "$pids" ]; then
                    looks=$((looks + 1))
                else
                    looks=0
                    kill -KILL $pids 2>/dev/null
                    case $killed in
                        "$pids"*) pause=1 ;;
                        *) killed="$pids $killed" ;;
                    esac
                fi
                sleep $pause </dev/null >/dev/null 2>&1 || sleep 1
            done
            echo "taskrunner-batch: watchdog: $1: ended run $run, killed pids:${killed:- none}" >&2
        }

        (
            while read -r line <&3; do :; done
            if { read -r deadline command start <"$1"; } 2>/dev/null; then end 'taskrunner is dead'; fi
            kill -KILL $$ 2>/dev/null
        ) &
        exec 3<&-
        while { read -r deadline command start <"$1"; } 2>/dev/null; do
            read -r now rest </proc/uptime
            left=$((deadline - ${now%.*}${now#*.}))
            if [ $left -le 0 ]; then
                end 'taskrunner did not renew the lock in time'
                exit
            fi
            [ $left -lt 100 ] || left=100
            sleep $((left / 100)).$((left / 10 % 10))$((left % 10)) </dev/null >/dev/null 2>&1 || sleep 1
        done
        """;

    private final Path file;
    private final Process shell;
    private long deadline;
    private ProcessId command;

    /**
     * Starts the shell; returns when it watches.
     *
     * @param deadline by {@link BootClock}
     * @throws IOException when it cannot, with the reason
     */
    Watchdog(String runId, long deadline) throws IOException {
        this.deadline = deadline;
        // a directory of its own: in a shared one a name that is known is not safe to write to
        file = Files.createTempDirectory("taskrunner-" + runId + "-").resolve("deadline");
        boolean started = false;
        try {
            write();
            ProcessBuilder builder = new ProcessBuilder("/bin/sh", "-c", SCRIPT, "taskrunner-watchdog",
                file.toString(), runId)
                .redirectError(ProcessBuilder.Redirect.INHERIT);
            builder.environment().remove(Holder.RUN_ID);
            builder.environment().remove(Holder.OUTER_RUN_IDS);
            shell = builder.start();
            String answer = new BufferedReader(new InputStreamReader(shell.getInputStream(), StandardCharsets.US_ASCII))
                .readLine();
            started = "ready".equals(answer);
            if (!started) {
                throw new IOException("the watchdog's shell says: " + answer);
            }
        } finally {
            if (!started) {
                remove();
            }
        }
    }

    /** Starts another shell in the place of one that was killed. */
    Watchdog again(String runId) throws IOException {
        Watchdog watchdog = new Watchdog(runId, deadline);
        watchdog.command = command;
        watchdog.write();
        close();
        return watchdog;
    }

    boolean isAlive() {
        return shell.isAlive();
    }

    /** Moves the deadline. @throws IOException when the shell still goes by the one before */
    void extend(long later) throws IOException {
        long before = deadline;
        deadline = later;
        try {
            write();
        } catch (IOException e) {
            deadline = before;
            throw e;
        }
    }

    /** What is below this process is of the run, whatever its environment says. */
    void watch(ProcessId process) throws IOException {
        command = process;
        write();
    }

    private void write() throws IOException {
        Path next = file.resolveSibling("next");
        Files.writeString(next, deadline + (command == null ? " 0 0" : " " + command.pid() + " " + command.start())
            + "\n");
        Files.move(next, file, StandardCopyOption.ATOMIC_MOVE);
    }

    /** The run has ended: nothing is killed any more. */
    @Override
    public void close() {
        try {
            remove();
            shell.getOutputStream().close();
        } catch (IOException e) {
            // without its file the shell ends within a second
        }
    }

    private void remove() throws IOException {
        Files.deleteIfExists(file);
        Files.deleteIfExists(file.getParent());
    }
}
