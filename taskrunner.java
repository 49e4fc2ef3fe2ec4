///usr/bin/env jbang "$0" "$@" ; exit $?
// SPDX-License-Identifier: Apache-2.0
//DESCRIPTION Run a command under a lock file, one instance at a time; report when too many requests found it held
//JAVA 17+
//DEPS info.picocli:picocli:4.7.7
//COMPILE_OPTIONS -encoding UTF-8 -XDignore.symbol.file -XDstringConcat=inline
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Xss256k
//JAVA_OPTIONS -XX:-MaxFDLimit -Djdk.reflect.useNativeAccessorOnly=true

// taskrunner --command CMD --lockfile FILE --threshold N --counter-file FILE [OPTION...]
// taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]
// taskrunner install | uninstall [--bin DIR]
//     runs CMD while it holds FILE; a request that finds FILE there is a contention: it is counted, and reported as
//     an error (exit status 75) once the counter exceeds N
// taskrunner --help tells the rest; without JBang: javac with picocli on the class path, then java taskrunner

import java.io.File;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;

import picocli.CommandLine;
import picocli.CommandLine.Model.ArgGroupSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParseResult;

// 1. main

/**
 * Runs a command under a lock file so that only one instance runs at a time, counts the requests that find the lock
 * held, and reports an error once they exceed a threshold.
 *
 * <p>From the top: what is asked ({@link Task}, {@link Request}), the workflow ({@link Execution}), how it ended
 * ({@link Outcome}), the lock with its protocol ({@link LockFile}), the counter ({@link ContentionCounter}), processes
 * ({@link ProcessTree}), what is reported ({@link Log}), the command line ({@link Options}), the other commands
 * ({@link Status}), small things ({@link RegularFiles}).
 *
 * <dl>
 * <dt>task</dt><dd>what a lock file names: lock file, counter file, threshold</dd>
 * <dt>request</dt><dd>one invocation of taskrunner for a task</dd>
 * <dt>holder</dt><dd>the taskrunner process that made the lock file and runs the command</dd>
 * <dt>run</dt><dd>the command and all its processes; the run id in their environment tells them</dd>
 * <dt>contention</dt><dd>a request that finds the lock file there (a conflict, in flock(1)'s words)</dd>
 * <dt>threshold</dt><dd>how many contentions are tolerated before one is reported</dd>
 * <dt>fcntl lock</dt><dd>the kernel's advisory record lock on the lock file: it ends with its process</dd>
 * <dt>gate</dt><dd>the critical section in which locks and counters change: LOCKFILE.tmp with an fcntl lock</dd>
 * <dt>held</dt><dd>the holder lives</dd>
 * <dt>orphaned</dt><dd>the holder is dead, processes of its run live</dd>
 * <dt>stale</dt><dd>the holder and all of its run are proven dead: the next request recovers the lock</dd>
 * <dt>foreign, unknown</dt><dd>not made by taskrunner; made by it, but nothing can be proven</dd>
 * </dl>
 */
public class taskrunner {
    static final String VERSION = "1.0.0";

    public static void main(String[] args) {
        StandardStream.occupyClosed();
        exit(run(args));
    }

    /**
     * Ends this JVM. Not by {@link System#exit}, which since JDK 21 looks for a logger in every jar of the class path
     * (contention, JDK 25, installed: 1.46 of a JVM that does nothing, instead of 1.63); no shutdown hook has anything
     * to do.
     */
    static void exit(int exitStatus) {
        System.out.flush();
        System.err.flush();
        Runtime.getRuntime().halt(exitStatus);
    }

    static int run(String... args) {
        Arguments arguments;
        try {
            arguments = Arguments.parse(Options.COMMANDS, args);
        } catch (UsageException e) {
            return e.show(Options.COMMANDS);
        }
        if (arguments == null) {
            return ExitStatus.OK;
        }
        try {
            switch (arguments.command().name()) {
                case "status":
                    return Status.run(arguments);
                case "install":
                    return Installation.TASKRUNNER.install(arguments);
                case "uninstall":
                    return Installation.TASKRUNNER.uninstall(arguments);
                default:
                    Execution execution = new Execution(new Request(arguments));
                    execution.stopOnSignals();
                    return execution.run();
            }
        } catch (UsageException e) {
            return e.show(Options.COMMANDS);
        } catch (TaskException e) {
            return complain(e.getMessage(), e.exitStatus, e, arguments.has("--verbose"));
        } catch (RuntimeException | Error e) {
            return complain("internal error: " + e + "; --verbose shows where", ExitStatus.INTERNAL, e,
                arguments.has("--verbose"));
        }
    }

    private static int complain(String message, int exitStatus, Throwable cause, boolean verbose) {
        PrintWriter err = new PrintWriter(StandardStream.ERR, true);
        err.println("taskrunner: " + Text.printable(message));
        if (verbose) {
            cause.printStackTrace(err);
        }
        return exitStatus;
    }
}

// 2. what is asked

/**
 * What a lock file names.
 *
 * @param lockFile absolute, its directory with symbolic links resolved, so that two spellings are one task
 * @param counterFile resolved like the lock file
 * @param threshold contentions that are tolerated, at least 0; 0: contentions are not counted
 */
record Task(Path lockFile, Path counterFile, int threshold) {
    /** The task that the options name; --threshold and --counter-file may be missing. */
    static Task of(Arguments arguments) throws UsageException {
        return new Task(arguments.path("--lockfile"), arguments.path("--counter-file"),
            arguments.number("--threshold", 0, Integer.MAX_VALUE, 0));
    }

    /** The path of the lock's {@link Gate}. */
    Path gate() {
        return gate(lockFile);
    }

    static Path gate(Path file) {
        return file.resolveSibling(file.getFileName() + ".tmp");
    }

    /**
     * Checks the directories of the lock file and, where contentions are counted, of the counter file, before anything
     * is touched.
     */
    void checkDirectories() throws TaskException {
        String wrong = RegularFiles.unusableDirectory(lockFile);
        if (wrong != null) {
            throw TaskException.cannotCreate("cannot create lock file " + lockFile + ": " + wrong, null);
        }
        wrong = threshold == 0 ? null : RegularFiles.unusableDirectory(counterFile);
        if (wrong == null && threshold > 0 && !Files.isWritable(counterFile.getParent())) {
            wrong = "directory " + counterFile.getParent() + " is not writable; give it to this user or choose another"
                + " --counter-file";
        }
        if (wrong != null) {
            throw TaskException.counter(ExitStatus.IO, "cannot use counter file " + counterFile + ": " + wrong, null);
        }
    }
}

/** One request, validated. Zero durations: no wait, no limit; null files and commands: not asked for. */
final class Request {
    final Task task;
    /** The text for the system shell. */
    final String command;
    /** How long to try again before a contention counts. */
    final Duration wait;
    /** The longest that the command may run. */
    final Duration timeout;
    /** How long after SIGTERM the command's processes get SIGKILL. */
    final Duration killAfter;
    final boolean recoverStale;
    final int conflictExitStatus;
    final boolean exitZero;
    final String notifyCommand;
    final boolean quiet;
    final Path logFile;
    final boolean jsonLog;
    final Path metricsFile;
    final boolean verbose;

    /** @throws UsageException when an option is missing or malformed, before anything is touched */
    Request(Arguments arguments) throws UsageException {
        arguments.requireAll("--command", "--lockfile", "--threshold", "--counter-file");
        command = arguments.text("--command");
        if (command.isBlank()) {
            throw arguments.refused("--command is empty");
        }
        task = Task.of(arguments);
        wait = arguments.duration("--wait", Duration.ZERO);
        timeout = arguments.duration("--timeout", Duration.ZERO);
        killAfter = arguments.duration("--kill-after", Duration.ofSeconds(8));
        recoverStale = !arguments.isOther("--on-stale", "recover", "report");
        jsonLog = arguments.isOther("--log-format", "text", "json");
        conflictExitStatus = arguments.number("--conflict-exit-code", 0, 255, 0);
        exitZero = arguments.has("--exit-zero");
        quiet = arguments.has("--quiet");
        verbose = arguments.has("--verbose");
        notifyCommand = arguments.text("--notify");
        logFile = arguments.path("--log-file");
        metricsFile = arguments.path("--metrics-file");
        refuseSharedFiles(arguments);
    }

    private void refuseSharedFiles(Arguments arguments) throws UsageException {
        Path counterFile = task.counterFile();
        for (Path other : new Path[] {counterFile, logFile, metricsFile}) {
            if (task.lockFile().equals(other) || task.gate().equals(other)) {
                String option = other == counterFile ? "--counter-file" : other == logFile ? "--log-file"
                    : "--metrics-file";
                throw arguments.refused(option + " " + other + " is the lock file or its .tmp; choose another file");
            }
        }
        if (counterFile.equals(logFile) || counterFile.equals(metricsFile) || logFile != null
            && logFile.equals(metricsFile)) {
            throw arguments.refused("--counter-file, --log-file and --metrics-file must be different files");
        }
        Path temporary = metricsFile == null ? null : Task.gate(metricsFile);
        if (temporary != null
                && (temporary.equals(task.lockFile()) || temporary.equals(counterFile) || temporary.equals(logFile))) {
            throw arguments.refused("--metrics-file is first written to " + temporary + ", which is the lock, counter"
                + " or log file; choose another file");
        }
    }
}

// 3. the workflow

/**
 * One request from the lock to its outcome: acquire the lock; when acquired run the command and release the lock. The
 * script calls {@link #run}; the batch variant calls the steps one by one.
 *
 * <p>One thread goes through the steps; {@link #stop} may be called by any other.
 */
final class Execution {
    private static final int MAX_BACKOFF_MILLIS = 500;
    /** The statuses of a command that SIGHUP, SIGINT or SIGTERM killed. */
    private static final Set<Integer> SIGNALLED = Set.of(129, 130, 143);
    /** A second signal sooner than this is the first one again: timeout(1) sends it to its child and to its group. */
    private static final long REPEATED_NANOS = 100_000_000;
    /** Signals that end a process by default, without those that the JVM refuses or ignores. */
    private static final String[] STOPPING = {"TERM", "INT", "HUP", "ALRM", "VTALRM", "PROF", "XCPU", "POLL", "PWR",
        "STKFLT", "SYS", "TRAP", "ABRT"};
    /** Signals that are passed on to the command. */
    private static final String[] FORWARDED = {"USR1", "USR2", "WINCH", "CONT"};
    /** How long taskrunner's own copy of a signal may come after the command's, on a machine under load. */
    private static final int SIGNAL_GRACE_MILLIS = 2000;

    final Request request;
    final Holder holder;
    final Log log;
    private LockFile lock;
    private LockState recovered;
    private Outcome outcome;
    private Run run;
    /** Guarded by this, as {@link #tree} and {@link #waiting}. */
    private StopSignal stopSignal;
    /** When it came, in the time of {@link System#nanoTime}. */
    private long stopNanos;
    private ProcessTree tree;
    private Thread waiting;

    /** A signal that asked taskrunner to stop; its name without SIG. */
    record StopSignal(String name, int number) {
        static final StopSignal TERM = new StopSignal("TERM", 15);

        /** Whether somebody asks for the end; SIGHUP comes by itself, and twice, when a terminal goes. */
        boolean isRequest() {
            return name.equals("TERM") || name.equals("INT");
        }
    }

    /** Takes the command's output where the command does not write it itself. */
    interface Output {
        void started(Process process);

        /**
         * The command has ended; what it has written so far is to be taken.
         *
         * @param escalate whether nothing may delay the end any more
         */
        void ended(BooleanSupplier escalate);
    }

    Execution(Request request) {
        this.request = request;
        this.holder = Holder.self();
        this.log = new Log(request, holder);
    }

    /** The whole workflow; returns the exit status. */
    int run() {
        try {
            if (acquireLock()) {
                runCommand();
            }
        } finally {
            releaseLock();
        }
        return finish();
    }

    /**
     * Acquires the lock and with it clears the counter; on contention counts it. Both happen inside the gate, so that
     * every contention is counted exactly once and none of another run's.
     *
     * @return true when acquired; otherwise {@link #outcome} says why not
     */
    boolean acquireLock() {
        long deadline = System.nanoTime() + request.wait.toNanos();
        Backoff backoff = new Backoff(50, MAX_BACKOFF_MILLIS);
        boolean waits = false;
        while (true) {
            long left = deadline - System.nanoTime();
            try {
                request.task.checkDirectories();
                LockFile.Attempt attempt = LockFile.attempt(request, holder, left <= 0);
                boolean nested = attempt.lock() == null && Holder.isAround(attempt.lockState().holder());
                if (attempt.lock() != null) {
                    lock = attempt.lock();
                    recovered = attempt.lockState();
                    if (recovered != null) {
                        log.warn("recovered", recovery());
                    }
                    return true;
                }
                if (left <= 0) {
                    outcome = Outcome.contended(request, attempt.lockState(), attempt.count(), nested);
                    return false;
                }
                if (nested) {
                    // it would wait for itself
                    deadline = System.nanoTime();
                    continue;
                }
                if (!waits) {
                    waits = true;
                    log.debug("waiting", attempt.lockState().message() + "; waiting for up to "
                        + Text.duration(request.wait.toMillis()));
                }
            } catch (TaskException e) {
                outcome = stopSignal() != null ? Outcome.stopped(null, stopSignal()) : Outcome.error(null, e);
                return false;
            }
            if (stopsWithin(Math.min(backoff.next(), left / 1_000_000 + 1))) {
                outcome = Outcome.stopped(null, stopSignal());
                return false;
            }
        }
    }

    private String recovery() {
        return "recovered stale lock " + request.task.lockFile() + ": " + recovered.what();
    }

    /** Waits for a signal to stop, for up to so many milliseconds; an interrupt is one. */
    private synchronized boolean stopsWithin(long millis) {
        long deadline = System.nanoTime() + millis * 1_000_000;
        try {
            for (long left = millis; stopSignal == null
                && left > 0; left = (deadline - System.nanoTime()) / 1_000_000) {
                wait(left);
            }
        } catch (InterruptedException e) {
            stopSignal = StopSignal.TERM;
        }
        return stopSignal != null;
    }

    /** Runs the command with the caller's standard streams, or into the buffered output of {@code --quiet}. */
    void runCommand() {
        ProcessBuilder builder = new ProcessBuilder().inheritIO();
        log.bufferOutput(builder);
        runCommand(builder, null);
    }

    /**
     * Runs the command to its end; the lock must be held.
     *
     * @param builder says where the standard streams go
     * @param output or null
     */
    void runCommand(ProcessBuilder builder, Output output) {
        log.info("started", "running: " + Text.oneLine(request.command));
        long startedMillis = System.currentTimeMillis();
        long startedNanos = System.nanoTime();
        run = new Run(startedMillis, 0);
        try {
            Process process;
            synchronized (this) {
                if (stopSignal != null) {
                    outcome = Outcome.stopped(null, stopSignal);
                    return;
                }
                waiting = Thread.currentThread();
                process = start(builder);
            }
            outcome = await(process, output, startedMillis, startedNanos);
        } catch (TaskException e) {
            outcome = Outcome.error(null, e);
        } catch (RuntimeException | Error e) {
            outcome = Outcome.error(run, new TaskException(ExitStatus.INTERNAL,
                "the command was terminated after an internal error: " + e + "; --verbose shows where", e));
            keepLockUnlessGone(tree.terminate(Duration.ZERO));
        }
    }

    /** A lock whose run lives on stays, as orphaned. */
    private void keepLockUnlessGone(List<ProcessId> remaining) {
        if (!remaining.isEmpty()) {
            lock.keep();
            lock = null;
        }
    }

    private Outcome await(Process process, Output output, long startedMillis, long startedNanos) {
        lock.recordCommand(tree.root());
        if (output != null) {
            output.started(process);
        }
        long oomKills = Processes.oomKills();
        boolean timedOut = false;
        int status = -1;
        try {
            timedOut = !request.timeout.isZero() && !process.waitFor(request.timeout.toMillis(), TimeUnit.MILLISECONDS);
            status = timedOut ? -1 : process.waitFor();
            if (SIGNALLED.contains(status)) {
                // a terminal, or kill(1) of a process group, signals both: the command may be the first to end
                stopsWithin(SIGNAL_GRACE_MILLIS);
            }
        } catch (InterruptedException e) {
            stop(StopSignal.TERM);
        }
        List<ProcessId> remaining = timedOut || stopSignal() != null ? tree.terminate(request.killAfter)
            : ExitStatus.isSignal(status) ? terminateLeft(status) : List.of();
        StopSignal stopped = stopSignal();
        if (output != null) {
            boolean forced = timedOut;
            output.ended(() -> forced || stopSignal() != null);
        }
        run = new Run(startedMillis, (System.nanoTime() - startedNanos) / 1_000_000);
        keepLockUnlessGone(remaining);
        return !remaining.isEmpty() ? Outcome.error(run, notKilled(remaining))
            : stopped != null ? Outcome.stopped(run, stopped)
            : timedOut ? Outcome.timedOut(request, run)
            : Outcome.ended(request, run, status, status == ExitStatus.KILLED && oomKills >= 0
                && Processes.oomKills() > oomKills);
    }

    /** The command was killed, but not from here: what is left of it was not left behind on purpose. */
    private List<ProcessId> terminateLeft(int status) {
        List<ProcessId> left = tree.alive();
        if (left.isEmpty()) {
            return left;
        }
        log.warn("left", "the command was killed by SIG" + Text.signal(status - ExitStatus.SIGNAL)
            + "; terminating what is left of it: " + Text.pids(ProcessTree.pids(left)));
        return tree.terminate(request.killAfter);
    }

    private TaskException notKilled(List<ProcessId> remaining) {
        StringBuilder which = new StringBuilder();
        for (int i = 0; i < remaining.size() && i < Text.MAX_LIST; i++) {
            String user = Processes.signal(remaining.get(i), true) ? null : Processes.user(remaining.get(i));
            which.append(i == 0 ? "" : ", ").append("pid ").append(remaining.get(i).pid()).append(user == null
                ? " (survived SIGKILL: blocked in the kernel?)" : " (it belongs to " + user + ": EPERM)");
        }
        return TaskException.io("cannot kill " + which + "; lock file " + request.task.lockFile() + " is kept; look: ps"
            + " -o pid,user,stat,wchan:20,args -p " + Text.list(ProcessTree.pids(remaining)), null);
    }

    private synchronized StopSignal stopSignal() {
        return stopSignal;
    }

    private Process start(ProcessBuilder builder) throws TaskException {
        String workingDirectory = Processes.removedWorkingDirectory();
        if (workingDirectory != null) {
            throw TaskException.cannotStart("working directory " + workingDirectory + " is gone", null);
        }
        holder.putInto(builder.environment());
        builder.environment().put("TASKRUNNER_LOCKFILE", request.task.lockFile().toString());
        if (builder.redirectInput() == ProcessBuilder.Redirect.INHERIT && Processes.stdinIsClosed()) {
            builder.redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")));
        }
        try {
            Process process = Processes.start(builder.command(Processes.shell(request.command)));
            tree = new ProcessTree(Processes.idOf(process), holder.runId());
            return process;
        } catch (IOException e) {
            throw TaskException.cannotStart(Text.reason(e), e);
        } catch (OutOfMemoryError e) {
            // a JVM that cannot start its reaper thread throws after the fork: the child lives already
            tree = ProcessTree.ofChildren(holder.runId());
            List<ProcessId> remaining = tree.terminate(Duration.ZERO);
            keepLockUnlessGone(remaining);
            throw remaining.isEmpty() ? TaskException.cannotStart(Text.reason(e), e) : notKilled(remaining);
        }
    }

    /** Terminates the command and lets the request end as stopped; a second SIGTERM or SIGINT kills at once. */
    void stop(StopSignal signal) {
        ProcessTree running;
        synchronized (this) {
            running = tree;
            if (stopSignal != null) {
                if (running != null && signal.isRequest() && System.nanoTime() - stopNanos > REPEATED_NANOS) {
                    running.escalate();
                }
                return;
            }
            if (running != null) {
                running.signalledByTerminal(Processes.groupSignalledByTerminal(signal.name()));
            }
            stopSignal = signal;
            stopNanos = System.nanoTime();
            notifyAll();
        }
        if (running != null && running.terminate(request.killAfter).contains(running.root())) {
            // the command itself cannot be killed: who waits for it would wait for ever
            waiting.interrupt();
        }
    }

    /** Passes the signal on to the command's own process, if it runs. */
    private void forward(String name) {
        ProcessTree running;
        synchronized (this) {
            running = run == null || outcome != null ? null : tree;
        }
        try {
            if (running != null && Processes.lives(running.root())) {
                Processes.start(new ProcessBuilder("/bin/sh", "-c", "kill -" + name + " " + running.root().pid()));
            }
        } catch (IOException | UncheckedIOException | OutOfMemoryError e) {
            log.warn("signal", "cannot pass SIG" + name + " on to the command: " + Text.reason(e));
        }
    }

    /** Stops this request on a signal, or passes it on; one that is ignored, as under nohup(1), stays so. */
    void stopOnSignals() {
        Processes.nameSelf();
        for (String name : STOPPING) {
            handle(name, false);
        }
        for (String name : FORWARDED) {
            handle(name, true);
        }
    }

    private void handle(String name, boolean forward) {
        try {
            sun.misc.Signal signal = new sun.misc.Signal(name);
            sun.misc.SignalHandler before = sun.misc.Signal.handle(signal, new sun.misc.SignalHandler() {
                @Override
                public void handle(sun.misc.Signal received) {
                    if (forward) {
                        forward(name);
                    } else {
                        stop(new StopSignal(name, received.getNumber()));
                    }
                }
            });
            if (before == sun.misc.SignalHandler.SIG_IGN) {
                sun.misc.Signal.handle(signal, before);
            }
        } catch (IllegalArgumentException e) {
            log.debug("signal", "cannot handle SIG" + name + ": " + e.getMessage());
        }
    }

    /**
     * Releases the lock, if this request holds it. A failure is the outcome, unless a signal or the timeout ended it.
     */
    void releaseLock() {
        if (lock == null) {
            return;
        }
        try {
            if (!lock.release()) {
                log.warn("replaced", "lock file " + request.task.lockFile() + " was removed or replaced while the"
                    + " command was running: the task may have run twice; keep cleaners (tmpfiles, rm) away from it");
            }
        } catch (TaskException e) {
            if (outcome.ending == Ending.STOPPED || outcome.ending == Ending.TIMEOUT && !request.exitZero) {
                log.error("error", e.getMessage());
            } else {
                outcome = Outcome.error(run, e);
            }
        }
        lock = null;
    }

    /** Writes the metrics, notifies, and logs the outcome as the last line; returns the exit status. */
    int finish() {
        if (request.metricsFile != null) {
            try {
                Metrics.write(request, outcome);
            } catch (IOException | TaskException e) {
                log.warn("metrics", e instanceof TaskException ? e.getMessage()
                    : "cannot write metrics file " + request.metricsFile + ": " + Text.reason(e));
            }
        }
        if (request.notifyCommand != null) {
            if (recovered != null) {
                notify("recovered", recovery());
            }
            if (outcome.ending.notifies) {
                notify(outcome.ending.event(), outcome.message(request.command));
            }
        }
        log.outcome(outcome);
        return outcome.exitStatus;
    }

    private void notify(String event, String message) {
        try {
            Process process = Notification.start(request, holder, outcome, event, message);
            synchronized (this) {
                tree = new ProcessTree(Processes.idOf(process), null);
            }
            if (!process.waitFor(Notification.MAX_SECONDS, TimeUnit.SECONDS)) {
                tree.terminate(Duration.ofSeconds(1));
                log.warn("notify", "notification command timed out after " + Notification.MAX_SECONDS + " s: "
                    + Text.oneLine(request.notifyCommand));
            } else if (process.exitValue() != 0) {
                log.warn("notify", "notification command failed with status " + process.exitValue() + ": "
                    + Text.oneLine(request.notifyCommand));
            }
        } catch (IOException | OutOfMemoryError e) {
            log.warn("notify", "cannot start the notification command: " + Text.reason(e));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    Outcome outcome() {
        return outcome;
    }

    /** Ends the request with an error of its caller's. */
    void fail(TaskException error) {
        outcome = Outcome.error(run, error);
    }
}

/** When the command started (milliseconds since 1970, UTC) and how long it ran (milliseconds). */
record Run(long startedMillis, long durationMillis) {
}

// 4. how it ended

/** The ways a request can end, by their names in logs. */
enum Ending {
    SUCCEEDED("INFO", false), FAILED("ERROR", true), TIMEOUT("ERROR", true), STOPPED("WARN", false),
    CONTENTION("WARN", false),
    /** Contention beyond the threshold. */
    THRESHOLD("ERROR", true),
    /** The request could not do its work, or not release the lock. */
    ERROR("ERROR", true);

    final String level;
    /** Whether a person should know. */
    final boolean notifies;

    Ending(String level, boolean notifies) {
        this.level = level;
        this.notifies = notifies;
    }

    String event() {
        return name().toLowerCase(Locale.ROOT);
    }
}

/**
 * How a request ended, and what is reported about it. Its factories set the facts, an ending's own; nobody changes them
 * later.
 */
final class Outcome {
    final Ending ending;
    final int exitStatus;
    private final String text;
    private final boolean namesCommand;
    /** The command's run, or null when it did not start. */
    final Run run;
    /** What was found in the lock's place on contention, or null. */
    LockState lockState;
    /** The contentions with this one, or -1 when it was not counted. */
    long contentions = -1;
    /** The signal that killed the command or stopped taskrunner, without SIG, or null. */
    String signal;
    /** The shell's exit status when the command failed. */
    int status;
    TaskException error;

    private Outcome(Ending ending, int exitStatus, String text, boolean namesCommand, Run run) {
        this.ending = ending;
        this.exitStatus = exitStatus;
        this.text = text;
        this.namesCommand = namesCommand;
        this.run = run;
    }

    /** One line: what happened, to what, what to do. @param command the command as it may be shown */
    String message(String command) {
        return namesCommand ? text + ": " + Text.oneLine(command) : text;
    }

    /** The counter after this request, or -1 when it was not counted: a report starts it again at 0. */
    long counter() {
        return ending == Ending.THRESHOLD ? 0 : contentions;
    }

    /** @param status the shell's exit status @param outOfMemory whether the kernel's OOM killer killed it */
    static Outcome ended(Request request, Run run, int status, boolean outOfMemory) {
        String after = " after " + Text.duration(run.durationMillis());
        if (status == 0) {
            return new Outcome(Ending.SUCCEEDED, ExitStatus.OK, "command succeeded" + after, true, run);
        }
        boolean killed = ExitStatus.isSignal(status);
        String signal = killed ? Text.signal(status - ExitStatus.SIGNAL) : null;
        Outcome outcome = new Outcome(Ending.FAILED, request.exitZero ? ExitStatus.OK : status, "command failed with"
            + " status " + status + (killed ? " (killed by SIG" + signal + (outOfMemory
            ? " from the kernel's OOM killer: out of memory" : "") + ")" : status == ExitStatus.NOT_FOUND
            ? " (not found)" : status == ExitStatus.CANNOT_START ? " (found, but it cannot be executed)" : "") + after,
            true, run);
        outcome.signal = signal;
        outcome.status = status;
        return outcome;
    }

    static Outcome timedOut(Request request, Run run) {
        return new Outcome(Ending.TIMEOUT, request.exitZero ? ExitStatus.OK : ExitStatus.TIMEOUT, "command timed out"
            + " after " + Text.duration(request.timeout.toMillis()) + " (--timeout) and was terminated", true, run);
    }

    /** @param run or null when the command did not start */
    static Outcome stopped(Run run, Execution.StopSignal signal) {
        Outcome outcome = new Outcome(Ending.STOPPED, ExitStatus.SIGNAL + signal.number(), "stopped by SIG"
            + signal.name() + (run == null ? " before the command started" : " after "
            + Text.duration(run.durationMillis()) + ", all processes of the command are gone"), true, run);
        outcome.signal = signal.name();
        return outcome;
    }

    /** @param nested whether the request runs inside the run that holds the lock */
    static Outcome contended(Request request, LockState lockState, ContentionCounter.Count count, boolean nested) {
        long n = count.value();
        String inside = nested ? "; this request runs inside that run and cannot wait for its end" : "";
        int threshold = request.task.threshold();
        Outcome outcome;
        if (count.reported()) {
            outcome = new Outcome(Ending.THRESHOLD, ExitStatus.THRESHOLD, "task " + request.task.lockFile()
                + " was busy for " + n + " requests in a row (threshold " + threshold + "): " + lockState.what()
                + inside + "; " + lockState.advice(), false, null);
        } else {
            String advice = lockState.kind() == LockState.Kind.HELD ? inside : "; " + lockState.advice();
            outcome = new Outcome(Ending.CONTENTION, request.conflictExitStatus, lockState.message() + advice + (n < 0
                ? "; contention, not counted (threshold 0)" : "; contention " + n + ", threshold " + threshold
                    + (n > threshold ? ": the next one is reported" : "")), false, null);
        }
        outcome.lockState = lockState;
        outcome.contentions = n;
        return outcome;
    }

    /** @param run or null when the command did not start */
    static Outcome error(Run run, TaskException error) {
        Outcome outcome = new Outcome(Ending.ERROR, error.exitStatus, error.getMessage(), false, run);
        outcome.error = error;
        return outcome;
    }
}

// 5. the lock

/**
 * A lock that this request holds, and the way to get one. The lock file's existence is the lock; an fcntl(2) lock on it
 * marks that the holder lives. No crash, at any instruction, gives two holders, a lost count or a task that never runs
 * again:
 *
 * <ol>
 * <li><b>Enter the gate</b> ({@link Gate#enter}): open LOCKFILE.tmp, lock it, see that the path still leads to the
 *     inode that is locked; else look again every few milliseconds, for up to 10 s. A .tmp that nobody has locked is a
 *     leftover: it is used. Inside, a request is alone in looking at, making and recovering LOCKFILE, and in changing
 *     the counter.
 * <li><b>Look</b> ({@link #look}): what is at LOCKFILE? A taken fcntl lock is a living holder; otherwise {@link
 *     StaleCheck}.
 * <li><b>Contention</b>: LOCKFILE is there and not proven stale. Count it, leave the gate, and tell who holds it.
 * <li><b>Recover</b>: it is stale. See that the counter can be cleared, then unlink it, if it still is the inode that
 *     was judged, and look again. The gate's own inode at LOCKFILE is a holder killed between steps 5 and 6: stale.
 * <li><b>Acquire</b>: nothing is there. See that the counter can be cleared, write the record into the gate's file
 *     (truncate, write, fsync) and hard-link LOCKFILE to it: it appears complete and already locked. Then clear the
 *     counter; when that fails unlink LOCKFILE again. A crash in between leaves a stale lock, and who recovers it
 *     clears the counter.
 * <li><b>Leave the gate</b>: unlink LOCKFILE.tmp, keep its channel: the fcntl lock now marks the holder's life.
 * <li><b>Run</b>: append the command's process to the record ({@link #recordCommand}).
 * <li><b>Release</b> ({@link #release}), outside the gate: if LOCKFILE still is the own inode, unlink it, then close.
 *     If not, somebody removed or replaced it: leave it alone.
 * </ol>
 *
 * <p>Two things make this hard. Closing <em>any</em> channel on an inode drops all fcntl locks that the process has
 * there (POSIX): only {@link LockedFile} closes channels. And Java has no fstat(2): {@link LockedFile#isAt} is the one
 * proof that a path leads to an inode.
 */
final class LockFile {
    /** The locks that this JVM holds: asked before any lock file is opened. */
    private static final Map<Path, Holder> HELD = new ConcurrentHashMap<>();

    private final Path path;
    private final Holder holder;
    private final LockedFile file;
    /** Device and inode, null where the system has none; nothing else can get them while the file is open. */
    private final Object inode;

    /**
     * What came of one try.
     *
     * @param lock null on contention
     * @param lockState what blocks the task; with a lock: the stale one that was recovered, or null
     */
    record Attempt(LockFile lock, LockState lockState, ContentionCounter.Count count) {
    }

    private LockFile(Path path, Holder holder, LockedFile file) throws IOException {
        BasicFileAttributes attributes = RegularFiles.attributes(path);
        this.path = path;
        this.holder = holder;
        this.file = file;
        this.inode = attributes == null ? null : attributes.fileKey();
    }

    /**
     * Tries once to acquire the lock.
     *
     * @param count whether a contention is counted
     * @throws TaskException 73 when the lock file cannot be created, 74 on I/O errors, 65 on a counter file that holds
     *     no counter
     */
    static Attempt attempt(Request request, Holder holder, boolean count) throws TaskException {
        Attempt attempt = null;
        while (attempt == null) {
            try (Gate gate = enterGate(request.task.lockFile())) {
                attempt = inside(gate, request, holder, count);
            } catch (IOException e) {
                throw TaskException.io("cannot use lock file " + request.task.lockFile() + ": " + Text.reason(e), e);
            }
        }
        return attempt;
    }

    /** @return null when the gate was removed meanwhile, as by a cleaner: then enter anew */
    private static Attempt inside(Gate gate, Request request, Holder holder, boolean count) throws TaskException,
        IOException {
        Path path = request.task.lockFile();
        ContentionCounter counter = new ContentionCounter(request.task);
        LockState recovered = null;
        while (true) {
            try (Found found = look(path, gate)) {
                if (found == null) {
                    counter.check();
                    gate.write(holder.text());
                    if (link(path, gate)) {
                        LockFile lock = held(path, gate, holder, counter);
                        return lock == null ? null : new Attempt(lock, recovered, ContentionCounter.NOT_COUNTED);
                    }
                } else if (found.lockState.kind() != LockState.Kind.STALE || !request.recoverStale) {
                    return new Attempt(null, found.lockState, count ? counter.increment()
                        : ContentionCounter.NOT_COUNTED);
                } else {
                    counter.check();
                    if (gate.remove(path)) {
                        recovered = found.lockState;
                    }
                }
            }
        }
    }

    private static Gate enterGate(Path path) throws TaskException, IOException {
        return Gate.enter(Task.gate(path), cannotCreate(path), Holder.MAGIC);
    }

    private static String cannotCreate(Path path) {
        return "cannot create lock file " + path;
    }

    private static boolean link(Path path, Gate gate) throws TaskException {
        try {
            Files.createLink(path, gate.path());
            return true;
        } catch (FileAlreadyExistsException e) {
            return false;
        } catch (IOException | UnsupportedOperationException e) {
            throw TaskException.cannotCreate(cannotCreate(path) + ": " + Text.reason(e)
                + "; it needs a file system with hard links, such as /run/lock", e);
        }
    }

    /**
     * @return null when the gate was removed meanwhile, since the lock file may then be a link to another request's
     *     node
     */
    private static LockFile held(Path path, Gate gate, Holder holder, ContentionCounter counter) throws TaskException,
        IOException {
        boolean held = false;
        try {
            counter.clear();
            LockFile lock = new LockFile(path, holder, gate.file());
            held = gate.leaveWithFile();
            if (held) {
                HELD.put(path, holder);
                return lock;
            }
        } finally {
            if (!held) {
                gate.remove(path);
            }
        }
        return null;
    }

    /** Judges the lock file without changing anything, for {@code status}. */
    static LockState judge(Path path) throws TaskException {
        try (Gate gate = Files.isWritable(path.getParent()) ? enterGate(path) : null; Found found = look(path, gate)) {
            return found == null ? LockState.free(path) : found.lockState;
        } catch (IOException e) {
            throw TaskException.io("cannot read lock file " + path + ": " + Text.reason(e), e);
        }
    }

    /**
     * A lock file that was judged; open until it is decided what becomes of it. @param file or null when the gate keeps
     * it open
     */
    private record Found(LockState lockState, LockedFile file) implements AutoCloseable {
        @Override
        public void close() throws IOException {
            if (file != null) {
                file.close();
            }
        }
    }

    /** What is at the path, or null when nothing is. @param gate the gate that the caller is in, or null */
    private static Found look(Path path, Gate gate) throws TaskException, IOException {
        while (true) {
            BasicFileAttributes attributes = RegularFiles.attributes(path);
            if (attributes == null) {
                return null;
            }
            if (!attributes.isRegularFile()) {
                throw TaskException.cannotCreate(cannotCreate(path) + ": " + RegularFiles.kind(attributes)
                    + " is in its place; remove it or choose another --lockfile", null);
            }
            Holder own = HELD.get(path);
            if (own != null) {
                return new Found(LockState.held(path, own, null), null);
            }
            FileChannel channel;
            try {
                channel = FileChannel.open(path, RegularFiles.READ);
            } catch (NoSuchFileException e) {
                continue;
            } catch (AccessDeniedException e) {
                String user = Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName();
                return new Found(LockState.unknown(path, null, "no permission to read it", "ask its owner, " + user
                    + ", or, if the command runs nowhere: rm " + path), null);
            }
            LockedFile file = new LockedFile(channel);
            boolean keep = false;
            try {
                FileLock probe = channel.tryLock(0, Long.MAX_VALUE, true);
                Holder holder = Holder.read(channel);
                LockState lockState = probe == null ? LockState.held(path, holder, null) : file.isAt(path)
                    ? StaleCheck.judge(path, holder) : null;
                if (lockState != null) {
                    keep = true;
                    return new Found(lockState, file);
                }
            } catch (UncheckedIOException e) {
                throw e.getCause();
            } catch (OverlappingFileLockException e) {
                // The gate's own inode, and its fcntl lock is ours: its holder died between link and unlink, before the
                // command.
                Holder holder = Holder.read(channel);
                gate.file().keepOpen(channel);
                keep = true;
                return new Found(holder == null ? StaleCheck.judge(path, null)
                    : LockState.stale(path, holder, "killed before the command started"), null);
            } finally {
                if (!keep) {
                    file.close();
                }
            }
        }
    }

    /** Adds the command's process to the record. Without it the run's id in the environment still proves what lives. */
    void recordCommand(ProcessId command) {
        try {
            file.append(Holder.commandText(command));
        } catch (IOException e) {
            // a full disk here must not end a command that runs
        }
    }

    /**
     * Removes the lock file, outside the gate, then lets the fcntl lock go.
     *
     * @return false when the path no longer leads to this lock: then it is left alone
     * @throws TaskException 74 when it has become a directory (EISDIR) or cannot be removed
     */
    boolean release() throws TaskException {
        try {
            BasicFileAttributes attributes = RegularFiles.attributes(path);
            if (attributes != null && attributes.isDirectory()) {
                throw TaskException.io("cannot release the lock: lock file " + path
                    + " is a directory (EISDIR); remove it: rmdir " + path, null);
            }
            // the inode's number serves where this user may no longer read the file
            if (!file.isAt(path) && (attributes == null || inode == null || !inode.equals(attributes.fileKey()))) {
                return false;
            }
            return Files.deleteIfExists(path);
        } catch (IOException e) {
            throw TaskException.io("cannot release the lock: lock file " + path + ": " + Text.reason(e)
                + "; remove it: rm " + path, e);
        } finally {
            keep();
        }
    }

    /** Lets the fcntl lock go and leaves the lock file: what still runs makes it orphaned. */
    void keep() {
        file.close();
        // only now, since an open channel would look like the gate's own; only its own entry, since another thread may
        // hold the lock by now
        HELD.remove(path, holder);
    }
}

/**
 * The gate: whoever holds the fcntl lock on the inode at its path is alone in looking at, making or recovering the file
 * beside it, and in changing the counter. Closing it leaves the gate.
 */
final class Gate implements AutoCloseable {
    /** How long a request waits to enter: nobody stays inside longer than milliseconds. */
    private static final int MAX_WAIT_SECONDS = 10;
    private static final int MAX_BACKOFF_MILLIS = 8;
    /** File locks are the JVM's, not a thread's: only one thread may be at a gate. */
    private static final ReentrantLock THIS_JVM = new ReentrantLock();
    private static final FileAttribute<?>[] MODE = RegularFiles.mode(PosixFilePermission.OWNER_READ,
        PosixFilePermission.OWNER_WRITE, PosixFilePermission.GROUP_READ, PosixFilePermission.OTHERS_READ);

    private final Path path;
    private final LockedFile file;
    private boolean left;

    private Gate(Path path, LockedFile file) {
        this.path = path;
        this.file = file;
    }

    Path path() {
        return path;
    }

    LockedFile file() {
        return file;
    }

    /**
     * Waits up to 10 s for the gate.
     *
     * @param purpose what is not possible without it, for messages: {@code cannot create lock file L}
     * @param content how the file begins that a crash may have left here; one with other content is the user's
     * @throws TaskException 73 when the gate cannot be made, 74 when somebody stays in it
     */
    static Gate enter(Path path, String purpose, String content) throws TaskException, IOException {
        long deadline = System.nanoTime() + Duration.ofSeconds(MAX_WAIT_SECONDS).toNanos();
        try {
            if (!THIS_JVM.tryLock(MAX_WAIT_SECONDS, TimeUnit.SECONDS)) {
                throw stuck(path, purpose, "another execution in this process is inside");
            }
        } catch (InterruptedException e) {
            throw stuck(path, purpose, "interrupted");
        }
        Gate gate = null;
        try {
            Backoff backoff = new Backoff(1, MAX_BACKOFF_MILLIS);
            while (true) {
                gate = tryEnter(path, purpose, content);
                if (gate != null) {
                    return gate;
                }
                if (System.nanoTime() > deadline) {
                    throw stuck(path, purpose, lockHolder(path));
                }
                if (!backoff.pause()) {
                    throw stuck(path, purpose, "interrupted");
                }
            }
        } finally {
            if (gate == null) {
                THIS_JVM.unlock();
            }
        }
    }

    /** @return null when the gate is somebody else's, or changed meanwhile */
    private static Gate tryEnter(Path path, String purpose, String content) throws TaskException, IOException {
        FileChannel channel = open(path, purpose);
        if (channel == null) {
            return null;
        }
        LockedFile file = new LockedFile(channel);
        boolean entered = false;
        try {
            if (channel.tryLock() == null || !file.isAt(path)) {
                return null;
            }
            String text = channel.size() == 0 ? "" : RegularFiles.read(channel, content.length());
            if (!text.startsWith(content) && !content.startsWith(text)) {
                throw TaskException.cannotCreate(purpose + ": " + path + " exists and is not taskrunner's; move it"
                    + " away, or choose another file", null);
            }
            if (!RegularFiles.isOwn(path)) {
                Files.delete(path);
                return null;
            }
            entered = true;
            return new Gate(path, file);
        } catch (FileSystemException e) {
            throw cannotCreate(path, purpose, e);
        } catch (IOException e) {
            throw TaskException.cannotCreate(purpose + ": cannot lock " + path + ": " + Text.reason(e)
                + "; use a file system with fcntl locks, such as /run/lock", e);
        } finally {
            if (!entered) {
                file.close();
            }
        }
    }

    /** The file at the gate's path, made if need be; null when it changed meanwhile or is another user's. */
    private static FileChannel open(Path path, String purpose) throws TaskException {
        boolean isNew = false;
        try {
            BasicFileAttributes attributes = RegularFiles.attributes(path);
            isNew = attributes == null;
            if (isNew) {
                return FileChannel.open(path, RegularFiles.NEW, MODE);
            }
            if (!attributes.isRegularFile()) {
                throw TaskException.cannotCreate(purpose + ": " + RegularFiles.kind(attributes) + " is at " + path
                    + "; remove it, or choose another file", null);
            }
            return FileChannel.open(path, RegularFiles.READ_WRITE);
        } catch (FileAlreadyExistsException e) {
            return null;
        } catch (NoSuchFileException e) {
            if (!isNew) {
                return null;
            }
            if (Files.isDirectory(path.getParent())) {
                throw TaskException.cannotCreate(purpose + ": the file system refuses new files in " + path.getParent()
                    + "; use a directory such as /run/lock", e);
            }
            throw cannotCreate(path, purpose, e);
        } catch (AccessDeniedException e) {
            if (Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
                return null;
            }
            throw cannotCreate(path, purpose, e);
        } catch (IOException e) {
            throw cannotCreate(path, purpose, e);
        }
    }

    private static TaskException cannotCreate(Path path, String purpose, IOException e) {
        String directory = RegularFiles.unusableDirectory(path);
        return TaskException.cannotCreate(purpose + ": " + (directory != null ? directory : path + ": " + Text.reason(e)
            + "; see that this user may write in " + path.getParent() + " and that the disk is not full"), e);
    }

    private static TaskException stuck(Path path, String purpose, String who) {
        return TaskException.io(purpose + ": " + path + " has been in use for " + MAX_WAIT_SECONDS
            + " s, which should take milliseconds: " + who, null);
    }

    /** Who has an fcntl lock on the file, as proc_locks(5) tells, for a message. */
    private static String lockHolder(Path path) {
        try {
            String inode = ":" + Files.getAttribute(path, "unix:ino", LinkOption.NOFOLLOW_LINKS) + " ";
            for (String line : Processes.read("/proc/locks").split("\n")) {
                if (line.contains(inode)) {
                    String pid = line.strip().split(" +")[4];
                    return "pid " + pid + " holds it; look: ps -o pid,stat,etime,args -p " + pid
                        + "; if it is stopped or stuck: kill " + pid;
                }
            }
            return "it belongs to " + Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName() + ", and this user may"
                + " not open it; run the task as one user only, or remove the file as its owner: rm " + path;
        } catch (IOException | RuntimeException e) {
            return "nobody is to be found who holds it; try again";
        }
    }

    /** Replaces the file's content, before it becomes a lock file. */
    void write(String text) throws IOException {
        file.write(text);
    }

    /**
     * Removes what is at the path if it is a file that this JVM has locked; the gate keeps it open, since it may be its
     * own.
     */
    boolean remove(Path path) throws IOException {
        return file.isAt(path) && Files.deleteIfExists(path);
    }

    /**
     * Leaves the gate; the file with its fcntl lock is the caller's. False, and nothing has happened, when the gate was
     * removed meanwhile.
     */
    boolean leaveWithFile() throws IOException {
        left = remove(path);
        return left;
    }

    @Override
    public void close() throws IOException {
        try {
            if (!left) {
                remove(path);
            }
        } finally {
            if (!left) {
                file.close();
            }
            THIS_JVM.unlock();
        }
    }
}

/**
 * A file whose inode this JVM has open and, by an fcntl lock (fcntl(2)), locked. Closing <em>any</em> channel of this
 * JVM on the inode drops the lock (POSIX): so all that are opened on it stay open here, until {@link #close}.
 */
final class LockedFile implements AutoCloseable {
    private final List<FileChannel> channels = new ArrayList<>(3);

    LockedFile(FileChannel channel) {
        channels.add(channel);
    }

    /**
     * Whether the path leads to this very file. Java has no fstat(2), but its table of file locks is keyed by device
     * and inode of the open file, so that an overlapping lock proves the same inode.
     */
    boolean isAt(Path path) throws IOException {
        BasicFileAttributes attributes = RegularFiles.attributes(path);
        if (attributes == null || !attributes.isRegularFile()) {
            return false;
        }
        FileChannel channel;
        try {
            channel = FileChannel.open(path, RegularFiles.READ);
        } catch (NoSuchFileException | AccessDeniedException e) {
            return false;
        }
        try {
            channel.tryLock(0, Long.MAX_VALUE, true);
        } catch (OverlappingFileLockException e) {
            channels.add(channel);
            return true;
        }
        channel.close();
        return false;
    }

    void keepOpen(FileChannel channel) {
        channels.add(channel);
    }

    /** Replaces the content and forces it to the disk. */
    void write(String text) throws IOException {
        channels.get(0).truncate(0);
        append(text);
        channels.get(0).force(false);
    }

    void append(String text) throws IOException {
        RegularFiles.write(channels.get(0), text, channels.get(0).size());
    }

    @Override
    public void close() {
        for (FileChannel channel : channels) {
            try {
                channel.close();
            } catch (IOException e) {
                // the descriptor is gone all the same, see close(2)
            }
        }
    }
}

/**
 * Who holds a lock: the record that its lock file carries, lines of text with {@code key=value} after a first line that
 * names the format. {@code lock.md} of the specification has the fields.
 *
 * @param process the taskrunner process
 * @param command the command's shell, or null before it was started
 * @param started UTC, ISO-8601, to the millisecond
 */
record Holder(String runId, ProcessId process, String pidNamespace, String host, String bootId, String user,
    String started, ProcessId command) {
    /** The environment variable by which the processes of a run are found. */
    static final String RUN_ID = "TASKRUNNER_RUN_ID";
    /** The run ids of the taskrunners around this one, separated by blanks. */
    static final String OUTER_RUN_IDS = "TASKRUNNER_OUTER_RUN_IDS";
    static final String MAGIC = "taskrunner-lock 1\n";
    private static final int MAX_LENGTH = 4096;
    /** Characters: about 50 ids. A job that starts itself again and again keeps the latest. */
    private static final int MAX_OUTER_LENGTH = 2000;

    /** Adds the run's id to the environment of its command; those of the runs around it stay findable. */
    void putInto(Map<String, String> environment) {
        String outer = environment.get(RUN_ID);
        if (outer != null) {
            String outers = environment.get(OUTER_RUN_IDS);
            String all = outers == null ? outer : outers + " " + outer;
            environment.put(OUTER_RUN_IDS, all.length() <= MAX_OUTER_LENGTH ? all
                : all.substring(all.indexOf(' ', all.length() - MAX_OUTER_LENGTH) + 1));
        }
        environment.put(RUN_ID, runId);
    }

    /** Whether this process runs inside the holder's run. @param holder or null */
    static boolean isAround(Holder holder) {
        String outer = holder == null ? null : System.getenv(RUN_ID);
        String outers = outer == null ? null : System.getenv(OUTER_RUN_IDS);
        return outer != null && (outer.equals(holder.runId) || outers != null && (" " + outers + " ").contains(" "
            + holder.runId + " "));
    }

    static Holder self() {
        ProcessId self = Processes.self();
        String started = Text.time(System.currentTimeMillis());
        String runId = started.replace("-", "").replace(":", "").replace(".", "") + "-" + self.pid() + "-"
            + Long.toHexString((System.nanoTime() ^ Host.bootId().hashCode()) & 0xFFFFFF);
        return new Holder(runId, self, Host.pidNamespace(), Host.name(), Host.bootId(),
            System.getProperty("user.name"), started, null);
    }

    String text() {
        return MAGIC + "run=" + runId + "\npid=" + process.pid() + "\nstart=" + process.start() + "\npid-namespace="
            + pidNamespace + "\nhost=" + host + "\nboot=" + bootId + "\nuser=" + user + "\nstarted=" + started + "\n";
    }

    static String commandText(ProcessId command) {
        return "command-pid=" + command.pid() + "\ncommand-start=" + command.start() + "\n";
    }

    /** The record in the file, or null when it holds none. */
    static Holder read(FileChannel file) throws IOException {
        return parse(RegularFiles.read(file, MAX_LENGTH));
    }

    private static Holder parse(String text) {
        if (!text.startsWith(MAGIC)) {
            return null;
        }
        Map<String, String> values = new HashMap<>();
        int line = MAGIC.length();
        for (int end; (end = text.indexOf('\n', line)) >= 0; line = end + 1) {
            int equals = text.indexOf('=', line);
            if (equals > 0 && equals < end) {
                values.put(text.substring(line, equals), text.substring(equals + 1, end));
            }
        }
        try {
            ProcessId command = values.containsKey("command-start")
                ? new ProcessId(Long.parseLong(values.get("command-pid")), Long.parseLong(values.get("command-start")))
                : null;
            Holder holder = new Holder(values.get("run"), new ProcessId(Long.parseLong(values.get("pid")),
                Long.parseLong(values.get("start"))), values.get("pid-namespace"), values.get("host"),
                values.get("boot"), values.get("user"), values.get("started"), command);
            boolean whole = values.keySet().containsAll(List.of("run", "pid-namespace", "host", "boot", "user",
                "started"));
            return whole && !holder.runId.isEmpty() ? holder : null;
        } catch (NumberFormatException e) {
            return null;
        }
    }

    /** How long it has been running, by its own clock, for messages. */
    String age() {
        long since = Text.millis(started);
        return since < 0 ? "an unknown time" : Text.duration(Math.max(0,
            System.currentTimeMillis() - since) / 1000 * 1000);
    }

    Json json() {
        Json json = new Json().put("run_id", runId).put("pid", process.pid()).put("user", user).put("host", host)
            .put("started", started);
        return command == null ? json : json.put("command_pid", command.pid());
    }

    /** For messages: {@code pid 4711 (root@db1) since 2026-11-24T02:00:03Z}. */
    String describe() {
        return "pid " + process.pid() + " (" + user + "@" + host + ") since " + started.substring(0, Math.min(19,
            started.length())) + "Z";
    }
}

/**
 * What was found at a lock file's path.
 *
 * @param holder what its record says, or null without one
 * @param what who holds it since when, or what is known of it: goes on after the name of the lock or the task
 * @param advice one thing to do when the lock does not go away
 */
record LockState(Kind kind, Path path, Holder holder, String what, String advice) {
    enum Kind {
        /** Nothing is there. */
        FREE(ExitStatus.OK, " is free"),
        /** Its holder lives. */
        HELD(ExitStatus.STATUS_HELD, " is "),
        /** Its holder is dead, processes of its run live. */
        ORPHANED(ExitStatus.STATUS_LEFT_BEHIND, " is orphaned: "),
        /** Its holder and every process of its run are proven dead. */
        STALE(ExitStatus.STATUS_LEFT_BEHIND, " is stale: "),
        /** Something else than taskrunner made it. */
        FOREIGN(ExitStatus.STATUS_HELD, " blocks the task: "),
        /** Made by taskrunner, and nothing can be proven. */
        UNKNOWN(ExitStatus.STATUS_HELD, " is in an unknown state: ");

        /** Of {@code status}. */
        final int exitStatus;
        private final String verb;

        Kind(int exitStatus, String verb) {
            this.exitStatus = exitStatus;
            this.verb = verb;
        }

        String text() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    Json holderJson() {
        return holder == null ? null : holder.json();
    }

    /** The pid of its holder, or "" without a record. */
    String holderPid() {
        return holder == null ? "" : Long.toString(holder.process().pid());
    }

    /** One line without an end mark. */
    String message() {
        return "lock " + path + kind.verb + what;
    }

    static LockState free(Path path) {
        return new LockState(Kind.FREE, path, null, "", "");
    }

    /** @param note or null */
    static LockState held(Path path, Holder holder, String note) {
        String by = holder == null ? "a process that left no record in it" : holder.describe() + " (" + holder.age()
            + ")";
        String advice = holder == null ? "look for its holder: fuser -v " + path : "if it is stuck: kill "
            + holder.process().pid() + " (terminates the command, frees the lock); look: ps -o pid,stat,etime,args -p "
            + holder.process().pid() + (holder.command() == null ? "" : "," + holder.command().pid());
        return new LockState(Kind.HELD, path, holder, "held by " + by + (note == null ? "" : ", " + note), advice);
    }

    static LockState orphaned(Path path, Holder holder, List<Long> pids) {
        return new LockState(Kind.ORPHANED, path, holder, "holder " + holder.describe() + " died, its command still"
            + " runs: " + Text.pids(pids), "wait for " + (pids.size() == 1 ? "it" : "them") + ", or: kill "
            + Text.list(pids).replace(',', ' '));
    }

    /** @param why or null */
    static LockState stale(Path path, Holder holder, String why) {
        return new LockState(Kind.STALE, path, holder, "holder " + holder.describe() + " and its command are dead"
            + (why == null ? "" : " (" + why + ")"), "the next request without --on-stale report recovers it; to free"
            + " it now: rm " + path);
    }

    static LockState foreign(Path path, String why) {
        return new LockState(Kind.FOREIGN, path, null, why, "see who made it: ls -l " + path + "; to let the task run:"
            + " rm " + path);
    }

    static LockState unknown(Path path, Holder holder, String why, String advice) {
        return new LockState(Kind.UNKNOWN, path, holder, (holder == null ? "" : "holder " + holder.describe() + ": ")
            + why, advice);
    }
}

/** What proves whether a lock whose fcntl lock is free still has a living run. */
final class StaleCheck {
    private static final Set<String> LOCAL_FILE_SYSTEMS = Set.of("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs",
        "overlay", "zfs", "f2fs", "jfs", "ramfs", "bcachefs", "apfs", "hfs", "ufs", "NTFS");

    static LockState judge(Path path, Holder holder) throws IOException {
        if (holder == null) {
            return LockState.foreign(path, "it was not created by taskrunner (touch? flock?)");
        }
        if (!Processes.HAVE_PROC && System.getProperty("os.name").equals("Linux")) {
            return unknown(path, holder, "without /proc nothing can be proven, mount it");
        }
        if (!holder.bootId().equals(Host.bootId())) {
            if (!holder.host().equals(Host.name())) {
                return unknown(path, holder, "it was made on another machine");
            }
            String type = Files.getFileStore(path).type();
            return LOCAL_FILE_SYSTEMS.contains(type) ? stale(path, holder, "the host was rebooted since")
                : unknown(path, holder, "it was made before the last boot, on a " + type + " file system that others"
                + " may share");
        }
        if (!holder.pidNamespace().equals(Host.pidNamespace())) {
            return unknown(path, holder, "it was made in another container (pid namespace)");
        }
        if (Processes.lives(holder.process())) {
            return LockState.held(path, holder, "whose fcntl lock is gone (was the lock file copied or restored?)");
        }
        if (!Processes.HAVE_PROC && holder.command() == null) {
            return unknown(path, holder, "it is dead, and the record names no command");
        }
        LockState first = byProcesses(path, holder);
        // a process that forks or executes while /proc is read can be missed once
        return first.kind() == LockState.Kind.STALE ? byProcesses(path, holder) : first;
    }

    private static LockState byProcesses(Path path, Holder holder) throws IOException {
        Map<Long, Processes.Entry> all = Processes.all();
        List<Long> hidden = new ArrayList<>();
        ProcessTree tree = new ProcessTree(holder.command(), holder.runId());
        List<Long> alive = ProcessTree.pids(tree.alive(all, holder.process().start(), hidden));
        if (!alive.isEmpty()) {
            return LockState.orphaned(path, holder, alive);
        }
        if (Processes.HAVE_PROC && !all.containsKey(1L)) {
            return LockState.unknown(path, holder, "it is dead, but /proc hides other users' processes (hidepid), and"
                + " one may be of its run", asRoot(path));
        }
        if (!hidden.isEmpty()) {
            return LockState.unknown(path, holder, "it is dead; cannot tell whether " + Text.pids(hidden) + " belong"
                + (hidden.size() == 1 ? "s" : "") + " to its run (not readable by this user)", asRoot(path));
        }
        return stale(path, holder, null);
    }

    private static String asRoot(Path path) {
        return "ask as root: taskrunner status --lockfile " + path;
    }

    private static LockState unknown(Path path, Holder holder, String why) {
        return LockState.unknown(path, holder, why, "if the command runs nowhere: rm " + path);
    }

    private static LockState stale(Path path, Holder holder, String why) throws IOException {
        if (RegularFiles.isOwn(path)) {
            return LockState.stale(path, holder, why);
        }
        String user = Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName();
        return LockState.unknown(path, holder, "its run is dead, but the file belongs to another user, " + user, "as "
            + user + " or root: rm " + path);
    }

    private StaleCheck() {
    }
}

// 6. the counter

/**
 * The failure counter: contentions since the lock was last acquired or the threshold was last reported. To be used
 * inside the gate only, but for {@link #read}.
 */
final class ContentionCounter {
    static final Count NOT_COUNTED = new Count(-1, false);
    private static final int MAX_LENGTH = 4096;
    private final Path file;
    private final int threshold;

    /** @param value the counter, or on a report the number of contentions reached, or -1 when not counted */
    record Count(long value, boolean reported) {
    }

    ContentionCounter(Task task) {
        file = task.counterFile();
        threshold = task.threshold();
    }

    /**
     * The counter's value; 0 without a file or with an empty one.
     *
     * @throws TaskException 65 when the file holds anything but an integer from 0 to 2^63-1, 74 when it cannot be read
     */
    long read() throws TaskException {
        try (FileChannel channel = open(RegularFiles.READ)) {
            return channel == null ? 0 : parse(RegularFiles.read(channel, MAX_LENGTH));
        } catch (IOException e) {
            throw unusable(e);
        }
    }

    /** Sees that a counter that is needed can be read, before anything is changed for it. */
    void check() throws TaskException {
        if (threshold > 0) {
            read();
        }
    }

    /** Removes the counter file, unless the threshold is 0. */
    void clear() throws TaskException {
        if (threshold > 0) {
            try {
                Files.deleteIfExists(file);
            } catch (IOException e) {
                throw unusable(e);
            }
        }
    }

    /** Counts one contention; beyond the threshold writes 0 instead. */
    Count increment() throws TaskException {
        if (threshold == 0) {
            return NOT_COUNTED;
        }
        long count = read();
        boolean report = count > threshold;
        write(report ? 0 : count + 1);
        return new Count(report && count == Long.MAX_VALUE ? count : count + 1, report);
    }

    /**
     * One write that covers the old content, so that a full disk or a crash loses nothing, then the rest is cut off.
     */
    private void write(long value) throws TaskException {
        boolean created = false;
        try {
            FileChannel existing = open(RegularFiles.READ_WRITE);
            try (FileChannel channel = existing == null ? FileChannel.open(file, RegularFiles.NEW) : existing) {
                created = existing == null;
                String text = value + "\n";
                RegularFiles.write(channel, text + "\n".repeat((int) Math.max(0, channel.size() - text.length())), 0);
                channel.truncate(text.length());
            }
        } catch (IOException e) {
            if (created) {
                file.toFile().delete(); // an empty counter file counts as 0
            }
            throw unusable(e);
        }
    }

    /** The file, or null when there is none. */
    private FileChannel open(Set<OpenOption> options) throws IOException, TaskException {
        BasicFileAttributes attributes = RegularFiles.attributes(file);
        if (attributes == null) {
            return null;
        }
        if (!attributes.isRegularFile()) {
            throw TaskException.counter(ExitStatus.IO, "cannot use counter file " + file + ": "
                + RegularFiles.kind(attributes) + " is in its place; remove it or choose another --counter-file", null);
        }
        return FileChannel.open(file, options);
    }

    private long parse(String text) throws TaskException {
        String number = text.strip();
        if (number.isEmpty()) {
            return 0;
        }
        try {
            boolean digits = text.length() < MAX_LENGTH;
            for (int i = 0; i < number.length(); i++) {
                digits &= number.charAt(i) >= '0' && number.charAt(i) <= '9';
            }
            if (digits) {
                return Long.parseLong(number);
            }
        } catch (NumberFormatException e) {
            // too large is no counter either
        }
        throw TaskException.counter(ExitStatus.DATA, "counter file " + file + " contains '"
            + Text.printable(number.substring(0, Math.min(number.length(), 20))) + "', not a number; nothing was run or"
            + " changed; wrong --counter-file? otherwise reset it: : > " + file, null);
    }

    private TaskException unusable(IOException e) {
        return TaskException.counter(ExitStatus.IO, "cannot use counter file " + file + ": " + Text.reason(e)
            + "; see that this user may write it and that the disk is not full", e);
    }
}

// 7. processes

/**
 * A process, its descendants and, on Linux, every process that carries the run's id in its environment.
 *
 * <p>Terminated, each is sent SIGTERM once, parents first, and after a time SIGKILL again and again. Three kinds get
 * the SIGKILL alone: what its parent started after it was signalled, in order to end (a trap's {@code umount}); what a
 * terminal has signalled already; and what is below a nested taskrunner, which stops its own run.
 */
final class ProcessTree {
    /** How long after SIGKILL a process may take to go: one in uninterruptible sleep does not. */
    private static final long UNKILLABLE_NANOS = Duration.ofSeconds(5).toNanos();
    private static final int MAX_BACKOFF_MILLIS = 100;
    /** Half of the least pid_max (proc_sys_kernel(5)): pids that are further apart have wrapped around. */
    private static final int PID_HALF_RANGE = 16384;
    private final ProcessId root;
    private final String runId;
    private final Map<ProcessId, Member> members = new LinkedHashMap<>();
    private volatile boolean escalated;
    /** The process group that has the signal from the terminal, or 0. */
    private volatile long signalledGroup;
    private boolean killing;
    /** The processes of the first look, all of which were there before any was signalled. */
    private Set<ProcessId> earlier;
    /** The pid that was given last when the first look had been signalled. */
    private long signalledPid;

    /** What a process has been sent. */
    private static final class Member {
        boolean signalled;
        /** The pid that was given last before SIGTERM. */
        long signalledPid;
        /** Started in order to end. */
        boolean spared;
        /** When it was first sent SIGKILL, in the time of {@link System#nanoTime}. */
        long killed;
    }

    /** @param root or null @param runId or null */
    ProcessTree(ProcessId root, String runId) {
        this.root = root;
        this.runId = runId;
        if (root != null) {
            members.put(root, new Member());
        }
    }

    /** The children of this process, whichever they are. */
    static ProcessTree ofChildren(String runId) {
        ProcessTree tree = new ProcessTree(null, runId);
        for (Processes.Entry process : Processes.all().values()) {
            if (process.parent() == Processes.self().pid()) {
                tree.members.put(process.id(), new Member());
            }
        }
        return tree;
    }

    ProcessId root() {
        return root;
    }

    /** Lets SIGKILL follow now. */
    void escalate() {
        escalated = true;
    }

    /** The terminal has signalled this process group, as on Ctrl-C. */
    void signalledByTerminal(long group) {
        signalledGroup = group;
    }

    /** The members that live, or all when that cannot be told. */
    synchronized List<ProcessId> alive() {
        try {
            return alive(Processes.all(), 0, null);
        } catch (UncheckedIOException e) {
            return List.copyOf(members.keySet());
        }
    }

    /**
     * Sends SIGTERM to all, SIGKILL after the given time, until two looks in a row find none. The monitor is held
     * throughout: a second caller waits for the same end.
     *
     * @return those that cannot be killed
     */
    synchronized List<ProcessId> terminate(Duration killAfter) {
        long killAt = System.nanoTime() + killAfter.toNanos();
        Backoff backoff = new Backoff(5, MAX_BACKOFF_MILLIS);
        int known = 0;
        boolean gone = false;
        while (true) {
            killing |= escalated || System.nanoTime() - killAt >= 0;
            List<ProcessId> alive = signalAll();
            if (alive.isEmpty() && gone) {
                return alive;
            }
            if (killing && areUnkillable(alive)) {
                escalated = true;
                return alive;
            }
            if (alive.isEmpty() || members.size() > known) {
                backoff = new Backoff(5, MAX_BACKOFF_MILLIS);
            }
            gone = alive.isEmpty();
            members.keySet().retainAll(alive);
            known = members.size();
            if (!backoff.pause()) {
                escalated = true;
            }
        }
    }

    private boolean areUnkillable(List<ProcessId> alive) {
        for (ProcessId id : alive) {
            Member member = members.get(id);
            if (member.killed == 0 || System.nanoTime() - member.killed < UNKILLABLE_NANOS) {
                return false;
            }
        }
        return !alive.isEmpty();
    }

    /** Signals who descends from the members, as parents alone tell, then looks for those that left the tree. */
    private List<ProcessId> signalAll() {
        try {
            Map<Long, Processes.Entry> all = Processes.all();
            addDescendants(all);
            boolean first = earlier == null;
            if (first) {
                earlier = new HashSet<>();
                for (Processes.Entry process : all.values()) {
                    earlier.add(process.id());
                }
            }
            signalAll(all);
            if (first) {
                signalledPid = Processes.lastPid();
            }
            List<ProcessId> alive = alive(all, 0, null);
            signalAll(all);
            return alive;
        } catch (UncheckedIOException e) {
            return List.copyOf(members.keySet()); // tried again at the next look
        }
    }

    private void addDescendants(Map<Long, Processes.Entry> all) {
        for (boolean found = true; found;) {
            found = false;
            for (Processes.Entry process : all.values()) {
                Processes.Entry parent = all.get(process.parent());
                if (parent != null && members.containsKey(parent.id()) && !process.dead()
                        && members.putIfAbsent(process.id(), new Member()) == null) {
                    found = true;
                }
            }
        }
    }

    /** Signals the members, parents first, which is the order in which they were found. */
    private void signalAll(Map<Long, Processes.Entry> all) {
        for (Map.Entry<ProcessId, Member> entry : members.entrySet()) {
            Processes.Entry process = all.get(entry.getKey().pid());
            Member member = entry.getValue();
            if (process == null || process.dead() || !process.id().equals(entry.getKey())) {
                continue;
            }
            if (killing) {
                member.killed = member.killed == 0 ? System.nanoTime() : member.killed;
                Processes.signal(process.id(), true);
            } else if (isDue(process, member, all)) {
                member.signalled = true;
                member.signalledPid = Processes.lastPid();
                if (signalledGroup == 0 || process.group() != signalledGroup) {
                    Processes.signal(process.id(), false);
                }
            }
        }
    }

    private boolean isDue(Processes.Entry process, Member member, Map<Long, Processes.Entry> all) {
        if (member.signalled || member.spared) {
            return false;
        }
        Processes.Entry entry = all.get(process.parent());
        Member parent = entry == null ? null : members.get(entry.id());
        if (!earlier.contains(process.id())) {
            // without a parent here it left the tree
            member.spared = parent == null ? isLater(process, signalledPid)
                : parent.spared || parent.signalled && isLater(process, parent.signalledPid);
        }
        for (; parent != null && !member.spared; parent = entry == null ? null : members.get(entry.id())) {
            if (entry.name().equals(Processes.NAME)) {
                return false;
            }
            entry = all.get(entry.parent());
        }
        return !member.spared;
    }

    /** Whether the process, which is not old, was forked after the pid was given: pids are given in order. */
    private static boolean isLater(Processes.Entry process, long pid) {
        long distance = process.id().pid() - pid;
        return pid > 0 && (distance > 0 && distance < PID_HALF_RANGE || distance < -PID_HALF_RANGE);
    }

    static List<Long> pids(List<ProcessId> ids) {
        List<Long> pids = new ArrayList<>();
        for (ProcessId id : ids) {
            pids.add(id.pid());
        }
        return pids;
    }

    /**
     * @param since the start before which no process can be of the run
     * @param hidden gets the pids of which it cannot be told, or null
     */
    List<ProcessId> alive(Map<Long, Processes.Entry> all, long since, List<Long> hidden) {
        for (boolean found = true; found;) {
            found = false;
            for (Processes.Entry process : all.values()) {
                ProcessId id = process.id();
                if (process.dead() || members.containsKey(id) || id.start() < since || id.equals(Processes.self())) {
                    continue;
                }
                Processes.Entry parent = all.get(process.parent());
                boolean descends = parent != null && members.containsKey(parent.id());
                Processes.Belongs belongs = descends || runId == null ? Processes.Belongs.NO
                    : Processes.belongsTo(process, runId);
                if (descends || belongs == Processes.Belongs.YES) {
                    members.put(id, new Member());
                    found = true;
                } else if (belongs == Processes.Belongs.HIDDEN && hidden != null && !hidden.contains(id.pid())
                        // whose parent died belongs to pid 1 or another reaper: below an older process it was never of
                        // the run
                        && (parent == null || process.parent() == 1 || parent.id().start() >= since)) {
                    hidden.add(id.pid());
                }
            }
        }
        List<ProcessId> alive = new ArrayList<>();
        for (ProcessId id : members.keySet()) {
            Processes.Entry process = all.get(id.pid());
            if (process != null && process.id().equals(id) && !process.dead()) {
                alive.add(id);
            }
        }
        return alive;
    }
}

/**
 * What the operating system tells about processes: proc(5) on Linux, {@link ProcessHandle} elsewhere. A process's start
 * is field 22 of {@code /proc/PID/stat} (clock ticks since boot, which a step of the clock does not move), elsewhere
 * milliseconds since 1970.
 */
final class Processes {
    static final boolean WINDOWS = File.separatorChar == '\\';
    static final boolean HAVE_PROC = new File("/proc/self/stat").exists();
    private static final int MAX_TRANSITION_MILLIS = 500;
    /** PF_KTHREAD of Linux's include/linux/sched.h. */
    private static final long KERNEL_THREAD = 0x00200000;
    /** The name of a taskrunner process in ps(1) and to one around it; the kernel keeps 15 bytes. */
    static final String NAME = "taskrunner.java";
    private static final Entry START = HAVE_PROC ? stat("self") : null;
    private static final ProcessId SELF = HAVE_PROC ? START.id() : idOf(ProcessHandle.current());

    /**
     * @param parent its pid
     * @param group its process group, 0 where it is not known
     * @param session 0 where it is not known
     * @param foreground the foreground process group of its terminal, -1 without one
     * @param dead zombies without a thread are, and kernel threads: neither runs a program
     */
    record Entry(ProcessId id, long parent, long group, long session, long foreground, boolean dead,
                 String name) {
    }

    /** Whether a process belongs to a run. */
    enum Belongs { YES, NO, HIDDEN }

    static List<String> shell(String command) {
        return WINDOWS ? List.of("cmd", "/c", command) : List.of("/bin/sh", "-c", "--", command);
    }

    static ProcessId self() {
        return SELF;
    }

    /** The working directory if it was removed, else null. One that was renamed, or cannot be reached, still serves. */
    static String removedWorkingDirectory() {
        String path = System.getProperty("user.dir");
        if (!Arguments.isEncodable(path) || new File(path).isDirectory()) {
            return null;
        }
        try {
            return Files.readSymbolicLink(Path.of("/proc/self/cwd")).toString().endsWith(" (deleted)") ? path : null;
        } catch (IOException e) {
            return null;
        }
    }

    /** Starts it. */
    static Process start(ProcessBuilder builder) throws IOException {
        return builder.start();
    }

    /** Who owns the process. */
    static String user(ProcessId id) {
        try {
            return Files.getOwner(Path.of("/proc", Long.toString(id.pid()))).getName();
        } catch (IOException e) {
            return "another user";
        }
    }

    /**
     * How often the kernel's OOM killer has killed in this process's cgroup, or -1 when that is not known: {@code
     * memory.events} of cgroup v2, {@code memory.oom_control} of v1.
     */
    static long oomKills() {
        try {
            for (String line : HAVE_PROC ? read("/proc/self/cgroup").split("\n") : new String[0]) {
                String path = line.substring(line.indexOf(':', line.indexOf(':') + 1) + 1);
                File file = line.startsWith("0::") ? new File("/sys/fs/cgroup" + path, "memory.events")
                    : line.contains(":memory:") ? new File("/sys/fs/cgroup/memory" + path, "memory.oom_control") : null;
                if (file != null && file.exists()) {
                    String events = read(file.getPath());
                    int count = events.indexOf("oom_kill ") + 9;
                    return Long.parseLong(events.substring(count, events.indexOf('\n', count)));
                }
            }
        } catch (IOException | RuntimeException e) {
            // as good as not there
        }
        return -1;
    }

    /** Lets ps(1), and a taskrunner around this one, see what this process is. */
    static void nameSelf() {
        try (OutputStream name = new FileOutputStream("/proc/self/comm")) {
            name.write(NAME.getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            // not on this system; then a taskrunner around this one signals the processes of both
        }
    }

    /** The pid that was given last, or 0 when it is not known: the last field of proc_loadavg(5). */
    static long lastPid() {
        try {
            String averages = read("/proc/loadavg").strip();
            return Long.parseLong(averages.substring(averages.lastIndexOf(' ') + 1));
        } catch (IOException | NumberFormatException e) {
            return 0;
        }
    }

    /**
     * The process group of this process if the terminal has just signalled it as a whole, else 0: with SIGINT when it
     * is the terminal's foreground process group, with SIGHUP when the terminal is gone.
     */
    static long groupSignalledByTerminal(String signal) {
        Entry now = HAVE_PROC ? stat("self") : null;
        boolean told = now != null && (signal.equals("INT") && now.foreground() == now.group()
            || signal.equals("HUP") && now.foreground() == -1 && START.foreground() != -1);
        return told ? now.group() : 0;
    }

    static ProcessId idOf(Process process) {
        if (HAVE_PROC) {
            try {
                Entry entry = stat(Long.toString(process.pid()));
                if (entry != null) {
                    return entry.id();
                }
            } catch (UncheckedIOException e) {
                // the run's id in its environment still tells whose process it is
            }
            return new ProcessId(process.pid(), 0);
        }
        return idOf(process.toHandle());
    }

    private static ProcessId idOf(ProcessHandle handle) {
        Optional<java.time.Instant> start = handle.info().startInstant();
        return new ProcessId(handle.pid(), start.isPresent() ? start.get().toEpochMilli() : 0);
    }

    static boolean lives(ProcessId id) {
        if (HAVE_PROC) {
            Entry entry = stat(Long.toString(id.pid()));
            return entry != null && !entry.dead() && entry.id().equals(id);
        }
        Optional<ProcessHandle> handle = ProcessHandle.of(id.pid());
        return handle.isPresent() && handle.get().isAlive() && idOf(handle.get()).equals(id);
    }

    /** All processes that this one can see, by pid. */
    static Map<Long, Entry> all() {
        Map<Long, Entry> all = new LinkedHashMap<>();
        if (HAVE_PROC) {
            String[] names = new File("/proc").list();
            if (names == null) {
                throw new UncheckedIOException(new IOException("/proc cannot be listed"));
            }
            for (String name : names) {
                if (name.charAt(0) >= '1' && name.charAt(0) <= '9') {
                    Entry entry = stat(name);
                    if (entry != null) {
                        all.put(entry.id().pid(), entry);
                    }
                }
            }
        } else {
            for (java.util.Iterator<ProcessHandle> i = ProcessHandle.allProcesses().iterator(); i.hasNext();) {
                ProcessHandle handle = i.next();
                Optional<ProcessHandle> parent = handle.parent();
                all.put(handle.pid(), new Entry(idOf(handle), parent.isPresent() ? parent.get().pid() : 0,
                    0, 0, -1, !handle.isAlive(), ""));
            }
        }
        return all;
    }

    /**
     * {@code pid (name) state ppid …}, where the name may hold blanks and parentheses; null when there is no such
     * process or it is hidden.
     *
     * @throws UncheckedIOException when there is, but nothing can be told of it, as without a free file descriptor
     */
    private static Entry stat(String pid) {
        try {
            String stat = read("/proc/" + pid + "/stat");
            int open = stat.indexOf('(');
            int close = stat.lastIndexOf(')');
            if (close < 0) {
                return null;
            }
            // field 3, the state, is the first behind the name; a split by one character needs no regular expression
            String[] fields = stat.substring(close + 2).split(" ");
            String state = fields[0];
            boolean kernelThread = (Long.parseLong(fields[9 - 3]) & KERNEL_THREAD) != 0;
            boolean lastThread = Long.parseLong(fields[20 - 3]) <= 1;
            return new Entry(new ProcessId(Long.parseLong(stat.substring(0, open - 1)), Long.parseLong(fields[22 - 3])),
                Long.parseLong(fields[4 - 3]), Long.parseLong(fields[5 - 3]), Long.parseLong(fields[6 - 3]),
                Long.parseLong(fields[8 - 3]), state.equals("Z") && lastThread || state.equals("X") || kernelThread,
                stat.substring(open + 1, close));
        } catch (IOException e) {
            if (new File("/proc/" + pid, "stat").canRead()) {
                throw new UncheckedIOException(e);
            }
            return null;
        }
    }

    /**
     * Whether the process carries the run's id in its environment, as proc(5) shows it to the same user and to root.
     */
    static Belongs belongsTo(Entry process, String runId) {
        if (!HAVE_PROC) {
            return Belongs.NO;
        }
        Entry now = process;
        for (int tries = 0; now != null && !now.dead() && now.id().equals(process.id()); tries++) {
            // The JDK's helper between fork and exec gets the run's environment only with the command.
            if (!now.name().equals("jspawnhelper")) {
                try {
                    Path environment = Path.of("/proc", Long.toString(process.id().pid()), "environ");
                    return carries("\0" + new String(Files.readAllBytes(environment), StandardCharsets.ISO_8859_1)
                        + "\0", runId) ? Belongs.YES : Belongs.NO;
                } catch (AccessDeniedException e) {
                    return Belongs.HIDDEN;
                } catch (IOException e) {
                    // a process that is ending (ESRCH, while its state is still R) is gone at the next look
                }
            }
            if (tries == MAX_TRANSITION_MILLIS) {
                return Belongs.HIDDEN;
            }
            try {
                Thread.sleep(1);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return Belongs.HIDDEN;
            }
            now = stat(Long.toString(process.id().pid()));
        }
        return Belongs.NO;
    }

    private static boolean carries(String environment, String runId) {
        if (environment.contains("\0" + Holder.RUN_ID + "=" + runId + "\0")) {
            return true;
        }
        int outer = environment.indexOf("\0" + Holder.OUTER_RUN_IDS + "=");
        return outer >= 0 && environment.substring(outer, environment.indexOf('\0', outer + 1)).contains(runId);
    }

    /**
     * SIGTERM or SIGKILL to the very process that has the id.
     *
     * @return false when it lives but may not be signalled
     * @throws UncheckedIOException when it cannot be seen whether that process lives
     */
    static boolean signal(ProcessId id, boolean kill) {
        Optional<ProcessHandle> handle = ProcessHandle.of(id.pid());
        if (handle.isPresent() && lives(id)) {
            return (kill ? handle.get().destroyForcibly() : handle.get().destroy()) || !lives(id);
        }
        return true;
    }

    /**
     * Whether this process was started without a stdin ({@code <&-}): the first file that the JVM opened, {@code
     * lib/modules} of its own, then has descriptor 0, and the command would read it.
     */
    static boolean stdinIsClosed() {
        try {
            return HAVE_PROC && Files.readSymbolicLink(Path.of("/proc/self/fd/0")).endsWith("lib/modules");
        } catch (IOException e) {
            return true;
        }
    }

    /** Latin-1, so that every byte stays apart. */
    static String read(String file) throws IOException {
        try (FileInputStream in = new FileInputStream(file)) {
            return new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
        }
    }

    private Processes() {
    }
}

/** This machine and this user, as a lock's record names them. */
final class Host {
    private static final String BOOT_ID = firstLine("/proc/sys/kernel/random/boot_id", "");

    static String name() {
        String name = firstLine("/proc/sys/kernel/hostname", null);
        if (name == null) {
            name = System.getenv(Processes.WINDOWS ? "COMPUTERNAME" : "HOSTNAME");
        }
        if (name == null) {
            try {
                name = java.net.InetAddress.getLocalHost().getHostName();
            } catch (java.net.UnknownHostException e) {
                name = "localhost";
            }
        }
        return name;
    }

    static String bootId() {
        return BOOT_ID;
    }

    static String pidNamespace() {
        try {
            return Processes.HAVE_PROC ? Files.readSymbolicLink(Path.of("/proc/self/ns/pid")).toString() : "";
        } catch (IOException e) {
            return "";
        }
    }

    /** {@code $HOME}, as the XDG base directory specification has it; the JVM itself goes by the user database. */
    static Path home() {
        String home = System.getenv("HOME");
        return Path.of(home != null && home.startsWith("/") ? home : System.getProperty("user.home"));
    }

    private static String firstLine(String file, String fallback) {
        try {
            return Processes.read(file).strip();
        } catch (IOException e) {
            return fallback;
        }
    }

    private Host() {
    }
}

/**
 * A process that is told apart from a later one with the same pid.
 *
 * <p>Equality is written out, since the first call of a record's own costs 16 ms (JDK 17, with a start-up archive).
 *
 * @param start see {@link Processes}
 */
record ProcessId(long pid, long start) {
    @Override
    public boolean equals(Object other) {
        return other instanceof ProcessId id && id.pid == pid && id.start == start;
    }

    @Override
    public int hashCode() {
        return Long.hashCode(pid);
    }
}

// 8. what is reported

/**
 * taskrunner's own log lines: to stderr or a file, as text or JSON. With {@code --quiet} lines for stderr and the
 * command's output are buffered in a temporary file, and shown in their order when the exit status is not 0. Any thread
 * may log.
 */
final class Log {
    private static final Set<OpenOption> APPEND = Set.of(StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    private final Request request;
    private final Holder holder;
    private boolean fileFailed;
    private QuietOutput quietOutput;

    Log(Request request, Holder holder) {
        this.request = request;
        this.holder = holder;
        if (request.quiet) {
            quietOutput = new QuietOutput(holder.runId());
        }
    }

    void debug(String event, String message) {
        if (request.verbose) {
            line("DEBUG", event, message, null);
        }
    }

    void info(String event, String message) {
        line("INFO", event, message, null);
    }

    void warn(String event, String message) {
        line("WARN", event, message, null);
    }

    void error(String event, String message) {
        line("ERROR", event, message, null);
    }

    /** The last line; with {@code --quiet} all that was buffered comes out now, or is dropped. */
    void outcome(Outcome outcome) {
        Json json = new Json().put("exit_status", outcome.exitStatus).put("signal", outcome.signal);
        if (outcome.run != null) {
            json.put("started", Text.time(outcome.run.startedMillis()));
            json.raw("duration_seconds", Text.seconds(outcome.run.durationMillis()));
        }
        if (outcome.contentions >= 0) {
            json.put("contentions", outcome.contentions);
        }
        json.put("threshold", request.task.threshold());
        if (outcome.lockState != null) {
            json.put("lock_state", outcome.lockState.kind().text()).put("holder", outcome.lockState.holderJson());
        }
        line(outcome.ending.level, outcome.ending.event(), outcome.message(request.command), json);
        if (request.verbose && outcome.error != null) {
            StringWriter trace = new StringWriter();
            outcome.error.printStackTrace(new PrintWriter(trace, true));
            toStderr(trace.toString());
        }
        if (quietOutput != null) {
            quietOutput.close(outcome.exitStatus != ExitStatus.OK);
        }
    }

    /** With {@code --quiet}, lets the command write where its output is buffered. */
    void bufferOutput(ProcessBuilder builder) {
        if (quietOutput != null) {
            try {
                quietOutput.receive(builder);
            } catch (IOException e) {
                quietOutput.close(true);
                quietOutput = null;
                warn("quiet", "cannot buffer output in " + QuietOutput.directory() + ": " + Text.reason(e)
                    + "; it is shown as it comes");
            }
        }
    }

    private synchronized void line(String level, String event, String text, Json more) {
        String message = Text.printable(text);
        long now = System.currentTimeMillis();
        String plain = Text.time(now).substring(0, 19) + "Z " + level + " taskrunner[" + holder.process().pid() + "]: "
            + message + "\n";
        String line = plain;
        if (request.jsonLog) {
            Json json = new Json().put("time", Text.time(now)).put("level", level).put("event", event)
                .put("message", message).put("run_id", holder.runId())
                .put("lockfile", request.task.lockFile().toString());
            line = (more == null ? json : json.putAll(more)) + "\n";
        }
        boolean inFile = request.logFile != null && !fileFailed && toFile(line);
        if (!inFile || level.equals("ERROR")) {
            toStderr(inFile ? plain : line);
        }
    }

    /** Opens the file for each line, so that logrotate(8) may rename it at any time. */
    private boolean toFile(String line) {
        try (FileChannel file = FileChannel.open(request.logFile, APPEND)) {
            RegularFiles.append(file, line.getBytes(StandardCharsets.UTF_8));
            return true;
        } catch (IOException e) {
            fileFailed = true;
            warn("log", "cannot write log file " + request.logFile + ": " + Text.reason(e) + "; log lines go to"
                + " stderr");
            return false;
        }
    }

    private void toStderr(String text) {
        print(text.getBytes(StandardCharsets.UTF_8), StandardStream.ERR);
    }

    /** Shows output of the command, or buffers it. A reader that is slow keeps only who writes to it waiting. */
    void print(byte[] bytes, OutputStream stream) {
        synchronized (this) {
            if (quietOutput != null) {
                quietOutput.write(bytes);
                return;
            }
        }
        try {
            stream.write(bytes);
            stream.flush();
        } catch (IOException e) {
            // nobody reads it any more
        }
    }
}

/** Output that is buffered in a temporary file without a name, so that no crash leaves it behind. */
final class QuietOutput {
    private final Path path;
    private final java.io.ByteArrayOutputStream early = new java.io.ByteArrayOutputStream();
    /** Appends, as the command does, since what was left behind may write at the same time. */
    private FileChannel channel;
    private FileChannel reader;

    QuietOutput(String runId) {
        path = Path.of(directory(), "taskrunner-" + runId + ".out");
    }

    static String directory() {
        String directory = System.getenv("TMPDIR");
        return directory != null && !directory.isEmpty() && Arguments.isEncodable(directory) ? directory
            : System.getProperty("java.io.tmpdir");
    }

    /**
     * Makes the file and lets the command's stdout and stderr be appended to it. The JDK unlinks it as soon as it is
     * open ({@code DELETE_ON_CLOSE}); /proc still leads to it. Without /proc it keeps its name until {@link #close}.
     */
    void receive(ProcessBuilder builder) throws IOException {
        Set<OpenOption> options = new HashSet<>(Set.of(StandardOpenOption.APPEND, StandardOpenOption.CREATE_NEW));
        if (Processes.HAVE_PROC) {
            options.add(StandardOpenOption.DELETE_ON_CLOSE);
        }
        channel = FileChannel.open(path, options, RegularFiles.mode(PosixFilePermission.OWNER_READ,
            PosixFilePermission.OWNER_WRITE));
        Path file = Processes.HAVE_PROC ? descriptor() : path;
        reader = FileChannel.open(file, StandardOpenOption.READ);
        write(early.toByteArray());
        builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(file.toFile()));
    }

    /** The file by its descriptor. */
    private Path descriptor() throws IOException {
        try (DirectoryStream<Path> descriptors = Files.newDirectoryStream(Path.of("/proc/self/fd"))) {
            for (Path descriptor : descriptors) {
                if (Files.isSymbolicLink(descriptor)
                        && Files.readSymbolicLink(descriptor).endsWith(path.getFileName() + " (deleted)")) {
                    return descriptor;
                }
            }
        }
        throw new IOException("/proc/self/fd does not show it");
    }

    void write(byte[] bytes) {
        if (channel == null) {
            early.writeBytes(bytes);
            return;
        }
        try {
            RegularFiles.append(channel, bytes);
        } catch (IOException e) {
            StandardStream.ERR.print(bytes);
        }
    }

    /** Ends it. @param show whether all goes to stderr, in its order */
    void close(boolean show) {
        try {
            if (show && reader == null) {
                StandardStream.ERR.write(early.toByteArray());
            } else if (show) {
                // what a process that was left behind goes on writing is not waited for
                long left = reader.size();
                byte[] buffer = new byte[8192];
                for (int n = 1; left > 0 && n > 0; left -= n) {
                    n = reader.read(ByteBuffer.wrap(buffer, 0, (int) Math.min(left, buffer.length)));
                    StandardStream.ERR.write(buffer, 0, Math.max(0, n));
                }
            }
            if (reader != null) {
                reader.close();
                channel.close();
            }
            Files.deleteIfExists(path);
        } catch (IOException e) {
            StandardStream.ERR.print(("taskrunner: cannot show the buffered output: " + Text.reason(e) + "\n").getBytes(
                StandardCharsets.UTF_8));
        }
    }
}

/** The command of {@code --notify}. */
final class Notification {
    static final int MAX_SECONDS = 30;
    /** execve(2) refuses a string of 128 KiB or more. */
    private static final int MAX_VALUE_LENGTH = 30_000;

    /** Starts it with its output on stderr and without input. */
    static Process start(Request request, Holder holder, Outcome outcome, String event, String message)
        throws IOException {
        List<String> command = Processes.WINDOWS ? Processes.shell(request.notifyCommand)
            : List.of("/bin/sh", "-c", "exec /bin/sh -c -- \"$1\" >&2", "notify", request.notifyCommand);
        ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT)
            .redirectOutput(Processes.WINDOWS ? ProcessBuilder.Redirect.DISCARD : ProcessBuilder.Redirect.INHERIT)
            .redirectInput(ProcessBuilder.Redirect.from(new File(Processes.WINDOWS ? "NUL" : "/dev/null")));
        if (request.quiet) {
            builder.redirectError(ProcessBuilder.Redirect.DISCARD).redirectOutput(ProcessBuilder.Redirect.DISCARD);
        }
        put(builder, "EVENT", event);
        put(builder, "MESSAGE", message);
        put(builder, "RUN", holder.runId());
        put(builder, "LOCKFILE", request.task.lockFile().toString());
        put(builder, "COMMAND", request.command);
        put(builder, "EXIT_STATUS", Integer.toString(outcome.exitStatus));
        put(builder, "CONTENTIONS", outcome.contentions < 0 ? "" : Long.toString(outcome.contentions));
        put(builder, "THRESHOLD", Integer.toString(request.task.threshold()));
        put(builder, "HOLDER_PID", outcome.lockState == null ? "" : outcome.lockState.holderPid());
        return builder.start();
    }

    private static void put(ProcessBuilder builder, String name, String value) {
        builder.environment().put("TASKRUNNER_" + name, value.length() > MAX_VALUE_LENGTH ? value.substring(0,
            MAX_VALUE_LENGTH) : value);
    }

    private Notification() {
    }
}

/** The metrics file: Prometheus text format, written aside inside a gate of its own and renamed. */
final class Metrics {
    private static final String START = "taskrunner_last_start_timestamp_seconds";
    private static final String SUCCESS = "taskrunner_last_success_timestamp_seconds";
    private static final String DURATION = "taskrunner_last_duration_seconds";
    private static final String STATUS = "taskrunner_last_exit_status";
    private static final String CONTENTIONS = "taskrunner_contentions";
    private static final String THRESHOLD = "taskrunner_threshold";
    private static final String[][] GAUGES = {
        {START, "when the command was last started"},
        {SUCCESS, "when the command last succeeded"},
        {DURATION, "how long the command last ran"},
        {STATUS, "exit status of the last run or error"},
        {CONTENTIONS, "contentions since the lock was last acquired or the threshold last reported"},
        {THRESHOLD, "contentions that are tolerated"}};

    /** A request that did not run the command keeps what the file before says of the last run. */
    static void write(Request request, Outcome outcome) throws IOException, TaskException {
        Path file = request.metricsFile;
        try (Gate gate = Gate.enter(Task.gate(file), "cannot write metrics file " + file, "# HELP taskrunner_")) {
            Map<String, String> values = before(file);
            Run run = outcome.run;
            if (run != null) {
                values.put(START, Text.seconds(run.startedMillis()));
                values.put(DURATION, Text.seconds(run.durationMillis()));
                values.put(CONTENTIONS, "0");
                if (outcome.ending == Ending.SUCCEEDED) {
                    values.put(SUCCESS, Text.seconds(run.startedMillis() + run.durationMillis()));
                }
            }
            if (outcome.ending != Ending.CONTENTION) {
                values.put(STATUS, Integer.toString(outcome.exitStatus));
            }
            if (outcome.contentions >= 0) {
                values.put(CONTENTIONS, Long.toString(outcome.contentions));
            }
            values.put(THRESHOLD, Integer.toString(request.task.threshold()));
            String label = request.task.lockFile().toString().replace("\\", "\\\\").replace("\"", "\\\"").replace("\n",
                "\\n");
            StringBuilder text = new StringBuilder();
            for (String[] gauge : GAUGES) {
                if (values.containsKey(gauge[0])) {
                    text.append("# HELP ").append(gauge[0]).append(' ').append(gauge[1]).append("\n# TYPE ")
                        .append(gauge[0]).append(" gauge\n").append(gauge[0]).append("{lockfile=\"").append(label)
                        .append("\"} ").append(values.get(gauge[0])).append('\n');
                }
            }
            gate.write(text.toString());
            if (!Processes.WINDOWS) {
                Files.setPosixFilePermissions(gate.path(), PosixFilePermissions.fromString("rw-r--r--"));
            }
            try {
                Files.move(gate.path(), file, StandardCopyOption.ATOMIC_MOVE);
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(gate.path(), file, StandardCopyOption.REPLACE_EXISTING);
            }
        }
    }

    private static Map<String, String> before(Path file) throws IOException {
        Map<String, String> values = new HashMap<>();
        if (Files.isRegularFile(file)) {
            for (String line : Files.readAllLines(file, StandardCharsets.ISO_8859_1)) {
                int label = line.indexOf('{');
                int value = line.lastIndexOf(' ');
                if (label > 0 && value > label && line.charAt(0) != '#') {
                    values.put(line.substring(0, label), line.substring(value + 1));
                }
            }
        }
        return values;
    }

    private Metrics() {
    }
}

// 9. the command line

/** The options: one definition for the parser, the help, the script and the batch variant. */
final class Options {
    private static final String REQUIRED = "Required";
    private static final String LOCKING = "Locking";
    private static final String ENDS = "Exit status and notifications";
    private static final String OUTPUT = "Output";
    static final Option VERBOSE = new Option("--verbose", null, OUTPUT,
        "also log debug lines, and stack traces of internal errors");

    /** The options of a request. */
    static final List<Option> REQUEST = List.of(
        new Option("--command", "CMD", REQUIRED, "the command, run through the system shell"),
        new Option("--lockfile", "FILE", REQUIRED, "the lock file that identifies the task; best in /run/lock"),
        new Option("--threshold", "N", REQUIRED,
            "contentions that are tolerated before one is reported; 0: they are not counted"),
        new Option("--counter-file", "FILE", REQUIRED, "where the contentions are counted"),
        new Option("--wait", "DURATION", LOCKING,
            "on contention try again for up to DURATION before it counts (default: 0, try once)"),
        new Option("--timeout", "DURATION", LOCKING,
            "terminate the command after DURATION: exit status 124 (default: 0, no limit)"),
        new Option("--kill-after", "DURATION", LOCKING, "send SIGKILL DURATION after SIGTERM (default: 8s)"),
        new Option("--on-stale", "recover|report", LOCKING,
            "a lock file whose run is proven dead: recover it, or count it as contention (default: recover)"),
        new Option("--conflict-exit-code", "N", ENDS,
            "exit status of contention (a conflict, in flock's words) that is not reported, 0-255 (default: 0)"),
        new Option("--exit-zero", null, ENDS, "exit with 0 whenever the command has run and the lock was released"),
        new Option("--notify", "CMD", ENDS,
            "run CMD on threshold, failed, timeout, recovered (a stale lock) and error; TASKRUNNER_EVENT and"
            + " TASKRUNNER_MESSAGE, _RUN, _LOCKFILE, _COMMAND, _EXIT_STATUS, _CONTENTIONS, _THRESHOLD, _HOLDER_PID"
            + " tell which"),
        new Option("--quiet", null, OUTPUT,
            "print nothing unless the exit status is not 0; then all output, on stderr"),
        new Option("--log-file", "FILE", OUTPUT,
            "append log lines to FILE (default: stderr); errors go to stderr as well"),
        new Option("--log-format", "text|json", OUTPUT, "format of the log lines (default: text)"),
        new Option("--metrics-file", "FILE", OUTPUT, "write Prometheus metrics for the textfile collector to FILE"),
        VERBOSE);

    static final Command RUN = new Command("taskrunner",
        "Runs a command under a lock file so that only one instance runs at a time. Requests that find the lock held"
            + " are counted; beyond the threshold they are reported as an error.",
        List.of("taskrunner --command CMD --lockfile FILE --threshold N --counter-file FILE [OPTION...]",
            "       taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]"),
        null, REQUEST,
        List.of("", "Durations: 90, 90s, 15m, 2h, 1d or ISO-8601 (PT15M). @FILE reads arguments from FILE.", "",
            "Example:", "  taskrunner --command 'pg_dump shop > shop.sql' --lockfile /run/lock/shop.lock \\",
            "      --threshold 3 --counter-file /var/lib/taskrunner/shop.count --quiet"));

    static final Command STATUS = new Command("status",
        "Tells who holds the lock, since when and in which state, and the counter.",
        List.of("taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]"), null,
        List.of(new Option("--lockfile", "FILE", null, "the lock file"),
            new Option("--threshold", "N", null, "the task's threshold"),
            new Option("--counter-file", "FILE", null, "the task's counter file"),
            new Option("--json", null, null, "print one JSON object"), VERBOSE.ungrouped()),
        List.of("", "Exit status: 0 free, 20 held or foreign, 21 stale or orphaned."));

    static final List<Command> COMMANDS = with(List.of(RUN, STATUS), Installation.commands("taskrunner"));

    static <T> List<T> with(List<T> some, List<T> more) {
        List<T> all = new ArrayList<>(some);
        all.addAll(more);
        return all;
    }

    private Options() {
    }
}

/**
 * An option.
 *
 * @param label of its value, or null for a flag
 * @param group the heading under which the help shows it, or null
 */
record Option(String name, String label, String group, String description) {
    Option ungrouped() {
        return new Option(name, label, null, description);
    }
}

/**
 * A command with its options.
 *
 * @param parameter the label of its one positional parameter, or null
 * @param details for the help's end
 */
record Command(String name, String purpose, List<String> synopsis, String parameter, List<Option> options,
               List<String> details) {
    /** The command of that name, else the first, which is the one without a name in front. */
    static Command named(String name, List<Command> commands) {
        for (Command command : commands) {
            if (command.name.equals(name)) {
                return command;
            }
        }
        return commands.get(0);
    }
}

/**
 * What the command line says: the command, the values of its options ("" for a flag) and the positional parameter or
 * null.
 */
record Arguments(Command command, Map<String, String> values, String parameter) {
    /**
     * Parses the command line; the first of the commands is the one without a name in front.
     *
     * <p>Arguments that can mean one thing only are taken as they are, since picocli needs 107 ms of the 130 ms that a
     * run takes more than an empty JVM (JDK 17, two cores, without a start-up archive). All others (help, errors,
     * {@code --option=value}, {@code @file}, a value that looks like an option) are picocli's.
     *
     * @return null when the arguments asked for the help or the version, which have been printed
     */
    static Arguments parse(List<Command> commands, String... args) throws UsageException {
        Arguments plain = plain(commands, args);
        return plain != null ? plain : Picocli.parse(commands, args);
    }

    private static Arguments plain(List<Command> commands, String... args) {
        Command command = Command.named(args.length == 0 ? "" : args[0], commands);
        int next = command == commands.get(0) ? 0 : 1;
        Map<String, String> values = new HashMap<>();
        while (next < args.length) {
            String name = args[next++];
            Option option = null;
            for (Option candidate : command.options()) {
                if (candidate.name().equals(name)) {
                    option = candidate;
                }
            }
            boolean valued = option != null && option.label() != null;
            if (option == null || valued && (next == args.length || args[next].startsWith("-")
                || args[next].startsWith("@")) || values.put(name, valued ? args[next++] : "") != null) {
                return null;
            }
        }
        return command.parameter() == null ? new Arguments(command, values, null) : null;
    }

    boolean has(String option) {
        return values.containsKey(option);
    }

    UsageException refused(String why) {
        return new UsageException(command, why);
    }

    private UsageException invalid(String option, String text, String remedy) {
        return refused("invalid " + option + " '" + text + "': " + remedy);
    }

    void requireAll(String... names) throws UsageException {
        List<String> missing = new ArrayList<>();
        for (String name : names) {
            if (!has(name)) {
                missing.add(name);
            }
        }
        if (!missing.isEmpty()) {
            throw refused("missing " + String.join(", ", missing));
        }
    }

    /**
     * The option's text, or null without it, when the locale could carry it to here and can carry it on to the command.
     */
    String text(String option) throws UsageException {
        return carried(values.get(option), option);
    }

    private String carried(String text, String what) throws UsageException {
        if (text != null && !isEncodable(text)) {
            throw refused(what + " contains non-ASCII characters, which the locale cannot encode: set LC_ALL=C.UTF-8,"
                + " in a crontab as a line of its own");
        }
        return text;
    }

    /** Whether the locale can carry the text from and to the system. */
    static boolean isEncodable(String text) {
        boolean ascii = true;
        for (int i = 0; i < text.length(); i++) {
            ascii &= text.charAt(i) < 0x80;
        }
        return ascii || text.indexOf('\uFFFD') < 0
            && Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8")).newEncoder().canEncode(text);
    }

    int number(String option, int min, int max, int defaultValue) throws UsageException {
        String text = text(option);
        if (text == null) {
            return defaultValue;
        }
        try {
            int number = Integer.parseInt(text);
            if (number >= min && number <= max && text.charAt(0) != '+') {
                return number;
            }
        } catch (NumberFormatException e) {
            // not a number is out of range
        }
        throw invalid(option, text, "give an integer from " + min + " to " + max);
    }

    /** Whether the option has its other value instead of the default. */
    boolean isOther(String option, String defaultValue, String other) throws UsageException {
        String text = text(option);
        if (text != null && !text.equals(defaultValue) && !text.equals(other)) {
            throw invalid(option, text, "give " + defaultValue + " or " + other);
        }
        return other.equals(text);
    }

    Duration duration(String option, Duration defaultValue) throws UsageException {
        String text = text(option);
        Duration duration = text == null ? defaultValue : parseDuration(text);
        if (duration == null) {
            throw invalid(option, text, "give a duration such as 90, 90s, 15m, 2h, 1d or PT15M");
        }
        return duration;
    }

    /** A duration from zero to 100 years, or null. */
    static Duration parseDuration(String text) {
        try {
            Duration duration;
            if (text.startsWith("P")) {
                duration = Duration.parse(text);
            } else {
                int digits = 0;
                while (digits < text.length() && text.charAt(digits) >= '0' && text.charAt(digits) <= '9') {
                    digits++;
                }
                int unit = switch (text.substring(digits)) {
                    case "", "s" -> 1;
                    case "m" -> 60;
                    case "h" -> 3600;
                    case "d" -> 86400;
                    default -> -1;
                };
                duration = Duration.ofSeconds(Math.multiplyExact(Long.parseLong(text.substring(0, digits)), unit));
            }
            return duration.isNegative() || duration.compareTo(Duration.ofDays(36525)) > 0 ? null : duration;
        } catch (DateTimeParseException | NumberFormatException | ArithmeticException e) {
            return null;
        }
    }

    /**
     * The option's path, absolute and with its directory's links resolved, so that two spellings are one file; null
     * without the option.
     */
    Path path(String option) throws UsageException {
        String text = text(option);
        if (text == null) {
            return null;
        }
        if (text.isEmpty()) {
            throw refused(option + " is empty");
        }
        try {
            Path path = Path.of(text);
            if (path.getFileName() == null || text.endsWith(File.separator)) {
                throw invalid(option, text, "give a file, not a directory");
            }
            if (!path.isAbsolute()) {
                carried(System.getProperty("user.dir"), option + ", relative to the working directory,");
            }
            Path absolute = path.toAbsolutePath();
            try {
                return absolute.getParent().toRealPath().resolve(path.getFileName());
            } catch (IOException e) {
                return absolute.normalize();
            }
        } catch (InvalidPathException e) {
            throw invalid(option, text, e.getReason());
        }
    }
}

/**
 * The parser for what is not plain, and the help. Only this class uses picocli, so that a plain run does not load it.
 */
final class Picocli {
    static Arguments parse(List<Command> commands, String... args) throws UsageException {
        CommandLine cli = commandLine(commands);
        ParseResult parsed;
        try {
            parsed = cli.parseArgs(args);
        } catch (CommandLine.ParameterException e) {
            throw new UsageException(Command.named(e.getCommandLine().getCommandName(), commands),
                Text.lowerCase(e.getMessage()));
        }
        ParseResult used = parsed.hasSubcommand() ? parsed.subcommand() : parsed;
        CommandLine usedCli = used.commandSpec().commandLine();
        if (used.isUsageHelpRequested()) {
            usedCli.usage(System.out);
            return null;
        }
        if (used.isVersionHelpRequested()) {
            usedCli.printVersionHelp(System.out);
            return null;
        }
        Command command = Command.named(usedCli.getCommandName(), commands);
        Map<String, String> values = new HashMap<>();
        for (Option option : command.options()) {
            if (used.hasMatchedOption(option.name())) {
                values.put(option.name(), option.label() == null ? "" : used.matchedOptionValue(option.name(), ""));
            }
        }
        return new Arguments(command, values, used.hasMatchedPositional(0) ? used.matchedPositionalValue(0, "") : null);
    }

    static void usage(List<Command> commands, String name, PrintWriter out) {
        CommandLine cli = commandLine(commands);
        (cli.getSubcommands().containsKey(name) ? cli.getSubcommands().get(name) : cli).usage(out);
    }

    private static CommandLine commandLine(List<Command> commands) {
        CommandSpec main = spec(commands.get(0));
        main.usageMessage().exitCodeListHeading("%nExit status:%n").exitCodeList(ExitStatus.table());
        for (Command command : commands.subList(1, commands.size())) {
            main.addSubcommand(command.name(), spec(command));
        }
        return new CommandLine(main);
    }

    private static CommandSpec spec(Command command) {
        CommandSpec spec = CommandSpec.create().name(command.name()).version("taskrunner " + taskrunner.VERSION);
        spec.usageMessage().header(command.purpose()).synopsisHeading("%nUsage: ")
            .customSynopsis(command.synopsis().toArray(new String[0])).footer(command.details().toArray(new String[0]))
            .width(100).longOptionsMaxWidth(32).sortOptions(false)
            .optionListHeading("%n").commandListHeading("%nCommands:%n");
        spec.addOption(OptionSpec.builder("-h", "--help").usageHelp(true).description("show this help").build());
        spec.addOption(OptionSpec.builder("--version").versionHelp(true).description("show the version").build());
        Map<String, ArgGroupSpec.Builder> groups = new LinkedHashMap<>();
        for (Option option : command.options()) {
            OptionSpec.Builder builder = OptionSpec.builder(option.name()).description(option.description());
            OptionSpec model = (option.label() == null ? builder.type(boolean.class).arity("0")
                : builder.type(String.class).paramLabel(option.label())).build();
            if (option.group() == null) {
                spec.addOption(model);
            } else {
                groups.computeIfAbsent(option.group(), group -> ArgGroupSpec.builder().validate(false)
                    .order(groups.size()).heading("%n" + group + ":%n")).addArg(model);
            }
        }
        groups.values().forEach(group -> spec.addArgGroup(group.build()));
        if (command.parameter() != null) {
            spec.addPositional(CommandLine.Model.PositionalParamSpec.builder().index("0").arity("0..1")
                .type(String.class).paramLabel(command.parameter()).build());
        }
        return spec;
    }

    private Picocli() {
    }
}

/** Exit statuses of taskrunner's own; names and numbers of sysexits(3), flock(1) and timeout(1) where they have one. */
final class ExitStatus {
    static final int OK = 0;
    static final int STATUS_HELD = 20;
    static final int STATUS_LEFT_BEHIND = 21;
    static final int USAGE = 64;
    static final int DATA = 65;
    static final int INTERNAL = 70;
    static final int CANNOT_CREATE = 73;
    static final int IO = 74;
    static final int THRESHOLD = 75;
    static final int TIMEOUT = 124;
    static final int CANNOT_START = 126;
    static final int NOT_FOUND = 127;
    /** A process that signal n ended has the status 128 + n in a POSIX shell. */
    static final int SIGNAL = 128;
    static final int KILLED = SIGNAL + 9;

    /** Whether the status is that of a process that a signal ended; there are 64 signals. */
    static boolean isSignal(int status) {
        return status > SIGNAL && status <= SIGNAL + 64;
    }

    /** The table for {@code --help}. */
    static Map<String, String> table() {
        Map<String, String> table = new LinkedHashMap<>();
        table.put("0", "the command succeeded; or contention that is not reported");
        table.put("1-255", "the command failed: its own status, unchanged");
        table.put("128+n", "the command was killed by signal n; or taskrunner was stopped by it, after it had"
            + " terminated the command and released the lock");
        table.put("64", "usage; nothing was touched");
        table.put("65", "the counter file contains something else than a number; it is left as it is");
        table.put("73", "the lock file cannot be created");
        table.put("74", "I/O error on the lock file or counter file, or a process that cannot be killed");
        table.put("75", "contention beyond the threshold: reported");
        table.put("124", "the command timed out (--timeout)");
        table.put("126", "the command could not be started");
        table.put("20, 21", "status: 20 held or foreign, 21 stale or orphaned");
        return table;
    }

    private ExitStatus() {
    }
}

/** An error that ends a request, with the exit status that it stands for; its message names the path and the remedy. */
class TaskException extends Exception {
    private static final long serialVersionUID = 1;

    final int exitStatus;
    /** Whether it is the counter file that cannot be used. */
    final boolean isOfCounter;

    private TaskException(int exitStatus, boolean isOfCounter, String message, Throwable cause) {
        super(message, cause);
        this.exitStatus = exitStatus;
        this.isOfCounter = isOfCounter;
    }

    TaskException(int exitStatus, String message, Throwable cause) {
        this(exitStatus, false, message, cause);
    }

    TaskException(int exitStatus, String message) {
        this(exitStatus, message, null);
    }

    /** The lock file cannot be made: 73. */
    static TaskException cannotCreate(String message, Throwable cause) {
        return new TaskException(ExitStatus.CANNOT_CREATE, message, cause);
    }

    /** An I/O error on the lock: 74. */
    static TaskException io(String message, Throwable cause) {
        return new TaskException(ExitStatus.IO, message, cause);
    }

    /** The counter file cannot be used: 65 or 74. */
    static TaskException counter(int exitStatus, String message, Throwable cause) {
        return new TaskException(exitStatus, true, message, cause);
    }

    /** The command cannot be started: 126. */
    static TaskException cannotStart(String message, Throwable cause) {
        return new TaskException(ExitStatus.CANNOT_START, "cannot start the command: " + message
            + "; the lock was released", cause);
    }
}

/** The command line is wrong: exit status 64. */
final class UsageException extends TaskException {
    private static final long serialVersionUID = 1;

    private final String command;

    /** @param command the name of the command whose help shows how it is right */
    UsageException(Command command, String message) {
        super(ExitStatus.USAGE, message, null);
        this.command = command.name();
    }

    /** Prints the help and, as the last line on stderr, what is wrong; returns the exit status. */
    int show(List<Command> commands) {
        PrintWriter err = new PrintWriter(StandardStream.ERR, true);
        Picocli.usage(commands, command, err);
        err.println("taskrunner: " + Text.oneLine(getMessage()));
        return exitStatus;
    }
}

// 10. the other commands

/** The subcommand {@code status}. */
final class Status {
    static int run(Arguments arguments) throws TaskException {
        arguments.requireAll("--lockfile");
        boolean counts = arguments.has("--counter-file");
        if (counts != arguments.has("--threshold")) {
            throw arguments.refused("--threshold and --counter-file go together");
        }
        Task task = Task.of(arguments);
        String wrong = RegularFiles.unusableDirectory(task.lockFile());
        if (wrong != null) {
            throw TaskException.cannotCreate("cannot read lock file " + task.lockFile() + ": " + wrong, null);
        }
        LockState lockState = LockFile.judge(task.lockFile());
        long contentions = counts ? new ContentionCounter(task).read() : -1;
        if (arguments.has("--json")) {
            Json json = new Json().put("lockfile", task.lockFile().toString()).put("state", lockState.kind().text())
                .put("message", lockState.message()).put("holder", lockState.holderJson());
            if (counts) {
                json.put("contentions", contentions).put("threshold", task.threshold());
            }
            System.out.println(json);
        } else {
            System.out.println(Text.printable(lockState.message() + (lockState.advice().isEmpty() ? "" : "; "
                + lockState.advice())) + (counts ? "; contentions " + contentions + ", threshold " + task.threshold()
                : ""));
        }
        return lockState.kind().exitStatus;
    }

    private Status() {
    }
}

/**
 * The subcommands {@code install} and {@code uninstall}: a command that starts without JBang. It is made of the class
 * path's jars and a start-up archive for this JDK in the user's data directory ({@code $XDG_DATA_HOME}, else {@code
 * ~/.local/share}), and a launcher.
 *
 * @param name of the command and of its data directory
 * @param jvmOptions of the launcher
 * @param training the main class that uses what a run uses, for the archive; its argument is an empty directory
 */
record Installation(String name, String mainClass, List<String> jvmOptions, String training) {
    /**
     * The script's own //JAVA_OPTIONS: the C1 compiler, the smallest collector, no shared counters, small stacks, the
     * caller's limit of open files left to the command, and no method handle made for the reflection inside the JDK (5
     * % of an installed run on JDK 25).
     */
    static final Installation TASKRUNNER = new Installation("taskrunner", "taskrunner",
        List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xss256k", "-XX:-MaxFDLimit",
        "-Djdk.reflect.useNativeAccessorOnly=true"), "Training");

    /**
     * The time of an archive that nobody has changed since it was made. A damaged one can crash the JVM, and its own
     * check ({@code -XX:+VerifySharedSpaces}) costs 7 to 12 % of a run; the launcher sees without cost that a changed
     * one is newer than the jar.
     */
    private static final FileTime UNTOUCHED = FileTime.fromMillis(946_684_800_000L);
    private static final String LAUNCHER = """
        #!/bin/sh
        # made by: NAME install; removed by: NAME uninstall
        java=JAVA
        [ -x "$java" ] || java=${JAVA_HOME:+$JAVA_HOME/bin/}java
        if ! [ -r JAR ]; then
            echo 'NAME: no permission to read 'JAR'; install it again, or for all users where they may read it' >&2
            exit 126
        fi
        archive=ARCHIVE
        [ "$archive" -ot JAR ] && archive=FLAG$archive || archive=
        exec "$java" OPTIONS ${archive:+"$archive"} -cp CLASSPATH MAIN "$@"
        """;

    static List<Command> commands(String name) {
        Option bin = new Option("--bin", "DIR", null, "the launcher's directory (default: ~/.local/bin)");
        return List.of(
            new Command("install", "Installs the command " + name + ", which starts without JBang.",
                List.of(name + " install [--bin DIR]"), null, List.of(bin, Options.VERBOSE.ungrouped()), List.of()),
            new Command("uninstall", "Removes what install wrote.",
                List.of(name + " uninstall [--bin DIR]"), null, List.of(bin, Options.VERBOSE.ungrouped()), List.of()));
    }

    private Path data() {
        String directory = System.getenv("XDG_DATA_HOME");
        return (directory != null && directory.startsWith("/") ? Path.of(directory) : Host.home()
            .resolve(".local/share")).resolve(name);
    }

    private Path launcher(Arguments arguments) throws UsageException {
        return (arguments.has("--bin") ? Path.of(arguments.text("--bin")).toAbsolutePath() : Host.home()
            .resolve(".local/bin")).resolve(name);
    }

    private boolean isOurs(Path launcher) throws IOException {
        return Files.readString(launcher, StandardCharsets.ISO_8859_1).contains("made by: " + name + " install");
    }

    /** Installs or upgrades; what is replaced stays whole for those who run it. */
    int install(Arguments arguments) throws TaskException {
        if (Processes.WINDOWS) {
            throw TaskException.cannotCreate("install needs a POSIX shell; on Windows use: jbang app install", null);
        }
        Path data = data();
        Path launcher = launcher(arguments);
        Path bin = launcher.getParent();
        try {
            if (Files.exists(launcher) && !isOurs(launcher)) {
                throw TaskException.cannotCreate("cannot install: " + launcher + " exists and was not created by "
                    + name + " install; move it away, or choose another directory: --bin DIR", null);
            }
            Files.createDirectories(data);
            Files.createDirectories(bin);
            List<String> jars = new ArrayList<>();
            for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
                Path jar = Path.of(entry).toAbsolutePath();
                Path copy = data.resolve(jar.getFileName());
                if (!jar.equals(copy)) {
                    Files.copy(jar, aside(copy), StandardCopyOption.REPLACE_EXISTING);
                    replace(copy);
                }
                jars.add(copy.toString());
            }
            List<String> java = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java")
                .toString()));
            java.addAll(jvmOptions);
            java.addAll(List.of("-XX:+IgnoreUnrecognizedVMOptions", "-Xlog:disable"));
            Path archive = archive(data, java, String.join(File.pathSeparator, jars), arguments.has("--verbose"));
            Files.writeString(aside(launcher), launcherText(java, jars, archive));
            Files.setPosixFilePermissions(aside(launcher), PosixFilePermissions.fromString("rwxr-xr-x"));
            replace(launcher);
            System.out.println("installed " + launcher + " (jars " + (archive == null ? "" : "and start-up archive ")
                + "in " + data + ")");
            if (!List.of(System.getenv().getOrDefault("PATH", "").split(File.pathSeparator)).contains(bin.toString())) {
                System.out.println(bin + " is not on this PATH: use the full path, also in crontabs");
            }
            System.out.println("in a crontab: */5 * * * * " + launcher + " --quiet --command 'CMD' --lockfile"
                + " /run/lock/TASK.lock --threshold 3 --counter-file " + Host.home().resolve("TASK.count"));
            System.out.println("to remove it: " + launcher + " uninstall" + (arguments.has("--bin") ? " --bin " + bin
                : ""));
            return ExitStatus.OK;
        } catch (IOException e) {
            throw TaskException.cannotCreate("cannot install into " + data + " and " + bin + ": "
                + Text.reason(e) + "; choose directories with XDG_DATA_HOME and --bin", e);
        }
    }

    private static Path aside(Path file) {
        return file.resolveSibling(file.getFileName() + ".new");
    }

    private static void replace(Path file) throws IOException {
        Files.move(aside(file), file, StandardCopyOption.ATOMIC_MOVE);
    }

    /**
     * Makes the start-up archive: an AOT cache (JEP 514) from JDK 25 on, before that a static CDS archive, which unlike
     * a dynamic one takes picocli's old class files. G1 dumps it whatever collector runs with it: only an archive with
     * heap objects is checked for its length.
     *
     * @return null when this JDK cannot make one: the command then starts without
     */
    private Path archive(Path data, List<String> java, String classPath, boolean verbose) throws IOException {
        boolean aot = Runtime.version().feature() >= 25;
        Path archive = data.resolve(name + (aot ? ".aot" : ".jsa"));
        Path list = data.resolve(name + ".classes");
        Files.deleteIfExists(data.resolve(name + (aot ? ".jsa" : ".aot")));
        Path trial = Files.createTempDirectory("taskrunner-install");
        List<String> train = List.of("-cp", classPath, training, trial.toString());
        try {
            if (aot) {
                run(verbose, java, List.of("-XX:AOTCacheOutput=" + aside(archive)), train);
            } else {
                run(verbose, java, List.of("-Xshare:off", "-XX:DumpLoadedClassList=" + list), train);
                run(verbose, java, List.of("-Xshare:dump", "-XX:-UseSerialGC", "-XX:+UseG1GC",
                    "-XX:SharedClassListFile=" + list, "-XX:SharedArchiveFile=" + aside(archive)), train.subList(0, 2));
            }
            Files.setLastModifiedTime(aside(archive), UNTOUCHED);
            replace(archive);
            return archive;
        } catch (IOException e) {
            System.err.println("installed without a start-up archive (" + Text.reason(e) + "; starts about a fifth"
                + " slower); see why: " + name + " install --verbose");
            return null;
        } finally {
            Files.deleteIfExists(list);
            try (Stream<Path> left = Files.walk(trial)) {
                left.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
            }
        }
    }

    private static void run(boolean verbose, List<String> java, List<String> options, List<String> program)
        throws IOException {
        List<String> command = new ArrayList<>(java);
        command.addAll(options);
        command.addAll(program);
        Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(verbose
            ? ProcessBuilder.Redirect.INHERIT : ProcessBuilder.Redirect.DISCARD).start();
        try {
            if (!process.waitFor(2, TimeUnit.MINUTES)) {
                process.destroyForcibly();
                throw new IOException("java took over two minutes");
            }
        } catch (InterruptedException e) {
            throw new IOException("interrupted", e);
        }
        if (process.exitValue() != 0) {
            throw new IOException("java exited with " + process.exitValue());
        }
    }

    private String launcherText(List<String> java, List<String> jars, Path archive) {
        StringBuilder options = new StringBuilder();
        for (String option : java.subList(1, java.size())) {
            options.append(options.length() == 0 ? "" : " ").append(quoted(option));
        }
        String path = archive == null ? "" : archive.toString();
        return LAUNCHER.replace("NAME", name).replace("JAVA\n", quoted(java.get(0)) + "\n")
            .replace("JAR", quoted(jars.get(0))).replace("ARCHIVE", quoted(path))
            .replace("FLAG", path.endsWith(".aot") ? "-XX:AOTCache=" : "-XX:SharedArchiveFile=")
            .replace("OPTIONS", options).replace("CLASSPATH", quoted(String.join(File.pathSeparator, jars)))
            .replace("MAIN", mainClass);
    }

    private static String quoted(String text) {
        return "'" + text.replace("'", "'\\''") + "'";
    }

    /** Removes the launcher, if it is one, and the data directory's jars and archives. */
    int uninstall(Arguments arguments) throws TaskException {
        Path launcher = launcher(arguments);
        Path data = data();
        try {
            if (Files.exists(launcher) && isOurs(launcher)) {
                Files.delete(launcher);
                System.out.println("removed " + launcher);
            } else {
                System.out.println("no " + name + " launcher at " + launcher + "; give its directory: --bin DIR");
            }
            if (Files.isDirectory(data)) {
                try (DirectoryStream<Path> own = Files.newDirectoryStream(data, "*.{jar,jsa,aot,new}")) {
                    for (Path file : own) {
                        Files.delete(file);
                    }
                }
                if (data.toFile().delete()) {
                    System.out.println("removed " + data);
                }
            }
            return ExitStatus.OK;
        } catch (IOException e) {
            throw TaskException.io("cannot remove " + launcher + " and " + data + ": " + Text.reason(e), e);
        }
    }
}

/** What the start-up archive is trained with: a run, a held lock, {@code --quiet} and {@code status}. */
final class Training {
    public static void main(String[] args) throws Exception {
        Path directory = Path.of(args[0]);
        String lock = directory.resolve("lock").toString();
        String held = directory.resolve("held").toString();
        String[] request = {"--command", "true", "--lockfile", lock, "--threshold", "1", "--counter-file",
            directory.resolve("count").toString()};
        taskrunner.run(request);
        request[1] = "exit 1";
        taskrunner.run("--quiet", "--command", "exit 1", "--lockfile", lock, "--threshold", "1", "--counter-file",
            request[7]);
        Execution holder = new Execution(new Request(Arguments.parse(Options.COMMANDS, request)));
        holder.acquireLock();
        Files.copy(Path.of(lock), Path.of(held));
        request[3] = held;
        taskrunner.run(request);
        taskrunner.run("status", "--lockfile", held);
        holder.releaseLock();
    }

    private Training() {
    }
}

// 11. small things

/** Files by their own paths: symbolic links are not followed, as locks and counters may lie in /tmp. */
final class RegularFiles {
    static final Set<OpenOption> READ = Set.of(StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS);
    static final Set<OpenOption> READ_WRITE = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE,
        LinkOption.NOFOLLOW_LINKS);
    /** O_EXCL, since fs.protected_regular (proc_sys_fs(5)) forbids O_CREAT on another user's file even to root. */
    static final Set<OpenOption> NEW = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE,
        StandardOpenOption.CREATE_NEW, LinkOption.NOFOLLOW_LINKS);

    /** The attributes of the file itself, or null when there is none. */
    static BasicFileAttributes attributes(Path path) throws IOException {
        try {
            return Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
        } catch (NoSuchFileException e) {
            return null;
        } catch (FileSystemException e) {
            if (!Files.isDirectory(path.getParent())) {
                throw new NotDirectoryException(path.getParent().toString());
            }
            throw e;
        }
    }

    static String kind(BasicFileAttributes attributes) {
        return attributes.isDirectory() ? "a directory" : attributes.isSymbolicLink() ? "a symbolic link"
            : "a special file";
    }

    /** The first bytes of the file as text. */
    static String read(FileChannel file, int maxBytes) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(maxBytes);
        while (bytes.hasRemaining() && file.read(bytes, bytes.position()) > 0) {
            continue;
        }
        return new String(bytes.array(), 0, bytes.position(), StandardCharsets.UTF_8);
    }

    /** Why the file's directory cannot be used and what to do, or null when it can. */
    static String unusableDirectory(Path file) {
        Path directory = file.getParent();
        return Files.isDirectory(directory) ? null
            : Files.exists(directory) ? directory + " is not a directory"
            : Files.notExists(directory) ? "no such directory: " + directory + "; create it: mkdir -p " + directory
            : "no permission to enter " + directory + "; give this user access or choose another directory";
    }

    /** The attribute of a new file, where the system has such. */
    static FileAttribute<?>[] mode(PosixFilePermission... permissions) {
        return Processes.WINDOWS ? new FileAttribute<?>[0]
            : new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(Set.of(permissions))};
    }

    /** Whether the file belongs to the user of this process. */
    static boolean isOwn(Path path) throws IOException {
        if (Processes.HAVE_PROC) {
            return Files.getAttribute(path, "unix:uid", LinkOption.NOFOLLOW_LINKS)
                .equals(Files.getAttribute(Path.of("/proc/self"), "unix:uid"));
        }
        return Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName().endsWith(System.getProperty("user.name"));
    }

    static void write(FileChannel file, String text, long from) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
            file.write(bytes, from + bytes.position());
        }
    }

    /** To a channel that was opened to append. */
    static void append(FileChannel file, byte[] bytes) throws IOException {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        while (buffer.hasRemaining()) {
            file.write(buffer);
        }
    }

    private RegularFiles() {
    }
}

/**
 * Stdout or stderr. Where it is non-blocking and full it is waited for, where {@link System#err} would drop what does
 * not fit. Any thread may write; what it writes stays whole.
 */
final class StandardStream extends OutputStream {
    static final StandardStream ERR = new StandardStream(FileDescriptor.err);
    private static final int RETRY_MILLIS = 5;
    /** Descriptors that nothing else may get. */
    private static final List<FileOutputStream> OCCUPIED = new ArrayList<>();
    private final FileChannel channel;

    StandardStream(FileDescriptor descriptor) {
        channel = new FileOutputStream(descriptor).getChannel();
    }

    /** Opens what of 0 to 2 is closed ({@code 2>&-}), or the next file, a lock file perhaps, would get that number. */
    static void occupyClosed() {
        for (int i = 0; i <= 2 && Processes.HAVE_PROC; i++) {
            if (!new File("/proc/self/fd/" + i).exists()) {
                try {
                    OCCUPIED.add(new FileOutputStream("/dev/null"));
                } catch (IOException e) {
                    return;
                }
            }
        }
    }

    /** Writes what can be written: nobody may read it any more. */
    void print(byte[] bytes) {
        try {
            write(bytes);
        } catch (IOException e) {
            // there is no other place to say so
        }
    }

    @Override
    public void write(int b) throws IOException {
        write(new byte[] {(byte) b});
    }

    @Override
    public synchronized void write(byte[] bytes, int offset, int length) throws IOException {
        // an interrupt would close the channel
        boolean interrupted = Thread.interrupted();
        ByteBuffer buffer = ByteBuffer.wrap(bytes, offset, length);
        while (buffer.hasRemaining()) {
            if (channel.write(buffer) == 0) {
                try {
                    Thread.sleep(RETRY_MILLIS);
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

/** Pauses that double up to a maximum, in milliseconds. For one thread. */
final class Backoff {
    private final long max;
    private long next;

    Backoff(long first, long max) {
        this.next = first;
        this.max = max;
    }

    /** The length of the pause that is due. */
    long next() {
        long pause = next;
        next = Math.min(next * 2, max);
        return pause;
    }

    /**
     * Sleeps for the next pause.
     *
     * @return false when the thread was interrupted. That is then the caller's to answer (by giving up, or by
     *     hurrying): the flag is clear, so that no later pause ends at once
     */
    boolean pause() {
        try {
            Thread.sleep(next());
            return true;
        } catch (InterruptedException e) {
            return false;
        }
    }
}

/** One JSON object (RFC 8259), in the order in which its members are put. */
final class Json {
    private final StringBuilder members = new StringBuilder();

    /** Nothing when the value is null. */
    Json put(String name, String value) {
        return value == null ? this : raw(name, quote(value));
    }

    Json put(String name, long value) {
        return raw(name, Long.toString(value));
    }

    Json put(String name, Json value) {
        return value == null ? this : raw(name, value.toString());
    }

    /** A member whose value is JSON already. */
    Json raw(String name, String value) {
        members.append(members.length() == 0 ? "" : ",").append(quote(name)).append(':').append(value);
        return this;
    }

    Json putAll(Json other) {
        members.append(members.length() == 0 || other.members.length() == 0 ? "" : ",").append(other.members);
        return this;
    }

    static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ') {
                quoted.append("\\u00").append(Character.forDigit(c >> 4, 16)).append(Character.forDigit(c & 15, 16));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }

    @Override
    public String toString() {
        return "{" + members + "}";
    }
}

/**
 * Small pieces of text. Without formatters and regular expressions, which would cost more at start-up than the rest of
 * a run.
 */
final class Text {
    static final int MAX_LIST = 20;
    private static final int MAX_LINE = 300;
    private static final String[] SIGNALS = {"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL",
        "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM"};

    /** The text as one line of printable characters, cut when long. */
    static String oneLine(String text) {
        String line = printable(text);
        return line.length() < MAX_LINE ? line : line.substring(0, MAX_LINE) + "…";
    }

    /** The text as one line without control characters: paths and the records of other users' locks may hold any. */
    static String printable(String text) {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '\n') {
                line.append("\\n");
            } else if (c == '\t') {
                line.append("\\t");
            } else if (Character.isISOControl(c)) {
                line.append('?');
            } else {
                line.append(c);
            }
        }
        return line.toString();
    }

    /** UTC, ISO-8601, to the millisecond. */
    static String time(long epochMillis) {
        long second = Math.floorDiv(epochMillis, 1000L);
        // toString drops seconds that are 0, and needs no formatter
        String text = LocalDateTime.ofEpochSecond(second, 0, ZoneOffset.UTC).toString();
        String millis = Long.toString(1000 + Math.floorMod(epochMillis, 1000L)).substring(1);
        return (text.length() == 16 ? text + ":00" : text) + "." + millis + "Z";
    }

    /** The milliseconds since 1970 of a {@link #time}, or -1. */
    static long millis(String time) {
        try {
            return LocalDateTime.of(Integer.parseInt(time.substring(0, 4)), Integer.parseInt(time.substring(5, 7)),
                Integer.parseInt(time.substring(8, 10)), Integer.parseInt(time.substring(11, 13)),
                Integer.parseInt(time.substring(14, 16)), Integer.parseInt(time.substring(17, 19)))
                .toEpochSecond(ZoneOffset.UTC) * 1000;
        } catch (RuntimeException e) {
            return -1;
        }
    }

    /** {@code 0.012s}, {@code 42s}, {@code 5m3s}, {@code 3h12m}, {@code 2d4h}. */
    static String duration(long millis) {
        long seconds = millis / 1000;
        if (seconds < 60) {
            return (seconds >= 10 || millis % 1000 == 0 ? Long.toString(seconds) : seconds(millis)) + "s";
        }
        if (seconds < 3600) {
            return seconds / 60 + "m" + (seconds % 60 == 0 ? "" : seconds % 60 + "s");
        }
        return seconds < 86400 ? seconds / 3600 + "h" + seconds / 60 % 60 + "m" : seconds / 86400 + "d"
            + seconds / 3600 % 24 + "h";
    }

    /** Seconds with three decimals. */
    static String seconds(long millis) {
        return millis / 1000 + "." + Long.toString(1000 + millis % 1000).substring(1);
    }

    static String signal(int number) {
        return number < SIGNALS.length ? SIGNALS[number] : Integer.toString(number);
    }

    static String pids(List<Long> pids) {
        return (pids.size() == 1 ? "pid " : "pids ") + list(pids);
    }

    static String list(List<Long> pids) {
        StringBuilder list = new StringBuilder();
        for (int i = 0; i < pids.size() && i < MAX_LIST; i++) {
            list.append(i == 0 ? "" : ",").append(pids.get(i));
        }
        return list.toString();
    }

    /** What went wrong, without the class names and paths that a JDK message repeats. */
    static String reason(Throwable e) {
        String reason = e instanceof NoSuchFileException ? "no such file or directory"
            : e instanceof AccessDeniedException ? "permission denied" : e instanceof NotDirectoryException
            ? "not a directory" : e instanceof FileSystemException f ? f.getReason() : null;
        if (reason == null) {
            reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
        }
        // ProcessBuilder: … error=7, Argument list too long (JDK 17); … error: 7 (Argument list too long) (JDK 25)
        int error = Math.max(reason.indexOf("error="), reason.indexOf("error: "));
        int open = error < 0 ? -1 : Math.max(reason.indexOf(", ", error) + 1, reason.indexOf('(', error));
        reason = open <= 0 ? reason : reason.substring(open + 1, reason.endsWith(")") ? reason.length() - 1
            : reason.length());
        return oneLine(lowerCase(reason));
    }

    /** The sentence as one that goes on after a colon; a word in capitals stays. */
    static String lowerCase(String sentence) {
        return sentence.length() < 2 || Character.isUpperCase(sentence.charAt(1)) ? sentence
            : Character.toLowerCase(sentence.charAt(0)) + sentence.substring(1);
    }

    private Text() {
    }
}
