

import org.junit.jupiter.api.Test;

/** {@code --help} and {@code --version}. */
class HelpTest extends TaskTest {
    static final String HELP = """
        Runs a command under a lock file so that only one instance runs at a time.
        Requests that find the lock held are counted; beyond the threshold they are
        reported as an error.

        Usage: taskrunner OPTION... --command CMD
               taskrunner OPTION... -- CMD ARG...
               taskrunner @FILE
               taskrunner status | unlock | completion | install | uninstall [--help]

          -h, --help                      show this help
              --version                   show the version

        Required:
              --command=CMD               the command, run through the system shell; or
                                            without a shell: -- CMD ARG... at the end
              --lockfile=FILE             the lock file that identifies the task; best
                                            in /run/lock
              --threshold=N               contentions that are tolerated before one is
                                            reported; 0: they are not counted
              --counter-file=FILE         where the contentions are counted

        Locking:
              --overdue=DURATION          report a contention also when the lock has
                                            been held for longer than DURATION
                                            (default: 0, never)
              --replace                   on contention terminate the holder's run,
                                            then run; not where the lock is foreign or
                                            unknown
              --wait=DURATION             on contention try again for up to DURATION
                                            before it counts (default: 0, try once)
              --timeout=DURATION          terminate the command after DURATION: exit
                                            status 124 (default: 0, no limit)
              --kill-after=DURATION       send SIGKILL DURATION after SIGTERM (default:
                                            8s)
              --on-stale=recover|report   a lock file whose run is proven dead: recover
                                            it, or count it as contention (default:
                                            recover)

        Exit status and notifications:
              --conflict-exit-code=N      exit status of contention (a conflict, in
                                            flock's words) that is not reported, 0-255
                                            (default: 0)
              --exit-zero                 exit with 0 whenever the command has run and
                                            the lock was released
              --notify=CMD                run CMD for up to 30 s when a person should
                                            know; TASKRUNNER_EVENT and
                                            TASKRUNNER_MESSAGE, _RUN, _LOCKFILE,
                                            _COMMAND, _EXIT_STATUS, _CONTENTIONS,
                                            _THRESHOLD, _HOLDER_PID tell why
              --notify-on=EVENT,...       of started,succeeded,failed,timeout,stopped,
                                            recovered,contention,threshold,error or all
                                            (default: threshold,failed,timeout,
                                            recovered,error)

        Output:
              --quiet                     print nothing unless the exit status is not
                                            0; then all output, on stderr
              --log-file=FILE             append log lines to FILE (default: stderr);
                                            errors go to stderr as well
              --log-format=text|json      format of the log lines (default: text)
              --metrics-file=FILE         write Prometheus metrics for the textfile
                                            collector to FILE
              --verbose                   also log debug lines, and stack traces of
                                            internal errors

        Commands:
          status      Tells who holds the lock, since when and in which state, and the
                        counter.
          unlock      Removes a lock file that is stale, foreign or unknown, after it
                        has said what it is.
          completion  Prints a completion script for a shell.
          install     Installs the command taskrunner, which starts without JBang, its
                        completion for bash and zsh and its man page.
          uninstall   Removes what install wrote, wherever it was.

        Exit status:
          0            the command succeeded; or contention that is not reported
          1-255        the command failed: its own status, unchanged
          128+n        the command was killed by signal n; or taskrunner was stopped by
                         it, after it had terminated the command and released the lock
          64           usage; nothing was touched
          65           the counter file contains something else than a number; it is
                         left as it is
          73           the lock file cannot be created
          74           I/O error on the lock file or counter file, or a process that
                         cannot be killed
          75           contention beyond the threshold: reported
          124          the command timed out (--timeout)
          126, 127     the command could not be started; after --: was not found
          20, 21, 22   status, unlock: held; stale or orphaned; foreign or unknown

        Durations: 90, 0.5s, 500ms, 15m, 1h30m, 1d, 1w or ISO-8601 (PT15M).
        @FILE, where an option may stand: arguments from FILE, with quotes and #
        comments as in sh.

        Example:
          taskrunner --lockfile /run/lock/shop.lock --threshold 3 --quiet \\
              --counter-file /var/lib/taskrunner/shop.count -- pg_dump --file shop.sql
        shop
        """;
    static final String STATUS_HELP = """
        Tells who holds the lock, since when and in which state, and the counter.

        Usage: taskrunner status --lockfile FILE [--threshold N --counter-file FILE]
                                 [--json | --nagios]

          -h, --help                show this help
              --version             show the version
              --lockfile=FILE       the lock file
              --threshold=N         the task's threshold
              --counter-file=FILE   the task's counter file
              --json                print one JSON object
              --nagios              print one line with performance data, as a Nagios
                                      plugin does
              --verbose             also log debug lines, and stack traces of internal
                                      errors

        Exit status: 0 free, 20 held, 21 stale or orphaned, 22 foreign or unknown:
        nothing will run until somebody acts.
        With --nagios: 0 free or held, 1 stale or orphaned, 2 foreign, unknown or more
        contentions than the threshold, 3 errors.
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
    void versionIsOneLineOnStdout() {
        String classes = System.getProperty("java.class.path").split(":")[0];
        String version = "taskrunner " + taskrunner.VERSION + " (JDK " + System.getProperty("java.version") + ", "
            + classes;
        taskrunner("--version").run().exitedWith(0).outIs(version + ", with its start-up archive)\n").errIs("");
        Program.plainJava(directory, "taskrunner", "--version").run().exitedWith(0)
            .outIs(version + ", without its start-up archive)\n").errIs("");
    }
}
