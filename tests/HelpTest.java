

import org.junit.jupiter.api.Test;

/** {@code --help} and {@code --version}. */
class HelpTest extends TaskTest {
    static final String HELP = """
        Runs a command under a lock file so that only one instance runs at a time. Requests that find the
        lock held are counted; beyond the threshold they are reported as an error.

        Usage: taskrunner --command CMD --lockfile FILE --threshold N --counter-file FILE [OPTION...]
               taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]

          -h, --help                      show this help
              --version                   show the version

        Required:
              --command=CMD               the command, run through the system shell
              --lockfile=FILE             the lock file that identifies the task; best in /run/lock
              --threshold=N               contentions that are tolerated before one is reported; 0: they
                                            are not counted
              --counter-file=FILE         where the contentions are counted

        Locking:
              --wait=DURATION             on contention try again for up to DURATION before it counts
                                            (default: 0, try once)
              --timeout=DURATION          terminate the command after DURATION: exit status 124 (default:
                                            0, no limit)
              --kill-after=DURATION       send SIGKILL DURATION after SIGTERM (default: 8s)
              --on-stale=recover|report   a lock file whose run is proven dead: recover it, or count it as
                                            contention (default: recover)

        Exit status and notifications:
              --conflict-exit-code=N      exit status of contention (a conflict, in flock's words) that is
                                            not reported, 0-255 (default: 0)
              --exit-zero                 exit with 0 whenever the command has run and the lock was released
              --notify=CMD                run CMD on threshold, failed, timeout, recovered (a stale lock)
                                            and error; TASKRUNNER_EVENT and TASKRUNNER_MESSAGE, _RUN,
                                            _LOCKFILE, _COMMAND, _EXIT_STATUS, _CONTENTIONS, _THRESHOLD,
                                            _HOLDER_PID tell which

        Output:
              --quiet                     print nothing unless the exit status is not 0; then all output,
                                            on stderr
              --log-file=FILE             append log lines to FILE (default: stderr); errors go to stderr
                                            as well
              --log-format=text|json      format of the log lines (default: text)
              --metrics-file=FILE         write Prometheus metrics for the textfile collector to FILE
              --verbose                   also log debug lines, and stack traces of internal errors

        Commands:
          status     Tells who holds the lock, since when and in which state, and the counter.
          install    Installs the command taskrunner, which starts without JBang.
          uninstall  Removes what install wrote.

        Exit status:
          0        the command succeeded; or contention that is not reported
          1-255    the command failed: its own status, unchanged
          128+n    the command was killed by signal n; or taskrunner was stopped by it, after it had
                     terminated the command and released the lock
          64       usage; nothing was touched
          65       the counter file contains something else than a number; it is left as it is
          73       the lock file cannot be created
          74       I/O error on the lock file or counter file, or a process that cannot be killed
          75       contention beyond the threshold: reported
          124      the command timed out (--timeout)
          126      the command could not be started
          20, 21   status: 20 held or foreign, 21 stale or orphaned

        Durations: 90, 90s, 15m, 2h, 1d or ISO-8601 (PT15M). @FILE reads arguments from FILE.

        Example:
          taskrunner --command 'pg_dump shop > shop.sql' --lockfile /run/lock/shop.lock \\
              --threshold 3 --counter-file /var/lib/taskrunner/shop.count --quiet
        """;
    static final String STATUS_HELP = """
        Tells who holds the lock, since when and in which state, and the counter.

        Usage: taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]

          -h, --help                show this help
              --version             show the version
              --lockfile=FILE       the lock file
              --threshold=N         the task's threshold
              --counter-file=FILE   the task's counter file
              --json                print one JSON object
              --verbose             also log debug lines, and stack traces of internal errors

        Exit status: 0 free, 20 held or foreign, 21 stale or orphaned.
        """;

    @Test
    void helpGoesToStdout() {
        taskrunner("--help").run().exitedWith(0).outIs(HELP).errIs("");
        taskrunner("-h").run().exitedWith(0).outIs(HELP).errIs("");
        taskrunner("status", "--help").run().exitedWith(0).outIs(STATUS_HELP).errIs("");
    }

    @Test
    void helpWinsOverMissingOptions() {
        taskrunner("--command", "true", "--help").run().exitedWith(0).outIs(HELP).errIs("");
    }

    @Test
    void theVersionIsOneLineOnStdout() {
        taskrunner("--version").run().exitedWith(0).outIs("taskrunner " + taskrunner.VERSION + "\n").errIs("");
    }
}
