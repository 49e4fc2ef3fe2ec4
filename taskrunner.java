///usr/bin/env jbang "$0" "$@" ; exit $?
// SPDX-License-Identifier: Apache-2.0
//DESCRIPTION Run a command under a lock file, one instance at a time; report when too many requests found it held
//JAVA 17+
//DEPS info.picocli:picocli:4.7.7
//COMPILE_OPTIONS -encoding UTF-8 -XDignore.symbol.file -XDstringConcat=inline
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:CICompilerCount=1 -XX:CompileThresholdScaling=3
//JAVA_OPTIONS -XX:+UseSerialGC -XX:-UsePerfData -Xss256k
//JAVA_OPTIONS -XX:-MaxFDLimit -Djdk.reflect.useNativeAccessorOnly=true
//JAVA_OPTIONS -XX:CompressedClassSpaceSize=64m -XX:+DisplayVMOutputToStderr

// taskrunner --lockfile FILE --threshold N --counter-file FILE [OPTION...] --command CMD    or: ... -- CMD [ARG...]
// taskrunner status | unlock --lockfile FILE [OPTION...]
// taskrunner install | uninstall [--bin DIR]; completion bash | zsh
//     runs CMD while it holds FILE; a request that finds FILE there is a contention: it is counted, and reported as
//     an error (exit status 75) once the counter exceeds N
// taskrunner --help tells the rest; without JBang: javac with picocli on the class path, then java taskrunner

import java.io.File;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Constructor;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
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
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Stream;

import picocli.AutoComplete;
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
    static final String VERSION = "2.0.0";

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
        Arguments arguments = null;
        try {
            arguments = Arguments.parse(Options.COMMANDS, args);
            return arguments == null ? printed(ExitStatus.OK, Options.COMMANDS) : run(arguments);
        } catch (TaskException | RuntimeException | Error e) {
            return Errors.print(Options.COMMANDS, e, arguments != null && arguments.has("--verbose"), args);
        }
    }

    private static int run(Arguments arguments) throws TaskException {
        return switch (arguments.command().name()) {
            case "status" -> printed(Status.run(arguments), Options.COMMANDS);
            case "unlock" -> printed(Status.unlock(arguments), Options.COMMANDS);
            case "completion" -> printed(Documentation.completion(Options.COMMANDS, arguments), Options.COMMANDS);
            case "install" -> printed(Installation.TASKRUNNER.install(Options.COMMANDS, arguments), Options.COMMANDS);
            case "uninstall" -> printed(Installation.TASKRUNNER.uninstall(arguments), Options.COMMANDS);
            default -> {
                Execution execution = new Execution(new Request(arguments));
                execution.stopOnSignals();
                yield execution.run();
            }
        };
    }

    /** The exit status of a command that has printed on stdout: 74 when that did not arrive, as on a full disk. */
    static int printed(int exitStatus, List<Command> commands) {
        if (System.out.checkError()) {
            if (!Processes.stdoutIsPipe()) {
                new PrintWriter(StandardStream.ERR, true).println(commands.get(0).name()
                    + ": cannot write to stdout; is the disk full?");
            }
            return ExitStatus.IO;
        }
        return exitStatus;
    }
}

// 2. what is asked

/**
 * What a lock file names.
 *
 * @param name for messages: the lock file, or the task's name in a fleet
 * @param lockFile absolute, its directory with symbolic links resolved, so that two spellings are one task
 * @param counterFile resolved like the lock file; null when contentions are counted elsewhere
 * @param threshold contentions that are tolerated, at least 0; 0: contentions are not counted
 */
record Task(String name, Path lockFile, Path counterFile, int threshold) {
    /** The task that the options name; --threshold and --counter-file may be missing. */
    static Task of(Arguments arguments) throws UsageException {
        Path lockFile = arguments.path("--lockfile");
        if (lockFile != null && lockFile.getFileName().toString().endsWith(GATE)) {
            throw arguments.refused("--lockfile " + lockFile + " ends in " + GATE
                + ", as the file beside another task's lock file does; choose another name");
        }
        return new Task(String.valueOf(lockFile), lockFile, arguments.path("--counter-file"),
            arguments.number("--threshold", 0, Integer.MAX_VALUE, 0));
    }

    private static final String GATE = ".tmp";

    /** The path of the lock's {@link Gate}. */
    Path gate() {
        return gate(lockFile);
    }

    static Path gate(Path file) {
        return file.resolveSibling(file.getFileName() + GATE);
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
        boolean counts = threshold > 0 && counterFile != null;
        wrong = counts ? RegularFiles.unusableDirectory(counterFile) : null;
        if (wrong == null && counts && !Files.isWritable(counterFile.getParent())) {
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
    /** The command as one reads it: the text for the system shell, or the words after {@code --}, quoted for it. */
    final String command;
    /** What is executed: the shell with its text, or the words after {@code --}. */
    final List<String> argv;
    /** How long to try again before a contention counts. */
    final Duration wait;
    /** The longest that the command may run. */
    final Duration timeout;
    /** How long after SIGTERM the command's processes get SIGKILL. */
    final Duration killAfter;
    final boolean recoverStale;
    final int conflictExitStatus;
    final boolean exitZero;
    /** How long a lock may be held before a contention is reported in any case. */
    final Duration overdue;
    final boolean replace;
    final String notifyCommand;
    final List<String> notifyOn;
    final boolean quiet;
    final Path logFile;
    final boolean jsonLog;
    final Path metricsFile;
    final boolean verbose;

    /** @throws UsageException when an option is missing or malformed, before anything is touched */
    Request(Arguments arguments) throws UsageException {
        this(arguments, null);
    }

    /** @param fleet the task's name in a fleet, whose database has the counter, or null */
    Request(Arguments arguments, String fleet) throws UsageException {
        if (fleet == null) {
            arguments.requireAll("--command", "--lockfile", "--threshold", "--counter-file");
        } else {
            arguments.requireAll("--command", "--lockfile", "--threshold");
        }
        argv = arguments.argv();
        command = arguments.has("--command") ? arguments.text("--command") : Text.shellWords(arguments.words());
        Task local = Task.of(arguments);
        task = fleet == null ? local : new Task(fleet, local.lockFile(), null, local.threshold());
        wait = arguments.duration("--wait", Duration.ZERO);
        timeout = arguments.duration("--timeout", Duration.ZERO);
        killAfter = arguments.duration("--kill-after", Duration.ofSeconds(8));
        recoverStale = !arguments.isOther("--on-stale", "recover", "report");
        jsonLog = arguments.isOther("--log-format", "text", "json");
        conflictExitStatus = arguments.number("--conflict-exit-code", 0, 255, 0);
        exitZero = arguments.has("--exit-zero");
        quiet = arguments.has("--quiet");
        verbose = arguments.has("--verbose");
        overdue = arguments.duration("--overdue", Duration.ZERO);
        replace = arguments.has("--replace");
        notifyCommand = arguments.text("--notify");
        notifyOn = notifyCommand == null && !arguments.has("--notify-on") ? null : Notification.events(arguments);
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
        if (counterFile != null && (counterFile.equals(logFile) || counterFile.equals(metricsFile))
            || logFile != null && logFile.equals(metricsFile)) {
            throw arguments.refused("--counter-file, --log-file and --metrics-file must be different files");
        }
        Path temporary = metricsFile == null ? null : Task.gate(metricsFile);
        if (temporary != null && (temporary.equals(counterFile) || temporary.equals(logFile))) {
            throw arguments.refused("--metrics-file is first written to " + temporary + ", which is the counter or log"
                + " file; choose another file");
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
    private final TaskLock locks;
    private TaskLock.Held lock;
    /** The same, also after its release, or null. */
    private TaskLock.Held acquired;
    private LockState recovered;
    private Process startedNotification;
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

    /** A request that goes by its lock file. */
    Execution(Request request) {
        this.request = request;
        this.holder = Holder.self();
        this.log = new Log(request, holder);
        this.locks = new LockFiles(request, holder);
    }

    /** A request that goes by another lock. @param locks makes it for this execution */
    Execution(Request request, java.util.function.Function<Execution, TaskLock> locks) {
        this.request = request;
        this.holder = Holder.self();
        this.log = new Log(request, holder);
        this.locks = locks.apply(this);
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
        boolean replaces = request.replace;
        while (true) {
            long left = deadline - System.nanoTime();
            long pause;
            try {
                request.task.checkDirectories();
                TaskLock.Attempt attempt = locks.attempt(left <= 0 && !replaces);
                boolean nested = attempt.lockState() != null && Holder.isAround(attempt.lockState().holder());
                if (attempt.lock() != null) {
                    lock = attempt.lock();
                    acquired = lock;
                    recovered = attempt.lockState();
                    if (recovered != null) {
                        log.warn("recovered", recovery());
                    }
                    if (attempt.warning() != null) {
                        log.warn("counter", attempt.warning());
                    }
                    return true;
                }
                pause = attempt.retryMillis();
                if (replaces) {
                    replaces = replace(attempt.lockState());
                    left = 0;
                } else if (left <= 0 && pause == 0) {
                    if (attempt.warning() != null) {
                        log.warn("owner", attempt.warning());
                    }
                    outcome = Outcome.contended(request, attempt.lockState(), attempt.count(), nested);
                    return false;
                } else if (nested) {
                    // it would wait for itself
                    deadline = System.nanoTime();
                    continue;
                } else if (!waits && pause == 0) {
                    waits = true;
                    log.debug("waiting", attempt.lockState().message() + "; waiting for up to "
                        + Text.duration(request.wait.toMillis()));
                }
            } catch (TaskException e) {
                outcome = stopSignal() != null ? Outcome.stopped(stopSignal()) : Outcome.error(null, e);
                return false;
            }
            if (stopsWithin(pause > 0 ? pause : Math.min(backoff.next(), left / 1_000_000 + 1))) {
                outcome = Outcome.stopped(stopSignal());
                return false;
            }
        }
    }

    /**
     * Terminates the run that holds the lock: a living holder does it itself, as on any SIGTERM, is hurried after
     * --kill-after by a second one, and killed with all of its run when it does not answer.
     *
     * @return whether the lock may be free now, or another's: false where nothing can be terminated, which is then a
     *     contention
     */
    private boolean replace(LockState lockState) {
        Holder other = lockState.holder();
        boolean held = lockState.kind() == LockState.Kind.HELD;
        boolean isOwn = other != null && other.process().equals(Processes.self()) || Holder.isAround(other);
        ProcessTree run = isOwn ? null : StaleCheck.run(lockState);
        if (run == null) {
            return false;
        }
        log.warn("replacing", "--replace: " + lockState.message() + "; its run is terminated");
        long killAfter = request.killAfter.toMillis();
        if (!held) {
            return run.terminate(request.killAfter).isEmpty();
        }
        LockFile.noteReplacement(lockState.path(), holder);
        for (long maxMillis : new long[] {killAfter + SIGNAL_GRACE_MILLIS, SIGNAL_GRACE_MILLIS}) {
            if (!Processes.signal(other.process(), false)) {
                log.warn("replacing", "no permission to signal " + Text.pids(List.of(other.process().pid())));
                return false;
            }
            if (endsWithin(other.process(), maxMillis)) {
                return stopSignal() == null;
            }
        }
        return run.terminate(Duration.ZERO).isEmpty();
    }

    /** Waits for the end of the process, or for a signal to stop. */
    private boolean endsWithin(ProcessId process, long millis) {
        long deadline = System.nanoTime() + millis * 1_000_000;
        while (Processes.lives(process)) {
            if (stopsWithin(20)) {
                return true;
            }
            if (System.nanoTime() > deadline) {
                return false;
            }
        }
        return true;
    }

    private String recovery() {
        return recovered.kind() == LockState.Kind.LOST
            ? "took over " + recovered.subject() + " from " + recovered.what()
            : "recovered stale " + recovered.subject() + ": " + recovered.what();
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
                    outcome = Outcome.stopped(stopSignal);
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
            List<ProcessId> remaining = tree == null ? List.of() : tree.terminate(Duration.ZERO);
            if (!remaining.isEmpty()) {
                keepLock(remaining);
            }
        }
    }

    /** A lock whose run lives on stays. @return the error that this is */
    private TaskException keepLock(List<ProcessId> remaining) {
        TaskException error = lock.keep(remaining, tree);
        lock = null;
        return error;
    }

    private Outcome await(Process process, Output output, long startedMillis, long startedNanos) {
        long oomKills = Processes.oomKills();
        lock.started(tree);
        if (output != null) {
            output.started(process);
        }
        reportStart(startedMillis);
        boolean timedOut = false;
        int status = -1;
        try {
            timedOut = !request.timeout.isZero() && !process.waitFor(request.timeout.toNanos() - (System.nanoTime()
                - startedNanos), TimeUnit.NANOSECONDS);
            status = timedOut ? -1 : process.waitFor();
            if (SIGNALLED.contains(status)) {
                // a terminal, or kill(1) of a process group, signals both: the command may be the first to end
                stopsWithin(SIGNAL_GRACE_MILLIS);
            }
        } catch (InterruptedException e) {
            stop(StopSignal.TERM);
        }
        String lost = lock.lost();
        boolean alone = !timedOut && lost == null && endedAlone(status);
        List<ProcessId> remaining = alone ? List.of() : timedOut || lost != null || stopSignal() != null
            ? tree.terminate(request.killAfter) : terminateLeft(status);
        StopSignal stopped = alone ? null : stopSignal();
        if (output != null) {
            boolean forced = timedOut;
            output.ended(() -> forced || stopSignal() != null);
        }
        run = new Run(startedMillis, (System.nanoTime() - startedNanos) / 1_000_000);
        return !remaining.isEmpty() ? Outcome.error(run, keepLock(remaining))
            : lost != null ? Outcome.lost(run, lost)
            : stopped != null ? Outcome.stopped(run, stopped, lock.stoppedBy())
            : timedOut ? Outcome.timedOut(request, run)
            : Outcome.ended(request, run, status, status == ExitStatus.KILLED && oomKills >= 0
                && Processes.oomKills() > oomKills);
    }

    /** Whether nothing is to be stopped any more: from then on a signal leaves alone what the command left behind. */
    private synchronized boolean endedAlone(int status) {
        boolean alone = stopSignal == null && !ExitStatus.isSignal(status);
        if (alone) {
            tree = null;
        }
        return alone;
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
            lock.starting(builder.environment());
            Process process = Processes.start(builder.command(request.argv));
            tree = new ProcessTree(Processes.entry(process), holder);
            return process;
        } catch (IOException e) {
            throw TaskException.cannotStart(request.argv.get(0) + ": " + Text.reason(e), e);
        } catch (OutOfMemoryError e) {
            // a JVM that cannot start its reaper thread throws after the fork: the child lives already
            tree = ProcessTree.ofLastChild(holder);
            List<ProcessId> remaining = tree.terminate(Duration.ZERO);
            throw remaining.isEmpty() ? TaskException.cannotStart(request.argv.get(0) + ": " + Text.reason(e), e)
                : keepLock(remaining);
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

    /** Passes the signal on to the command, if it runs: not to a shell that it would kill, but to what handles it. */
    private void forward(String name, int number) {
        ProcessTree running;
        synchronized (this) {
            running = run == null || outcome != null ? null : tree;
        }
        try {
            List<ProcessId> handlers = running == null ? List.of() : running.handlers(number);
            if (!handlers.isEmpty()) {
                Processes.start(new ProcessBuilder("/bin/sh", "-c", "kill -" + name + " " + Text.list(
                    ProcessTree.pids(handlers)).replace(',', ' ')));
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
                        forward(name, received.getNumber());
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

    /** What is due beside a command that has just started, and does not delay it. */
    private void reportStart(long startedMillis) {
        writeMetrics(new Run(startedMillis, 0));
        if (isNotified("started")) {
            startedNotification = notify("started", "running: " + Text.oneLine(request.command));
        }
    }

    /** Something that a person may want to know of. */
    record Notice(String event, String message) {
    }

    /** Writes the metrics, logs the outcome, then notifies; returns the exit status. */
    int finish() {
        return finish(List.of(new Notice(outcome.ending.event(), outcome.message(request.command))));
    }

    /** @param notices what there is to be told of, where it is asked for */
    int finish(List<Notice> notices) {
        if (outcome.run != null && (request.metricsFile != null || request.jsonLog)) {
            outcome.cpuMillis = Processes.cpuMillisOfChildren();
        }
        writeMetrics(null);
        log.outcome(outcome);
        if (recovered != null && isNotified("recovered")) {
            finish(startedNotification);
            finish(notify("recovered", recovery()));
        }
        for (Notice notice : notices) {
            if (isNotified(notice.event())) {
                finish(startedNotification);
                finish(notify(notice.event(), notice.message()));
            }
        }
        return outcome.exitStatus;
    }

    /** @param started the run that has started, or null when the request has ended */
    private void writeMetrics(Run started) {
        if (request.metricsFile != null) {
            try {
                Metrics.write(request, started, outcome);
            } catch (IOException | TaskException | RuntimeException e) {
                log.warn("metrics", e instanceof TaskException ? e.getMessage()
                    : "cannot write metrics file " + request.metricsFile + ": " + Text.reason(e));
            }
        }
    }

    private boolean isNotified(String event) {
        return request.notifyCommand != null && request.notifyOn.contains(event);
    }

    /** Starts the notification command; null when that cannot be. */
    private Process notify(String event, String message) {
        try {
            return Notification.start(request, holder, outcome, event, message);
        } catch (IOException | RuntimeException | OutOfMemoryError e) {
            log.warn("notify", "cannot start the notification command: " + Text.reason(e));
            return null;
        }
    }

    /** Waits for the end of a notification command, or brings it about. @param process or null */
    private void finish(Process process) {
        if (process == null) {
            return;
        }
        try {
            synchronized (this) {
                tree = new ProcessTree(Processes.entry(process), null);
            }
            if (!process.waitFor(Notification.MAX_SECONDS, TimeUnit.SECONDS)) {
                tree.terminate(Duration.ofSeconds(1));
                log.warn("notify", "notification command timed out after " + Notification.MAX_SECONDS + " s: "
                    + Text.oneLine(request.notifyCommand));
            } else if (process.exitValue() != 0) {
                log.warn("notify", "notification command failed with status " + process.exitValue() + ": "
                    + Text.oneLine(request.notifyCommand));
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    Outcome outcome() {
        return outcome;
    }

    /** The lock that this request has acquired, which may have been released since, or null. */
    TaskLock.Held acquired() {
        return acquired;
    }

    /** The stale lock that this request recovered, or null. */
    LockState recovered() {
        return recovered;
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
    SUCCEEDED("INFO"), FAILED("ERROR"), TIMEOUT("ERROR"), STOPPED("WARN"), CONTENTION("WARN"),
    /** Contention beyond the threshold, or with an overdue lock. */
    THRESHOLD("ERROR"),
    /** The request could not do its work, or not release the lock. */
    ERROR("ERROR"),
    /** The lock was lost while the command ran, which was terminated. */
    LOST("ERROR");

    final String level;

    Ending(String level) {
        this.level = level;
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
    /** What the command's waited-for processes took of the CPUs, in user mode and in the kernel, or null. */
    long[] cpuMillis;
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

    /** Whether somebody should see what the command printed, also with --exit-zero. */
    boolean wentWrong() {
        return exitStatus != ExitStatus.OK || ending == Ending.FAILED || ending == Ending.TIMEOUT;
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

    /** A request whose command did not start. */
    static Outcome stopped(Execution.StopSignal signal) {
        return stopped(null, signal, null);
    }

    /** @param run or null when the command did not start @param by what the lock says about it, or null */
    static Outcome stopped(Run run, Execution.StopSignal signal, String by) {
        Outcome outcome = new Outcome(Ending.STOPPED, ExitStatus.SIGNAL + signal.number(), (by == null
            ? "stopped by SIG" + signal.name() : by) + (run == null
            ? " before the command started" : " after " + Text.duration(run.durationMillis())
            + ", all processes of the command are gone"), true, run);
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
            boolean many = n - 1 > threshold;
            outcome = new Outcome(Ending.THRESHOLD, ExitStatus.THRESHOLD, "task " + request.task.name()
                + (many ? " was busy for " + n + " requests in a row (threshold " + threshold + "): "
                    : " is overdue (--overdue " + Text.duration(request.overdue.toMillis()) + "), contention " + n
                    + ", threshold " + threshold + ": ") + lockState.what() + inside + "; "
                + lockState.advice(), false, null);
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

    static Outcome lost(Run run, String why) {
        return new Outcome(Ending.LOST, ExitStatus.LOST, why, false, run);
    }

    /** @param run or null when the command did not start */
    static Outcome error(Run run, TaskException error) {
        Outcome outcome = new Outcome(Ending.ERROR, error.exitStatus, error.getMessage(), false, run);
        outcome.error = error;
        return outcome;
    }
}

// 5. the lock

/** What makes a request the only one that runs its command. One thread uses it. */
interface TaskLock {
    /**
     * Tries once to acquire the lock.
     *
     * @param count whether a contention counts
     */
    Attempt attempt(boolean count) throws TaskException;

    /**
     * What came of one try.
     *
     * @param lock null when it was not acquired
     * @param lockState what blocks the task; with a lock: the stale one that was recovered, or null
     * @param warning what a person should know of the counter or of the lock file's owner, or null
     * @param retryMillis nothing was counted: try again after so long, however long the request waits; or 0
     */
    record Attempt(Held lock, LockState lockState, ContentionCounter.Count count, String warning, long retryMillis) {
    }

    /** A lock that this request holds. */
    interface Held {
        /** The command is about to start. @param environment of the command @throws TaskException when it must not */
        void starting(Map<String, String> environment) throws TaskException;

        void started(ProcessTree command);

        /** Why this request is the holder no more, or null. If it is not, the command is being terminated. */
        String lost();

        /** @return false when somebody removed or replaced the lock file meanwhile: then it is left alone */
        boolean release() throws TaskException;

        /** Who wanted the command to be terminated, as a message says it, or null. */
        String stoppedBy();

        /** A number that grows with each acquisition of the task, or null. */
        Long fence();

        /** What an auditor should know of how it was held, or null. */
        String note();

        /** Processes of the command survived SIGKILL: the lock stays with them. @return the error that this is */
        TaskException keep(List<ProcessId> remaining, ProcessTree command);
    }
}

/** The lock file of a request. */
record LockFiles(Request request, Holder holder) implements TaskLock {
    @Override
    public Attempt attempt(boolean count) throws TaskException {
        return LockFile.attempt(request, request.task, holder, count);
    }
}

/**
 * A lock that this request holds, and the way to get one. The lock file's existence is the lock; an fcntl(2) lock on it
 * marks that the holder lives. No crash, at any instruction, gives two holders, a lost count or a task that never runs
 * again:
 *
 * <ol>
 * <li><b>Enter the gate</b> ({@link Gate#enter}): open LOCKFILE.tmp, lock it, see that the path still leads to the
 *     inode that is locked; else look again every few milliseconds, for up to 10 s. A .tmp that nobody has locked is a
 *     leftover: it is used. Write the record into it, so that it tells who made it wherever it may be met. Inside, a
 *     request is alone in looking at, making and recovering LOCKFILE, and in changing the counter.
 * <li><b>Look</b> ({@link #look}): what is at LOCKFILE? A taken fcntl lock is a living holder; otherwise {@link
 *     StaleCheck}. The gate's own inode there is a holder killed between steps 5 and 6: stale.
 * <li><b>Contention</b>: LOCKFILE is there and not proven stale. Count it, leave the gate, and tell who holds it.
 * <li><b>Recover</b>: it is stale. Leave the gate, look again some milliseconds later, and enter again; when all agree
 *     and the counter can be read, unlink LOCKFILE, if it still is the inode that was judged, and look again.
 * <li><b>Acquire</b>: nothing is there. See that the counter can be read, force the record to the disk, let everybody
 *     read the file (mode 0644 instead of 0600) and hard-link LOCKFILE to it: it appears complete and already locked.
 *     See that LOCKFILE is the own file, whole: when somebody removed .tmp meanwhile, the link went to another
 *     request's, so enter anew. Then clear the counter; when that fails unlink LOCKFILE again. A crash in between
 *     leaves a stale lock, and who recovers it clears the counter.
 * <li><b>Leave the gate</b>: unlink LOCKFILE.tmp, keep its channel: the fcntl lock now marks the holder's life.
 * <li><b>Run</b>: append the command's process to the record ({@link #started}).
 * <li><b>Release</b> ({@link #release}), outside the gate: if LOCKFILE still is the own inode, unlink it, then close.
 *     If not, somebody removed or replaced it: leave it alone.
 * </ol>
 *
 * <p>Two things make this hard. Closing <em>any</em> channel on an inode drops all fcntl locks that the process has
 * there (POSIX): so nothing that was opened inside the gate is closed before the gate is left, and only {@link
 * LockedFile} closes channels. And Java has no fstat(2): {@link LockedFile#isAt} is the one proof that a path leads to
 * an inode.
 */
final class LockFile implements TaskLock.Held {
    /** The locks that this JVM holds, by device and inode (else path): asked before any lock file is opened. */
    private static final Map<Object, LockFile> HELD = new ConcurrentHashMap<>();
    private static final String REPLACED_BY = "replaced-by=";

    private final Path path;
    private final Holder holder;
    private final LockedFile file;
    private final Object key;

    private LockFile(Path path, Holder holder, LockedFile file) {
        this.path = path;
        this.holder = holder;
        this.file = file;
        this.key = key(path, file.status());
    }

    private static Object key(Path path, FileStatus status) {
        return status.key() == null ? path : status.key();
    }

    /** Whether this JVM holds the lock that the file is. */
    static boolean isHeld(Path path, FileStatus status) {
        return HELD.containsKey(key(path, status));
    }

    /**
     * Tries once to acquire the lock.
     *
     * @param task the request's, or the same without a counter
     * @param count whether a contention is counted
     * @throws TaskException 73 when the lock file cannot be created, 74 on I/O errors, 65 on a counter file that holds
     *     no counter
     */
    static TaskLock.Attempt attempt(Request request, Task task, Holder holder, boolean count) throws TaskException {
        Looks looks = new Looks();
        while (true) {
            try (Gate gate = enterGate(task.lockFile(), holder)) {
                TaskLock.Attempt attempt = inside(gate, request, task, holder, count, looks);
                if (attempt != null) {
                    return attempt;
                }
            } catch (IOException e) {
                throw TaskException.io("cannot use lock file " + task.lockFile() + ": " + Text.reason(e), e);
            }
            looks.settle(task.lockFile());
        }
    }

    /** @return null when the gate is to be entered anew: for another look, or since a cleaner removed it */
    private static TaskLock.Attempt inside(Gate gate, Request request, Task task, Holder holder, boolean count,
        Looks looks) throws TaskException, IOException {
        Path path = task.lockFile();
        ContentionCounter counter = new ContentionCounter(task);
        while (true) {
            Found found = look(path, gate.file(), true);
            if (found == null) {
                counter.check();
                gate.publish();
                if (link(path, gate)) {
                    LockFile lock = held(path, gate, holder, counter);
                    return lock == null ? null
                        : new TaskLock.Attempt(lock, looks.recovered, ContentionCounter.NOT_COUNTED, counter.warning(),
                            0);
                }
                if (!gate.isThere()) {
                    return null;
                }
            } else if (looks.wantsAnother(found)) {
                return null;
            } else if (found.isOf(holder)) {
                // another request, whose gate a cleaner removed, has linked this one's node, or an empty one
                gate.remove(path);
            } else if (found.lockState.kind() != LockState.Kind.STALE || !request.recoverStale) {
                return new TaskLock.Attempt(null, found.lockState, count
                    ? counter.increment(isOverdue(request, found.lockState)) : ContentionCounter.NOT_COUNTED,
                    othersTask(path), 0);
            } else {
                counter.check();
                if (!gate.isThere()) {
                    return null;
                }
                if (found.file.isAt(path) && Files.deleteIfExists(path)) {
                    looks.recovered = found.lockState;
                }
            }
        }
    }

    /** Says, when the lock file is another user's, that a task is to be one user's; else null. */
    private static String othersTask(Path path) throws IOException {
        FileStatus status = FileStatus.of(path);
        return status == null || status.isOwn() ? null : "lock file " + path + " belongs to another user, "
            + FileStatus.owner(path) + "; run the task as one user only, or choose another --lockfile";
    }

    private static boolean isOverdue(Request request, LockState lockState) {
        return !request.overdue.isZero() && lockState.ageMillis() > request.overdue.toMillis();
    }

    private static Gate enterGate(Path path, Holder holder) throws TaskException, IOException {
        return Gate.enter(path, cannotCreate(path), Holder.MAGIC, holder);
    }

    private static String cannotCreate(Path path) {
        return "cannot create lock file " + path;
    }

    /** @return false when there is a lock file already, or no gate any more */
    private static boolean link(Path path, Gate gate) throws TaskException {
        try {
            Files.createLink(path, gate.path());
            return true;
        } catch (FileAlreadyExistsException | NoSuchFileException e) {
            return false;
        } catch (IOException | UnsupportedOperationException e) {
            throw TaskException.cannotCreate(cannotCreate(path) + ": " + Text.reason(e)
                + "; it needs a file system with hard links, such as /run/lock", e);
        }
    }

    /** @return null when the lock file is another request's node, since a cleaner removed the gate before the link */
    private static LockFile held(Path path, Gate gate, Holder holder, ContentionCounter counter) throws TaskException,
        IOException {
        if (!gate.isWholeAt(path)) {
            return null;
        }
        boolean left = false;
        try {
            counter.clear();
            gate.leaveWithFile();
            left = true;
        } finally {
            if (!left) {
                gate.remove(path);
            }
        }
        LockFile lock = new LockFile(path, holder, gate.file());
        HELD.put(lock.key, lock);
        return lock;
    }

    /**
     * Judges the lock file without changing anything, for {@code status}: inside the gate when the lock is this user's
     * and the gate can be made, else with a shared lock, which no request takes for a holder's.
     */
    static LockState judge(Path path) throws TaskException {
        Looks looks = new Looks();
        while (true) {
            try {
                FileStatus status = FileStatus.of(path);
                if (status == null) {
                    return LockState.free(path);
                }
                boolean enters = status.isRegular() && status.isOwn() && Files.isWritable(path.getParent());
                try (Gate gate = enters ? enterGate(path, Holder.self()) : null;
                    LockedFile seen = gate == null ? new LockedFile() : null) {
                    Found found = look(path, gate == null ? seen : gate.file(), gate != null);
                    if (found == null) {
                        return LockState.free(path);
                    }
                    if (!looks.wantsAnother(found)) {
                        return found.lockState;
                    }
                }
            } catch (IOException e) {
                throw TaskException.io("cannot read lock file " + path + ": " + Text.reason(e), e);
            }
            looks.settle(path);
        }
    }

    /**
     * Removes a lock file that no living run holds, after saying on stdout what it is, for {@code unlock}.
     *
     * @return what was there
     */
    static LockState unlock(Path path) throws TaskException {
        Looks looks = new Looks();
        while (true) {
            try (Gate gate = enterGate(path, Holder.self())) {
                Found found = look(path, gate.file(), true);
                if (found == null) {
                    return LockState.free(path);
                }
                if (!looks.wantsAnother(found)) {
                    LockState lockState = found.lockState;
                    switch (lockState.kind()) {
                        case FREE, HELD, ORPHANED:
                            return lockState;
                        default:
                            System.out.println(Text.printable(lockState.message()));
                            if (found.file == null || found.file.isAt(path)) {
                                Files.deleteIfExists(path);
                            }
                            return lockState;
                    }
                }
            } catch (IOException e) {
                throw TaskException.io("cannot remove lock file " + path + ": " + Text.reason(e), e);
            }
            looks.settle(path);
        }
    }

    /**
     * A lock file that was judged.
     *
     * @param file or null when it was not opened
     * @param certain whether one look is enough
     */
    private record Found(LockState lockState, LockedFile file, boolean certain) {
        boolean isOf(Holder holder) {
            return lockState.kind() == LockState.Kind.STALE && lockState.holder() != null
                && lockState.holder().runId().equals(holder.runId());
        }
    }

    /**
     * That a run is gone is decided by two looks in a row, some milliseconds apart and not inside the gate: processes
     * fork and execute between two reads. For the same reason what cannot be told is looked at until it stays so for a
     * while: a process has no environment to read while it executes a program, or ends.
     */
    private static final class Looks {
        private static final int STALE = 2;
        private static final int MAX = 16;
        private final Backoff backoff = Backoff.betweenLooks();
        private LockState last;
        private int all;
        private int agreeing;
        private boolean undecided;
        private LockState recovered;

        boolean wantsAnother(Found found) {
            LockState before = last;
            last = found.lockState;
            all++;
            agreeing = before != null && before.kind() == last.kind() && before.what().equals(last.what())
                ? agreeing + 1 : 1;
            undecided = !found.certain && switch (last.kind()) {
                case STALE -> agreeing < STALE;
                case UNKNOWN -> agreeing < ProcessTree.LOOKS && all < MAX;
                default -> false;
            };
            return undecided;
        }

        /** Looks from outside the gate, so that nobody waits there meanwhile, until one more look inside can decide. */
        void settle(Path path) throws TaskException {
            try {
                do {
                    if (!backoff.pause()) {
                        Thread.currentThread().interrupt();
                        return;
                    }
                    undecided = undecided && wantsAnotherFromOutside(path);
                } while (undecided);
            } catch (IOException e) {
                undecided = false; // the look inside says what is wrong
            }
        }

        private boolean wantsAnotherFromOutside(Path path) throws TaskException, IOException {
            // what another execution of this JVM makes its lock meanwhile would lose its fcntl lock when this is closed
            Gate.THIS_JVM.lock();
            try (LockedFile opened = new LockedFile()) {
                Found found = look(path, opened, false);
                return found != null && wantsAnother(found);
            } finally {
                Gate.THIS_JVM.unlock();
            }
        }
    }

    /**
     * What is at the path, or null when nothing is.
     *
     * @param opened keeps what is opened; inside the gate, the gate's file
     */
    private static Found look(Path path, LockedFile opened, boolean inside) throws TaskException, IOException {
        while (true) {
            FileStatus status = FileStatus.of(path);
            if (status == null) {
                return null;
            }
            if (!status.isRegular()) {
                throw TaskException.cannotCreate(cannotCreate(path) + ": " + status.kind()
                    + " is in its place; remove it or choose another --lockfile", null);
            }
            LockFile own = HELD.get(key(path, status));
            if (own != null) {
                return new Found(StaleCheck.held(path, own.holder, status, null), null, true);
            }
            FileChannel channel;
            try {
                channel = opened.open(path);
            } catch (NoSuchFileException e) {
                continue;
            } catch (AccessDeniedException e) {
                return new Found(LockState.unknown(path, null, "no permission to read it", "ask its owner, "
                    + FileStatus.owner(path) + ", or, if the command runs nowhere: rm " + path), null, true);
            }
            try {
                boolean locked = channel.tryLock(0, Long.MAX_VALUE, true) == null;
                LockedFile file = opened.other(channel, status);
                Holder holder = Holder.read(channel);
                if (locked) {
                    return new Found(StaleCheck.judgeLocked(path, holder, status), file, false);
                }
                if (file.isAt(path)) {
                    return new Found(StaleCheck.judge(path, holder, status), file, false);
                }
            } catch (OverlappingFileLockException e) {
                // The gate's own inode, and its fcntl lock is ours: its holder died between link and unlink, before the
                // command.
                return inside && status.isSame(opened.status())
                    ? new Found(LockState.stale(path, Holder.read(channel), "killed before the command started"),
                        opened, true)
                    : new Found(LockState.unknown(path, null, "it changes while it is looked at", "try again"), null,
                        false);
            }
        }
    }

    /** Tells the holder, in its record, who is about to end its run; without it the run ends as well. */
    static void noteReplacement(Path path, Holder by) {
        Gate.THIS_JVM.lock();
        try {
            FileStatus status = FileStatus.of(path);
            if (status != null && status.isRegular() && !isHeld(path, status)) {
                try (FileChannel file = FileChannel.open(path, RegularFiles.READ_WRITE)) {
                    RegularFiles.write(file, REPLACED_BY + "pid " + by.process().pid() + " (" + by.user() + "@"
                        + by.host() + ")\n", file.size());
                }
            }
        } catch (IOException e) {
            // it then says that it was stopped by a signal
        } finally {
            Gate.THIS_JVM.unlock();
        }
    }

    /** Whether it was by --replace. */
    @Override
    public String stoppedBy() {
        try {
            String text = RegularFiles.read(file.channel(), Holder.MAX_LENGTH);
            int at = text.lastIndexOf("\n" + REPLACED_BY);
            return at < 0 ? null : "replaced by " + text.substring(at + 1 + REPLACED_BY.length()).strip();
        } catch (IOException e) {
            return null;
        }
    }

    /** Says, where the run cannot be told from its environment, that a command may be alive from now on. */
    @Override
    public void starting(Map<String, String> environment) {
        if (!Processes.HAVE_PROC) {
            append(Holder.STARTING);
        }
    }

    /** Adds the command's process to the record. Without it the run's id in the environment still proves what lives. */
    @Override
    public void started(ProcessTree command) {
        append(Holder.commandText(command.command()));
        try {
            append(holder.surroundingsText());
        } catch (UncheckedIOException e) {
            // without a free file descriptor the record says no more than after a crash here
        }
    }

    private void append(String lines) {
        try {
            file.append(lines);
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
    @Override
    public boolean release() throws TaskException {
        try {
            if (file.isAt(path)) {
                return Files.deleteIfExists(path);
            }
            if (Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS)) {
                throw TaskException.io("cannot release the lock: lock file " + path
                    + " is a directory (EISDIR); remove it: rmdir " + path, null);
            }
            return false;
        } catch (IOException e) {
            throw TaskException.io("cannot release the lock: lock file " + path + ": " + Text.reason(e)
                + "; remove it: rm " + path, e);
        } finally {
            close();
        }
    }

    @Override
    public Long fence() {
        return null;
    }

    @Override
    public String note() {
        return null;
    }

    /** Nobody takes it from a living holder; who removes the lock file is told at the release. */
    @Override
    public String lost() {
        return null;
    }

    /** What still runs makes the lock file orphaned. */
    @Override
    public TaskException keep(List<ProcessId> remaining, ProcessTree command) {
        close();
        return TaskException.io(command.notKilled(remaining) + "; lock file " + path + " is kept; look: ps -o"
            + " pid,user,stat,wchan:20,args -p " + Text.list(ProcessTree.pids(remaining)), null);
    }

    /** Lets the fcntl lock go and leaves the lock file. */
    private void close() {
        file.close();
        // only now, since an open channel would look like the gate's own; only its own entry, since another file may
        // have got the inode's number by now
        HELD.remove(key, this);
    }
}

/**
 * The gate: whoever holds the fcntl lock on the inode at its path is alone in looking at, making or recovering the file
 * beside it, and in changing the counter. Closing it leaves the gate.
 */
final class Gate implements AutoCloseable {
    /** How long a request waits to enter: nobody stays inside longer than milliseconds. */
    private static final int MAX_WAIT_SECONDS = 10;
    /** How long while it is another user's, who is not to be there. */
    private static final int MAX_WAIT_FOR_OTHERS_SECONDS = 1;
    private static final int MAX_BACKOFF_MILLIS = 8;
    /** File locks are the JVM's, not a thread's: only one thread may be at a gate, or open a lock file. */
    static final ReentrantLock THIS_JVM = new ReentrantLock();
    private static final Set<PosixFilePermission> READABLE = Set.of(PosixFilePermission.OWNER_READ,
        PosixFilePermission.OWNER_WRITE, PosixFilePermission.GROUP_READ, PosixFilePermission.OTHERS_READ);
    /** Who may read a file may lock it, and keep everybody out. */
    private static final Set<PosixFilePermission> PRIVATE = Set.of(PosixFilePermission.OWNER_READ,
        PosixFilePermission.OWNER_WRITE);

    private final Path path;
    private final LockedFile file;
    private final String record;
    private boolean left;

    private Gate(Path path, LockedFile file, String record) {
        this.path = path;
        this.file = file;
        this.record = record;
    }

    Path path() {
        return path;
    }

    LockedFile file() {
        return file;
    }

    /**
     * Waits up to 10 s for the gate, 1 s for one of another user's.
     *
     * @param target the file that the gate is for, beside it
     * @param purpose what is not possible without it, for messages: {@code cannot create lock file L}
     * @param content how the file begins that a crash may have left here; one with other content is the user's
     * @param holder whose record goes into the gate's file, or null for none
     * @throws TaskException 73 when the gate cannot be made, 74 when somebody stays in it
     */
    static Gate enter(Path target, String purpose, String content, Holder holder) throws TaskException, IOException {
        Path path = Task.gate(target);
        long start = System.nanoTime();
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
                gate = tryEnter(target, path, purpose, content, holder);
                if (gate != null) {
                    return gate;
                }
                long seconds = (System.nanoTime() - start) / 1_000_000_000;
                if (seconds >= MAX_WAIT_FOR_OTHERS_SECONDS) {
                    checkOwner(path, purpose);
                }
                if (seconds >= MAX_WAIT_SECONDS) {
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
    private static Gate tryEnter(Path target, Path path, String purpose, String content, Holder holder)
        throws TaskException, IOException {
        LockedFile file = open(path, purpose);
        if (file == null) {
            return null;
        }
        boolean entered = false;
        try {
            if (file.channel().tryLock() == null || !file.isAt(path)) {
                return null;
            }
            FileStatus status = file.status();
            if (!status.isOwn()) {
                Files.delete(path);
                throw TaskException.cannotCreate(purpose + ": the file system gives new files in " + path.getParent()
                    + " to another user (NFS with root_squash?); use a directory such as /run/lock", null);
            }
            String text = file.channel().size() == 0 ? "" : RegularFiles.read(file.channel(), content.length());
            boolean leftover = text.startsWith(content) || content.startsWith(text);
            if (!leftover || status.links() > 1 && !status.isSame(FileStatus.of(target))) {
                throw TaskException.cannotCreate(purpose + ": " + path + (leftover ? " is a hard link to another file"
                    : " exists and is not taskrunner's") + "; move it away, or choose another file", null);
            }
            entered = true;
            Gate gate = new Gate(path, file, holder == null ? null : holder.text(status.inode()));
            // a lock file that was linked to it keeps the record of who has made it, unless that one died before
            if (status.links() == 1 || Holder.read(file.channel()) == null) {
                gate.record();
            }
            return gate;
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
    private static LockedFile open(Path path, String purpose) throws TaskException {
        boolean isNew = false;
        try {
            FileStatus status = FileStatus.of(path);
            isNew = status == null;
            if (isNew) {
                return new LockedFile(FileChannel.open(path, RegularFiles.NEW,
                    RegularFiles.mode(Processes.HAVE_PROC ? PRIVATE : READABLE)), null);
            }
            if (!status.isRegular()) {
                throw TaskException.cannotCreate(purpose + ": " + status.kind() + " is at " + path
                    + "; remove it, or choose another file", null);
            }
            return status.isOwn() && !LockFile.isHeld(path, status)
                ? new LockedFile(FileChannel.open(path, RegularFiles.READ_WRITE), status) : null;
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

    private static void checkOwner(Path path, String purpose) throws TaskException, IOException {
        FileStatus status = FileStatus.of(path);
        if (status != null && !status.isOwn()) {
            throw TaskException.io(purpose + ": " + path + " belongs to another user, " + FileStatus.owner(path)
                + "; run the task as one user only, or remove the file as its owner: rm " + path, null);
        }
    }

    /** Who has an fcntl lock on the file, as proc_locks(5) tells, for a message. */
    private static String lockHolder(Path path) {
        try {
            String inode = ":" + FileStatus.of(path).inode() + " ";
            for (String line : Processes.read("/proc/locks").split("\n")) {
                if (line.contains(inode)) {
                    String pid = line.strip().split(" +")[4];
                    return "pid " + pid + " holds it; look: ps -o pid,stat,etime,args -p " + pid
                        + "; if it is stopped or stuck: kill " + pid;
                }
            }
        } catch (IOException | RuntimeException e) {
            // as good as not there
        }
        return "nobody is to be found who holds it; try again";
    }

    /**
     * Writes the record, so that the file tells who made it wherever a link to it is met. Best effort: who needs the
     * record sees in {@link #publish} that it is there.
     */
    private void record() {
        if (record != null) {
            try {
                file.write(record);
            } catch (IOException e) {
                // a request that meets a held lock needs no room on the disk
            }
        }
    }

    /** Makes the gate's file what is to be found at the lock file's path: whole, on the disk, readable by everybody. */
    void publish() throws IOException {
        publish(record);
    }

    /** The same with another content. */
    void publish(String text) throws IOException {
        if (!file.holds(text)) {
            file.write(text);
        }
        file.force();
        file.setPermissions(READABLE);
    }

    /** Whether the path leads to the gate's file, with the whole record. */
    boolean isWholeAt(Path target) throws IOException {
        return file.isAt(target) && file.holds(record);
    }

    /** Whether nobody removed the gate meanwhile, as a cleaner might. */
    boolean isThere() throws IOException {
        return file.isAt(path);
    }

    /** Removes what is at the path if it is the gate's file. */
    boolean remove(Path path) throws IOException {
        return file.isAt(path) && Files.deleteIfExists(path);
    }

    /** Leaves the gate; the file with its fcntl lock is the caller's. */
    void leaveWithFile() throws IOException {
        remove(path);
        left = true;
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
 * JVM on the inode drops the lock (POSIX): so all that are opened while it is open, on whatever file, stay open here
 * until {@link #close}.
 */
final class LockedFile implements AutoCloseable {
    private final List<FileChannel> open;
    private final FileChannel channel;
    private FileStatus status;
    private boolean identified;
    private String written;
    private long length;

    /** None yet, to keep what is opened. */
    LockedFile() {
        this(new ArrayList<>(4), null, null);
    }

    /** @param status what was at the path before it was opened, or null when it was made */
    LockedFile(FileChannel channel, FileStatus status) {
        this(new ArrayList<>(4), channel, status);
        open.add(channel);
    }

    private LockedFile(List<FileChannel> open, FileChannel channel, FileStatus status) {
        this.open = open;
        this.channel = channel;
        this.status = status;
    }

    FileChannel channel() {
        return channel;
    }

    /** Null as long as it is not known. */
    FileStatus status() {
        return status;
    }

    /** Opens another file, or this one again; it is closed with this one. */
    FileChannel open(Path path) throws IOException {
        FileChannel opened = RegularFiles.open(path);
        open.add(opened);
        return opened;
    }

    /** A channel of {@link #open(Path)} as a file of its own, that is closed with this one. */
    LockedFile other(FileChannel opened, FileStatus seen) {
        return new LockedFile(open, opened, seen);
    }

    /**
     * Whether the path leads to this very file. Java has no fstat(2), but its table of file locks is keyed by device
     * and inode of the open file, so that an overlapping lock proves that it is one that this JVM has locked. Once that
     * is proven, device and inode tell: nothing else can get them while the file is open.
     */
    boolean isAt(Path path) throws IOException {
        if (identified && status.key() != null) {
            return status.key().equals(FileStatus.key(path));
        }
        FileStatus now = FileStatus.of(path);
        if (now == null || !now.isRegular() || status != null && status.key() != null && !now.isSame(status)) {
            return false;
        }
        try {
            open(path).tryLock(0, Long.MAX_VALUE, true);
            return false;
        } catch (NoSuchFileException | AccessDeniedException e) {
            return false;
        } catch (OverlappingFileLockException e) {
            identified = true;
            status = now;
            return true;
        }
    }

    /** Replaces the content. */
    void write(String text) throws IOException {
        if (channel.size() > 0) {
            channel.truncate(0);
        }
        append(text);
        written = text;
        length = channel.size();
    }

    void append(String text) throws IOException {
        RegularFiles.write(channel, text, channel.size());
    }

    /** Whether it was last written with that text, and is as long as then. */
    boolean holds(String text) throws IOException {
        return text.equals(written) && channel.size() == length;
    }

    /** Forces the content to the disk. */
    void force() throws IOException {
        channel.force(false);
    }

    /**
     * By its descriptor, since something else may be at the path by now; chmod(2) follows /proc/self/fd (proc(5)).
     * Without /proc nothing happens.
     */
    void setPermissions(Set<PosixFilePermission> permissions) throws IOException {
        String[] descriptors = Processes.HAVE_PROC ? new File("/proc/self/fd").list() : null;
        // the newest first, but for the last: at least two are this file's, and one is that of the list itself
        for (int i = descriptors == null ? -1 : descriptors.length - 2; i >= 0; i--) {
            Path descriptor = Path.of("/proc/self/fd", descriptors[i]);
            try {
                Object key = Files.readAttributes(descriptor, BasicFileAttributes.class).fileKey();
                if (status.key().equals(key)) {
                    Files.setPosixFilePermissions(descriptor, permissions);
                    return;
                }
            } catch (NoSuchFileException e) {
                // closed meanwhile
            }
        }
    }

    @Override
    public void close() {
        for (FileChannel each : open) {
            try {
                each.close();
            } catch (IOException e) {
                // the descriptor is gone all the same, see close(2)
            }
        }
    }
}

/**
 * Who holds a lock: the record that its lock file carries, lines of text with {@code key=value} after a first line that
 * names the format. Fields are only ever added, at the end. A record is another user's text: one that is not
 * well-formed is none.
 */
final class Holder {
    /** The environment variable by which the processes of a run are found. */
    static final String RUN_ID = "TASKRUNNER_RUN_ID";
    /** The run ids of the taskrunners around this one, separated by blanks. */
    static final String OUTER_RUN_IDS = "TASKRUNNER_OUTER_RUN_IDS";
    static final String MAGIC = "taskrunner-lock 1\n";
    /** The line that says that a command may be alive, before its process is known. */
    static final String STARTING = "command=starting\n";
    static final int MAX_LENGTH = 8192;
    private static final int MAX_NAME = 255;
    /** Characters: about 50 ids. A job that starts itself again and again keeps the latest. */
    private static final int MAX_OUTER_LENGTH = 2000;

    private static final String CGROUP_NAMESPACE = "cgroup-namespace";
    private static final String CGROUP = "cgroup";
    private static final String ANCESTORS = "ancestors";

    private final Map<String, String> fields;
    /** Those of {@link #surroundings}, of a record its fields. */
    private Map<String, String> surroundings;
    private final ProcessId process;
    private final ProcessId command;

    private Holder(Map<String, String> fields, Map<String, String> surroundings) {
        this.fields = fields;
        this.surroundings = surroundings;
        this.process = new ProcessId(number("pid"), number("start"));
        this.command = fields.containsKey("command-start") ? new ProcessId(number("command-pid"),
            number("command-start")) : null;
    }

    /** This process, for a run of its own. */
    static Holder self() {
        ProcessId self = Processes.self();
        String started = Text.time(System.currentTimeMillis());
        Map<String, String> fields = new LinkedHashMap<>(32);
        fields.put("run", started.replace("-", "").replace(":", "").replace(".", "") + "-" + self.pid() + "-"
            + Long.toHexString((System.nanoTime() ^ Host.bootId().hashCode()) & 0xFFFFFF));
        fields.put("pid", Long.toString(self.pid()));
        fields.put("start", Long.toString(self.start()));
        fields.put("pid-namespace", Host.pidNamespace());
        fields.put("host", wellFormed(Host.name()));
        fields.put("boot", Host.bootId());
        fields.put("user", wellFormed(System.getProperty("user.name")));
        fields.put("started", started);
        fields.put("uid", Integer.toString(Host.uid()));
        fields.put("time-namespace", Host.namespace("time"));
        fields.put("process-1", Host.isProcess1() ? "yes" : "no");
        return new Holder(fields, null);
    }

    /**
     * What this process runs in: control groups and ancestors. Read when it is first needed, which is when the command
     * runs already: only processes of a command can be told by it.
     */
    private synchronized Map<String, String> surroundings() {
        if (surroundings == null) {
            Map<String, String> read = new LinkedHashMap<>();
            read.put(CGROUP_NAMESPACE, Host.namespace("cgroup"));
            String cgroup = Processes.cgroup("self");
            read.put(CGROUP, cgroup.equals(wellFormed(cgroup)) ? cgroup : "");
            String ancestors = Processes.ancestors();
            if (ancestors != null) {
                read.put(ANCESTORS, ancestors);
            }
            surroundings = read;
        }
        return surroundings;
    }

    /** One that no lock file tells of: of another host. @param pid there, or 0 @param started UTC, ISO-8601 */
    static Holder elsewhere(String runId, long pid, String host, String user, String started) {
        Map<String, String> fields = new LinkedHashMap<>();
        fields.put("run", runId);
        fields.put("pid", Long.toString(pid));
        fields.put("start", "0");
        fields.put("pid-namespace", "");
        fields.put("host", wellFormed(host));
        fields.put("boot", "");
        fields.put("user", wellFormed(user));
        fields.put("started", started);
        return new Holder(fields, Map.of());
    }

    /** @param inode the file's that it is written into */
    String text(long inode) {
        return lines(new StringBuilder(MAGIC), fields).append("inode=").append(inode).append('\n').toString();
    }

    /** What is added when the command runs. */
    static String commandText(Processes.Entry command) {
        return "command-pid=" + command.id().pid() + "\ncommand-start=" + command.id().start() + "\ncommand-session="
            + command.session() + "\ncommand-group=" + command.group() + "\n";
    }

    /** What is added after that: {@link #surroundings}. */
    String surroundingsText() {
        return lines(new StringBuilder(), surroundings()).toString();
    }

    private static StringBuilder lines(StringBuilder text, Map<String, String> fields) {
        for (Map.Entry<String, String> field : fields.entrySet()) {
            text.append(field.getKey()).append('=').append(field.getValue()).append('\n');
        }
        return text;
    }

    /** Adds the run's id to the environment of its command; those of the runs around it stay findable. */
    void putInto(Map<String, String> environment) {
        String outer = environment.get(RUN_ID);
        if (outer != null) {
            String outers = environment.get(OUTER_RUN_IDS);
            String all = outers == null ? outer : outers + " " + outer;
            environment.put(OUTER_RUN_IDS, all.length() <= MAX_OUTER_LENGTH ? all
                : all.substring(all.indexOf(' ', all.length() - MAX_OUTER_LENGTH) + 1));
        }
        environment.put(RUN_ID, runId());
    }

    /** Whether this process runs inside the holder's run. @param holder or null */
    static boolean isAround(Holder holder) {
        String outer = holder == null ? null : System.getenv(RUN_ID);
        String outers = outer == null ? null : System.getenv(OUTER_RUN_IDS);
        return outer != null && (outer.equals(holder.runId()) || outers != null && (" " + outers + " ").contains(" "
            + holder.runId() + " "));
    }

    /** The record in the file, or null when it holds none. */
    static Holder read(FileChannel file) throws IOException {
        return parse(RegularFiles.read(file, MAX_LENGTH));
    }

    private static Holder parse(String text) {
        if (!text.startsWith(MAGIC)) {
            return null;
        }
        Map<String, String> fields = new LinkedHashMap<>();
        int line = MAGIC.length();
        for (int end; (end = text.indexOf('\n', line)) >= 0; line = end + 1) {
            int equals = text.indexOf('=', line);
            if (equals <= line || equals > end) {
                return null;
            }
            fields.putIfAbsent(text.substring(line, equals), text.substring(equals + 1, end));
        }
        try {
            Holder holder = new Holder(fields, fields);
            return holder.isWellFormed() ? holder : null;
        } catch (NumberFormatException e) {
            return null;
        }
    }

    private boolean isWellFormed() {
        for (String name : new String[] {"run", "pid-namespace", "host", "boot", "user", "started"}) {
            if (!fields.containsKey(name) || fields.get(name).length() > MAX_NAME) {
                return false;
            }
        }
        for (String value : fields.values()) {
            if (!value.equals(wellFormed(value))) {
                return false;
            }
        }
        return !runId().isEmpty() && isWord(runId()) && started().length() >= 20 && Text.millis(started()) >= 0
            && process.start() >= 0 && (process.pid() > 1 || process.pid() == 1 && wasProcess1())
            && (command == null || command.pid() > 1 && command.start() >= 0);
    }

    /** Letters, digits and {@code -._} only. */
    private static boolean isWord(String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (!(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.'
                || c == '_')) {
                return false;
            }
        }
        return true;
    }

    /** The text with a question mark for all that is no visible character or turns the direction of writing. */
    private static String wellFormed(String text) {
        StringBuilder replaced = null;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < ' ' || c > '~' && !isPrintable(c)) {
                replaced = replaced == null ? new StringBuilder(text) : replaced;
                replaced.setCharAt(i, '?');
            }
        }
        return replaced == null ? text : replaced.toString();
    }

    private static boolean isPrintable(char c) {
        int type = Character.getType(c);
        return type != Character.CONTROL && type != Character.FORMAT && type != Character.LINE_SEPARATOR
            && type != Character.PARAGRAPH_SEPARATOR && type != Character.UNASSIGNED;
    }

    /** -1 when the record does not have it. */
    private long optional(String name) {
        return fields.containsKey(name) ? number(name) : -1;
    }

    private long number(String name) {
        return Long.parseLong(fields.getOrDefault(name, ""));
    }

    String runId() {
        return fields.get("run");
    }

    /** The taskrunner process. */
    ProcessId process() {
        return process;
    }

    /** The command's shell, or null before it was started. */
    ProcessId command() {
        return command;
    }

    String pidNamespace() {
        return fields.get("pid-namespace");
    }

    /** "" where the kernel has none; null in a record from before there was this field. */
    String timeNamespace() {
        return fields.get("time-namespace");
    }

    /** Whether it was process 1 of its pid namespace, with which the namespace ends (pid_namespaces(7)). */
    boolean wasProcess1() {
        return "yes".equals(fields.get("process-1"));
    }

    String host() {
        return fields.get("host");
    }

    /** "" where it is hidden. */
    String bootId() {
        return fields.get("boot");
    }

    String user() {
        return fields.get("user");
    }

    /** UTC, ISO-8601, to the millisecond. */
    String started() {
        return fields.get("started");
    }

    /** The inode that the record was written into, or -1. */
    long inode() {
        return optional("inode");
    }

    /** The command's session, or -1. */
    long session() {
        return optional("command-session");
    }

    /** The command's process group, or -1. */
    long group() {
        return optional("command-group");
    }

    /** Whether a command may have been started that the record does not name. */
    boolean isStarting() {
        return command == null && STARTING.equals("command=" + fields.get("command") + "\n");
    }

    /** As {@link Processes#cgroup} has it, or "" when it is not known or is seen differently from here. */
    String cgroup() {
        Map<String, String> read = surroundings();
        return Host.namespace("cgroup").equals(read.get(CGROUP_NAMESPACE)) ? read.getOrDefault(CGROUP, "") : "";
    }

    /** Whether all processes above it are recorded. */
    boolean hasAncestors() {
        return surroundings().containsKey(ANCESTORS);
    }

    /** Whether the process was above it. */
    boolean isAncestor(ProcessId id) {
        return ("," + surroundings().get(ANCESTORS) + ",").contains("," + id.pid() + ":" + id.start() + ",");
    }

    /** How long it has been running, by its own clock, for messages. */
    String age() {
        long since = Text.millis(started());
        return since < 0 ? "an unknown time" : Text.duration(Math.max(0,
            System.currentTimeMillis() - since) / 1000 * 1000);
    }

    Json json() {
        Json json = new Json().put("run_id", runId()).put("pid", process.pid()).put("user", user()).put("host", host())
            .put("started", started());
        return command == null ? json : json.put("command_pid", command.pid());
    }

    /** For messages: {@code pid 4711 (root@db1) since 2026-11-24T02:00:03Z}. */
    String describe() {
        return "pid " + process.pid() + " (" + user() + "@" + host() + ") since " + started().substring(0, 19) + "Z";
    }
}

/**
 * What was found at a lock file's path, or of a task of a fleet.
 *
 * @param subject what messages begin with: {@code lock PATH}, {@code task NAME}
 * @param path of the lock file, or null
 * @param holder what its record says, or null without one
 * @param what who holds it since when, or what is known of it: goes on after the name of the lock or the task
 * @param advice one thing to do when the lock does not go away
 */
record LockState(Kind kind, String subject, Path path, Holder holder, String what, String advice) {
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
        FOREIGN(ExitStatus.STATUS_BLOCKED, " blocks the task: "),
        /** Made by taskrunner, and nothing can be proven. */
        UNKNOWN(ExitStatus.STATUS_BLOCKED, " is in an unknown state: "),
        /** Of a fleet: the holder's session lives, and has not been heard of. */
        PAUSED(ExitStatus.STATUS_LEFT_BEHIND, " is "),
        /** Of a fleet: the holder's session is gone, and may come back. */
        SILENT(ExitStatus.STATUS_LEFT_BEHIND, " is "),
        /** Of a fleet: the holder was not heard of for too long. */
        LOST(ExitStatus.STATUS_LEFT_BEHIND, " is lost: "),
        /** Of a fleet: the database was failed over, and holders may come back. */
        FAILOVER(ExitStatus.STATUS_HELD, " is ");

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

    private LockState(Kind kind, Path path, Holder holder, String what, String advice) {
        this(kind, "lock " + path, path, holder, what, advice);
    }

    Json holderJson() {
        return holder == null ? null : holder.json();
    }

    /** The pid of its holder, or "" without a record. */
    String holderPid() {
        return holder == null ? "" : Long.toString(holder.process().pid());
    }

    /** How long it has been there: since the record was made, or without one since the file was changed. */
    long ageMillis() {
        long since = holder != null ? Text.millis(holder.started()) : path == null ? 0 : path.toFile().lastModified();
        return since <= 0 ? 0 : Math.max(0, System.currentTimeMillis() - since);
    }

    /** One line without an end mark. */
    String message() {
        return subject + kind.verb + what;
    }

    static LockState free(Path path) {
        return new LockState(Kind.FREE, path, null, "", "");
    }

    /** @param note or null @param alive the pids of its holder and its command that may be offered to be killed */
    static LockState held(Path path, Holder holder, String note, List<Long> alive) {
        String by = holder == null ? "a process that left no record in it" : holder.describe() + " (" + holder.age()
            + ")";
        String advice = alive.isEmpty() ? "look for its holder: fuser -v " + path : "if it is stuck: kill "
            + alive.get(0) + " (terminates the command, frees the lock); look: ps -o pid,stat,etime,args -p "
            + Text.list(alive);
        return new LockState(Kind.HELD, path, holder, "held by " + by + (note == null ? "" : ", " + note), advice);
    }

    /** @param pids of its run @param own those that belong to the lock file's owner */
    static LockState orphaned(Path path, Holder holder, List<Long> pids, List<Long> own) {
        return new LockState(Kind.ORPHANED, path, holder, "holder " + holder.describe() + " died, its command still"
            + " runs: " + Text.pids(pids), "wait for " + (pids.size() == 1 ? "it" : "them") + (own.isEmpty()
            ? " to end" : ", or: kill " + Text.list(own).replace(',', ' ')));
    }

    /** @param holder or null, when it was killed before it could write its record @param why or null */
    static LockState stale(Path path, Holder holder, String why) {
        return new LockState(Kind.STALE, path, holder, (holder == null ? "its holder is dead" : "holder "
            + holder.describe() + " and its command are dead") + (why == null ? "" : " (" + why + ")"),
            "the next request without --on-stale report recovers it; to free it now: rm " + path);
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

/**
 * What proves whether a lock still has a living run. Proof is what can be seen from here and can mean one thing only;
 * what cannot be seen, or may look different to the holder, proves nothing.
 */
final class StaleCheck {
    private static final Set<String> LOCAL_FILE_SYSTEMS = Set.of("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs",
        "overlay", "zfs", "f2fs", "jfs", "ramfs", "bcachefs", "apfs", "hfs", "ufs", "NTFS");

    /** A lock whose fcntl lock is free. @param file the lock file */
    static LockState judge(Path path, Holder holder, FileStatus file) throws IOException {
        if (holder == null) {
            return LockState.foreign(path, "it was not created by taskrunner (touch? flock?)");
        }
        if (!Processes.HAVE_PROC && System.getProperty("os.name").equals("Linux")) {
            return unknown(path, holder, "without /proc nothing can be proven, mount it");
        }
        if (!isSameBoot(holder)) {
            return otherBoot(path, holder, file);
        }
        if (!isSeenAlike(holder)) {
            return holder.wasProcess1() && holder.inode() == file.inode()
                ? stale(path, holder, file, "it was process 1 of a container that is gone")
                : unknown(path, holder, "it was made in another container ("
                    + (holder.pidNamespace().equals(Host.pidNamespace()) ? "time" : "pid") + " namespace)");
        }
        try {
            if (Processes.lives(holder.process())) {
                return held(path, holder, file, "whose fcntl lock is gone (was the lock file copied or restored?)");
            }
            return Processes.HAVE_PROC ? byProcesses(path, holder, file) : byCommand(path, holder, file);
        } catch (UncheckedIOException | Error e) {
            return unknown(path, holder, "its processes cannot be looked at: " + Text.reason(e instanceof Error ? e
                : e.getCause()));
        }
    }

    /**
     * A lock whose fcntl lock is taken: its holder lives, unless it is seen to be dead. Then another request has opened
     * LOCKFILE.tmp before it became this lock, and is about to notice.
     *
     * @return unknown when another look will tell
     */
    static LockState judgeLocked(Path path, Holder holder, FileStatus file) throws IOException {
        try {
            if (holder != null && Processes.HAVE_PROC && isSameBoot(holder) && isSeenAlike(holder)
                && !Processes.lives(holder.process())) {
                LockState lockState = byProcesses(path, holder, file);
                return lockState.kind() == LockState.Kind.ORPHANED ? lockState
                    : LockState.unknown(path, holder, "it is dead, but another process has the fcntl lock",
                        "look for that process: fuser -v " + path);
            }
        } catch (UncheckedIOException | Error e) {
            // then the fcntl lock is all that is known
        }
        return held(path, holder, file, null);
    }

    /** @param note or null */
    static LockState held(Path path, Holder holder, FileStatus file, String note) {
        List<Long> alive = new ArrayList<>(2);
        try {
            if (holder != null && isSameBoot(holder) && isSeenAlike(holder) && isOf(holder.process(), path, file)) {
                alive.add(holder.process().pid());
                if (holder.command() != null && isOf(holder.command(), path, file)) {
                    alive.add(holder.command().pid());
                }
            }
        } catch (UncheckedIOException e) {
            // a pid that cannot be looked at is not offered
        }
        return LockState.held(path, holder, note, alive);
    }

    /** The run of a held or orphaned lock, to be terminated; null when that cannot be told or is another user's. */
    static ProcessTree run(LockState lockState) {
        try {
            Holder holder = lockState.holder();
            FileStatus file = FileStatus.of(lockState.path());
            if (holder == null || file == null || !isSameBoot(holder) || !isSeenAlike(holder)) {
                return null;
            }
            boolean held = lockState.kind() == LockState.Kind.HELD;
            ProcessId root = held ? holder.process() : holder.command();
            root = root != null && isOf(root, lockState.path(), file) ? root : null;
            return held && root == null || !held && lockState.kind() != LockState.Kind.ORPHANED ? null
                : new ProcessTree(root, holder, file.uid());
        } catch (IOException | UncheckedIOException e) {
            return null;
        }
    }

    /** Whether the process lives, as recorded, and belongs to the lock file's owner: else nobody is to kill it. */
    private static boolean isOf(ProcessId id, Path path, FileStatus file) {
        return id.pid() > 1 && Processes.lives(id) && (Processes.HAVE_PROC ? Processes.uid(id.pid()) == file.uid()
            : Processes.user(id).equals(FileStatus.owner(path)));
    }

    private static boolean isSameBoot(Holder holder) {
        return Processes.HAVE_PROC ? !holder.bootId().isEmpty() && holder.bootId().equals(Host.bootId())
            : holder.host().equals(Host.name());
    }

    /** Whether pids and starts mean the same here as to the holder. */
    private static boolean isSeenAlike(Holder holder) {
        return !Processes.HAVE_PROC || !holder.pidNamespace().isEmpty()
            && holder.pidNamespace().equals(Host.pidNamespace())
            && (holder.timeNamespace() == null || holder.timeNamespace().equals(Host.namespace("time")));
    }

    /** A boot id may be hidden, or a container's own: only the kernel's own boot time proves a restart. */
    private static LockState otherBoot(Path path, Holder holder, FileStatus file) throws IOException {
        if (!holder.host().equals(Host.name())) {
            return unknown(path, holder, "it was made on another machine");
        }
        if (holder.bootId().isEmpty() || Host.bootId().isEmpty()) {
            return unknown(path, holder, "the boot id is hidden (/proc/sys/kernel/random/boot_id)");
        }
        String type = Files.getFileStore(path).type();
        if (!LOCAL_FILE_SYSTEMS.contains(type)) {
            return unknown(path, holder, "it was made before the last boot, on a " + type
                + " file system that others may share");
        }
        long boot = Host.bootMillis();
        return boot > 0 && Text.millis(holder.started()) < boot ? stale(path, holder, file,
            "the host was rebooted since") : unknown(path, holder, "its boot id is another one, but the kernel has not"
            + " been started since (a container's own boot id?)");
    }

    /** Without the environments of proc(5). */
    private static LockState byCommand(Path path, Holder holder, FileStatus file) throws IOException {
        if (holder.isStarting()) {
            return unknown(path, holder, "it is dead, and the record does not name its command");
        }
        if (holder.command() == null || !Processes.lives(holder.command())) {
            return stale(path, holder, file, null);
        }
        List<Long> pids = List.of(holder.command().pid());
        return LockState.orphaned(path, holder, pids, isOf(holder.command(), path, file) ? pids : List.of());
    }

    private static LockState byProcesses(Path path, Holder holder, FileStatus file) throws IOException {
        Map<Long, Processes.Entry> all = Processes.all();
        List<Long> hidden = new ArrayList<>();
        List<ProcessId> alive = new ProcessTree(holder.command(), holder, file.uid()).alive(all, hidden);
        if (!alive.isEmpty()) {
            List<Long> own = new ArrayList<>();
            for (ProcessId id : alive) {
                if (isOf(id, path, file)) {
                    own.add(id.pid());
                }
            }
            return LockState.orphaned(path, holder, ProcessTree.pids(alive), own);
        }
        if (!all.containsKey(1L)) {
            return LockState.unknown(path, holder, "it is dead, but /proc hides other users' processes (hidepid), and"
                + " one may be of its run", asRoot(path));
        }
        if (!hidden.isEmpty()) {
            return LockState.unknown(path, holder, "it is dead; cannot tell whether " + Text.pids(hidden) + " belong"
                + (hidden.size() == 1 ? "s" : "") + " to its run (not readable by this user)", asRoot(path));
        }
        return stale(path, holder, file, null);
    }

    private static String asRoot(Path path) {
        return "ask as root: taskrunner status --lockfile " + path;
    }

    private static LockState unknown(Path path, Holder holder, String why) {
        return LockState.unknown(path, holder, why, "if the command runs nowhere: rm " + path);
    }

    private static LockState stale(Path path, Holder holder, FileStatus file, String why) {
        if (file.isOwn()) {
            return LockState.stale(path, holder, why);
        }
        String user = FileStatus.owner(path);
        return LockState.unknown(path, holder, "its run is dead, but the file belongs to another user, " + user, "as "
            + user + " or root: rm " + path);
    }

    private StaleCheck() {
    }
}

// 6. the counter

/**
 * The contentions since the lock was last acquired or the threshold was last reported. To be used inside the gate only,
 * but for {@link #read}. The file of another user, root left out, is neither trusted nor changed.
 */
final class ContentionCounter {
    static final Count NOT_COUNTED = new Count(-1, false);
    private static final int MAX_LENGTH = 4096;
    private final Path file;
    private final int threshold;
    private String warning;

    /** @param value the counter, or on a report the number of contentions reached, or -1 when not counted */
    record Count(long value, boolean reported) {
    }

    ContentionCounter(Task task) {
        file = task.counterFile();
        threshold = task.threshold();
    }

    /** What a person should know of a counter that was left as it is, or null. */
    String warning() {
        return warning;
    }

    /**
     * The counter's value; 0 without a file or with an empty one.
     *
     * @throws TaskException 65 when the file holds anything but an integer from 0 to 2^63-1, 74 when it cannot be read
     *     or is another user's
     */
    long read() throws TaskException {
        try (FileChannel channel = open(false)) {
            return channel == null ? 0 : parse(RegularFiles.read(channel, MAX_LENGTH));
        } catch (IOException e) {
            throw unusable(e);
        }
    }

    /**
     * Sees that a counter that is needed can be read, before anything is changed for it. Another user's does not keep
     * the command from running.
     */
    void check() throws TaskException {
        if (threshold > 0) {
            FileStatus status = status();
            if (status == null || isTrusted(status)) {
                read();
            } else {
                warning = notTrusted() + "; it was not cleared";
            }
        }
    }

    /** Removes the counter file, unless the threshold is 0 or it is another user's. */
    void clear() throws TaskException {
        if (threshold > 0 && warning == null) {
            try {
                Files.deleteIfExists(file);
            } catch (IOException e) {
                throw unusable(e);
            }
        }
    }

    /** Counts one contention; beyond the threshold, or when the lock is overdue, writes 0 instead. */
    Count increment(boolean overdue) throws TaskException {
        if (threshold == 0) {
            return NOT_COUNTED;
        }
        long count = read();
        boolean report = count > threshold || overdue;
        write(report ? 0 : count + 1);
        return new Count(report && count == Long.MAX_VALUE ? count : count + 1, report);
    }

    /**
     * One write that covers the old content, so that a full disk or a crash loses nothing, then the rest is cut off.
     */
    private void write(long value) throws TaskException {
        boolean created = false;
        try {
            FileChannel existing = open(true);
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
    private FileChannel open(boolean write) throws IOException, TaskException {
        FileStatus status = status();
        if (status == null) {
            return null;
        }
        if (!isTrusted(status)) {
            throw TaskException.counter(ExitStatus.IO, notTrusted(), null);
        }
        return write ? FileChannel.open(file, RegularFiles.READ_WRITE) : RegularFiles.open(file);
    }

    private FileStatus status() throws TaskException {
        try {
            FileStatus status = FileStatus.of(file);
            if (status != null && !status.isRegular()) {
                throw TaskException.counter(ExitStatus.IO, "cannot use counter file " + file + ": " + status.kind()
                    + " is in its place; remove it or choose another --counter-file", null);
            }
            return status;
        } catch (IOException e) {
            throw unusable(e);
        }
    }

    private static boolean isTrusted(FileStatus status) {
        return status.isOwn() || status.uid() == 0;
    }

    private String notTrusted() {
        return "counter file " + file + " belongs to another user, " + FileStatus.owner(file) + ", and is neither"
            + " trusted nor changed; remove it as that user, or choose another --counter-file";
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
 * A command and all that is of its run: the one definition by which a run is stopped and judged.
 *
 * <p>Of the run is what descends from the command or from another process of the run, as far as parents can be seen;
 * and, on Linux, what started after the holder and carries the run's id in its environment. One that cannot be told may
 * be of the run: its environment cannot be read, or it is of the command's session or process group and has overwritten
 * its environment, as a program that sets its title does. What carries the id but belongs to another user, and what
 * cannot be told, is not of the run when it is {@linkplain #isApart apart} from it.
 *
 * <p>Terminated, each is sent SIGTERM once, parents first, and after a time SIGKILL again and again. Three kinds get
 * the SIGKILL alone: what its parent started after it was signalled, in order to end (a trap's {@code umount}); what a
 * terminal has signalled already; and what is below a nested taskrunner, which stops its own run.
 */
final class ProcessTree {
    /** How long after SIGKILL a process may take to go: one in uninterruptible sleep does not. */
    private static final long UNKILLABLE_NANOS = Duration.ofSeconds(5).toNanos();
    private static final int MAX_BACKOFF_MILLIS = 100;
    private static final int MAX_DEPTH = 1000;
    /** How many looks, half a second in all, it takes until something cannot be told. */
    static final int LOOKS = 8;
    private final Processes.Entry command;
    private final ProcessId root;
    private final Holder holder;
    private final int owner;
    private final long session;
    private final long group;
    private final Map<ProcessId, Member> members = new LinkedHashMap<>();
    private volatile boolean escalated;
    /** The process group that has the signal from the terminal, or 0. */
    private volatile long signalledGroup;
    private boolean killing;
    /** The processes of the first look, all of which were there before any was signalled. */
    private Set<ProcessId> earlier;
    /** The moment when the first look had been signalled. */
    private long signalledAt;

    /** What a process has been sent. */
    private static final class Member {
        boolean signalled;
        /** The moment before SIGTERM. */
        long signalledAt;
        /** Started in order to end. */
        boolean spared;
        /** The taskrunner below which it was seen, or null. */
        ProcessId nestedIn;
        /** When it was first sent SIGKILL, in the time of {@link System#nanoTime}. */
        long killed;
    }

    /** A run of this process. @param command or null @param holder or null: then parents alone tell */
    ProcessTree(Processes.Entry command, Holder holder) {
        this(command, command == null ? null : command.id(), holder, Host.uid(), command == null ? 0
            : command.session(), command == null ? 0 : command.group());
    }

    /** The run that a lock's record names. @param root or null @param owner the user that the lock file belongs to */
    ProcessTree(ProcessId root, Holder holder, int owner) {
        this(null, root, holder, owner, holder.session(), holder.group());
    }

    private ProcessTree(Processes.Entry command, ProcessId root, Holder holder, int owner, long session, long group) {
        this.command = command;
        this.root = root;
        this.holder = holder;
        this.owner = owner;
        this.session = session;
        this.group = group;
        if (root != null) {
            members.put(root, new Member());
        }
    }

    /** What was forked last by this process, which does not know its pid. */
    static ProcessTree ofLastChild(Holder holder) {
        Processes.Entry last = null;
        for (Processes.Entry process : Processes.all().values()) {
            if (process.parent() == Processes.self().pid()
                    && (last == null || process.id().start() >= last.id().start())) {
                last = process;
            }
        }
        return new ProcessTree(last, holder);
    }

    /** As it was when it started; null for a run that a record names. */
    Processes.Entry command() {
        return command;
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
            return alive(Processes.all(), null);
        } catch (UncheckedIOException e) {
            return List.copyOf(members.keySet());
        }
    }

    /**
     * Sends SIGTERM to all, SIGKILL after the given time, until two looks in a row find none. The monitor is held
     * throughout: a second caller waits for the same end.
     *
     * @return those that cannot be killed, or seen for that long, or else those that may be of the run, which are not
     *     signalled
     */
    synchronized List<ProcessId> terminate(Duration killAfter) {
        long killAt = System.nanoTime() + killAfter.toNanos();
        Backoff backoff = new Backoff(5, MAX_BACKOFF_MILLIS);
        int known = 0;
        boolean gone = false;
        long seen = System.nanoTime();
        while (true) {
            killing |= escalated || System.nanoTime() - killAt >= 0;
            List<ProcessId> alive = signalAll();
            if (alive == null) {
                alive = members.isEmpty() && root != null ? List.of(root) : List.copyOf(members.keySet());
                if (killing && System.nanoTime() - Math.max(seen, killAt) > UNKILLABLE_NANOS) {
                    escalated = true;
                    return alive;
                }
            } else {
                seen = System.nanoTime();
            }
            List<ProcessId> untold = alive.isEmpty() && gone ? untold() : null;
            if (untold != null) {
                return untold;
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

    /** Those of which it cannot be told, also after some looks, and so no members; null when a member was found. */
    private List<ProcessId> untold() {
        List<ProcessId> untold = new ArrayList<>();
        Backoff backoff = Backoff.betweenLooks();
        for (int looks = 0; looks < LOOKS && (looks == 0 || !untold.isEmpty() && backoff.pause()); looks++) {
            try {
                Map<Long, Processes.Entry> all = Processes.all();
                List<Long> hidden = new ArrayList<>();
                if (!alive(all, hidden).isEmpty()) {
                    return null;
                }
                untold.clear();
                for (long pid : hidden) {
                    // what came later was not forked by any that was a member
                    if (earlier.contains(all.get(pid).id())) {
                        untold.add(all.get(pid).id());
                    }
                }
            } catch (UncheckedIOException | OutOfMemoryError e) {
                return null;
            }
        }
        return untold;
    }

    boolean contains(ProcessId id) {
        return members.containsKey(id);
    }

    /**
     * The processes to which a signal to the command goes: from its root down, on each branch the first that handles
     * it; the root where none does, which may be right and may kill it.
     */
    List<ProcessId> handlers(int signal) {
        Map<Long, Processes.Entry> all = Processes.all();
        List<ProcessId> handlers = new ArrayList<>();
        List<ProcessId> next = new ArrayList<>(Processes.lives(root) ? List.of(root) : List.of());
        for (int i = 0; i < next.size(); i++) {
            if (Processes.handles(next.get(i), signal)) {
                handlers.add(next.get(i));
                continue;
            }
            for (Processes.Entry process : all.values()) {
                if (process.parent() == next.get(i).pid() && !process.dead()) {
                    next.add(process.id());
                }
            }
        }
        return !handlers.isEmpty() || next.isEmpty() ? handlers : List.of(root);
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

    /**
     * Signals who descends from the members, as parents alone tell, then looks for those that left the tree.
     *
     * @return null when nothing can be seen now, as without a free file descriptor
     */
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
                signalledAt = Processes.moment();
            }
            List<ProcessId> alive = alive(all, null);
            signalAll(all);
            return alive;
        } catch (UncheckedIOException | OutOfMemoryError e) {
            return null; // tried again at the next look
        }
    }

    private void addDescendants(Map<Long, Processes.Entry> all) {
        for (boolean found = true; found;) {
            found = false;
            for (Processes.Entry process : all.values()) {
                Processes.Entry parent = all.get(process.parent());
                if (parent != null && members.containsKey(parent.id()) && isCandidate(process)) {
                    members.put(process.id(), new Member());
                    found = true;
                }
            }
        }
    }

    /** Whether it may be of the run and is no member yet: it lives, and the run is older. */
    private boolean isCandidate(Processes.Entry process) {
        ProcessId id = process.id();
        return !process.dead() && !members.containsKey(id) && !id.equals(Processes.self())
            && (holder == null || id.start() >= holder.process().start())
            && (command == null || id.start() >= command.id().start());
    }

    /** Signals the members, parents first, which is the order in which they were found. */
    private void signalAll(Map<Long, Processes.Entry> all) {
        for (Map.Entry<ProcessId, Member> entry : members.entrySet()) {
            Processes.Entry process = all.get(entry.getKey().pid());
            Member member = entry.getValue();
            if (!isAlive(entry.getKey(), all)) {
                continue;
            }
            if (killing) {
                member.killed = member.killed == 0 ? System.nanoTime() : member.killed;
                Processes.signal(process.id(), true);
            } else if (isDue(process, member, all)) {
                member.signalled = true;
                member.signalledAt = Processes.moment();
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
            member.spared = parent == null ? Processes.isLater(process.id(), signalledAt)
                : parent.spared || parent.signalled && Processes.isLater(process.id(), parent.signalledAt);
        }
        if (member.nestedIn == null) {
            member.nestedIn = parent == null && !process.id().equals(root) ? strayFrom(process, all)
                : nestedIn(entry, all);
        }
        return !member.spared && !isAlive(member.nestedIn, all);
    }

    /** The taskrunner among the process and its ancestors in this tree, or null. @param process or null */
    private ProcessId nestedIn(Processes.Entry process, Map<Long, Processes.Entry> all) {
        Processes.Entry ancestor = process;
        while (ancestor != null && members.containsKey(ancestor.id()) && !ancestor.name().equals(Processes.NAME)) {
            ancestor = all.get(ancestor.parent());
        }
        return ancestor != null && members.containsKey(ancestor.id()) ? ancestor.id() : null;
    }

    /** A nested taskrunner of whose run a process is that left the tree, or null. */
    private ProcessId strayFrom(Processes.Entry process, Map<Long, Processes.Entry> all) {
        for (ProcessId id : members.keySet()) {
            if (isAlive(id, all) && all.get(id.pid()).name().equals(Processes.NAME)) {
                return holder == null || Processes.isDirectlyOf(process, holder.runId()) ? null : id;
            }
        }
        return null;
    }

    private static boolean isAlive(ProcessId id, Map<Long, Processes.Entry> all) {
        Processes.Entry process = id == null ? null : all.get(id.pid());
        return process != null && process.id().equals(id) && !process.dead();
    }

    /** Why they could not be killed, in words. */
    String notKilled(List<ProcessId> remaining) {
        StringBuilder which = new StringBuilder("cannot kill ");
        for (int i = 0; i < remaining.size() && i < Text.MAX_LIST; i++) {
            ProcessId id = remaining.get(i);
            which.append(i == 0 ? "" : ", ").append("pid ").append(id.pid()).append(" (").append(notKilled(id))
                .append(')');
        }
        return which.toString();
    }

    private String notKilled(ProcessId id) {
        try {
            boolean isOwn = Processes.lives(id) && Processes.uid(id.pid()) == Host.uid();
            if (contains(id)) {
                return Processes.signal(id, true) ? "survived SIGKILL: blocked in the kernel?"
                    : "it belongs to " + Processes.user(id) + ": EPERM";
            }
            return "it may be of the run" + (isOwn ? ": its environment cannot be read"
                : ", and belongs to " + Processes.user(id));
        } catch (UncheckedIOException e) {
            return "it cannot be looked at: " + Text.reason(e.getCause());
        }
    }

    static List<Long> pids(List<ProcessId> ids) {
        List<Long> pids = new ArrayList<>();
        for (ProcessId id : ids) {
            pids.add(id.pid());
        }
        return pids;
    }

    /**
     * One look, which proves nothing gone: processes fork and execute while /proc is read.
     *
     * @param hidden gets the pids of which it cannot be told, or null
     */
    List<ProcessId> alive(Map<Long, Processes.Entry> all, List<Long> hidden) {
        addDescendants(all);
        if (holder != null && Processes.HAVE_PROC) {
            addByEnvironment(all, hidden);
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

    private void addByEnvironment(Map<Long, Processes.Entry> all, List<Long> hidden) {
        List<Processes.Entry> candidates = new ArrayList<>();
        for (Processes.Entry process : all.values()) {
            if (isCandidate(process)) {
                candidates.add(process);
            }
        }
        Map<Long, Processes.Belongs> environments = Processes.environments(candidates, holder.runId(), owner);
        for (Processes.Entry process : candidates) {
            long pid = process.id().pid();
            if (environments.get(pid) == Processes.Belongs.YES && (Processes.uid(pid) == owner
                || !isApart(process, all, environments))) {
                members.put(process.id(), new Member());
            }
        }
        addDescendants(all);
        if (hidden != null) {
            for (Processes.Entry process : candidates) {
                Processes.Belongs belongs = environments.get(process.id().pid());
                boolean untold = belongs == null || belongs == Processes.Belongs.HIDDEN
                    || belongs == Processes.Belongs.OVERWRITTEN && (session > 0 && process.session() == session
                        || group > 0 && process.group() == group);
                if (untold && isCandidate(process) && !isApart(process, all, environments)) {
                    hidden.add(process.id().pid());
                }
            }
        }
    }

    /**
     * Whether it cannot be of the run: it is in another control group, or its living ancestors lead to a process that
     * is not of the run before they lead to one to which the run's orphans are given (process 1, or an ancestor of the
     * holder's that is a subreaper, see prctl(2)). A reaper that is younger than the run and not of it is no ancestor
     * of the run's.
     */
    private boolean isApart(Processes.Entry process, Map<Long, Processes.Entry> all,
        Map<Long, Processes.Belongs> environments) {
        if (Processes.isOutside(process.id().pid(), holder.cgroup())) {
            return true;
        }
        Processes.Entry above = all.get(process.parent());
        for (int depth = 0; depth < MAX_DEPTH && holder.hasAncestors() && above != null && above.id().pid() != 1
            && !members.containsKey(above.id()) && !holder.isAncestor(above.id()); depth++) {
            if (above.id().start() < holder.process().start() || above.id().equals(Processes.self())
                || environments.get(above.id().pid()) == Processes.Belongs.NO) {
                return true;
            }
            above = all.get(above.parent());
        }
        return false;
    }
}

/**
 * What the operating system tells about processes: proc(5) on Linux, {@link ProcessHandle} and ps(1) elsewhere. A
 * process's start is field 22 of {@code /proc/PID/stat} (clock ticks since boot, which a step of the clock does not
 * move), elsewhere milliseconds since 1970.
 */
final class Processes {
    static final boolean WINDOWS = File.separatorChar == '\\';
    /** Elsewhere what is at /proc, if anything, is another thing. */
    static final boolean HAVE_PROC = System.getProperty("os.name").equals("Linux")
        && new File("/proc/self/stat").exists();
    /** See {@link Installation}'s launcher. */
    static final String[] JAVA_VARIABLES = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"};
    private static final String RESTORE = """
        for taskrunner_name in JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS; do
            eval "[ -z \\"\\${TASKRUNNER_$taskrunner_name+set}\\" ] || {
                export $taskrunner_name=\\"\\$TASKRUNNER_$taskrunner_name\\"; unset TASKRUNNER_$taskrunner_name; }"
        done
        exec "$@"
        """;
    /** What Linux allows for arguments and environment under the default stack limit, see execve(2). */
    private static final int MAX_ENVIRONMENT = 2 << 20;
    private static final int MAX_READING_MILLIS = 1000;
    private static final int MAX_ANCESTORS = 64;
    private static final int MAX_CGROUP = 2000;
    /** Half of the least pid_max (proc_sys_kernel(5)): pids that are further apart have wrapped around. */
    private static final int PID_HALF_RANGE = 16384;
    /** Clock ticks in which the JDK's helper has long become the command: 3 s, since USER_HZ is 100. */
    private static final int HELPER_TICKS = 300;
    /** PF_KTHREAD of Linux's include/linux/sched.h. */
    private static final long KERNEL_THREAD = 0x00200000;
    /** The name of a taskrunner process in ps(1) and to one around it; the kernel keeps 15 bytes. */
    static final String NAME = "taskrunner.java";
    private static final Entry START = HAVE_PROC ? stat("self") : entry(ProcessHandle.current());

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

    /** What a process's environment tells of a run; {@code OVERWRITTEN}: there is none any more to read. */
    enum Belongs { YES, NO, OVERWRITTEN, HIDDEN }

    static List<String> shell(String command) {
        return WINDOWS ? List.of("cmd", "/c", command) : List.of("/bin/sh", "-c", "--", command);
    }

    static ProcessId self() {
        return START.id();
    }

    /** The working directory if it was removed, else null. One that was renamed, or cannot be reached, still serves. */
    static String removedWorkingDirectory() {
        String path = System.getProperty("user.dir");
        if (!Arguments.isEncodable(path) || new File(path).isDirectory() || !HAVE_PROC) {
            return null;
        }
        try {
            return Files.readSymbolicLink(Path.of("/proc/self/cwd")).toString().endsWith(" (deleted)") ? path : null;
        } catch (IOException e) {
            return null;
        }
    }

    /** Starts it, with the variables of which the launcher has made this JVM unaware, byte for byte. */
    static Process start(ProcessBuilder builder) throws IOException {
        for (String name : JAVA_VARIABLES) {
            if (builder.environment().containsKey("TASKRUNNER_" + name)) {
                builder.command(Options.with(List.of("/bin/sh", "-c", RESTORE, "sh"), builder.command()));
                break;
            }
        }
        return self().pid() == 1 && HAVE_PROC ? Init.start(builder) : builder.start();
    }

    /** Who owns the process. */
    static String user(ProcessId id) {
        if (!HAVE_PROC) {
            Optional<ProcessHandle> handle = ProcessHandle.of(id.pid());
            Optional<String> user = handle.isPresent() ? handle.get().info().user() : Optional.empty();
            return user.isPresent() ? user.get() : "an unknown user";
        }
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
        if (!HAVE_PROC) {
            return;
        }
        try (OutputStream name = new FileOutputStream("/proc/self/comm")) {
            name.write(NAME.getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            // then a taskrunner around this one signals the processes of both
        }
    }

    /** Whether the process has a handler for the signal: the mask {@code SigCgt} of proc_pid_status(5). */
    static boolean handles(ProcessId id, int signal) {
        try {
            String status = read("/proc/" + id.pid() + "/status");
            int mask = status.indexOf("\nSigCgt:") + 8;
            return (Long.parseUnsignedLong(status.substring(mask, status.indexOf('\n', mask)).strip(), 16)
                >> signal - 1 & 1) != 0;
        } catch (IOException | RuntimeException e) {
            return false;
        }
    }

    /** The pid that was given last (proc_loadavg(5)'s last field), 0 when it is not known; without /proc the time. */
    static long moment() {
        if (!HAVE_PROC) {
            return System.currentTimeMillis();
        }
        try {
            String averages = read("/proc/loadavg").strip();
            return Long.parseLong(averages.substring(averages.lastIndexOf(' ') + 1));
        } catch (IOException | NumberFormatException e) {
            return 0;
        }
    }

    /** Whether a process that is not old was forked after the {@link #moment}: pids are given in order. */
    static boolean isLater(ProcessId id, long moment) {
        if (!HAVE_PROC) {
            return id.start() >= moment;
        }
        long distance = id.pid() - moment;
        return moment > 0 && (distance > 0 && distance < PID_HALF_RANGE || distance < -PID_HALF_RANGE);
    }

    /**
     * The process group of this process if the terminal has just signalled it as a whole, else 0: with SIGINT when it
     * is the terminal's foreground process group, with SIGHUP when the terminal is gone.
     */
    static long groupSignalledByTerminal(String signal) {
        Entry now;
        try {
            now = HAVE_PROC ? stat("self") : null;
        } catch (UncheckedIOException e) {
            return 0;
        }
        boolean told = now != null && (signal.equals("INT") && now.foreground() == now.group()
            || signal.equals("HUP") && now.foreground() == -1 && START.foreground() != -1);
        return told ? now.group() : 0;
    }

    static Entry entry(Process process) {
        if (HAVE_PROC) {
            try {
                Entry entry = stat(Long.toString(process.pid()));
                if (entry != null) {
                    return entry;
                }
            } catch (UncheckedIOException e) {
                // the run's id in its environment still tells whose process it is
            }
            return new Entry(new ProcessId(process.pid(), 0), START.id().pid(), 0, 0, -1, false, "");
        }
        return entry(process.toHandle());
    }

    private static Entry entry(ProcessHandle handle) {
        Optional<java.time.Instant> start = handle.info().startInstant();
        Optional<ProcessHandle> parent = handle.parent();
        return new Entry(new ProcessId(handle.pid(), start.isPresent() ? start.get().toEpochMilli() : 0),
            parent.isPresent() ? parent.get().pid() : 0, 0, 0, -1, !handle.isAlive(), "");
    }

    /**
     * Those that ps(1) shows and that are no zombies, which a ProcessHandle takes for alive until they are waited for.
     *
     * @param which ps's options, so that this process is among them
     * @return null when ps cannot tell
     */
    private static Set<Long> running(String... which) {
        Set<Long> running = new HashSet<>();
        try {
            Process ps = new ProcessBuilder(Options.with(List.of("/bin/ps", "-o", "pid=", "-o", "stat="),
                List.of(which))).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            String table = new String(ps.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
            for (String line : table.split("\n")) {
                String[] words = line.strip().split(" +");
                if (words.length == 2 && !words[1].startsWith("Z")) {
                    running.add(Long.parseLong(words[0]));
                }
            }
        } catch (IOException | NumberFormatException | OutOfMemoryError e) {
            return null;
        }
        return running.contains(self().pid()) ? running : null;
    }

    static boolean lives(ProcessId id) {
        if (HAVE_PROC) {
            Entry entry = stat(Long.toString(id.pid()));
            return entry != null && !entry.dead() && entry.id().equals(id);
        }
        if (!isThere(id)) {
            return false;
        }
        Set<Long> running = running("-p", id.pid() + "," + self().pid());
        return running == null || running.contains(id.pid());
    }

    /** Whether it lives or is a zombie. */
    private static boolean isThere(ProcessId id) {
        Optional<ProcessHandle> handle = ProcessHandle.of(id.pid());
        return handle.isPresent() && handle.get().isAlive() && entry(handle.get()).id().equals(id);
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
                Entry entry = entry(i.next());
                all.put(entry.id().pid(), entry);
            }
            Set<Long> running = running("-A");
            if (running != null) {
                all.keySet().retainAll(running);
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
            String[] fields = stat.substring(close + 2).split(" ", 22 - 3 + 2);
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
     * What the environments tell of a run, as proc(5) shows them to the same user and to root, by pid. Bounded in size
     * and time, since a process can make its environment as long and as slow to read as it likes: what is beyond is
     * missing. The owner's come first.
     */
    static Map<Long, Belongs> environments(List<Entry> processes, String runId, int owner) {
        Map<Long, Belongs> known = new ConcurrentHashMap<>();
        Thread reader = new Thread("environments") {
            @Override
            public void run() {
                try {
                    readEnvironments(processes, runId, owner, known);
                } catch (Error e) {
                    // a class that cannot be loaded, as without a free file descriptor: what is missing is not known
                }
            }
        };
        reader.setDaemon(true);
        try {
            reader.start();
            reader.join(MAX_READING_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } catch (OutOfMemoryError e) {
            // no thread can be started: nothing is known
        }
        return new HashMap<>(known);
    }

    private static void readEnvironments(List<Entry> processes, String runId, int owner, Map<Long, Belongs> known) {
        List<Entry> others = new ArrayList<>();
        for (Entry process : processes) {
            if (directoryOwner(process) == owner) {
                known.put(process.id().pid(), isHelper(process) ? Belongs.HIDDEN : belongsTo(process, runId));
            } else {
                others.add(process);
            }
        }
        for (Entry process : others) {
            known.put(process.id().pid(), belongsTo(process, runId));
        }
    }

    /**
     * The JDK's helper between fork and exec, which gets the run's environment only with the command, and whose parent
     * is dead: it may have been the holder.
     */
    private static boolean isHelper(Entry process) {
        return process.name().equals("jspawnhelper") && process.parent() == 1
            && process.id().start() > START.id().start() - HELPER_TICKS;
    }

    private static int directoryOwner(Entry process) {
        try {
            return (int) Files.getAttribute(Path.of("/proc", Long.toString(process.id().pid())), "unix:uid");
        } catch (IOException e) {
            return -1;
        }
    }

    /** Whether the run is the innermost of the process, one whose environment could just be read. */
    static boolean isDirectlyOf(Entry process, String runId) {
        try {
            return environment(process).contains("\0" + Holder.RUN_ID + "=" + runId + "\0");
        } catch (IOException e) {
            return true;
        }
    }

    /** The environment between zero bytes, cut when it is longer than can be. */
    private static String environment(Entry process) throws IOException {
        try (FileInputStream in = new FileInputStream("/proc/" + process.id().pid() + "/environ")) {
            return "\0" + new String(in.readNBytes(MAX_ENVIRONMENT + 1), StandardCharsets.ISO_8859_1) + "\0";
        }
    }

    private static Belongs belongsTo(Entry process, String runId) {
        try {
            String environment = environment(process);
            return environment.length() > MAX_ENVIRONMENT + 2 ? Belongs.HIDDEN
                : carries(environment, runId) ? Belongs.YES
                : isEnvironment(environment) ? Belongs.NO : Belongs.OVERWRITTEN;
        } catch (IOException | OutOfMemoryError e) {
            // not readable by this user, or ending (ESRCH, while its state is still R)
            try {
                return lives(process.id()) ? Belongs.HIDDEN : Belongs.NO;
            } catch (UncheckedIOException unknown) {
                return Belongs.HIDDEN;
            }
        }
    }

    /** Whether it begins with {@code NAME=}. */
    private static boolean isEnvironment(String text) {
        int i = 1;
        while (Character.isLetterOrDigit(text.charAt(i)) || text.charAt(i) == '_') {
            i++;
        }
        return i > 1 && text.charAt(i) == '=';
    }

    /** The real user of the process, -1 when it cannot be told. */
    static int uid(long pid) {
        try {
            return (int) Host.number(read("/proc/" + pid + "/status"), "Uid", 0);
        } catch (IOException e) {
            return -1;
        }
    }

    /**
     * The processes above this one, {@code pid:start,…} up to the one without a parent here; null when one of them
     * cannot be seen.
     */
    static String ancestors() {
        StringBuilder ancestors = new StringBuilder();
        long parent = START.parent();
        for (int i = 0; parent != 0 && HAVE_PROC; i++) {
            Entry above = i == MAX_ANCESTORS ? null : stat(Long.toString(parent));
            if (above == null) {
                return null;
            }
            ancestors.append(i == 0 ? "" : ",").append(parent).append(':').append(above.id().start());
            parent = above.parent();
        }
        return ancestors.toString();
    }

    /**
     * The control groups of a process, {@code hierarchy:controllers:path|…} (cgroups(7)), those left out that are the
     * root and so contain every process; "" when that cannot be said in a line.
     */
    static String cgroup(String pid) {
        try {
            String all = HAVE_PROC ? read("/proc/" + pid + "/cgroup") : "";
            StringBuilder cgroups = new StringBuilder();
            for (int from = 0, end; (end = all.indexOf('\n', from)) >= 0; from = end + 1) {
                if (!all.startsWith(":/\n", end - 2)) {
                    cgroups.append(cgroups.length() == 0 ? "" : "|").append(all, from, end);
                }
            }
            return cgroups.length() > MAX_CGROUP || all.indexOf('|') >= 0 ? "" : cgroups.toString();
        } catch (IOException e) {
            return "";
        }
    }

    /** Whether the process is in none of the control groups and in none below them. */
    static boolean isOutside(long pid, String cgroups) {
        try {
            for (String line : cgroups.isEmpty() ? new String[0] : read("/proc/" + pid + "/cgroup").split("\n")) {
                int path = line.indexOf(':', line.indexOf(':') + 1) + 1;
                int group = ("|" + cgroups).indexOf("|" + line.substring(0, path));
                if (group >= 0) {
                    int end = cgroups.indexOf('|', group);
                    String of = cgroups.substring(group + path, end < 0 ? cgroups.length() : end);
                    if (!(line.substring(path) + "/").startsWith(of + "/")) {
                        return true;
                    }
                }
            }
        } catch (IOException e) {
            // then it cannot be told
        }
        return false;
    }

    private static boolean carries(String environment, String runId) {
        if (environment.contains("\0" + Holder.RUN_ID + "=" + runId + "\0")) {
            return true;
        }
        int outer = environment.indexOf("\0" + Holder.OUTER_RUN_IDS + "=");
        return outer >= 0 && (environment.substring(environment.indexOf('=', outer) + 1, environment.indexOf('\0',
            outer + 1)) + " ").contains(runId + " ");
    }

    /**
     * SIGTERM or SIGKILL to the very process that has the id.
     *
     * @return false when it lives but may not be signalled
     * @throws UncheckedIOException when it cannot be seen whether that process lives
     */
    static boolean signal(ProcessId id, boolean kill) {
        Optional<ProcessHandle> handle = ProcessHandle.of(id.pid());
        if (!(HAVE_PROC ? lives(id) : isThere(id))) {
            return true;
        }
        // without a free descriptor there is a process, but no handle
        boolean signalled = handle.isPresent() && (kill ? handle.get().destroyForcibly() : handle.get().destroy());
        return signalled || !lives(id);
    }

    /** Nobody needs to hear that a pipe's reader has gone, as {@code head} does. */
    static boolean stdoutIsPipe() {
        try {
            return HAVE_PROC && Files.readSymbolicLink(Path.of("/proc/self/fd/1")).toString().startsWith("pipe:");
        } catch (IOException e) {
            return false;
        }
    }

    /**
     * Whether this process was started without a stdin ({@code <&-}): the first file that the JVM opened, {@code
     * lib/modules} of its own, then has descriptor 0, and the command would read it.
     */
    static boolean stdinIsClosed() {
        try {
            return HAVE_PROC ? Files.readSymbolicLink(Path.of("/proc/self/fd/0")).endsWith("lib/modules")
                : !WINDOWS && new FileInputStream(FileDescriptor.in).getChannel().size()
                    == Files.size(Path.of(System.getProperty("java.home"), "lib", "modules"));
        } catch (IOException e) {
            return true;
        }
    }

    /**
     * What the processes that were waited for have taken of the CPUs: fields 16 and 17 of {@code /proc/self/stat}, in
     * hundredths of a second on every Linux.
     *
     * @return milliseconds in user mode and in the kernel, or null where it is not known
     */
    static long[] cpuMillisOfChildren() {
        try {
            String stat = read("/proc/self/stat");
            String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
            return new long[] {Long.parseLong(fields[16 - 3]) * 10, Long.parseLong(fields[17 - 3]) * 10};
        } catch (IOException | RuntimeException e) {
            return null;
        }
    }

    /** A file of proc(5) or sysfs(5), in Latin-1, so that every byte stays apart. */
    static String read(String file) throws IOException {
        if (!HAVE_PROC) {
            throw new FileNotFoundException(file);
        }
        try (FileInputStream in = new FileInputStream(file)) {
            return new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
        }
    }

    private Processes() {
    }
}

/**
 * Process 1 of a container: what lost its parent is reparented to it, and stays a zombie until it is waited for.
 *
 * <p>The JDK waits for its own children only. Its way to do so, {@code waitpid(2)} for one pid, is private; {@link
 * sun.reflect.ReflectionFactory}, which is there for serialization, gives the look-up that reaches it (JDK 17 to 25,
 * without options and warnings).
 */
final class Init {
    private static final Map<Long, Process> CHILDREN = new HashMap<>();
    private static MethodHandle waitpid;

    /** Starts a child of this process's own, which the JDK waits for. */
    static synchronized Process start(ProcessBuilder builder) throws IOException {
        Process process = builder.start();
        CHILDREN.put(process.pid(), process);
        if (waitpid == null) {
            // only now, since the JDK resets the signal's handler before its first child
            reapOnSignal();
        }
        return process;
    }

    private static void reapOnSignal() {
        try {
            Constructor<?> lookup = sun.reflect.ReflectionFactory.getReflectionFactory()
                .newConstructorForSerialization(MethodHandles.Lookup.class,
                    MethodHandles.Lookup.class.getDeclaredConstructor(Class.class, Class.class, int.class));
            Class<?> handles = Class.forName("java.lang.ProcessHandleImpl");
            final int trusted = -1;
            waitpid = ((MethodHandles.Lookup) lookup.newInstance(handles, null, trusted)).findStatic(handles,
                "waitForProcessExit0", MethodType.methodType(int.class, long.class, boolean.class));
            sun.misc.Signal.handle(new sun.misc.Signal("CHLD"), new sun.misc.SignalHandler() {
                @Override
                public void handle(sun.misc.Signal signal) {
                    reap();
                }
            });
            reap();
        } catch (ReflectiveOperationException | RuntimeException e) {
            StandardStream.ERR.print(("taskrunner: as process 1, cannot wait for what is reparented to it: " + e
                + "; start the container with --init\n").getBytes(StandardCharsets.UTF_8));
        }
    }

    private static synchronized void reap() {
        try {
            for (Processes.Entry process : Processes.all().values()) {
                Process own = CHILDREN.get(process.id().pid());
                if (process.parent() == 1 && process.dead() && (own == null || !own.isAlive())) {
                    int ignored = (int) waitpid.invokeExact(process.id().pid(), true);
                }
            }
        } catch (Throwable e) {
            // the next signal looks again
        }
    }

    private Init() {
    }
}

/** This machine and this user, as a lock's record names them. */
final class Host {
    private static final String BOOT_ID = firstLine("/proc/sys/kernel/random/boot_id", "");
    private static final String STATUS = firstLine("/proc/self/status", "");
    private static final int UID = STATUS.isEmpty() ? uidOfSystem() : (int) number(STATUS, "Uid", 1);
    /** This process's pid in each namespace from that of /proc to its own, a tab before each. */
    private static final String PIDS = line(STATUS, "NSpid");
    private static final String STAT = "/proc/stat";
    private static final int MAX_STAT = 1 << 20;

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

    /** The effective user of this process; -1 where there are no numbers. */
    static int uid() {
        return UID;
    }

    /** The real user, by getuid(2). */
    private static int uidOfSystem() {
        try {
            return (int) new com.sun.security.auth.module.UnixSystem().getUid();
        } catch (LinkageError e) {
            return -1;
        }
    }

    /** Whether this is process 1 of its pid namespace, whatever namespace /proc is of. */
    static boolean isProcess1() {
        return PIDS.isEmpty() ? Processes.self().pid() == 1 : PIDS.endsWith("\t1");
    }

    /** The namespace of the pids that /proc shows; "" when it is not this process's own. */
    static String pidNamespace() {
        return PIDS.lastIndexOf('\t') > 0 ? "" : namespace("pid");
    }

    /** Its identity, see namespaces(7); "" when it cannot be told, or the system has none. */
    static String namespace(String type) {
        try {
            return Processes.HAVE_PROC ? Files.readSymbolicLink(Path.of("/proc/self/ns", type)).toString() : "";
        } catch (IOException e) {
            return "";
        }
    }

    /** When the kernel was started, milliseconds since 1970; -1 when it cannot be told. */
    static long bootMillis() {
        try (FileInputStream in = new FileInputStream(STAT)) {
            String stat = new String(in.readNBytes(MAX_STAT), StandardCharsets.ISO_8859_1);
            int line = stat.indexOf("\nbtime ");
            return line < 0 ? -1 : Long.parseLong(stat.substring(line + 7, stat.indexOf('\n', line + 1))) * 1000;
        } catch (IOException e) {
            return -1;
        }
    }

    /** The index-th number in a line of a process's status, see proc(5); -1 when it has none. */
    static long number(String status, String name, int index) {
        String[] numbers = line(status, name).split("\t");
        return index + 1 < numbers.length ? Long.parseLong(numbers[index + 1]) : -1;
    }

    private static String line(String status, String name) {
        int line = status.indexOf("\n" + name + ":");
        int end = line < 0 ? -1 : status.indexOf('\n', line + 1);
        return line < 0 ? "" : status.substring(line + name.length() + 2, end < 0 ? status.length() : end);
    }

    /**
     * {@code $HOME} when it is this user's own, else the user database's: under sudo {@code $HOME} may be another
     * user's.
     *
     * @throws TaskException 73 when there is none
     */
    static Path home() throws TaskException {
        String home = System.getenv("HOME");
        if (home != null && home.startsWith("/") && isOwnOrAbsent(Path.of(home))) {
            return Path.of(home);
        }
        // of the JVM, by getpwuid(3); "?" without an entry
        String entry = System.getProperty("user.home");
        if (!entry.startsWith("/")) {
            throw TaskException.cannotCreate("this user has no home directory: set HOME to a directory of its own",
                null);
        }
        return Path.of(entry);
    }

    private static boolean isOwnOrAbsent(Path directory) {
        try {
            return FileStatus.of(directory.toRealPath()).isOwn();
        } catch (NoSuchFileException e) {
            return true;
        } catch (IOException e) {
            return false;
        }
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
    private final boolean toJournal = stderrIsJournal();
    private boolean fileFailed;
    private QuietOutput quietOutput;
    /** Whether the outcome was logged: what comes later is about notifications. */
    private boolean ended;
    /** With --quiet, when nothing went wrong. */
    private boolean silent;

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
        if (outcome.cpuMillis != null) {
            json.raw("cpu_user_seconds", Text.seconds(outcome.cpuMillis[0]))
                .raw("cpu_system_seconds", Text.seconds(outcome.cpuMillis[1]));
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
        ended = true;
        if (quietOutput != null) {
            quietOutput.close(outcome.wentWrong());
            quietOutput = null;
            silent = !outcome.wentWrong();
        }
    }

    boolean isQuiet() {
        return request.quiet;
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
        String plain = level + " taskrunner[" + holder.process().pid() + "]: " + message + "\n";
        String line = Text.time(now).substring(0, 19) + "Z " + plain;
        String ofStderr = toJournal ? priority(level) + plain : line;
        if (request.jsonLog) {
            Json json = new Json().put("time", Text.time(now)).put("level", level).put("event", event)
                .put("message", message).put("run_id", holder.runId())
                .put("lockfile", request.task.lockFile().toString());
            line = (more == null ? json : json.putAll(more)) + "\n";
        }
        if (ended && request.jsonLog) {
            // the log's last line is the outcome
            toStderr(ofStderr);
            return;
        }
        boolean inFile = request.logFile != null && !fileFailed && toFile(line);
        if (!inFile && request.jsonLog) {
            toStderr(toJournal ? priority(level) + line : line);
        } else if (!inFile || level.equals("ERROR")) {
            toStderr(ofStderr);
        }
    }

    /** As in sd-daemon(3). */
    private static String priority(String level) {
        return switch (level) {
            case "ERROR" -> "<3>";
            case "WARN" -> "<4>";
            case "INFO" -> "<6>";
            default -> "<7>";
        };
    }

    /** Whether stderr is the journal, which has times and priorities of its own: systemd.exec(5), JOURNAL_STREAM. */
    private static boolean stderrIsJournal() {
        String stream = System.getenv("JOURNAL_STREAM");
        if (stream == null || !Processes.HAVE_PROC) {
            return false;
        }
        try {
            Path stderr = Path.of("/proc/self/fd/2");
            return stream.equals(Files.getAttribute(stderr, "unix:dev") + ":" + Files.getAttribute(stderr, "unix:ino"));
        } catch (IOException | RuntimeException e) {
            return false;
        }
    }

    /** Opens the file for each line, so that logrotate(8) may rename it at any time. */
    private boolean toFile(String line) {
        try (FileChannel file = FileChannel.open(request.logFile, APPEND)) {
            RegularFiles.append(file, line.getBytes(StandardCharsets.UTF_8));
            return true;
        } catch (IOException e) {
            fileFailed = true;
            String directory = RegularFiles.unusableDirectory(request.logFile);
            warn("log", "cannot write log file " + request.logFile + ": "
                + (directory == null ? Text.reason(e) : directory) + "; log lines go to stderr");
            return false;
        }
    }

    private void toStderr(String text) {
        if (!silent) {
            print(text.getBytes(StandardCharsets.UTF_8), StandardStream.ERR);
        }
    }

    /**
     * Shows output of the command, or buffers it. A reader that is slow keeps only who writes to it waiting.
     *
     * @return false when nobody reads it any more (EPIPE)
     */
    boolean print(byte[] bytes, OutputStream stream) {
        synchronized (this) {
            if (quietOutput != null) {
                quietOutput.write(bytes);
                return true;
            }
        }
        try {
            stream.write(bytes);
            stream.flush();
            return true;
        } catch (IOException e) {
            return !String.valueOf(e.getMessage()).contains("Broken pipe");
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
        channel = FileChannel.open(path, options, RegularFiles.mode(Set.of(PosixFilePermission.OWNER_READ,
            PosixFilePermission.OWNER_WRITE)));
        Path file = Processes.HAVE_PROC ? descriptor() : path;
        reader = FileChannel.open(file, StandardOpenOption.READ);
        write(early.toByteArray());
        builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(file.toFile()));
    }

    /** The file by its descriptor. */
    private Path descriptor() throws IOException {
        String[] descriptors = new File("/proc/self/fd").list();
        for (int i = 0; descriptors != null && i < descriptors.length; i++) {
            Path descriptor = Path.of("/proc/self/fd", descriptors[i]);
            if (Files.isSymbolicLink(descriptor)
                    && Files.readSymbolicLink(descriptor).endsWith(path.getFileName() + " (deleted)")) {
                return descriptor;
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
    static final String EVENTS = "started,succeeded,failed,timeout,stopped,recovered,contention,threshold,error";
    /** Those that a person should know of. */
    static final String DEFAULT_EVENTS = "threshold,failed,timeout,recovered,error";
    /** What only the batch variant knows of. */
    private static final String HISTORY_EVENTS = ",resolved,killed,lost";
    static final int MAX_SECONDS = 30;
    /** execve(2) refuses a string of 128 KiB or more. */
    private static final int MAX_VALUE_LENGTH = 30_000;

    /** Ends it, where there is a timeout(1), also when taskrunner was killed: it then goes on for a second longer. */
    private static final String SCRIPT = "command -v timeout >/dev/null && t='timeout -k 1 " + (MAX_SECONDS + 1)
        + "' || t=; exec $t /bin/sh -c -- \"$1\" >&2";

    /** The events of --notify-on. */
    static List<String> events(Arguments arguments) throws UsageException {
        String events = arguments.text("--notify-on");
        if (!arguments.has("--notify")) {
            throw arguments.refused("--notify-on needs --notify CMD");
        }
        List<String> all = List.of((EVENTS + HISTORY_EVENTS).split(","));
        List<String> chosen = List.of((events == null ? DEFAULT_EVENTS + HISTORY_EVENTS : events).split(","));
        for (String event : chosen) {
            if (!all.contains(event) && !event.equals("all")) {
                throw arguments.refused("invalid --notify-on '" + events + "': give all or, separated by commas, of "
                    + EVENTS);
            }
        }
        return chosen.contains("all") ? all : chosen;
    }

    /** Starts it with its output on stderr and without input. @param outcome null while the command runs */
    static Process start(Request request, Holder holder, Outcome outcome, String event, String message)
        throws IOException {
        List<String> command = Processes.WINDOWS ? Processes.shell(request.notifyCommand)
            : List.of("/bin/sh", "-c", SCRIPT, "notify", request.notifyCommand);
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
        put(builder, "EXIT_STATUS", outcome == null ? "" : Integer.toString(outcome.exitStatus));
        put(builder, "CONTENTIONS", outcome == null || outcome.contentions < 0 ? ""
            : Long.toString(outcome.contentions));
        put(builder, "THRESHOLD", Integer.toString(request.task.threshold()));
        put(builder, "HOLDER_PID", outcome == null || outcome.lockState == null ? "" : outcome.lockState.holderPid());
        return Processes.start(builder);
    }

    /** A value that no environment can hold is changed, not refused: somebody should know of the event. */
    private static void put(ProcessBuilder builder, String name, String value) {
        String text = value.length() > MAX_VALUE_LENGTH ? value.substring(0, MAX_VALUE_LENGTH) : value;
        builder.environment().put("TASKRUNNER_" + name, text.replace('\0', '?'));
    }

    private Notification() {
    }
}

/** The metrics file: Prometheus text format, written to a temporary file inside a gate of its own and renamed. */
final class Metrics {
    private static final int MAX_LENGTH = 64 * 1024;
    private static final String RUNNING = "taskrunner_running";
    private static final String START = "taskrunner_last_start_timestamp_seconds";
    private static final String SUCCESS = "taskrunner_last_success_timestamp_seconds";
    private static final String DURATION = "taskrunner_last_duration_seconds";
    private static final String STATUS = "taskrunner_last_exit_status";
    private static final String CPU = "taskrunner_last_cpu_seconds";
    private static final String CONTENTIONS = "taskrunner_contentions";
    private static final String THRESHOLD = "taskrunner_threshold";
    private static final String RUNS = "taskrunner_runs_total";
    private static final String CONTENDED = "taskrunner_contentions_total";
    private static final String REPORTS = "taskrunner_reports_total";
    /** Name, type, help. */
    private static final String[][] METRICS = {
        {RUNNING, "gauge", "1 from the start of the command to its end"},
        {START, "gauge", "when the command was last started"},
        {SUCCESS, "gauge", "when the command last succeeded, 0 before the first time"},
        {DURATION, "gauge", "how long the command last ran"},
        {STATUS, "gauge", "exit status of the last run, report or error"},
        {CPU, "gauge", "CPU time of the last run, of the processes that it waited for"},
        {CONTENTIONS, "gauge", "contentions since the lock was last acquired; at a report the number reported"},
        {THRESHOLD, "gauge", "contentions that are tolerated"},
        {RUNS, "counter", "runs of the command by their outcome; errors without a run as well"},
        {CONTENDED, "counter", "requests that found the lock held"},
        {REPORTS, "counter", "contentions that were reported as an error"}};

    /**
     * Writes what has changed; the rest is kept as the file has it.
     *
     * @param started the run that has started, or null at the end of the request
     * @param outcome null at the start
     */
    static void write(Request request, Run started, Outcome outcome) throws IOException, TaskException {
        Path file = request.metricsFile;
        try (Gate gate = Gate.enter(file, "cannot write metrics file " + file, "# HELP taskrunner_", null)) {
            String label = "lockfile=\"" + request.task.lockFile().toString().replace("\\", "\\\\")
                .replace("\"", "\\\"").replace("\n", "\\n") + "\"} ";
            Map<String, String> samples = before(file, label);
            if (started != null) {
                start(samples, started);
            } else {
                end(samples, outcome);
            }
            samples.put(sample(THRESHOLD), Integer.toString(request.task.threshold()));
            gate.publish(text(samples, label));
            try {
                Files.move(gate.path(), file, StandardCopyOption.ATOMIC_MOVE);
            } catch (AtomicMoveNotSupportedException e) {
                Files.move(gate.path(), file, StandardCopyOption.REPLACE_EXISTING);
            }
        }
    }

    private static void start(Map<String, String> samples, Run run) {
        samples.put(sample(RUNNING), "1");
        samples.put(sample(START), Text.seconds(run.startedMillis()));
        samples.put(sample(CONTENTIONS), "0");
    }

    /** A request that did not run the command keeps what is known of the last run. */
    private static void end(Map<String, String> samples, Outcome outcome) {
        Run run = outcome.run;
        if (run != null) {
            String start = Text.seconds(run.startedMillis());
            String last = samples.get(sample(START));
            // between the release of the lock and now the next run may have started
            if (last == null || Double.parseDouble(start) >= Double.parseDouble(last)) {
                samples.put(sample(START), start);
                samples.put(sample(RUNNING), "0");
            }
            samples.put(sample(DURATION), Text.seconds(run.durationMillis()));
            if (outcome.ending == Ending.SUCCEEDED) {
                samples.put(sample(SUCCESS), Text.seconds(run.startedMillis() + run.durationMillis()));
            }
            if (outcome.cpuMillis != null) {
                samples.put(sample(CPU, "mode", "user"), Text.seconds(outcome.cpuMillis[0]));
                samples.put(sample(CPU, "mode", "system"), Text.seconds(outcome.cpuMillis[1]));
            }
        }
        boolean contended = outcome.lockState != null;
        if (!contended || outcome.ending == Ending.THRESHOLD) {
            samples.put(sample(STATUS), Integer.toString(outcome.exitStatus));
        }
        if (outcome.contentions >= 0) {
            samples.put(sample(CONTENTIONS), Long.toString(outcome.contentions));
        }
        add(samples, sample(CONTENDED), contended);
        add(samples, sample(REPORTS), outcome.ending == Ending.THRESHOLD);
        for (Ending ending : Ending.values()) {
            if (ending != Ending.CONTENTION && ending != Ending.THRESHOLD) {
                add(samples, sample(RUNS, "outcome", ending.event()), outcome.ending == ending
                    && (run != null || ending == Ending.ERROR));
            }
        }
    }

    private static void add(Map<String, String> samples, String sample, boolean one) {
        String before = samples.get(sample);
        samples.put(sample, Long.toString((before == null ? 0 : (long) Double.parseDouble(before)) + (one ? 1 : 0)));
    }

    /** A sample as far as its label lockfile, which is the last. */
    private static String sample(String metric) {
        return metric + "{";
    }

    private static String sample(String metric, String label, String value) {
        return metric + "{" + label + "=\"" + value + "\",";
    }

    private static String text(Map<String, String> samples, String label) {
        StringBuilder text = new StringBuilder();
        for (String[] metric : METRICS) {
            boolean first = true;
            for (Map.Entry<String, String> sample : samples.entrySet()) {
                if (sample.getKey().startsWith(metric[0] + "{")) {
                    text.append(first ? "# HELP " + metric[0] + " " + metric[2] + "\n# TYPE " + metric[0] + " "
                        + metric[1] + "\n" : "").append(sample.getKey()).append(label).append(sample.getValue())
                        .append('\n');
                    first = false;
                }
            }
        }
        return text.toString();
    }

    /** The samples of this task that the file has, if it is this user's. */
    private static Map<String, String> before(Path file, String label) throws IOException {
        Map<String, String> samples = new LinkedHashMap<>();
        samples.put(sample(RUNNING), "0");
        samples.put(sample(SUCCESS), "0");
        FileStatus status = FileStatus.of(file);
        if (status == null || !status.isRegular() || !status.isOwn()) {
            return samples;
        }
        try (FileChannel channel = FileChannel.open(file, RegularFiles.READ)) {
            for (String line : RegularFiles.read(channel, MAX_LENGTH).split("\n")) {
                int at = line.indexOf(label);
                String value = line.substring(Math.max(0, at) + (at > 0 ? label.length() : 0));
                if (at > 0 && line.charAt(0) != '#' && isNumber(value)) {
                    samples.put(line.substring(0, at), value);
                }
            }
        }
        return samples;
    }

    private static boolean isNumber(String text) {
        boolean digits = !text.isEmpty();
        for (int i = 0; i < text.length(); i++) {
            digits &= text.charAt(i) >= '0' && text.charAt(i) <= '9' || text.charAt(i) == '.' && i > 0;
        }
        return digits && text.indexOf('.') == text.lastIndexOf('.') && text.length() < 20;
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
        new Option("--command", "CMD", REQUIRED,
            "the command, run through the system shell; or without a shell: -- CMD ARG... at the end"),
        new Option("--lockfile", "FILE", REQUIRED, "the lock file that identifies the task; best in /run/lock"),
        new Option("--threshold", "N", REQUIRED,
            "contentions that are tolerated before one is reported; 0: they are not counted"),
        new Option("--counter-file", "FILE", REQUIRED, "where the contentions are counted"),
        new Option("--overdue", "DURATION", LOCKING,
            "report a contention also when the lock has been held for longer than DURATION (default: 0, never)"),
        new Option("--replace", null, LOCKING,
            "on contention terminate the holder's run, then run; not where the lock is foreign or unknown"),
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
            "run CMD for up to 30 s when a person should know; TASKRUNNER_EVENT and TASKRUNNER_MESSAGE, _RUN,"
            + " _LOCKFILE, _COMMAND, _EXIT_STATUS, _CONTENTIONS, _THRESHOLD, _HOLDER_PID tell why"),
        new Option("--notify-on", "EVENT,...", ENDS,
            "of " + Notification.EVENTS + " or all (default: " + Notification.DEFAULT_EVENTS + ")"),
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
        List.of("taskrunner OPTION... --command CMD", "       taskrunner OPTION... -- CMD ARG...",
            "       taskrunner @FILE", "       taskrunner status | unlock | completion | install | uninstall [--help]"),
        null, REQUEST,
        List.of("", "Durations: 90, 0.5s, 500ms, 15m, 1h30m, 1d, 1w or ISO-8601 (PT15M).",
            "@FILE, where an option may stand: arguments from FILE, with quotes and # comments as in sh.", "",
            "Example:", "  taskrunner --lockfile /run/lock/shop.lock --threshold 3 --quiet \\",
            "      --counter-file /var/lib/taskrunner/shop.count -- pg_dump --file shop.sql shop"));

    static final Command STATUS = new Command("status",
        "Tells who holds the lock, since when and in which state, and the counter.",
        List.of("taskrunner status --lockfile FILE [--threshold N --counter-file FILE]",
            "                         [--json | --nagios]"), null,
        List.of(new Option("--lockfile", "FILE", null, "the lock file"),
            new Option("--threshold", "N", null, "the task's threshold"),
            new Option("--counter-file", "FILE", null, "the task's counter file"),
            new Option("--json", null, null, "print one JSON object"),
            new Option("--nagios", null, null, "print one line with performance data, as a Nagios plugin does"),
            VERBOSE.ungrouped()),
        List.of("", "Exit status: 0 free, 20 held, 21 stale or orphaned, 22 foreign or unknown: nothing will run until"
            + " somebody acts.", "With --nagios: 0 free or held, 1 stale or orphaned, 2 foreign, unknown or more"
            + " contentions than the threshold, 3 errors."));

    static final Command UNLOCK = new Command("unlock",
        "Removes a lock file that is stale, foreign or unknown, after it has said what it is.",
        List.of("taskrunner unlock --lockfile FILE"), null,
        List.of(new Option("--lockfile", "FILE", null, "the lock file"), VERBOSE.ungrouped()),
        List.of("", "Exit status: 0 removed, or free already; refused: 20 held, 21 orphaned."));

    static final Command COMPLETION = new Command("completion", "Prints a completion script for a shell.",
        List.of("taskrunner completion bash|zsh"), "SHELL", List.of(VERBOSE.ungrouped()),
        List.of("", "install writes it where the shell looks; by hand: source <(taskrunner completion bash)"));

    static final List<Command> COMMANDS = with(List.of(RUN, STATUS, UNLOCK, COMPLETION),
        Installation.commands("taskrunner"));

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
    /** The values of a label that names them all, such as {@code text|json}. */
    List<String> values() {
        return label.indexOf('|') < 0 ? List.of() : List.of(label.split("\\|"));
    }

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

    /** The option of that name, or null. */
    Option option(String name) {
        for (Option option : options) {
            if (option.name().equals(name)) {
                return option;
            }
        }
        return null;
    }
}

/**
 * What the command line says.
 *
 * @param values of the options, "" for a flag
 * @param parameter the positional parameter or null
 * @param words what follows {@code --}, or null
 */
record Arguments(Command command, Map<String, String> values, String parameter, List<String> words) {
    Arguments(Command command, Map<String, String> values, String parameter) {
        this(command, values, parameter, null);
    }

    /**
     * Parses the command line; the first of the commands is the one without a name in front.
     *
     * <p>Arguments that can mean one thing only are taken as they are, since picocli needs 107 ms of the 130 ms that a
     * run takes more than an empty JVM (JDK 17, two cores, without a start-up archive). All others (help, errors,
     * {@code --option=value}, a value that looks like an option) are picocli's.
     *
     * @return null when the arguments asked for the help or the version, which have been printed
     */
    static Arguments parse(List<Command> commands, String... args) throws UsageException {
        List<String> line = new ArrayList<>(args.length);
        Collections.addAll(line, args);
        Command command = commands.get(0);
        int at = 0;
        for (int files = 0; at < line.size() && !line.get(at).equals("--");) {
            String argument = line.get(at);
            if (argument.length() > 1 && argument.charAt(0) == '@') {
                line.remove(at);
                line.addAll(at, ArgumentFile.read(argument.substring(1), command, ++files));
                continue;
            }
            if (at == 0) {
                command = Command.named(argument, commands);
            }
            Option option = command.option(argument);
            at += option != null && option.label() != null ? 2 : 1;
        }
        List<String> words = at < line.size() ? line.subList(at + 1, line.size()) : null;
        List<String> options = line.subList(0, Math.min(at, line.size()));
        if (words != null && command.option("--command") == null) {
            throw new UsageException(command, "takes no command after --");
        }
        Arguments plain = plain(command, options.subList(command == commands.get(0) ? 0 : 1, options.size()), words);
        return plain != null ? plain : Picocli.parse(commands, options, words);
    }

    private static Arguments plain(Command command, List<String> args, List<String> words) {
        Map<String, String> values = new HashMap<>();
        for (int i = 0; i < args.size(); i++) {
            Option option = command.option(args.get(i));
            boolean valued = option != null && option.label() != null;
            if (option == null || valued && (i + 1 == args.size() || args.get(i + 1).startsWith("-"))) {
                return null;
            }
            if (values.put(option.name(), valued ? args.get(++i) : "") != null) {
                return null;
            }
        }
        return command.parameter() == null ? new Arguments(command, values, null, words) : null;
    }

    boolean has(String option) {
        return values.containsKey(option);
    }

    /** What is to be executed: the shell with the text of --command, or the words after {@code --}. */
    List<String> argv() throws UsageException {
        if (words == null) {
            String command = text("--command");
            if (command.isBlank()) {
                throw refused("--command is empty");
            }
            return Processes.shell(command);
        }
        if (has("--command")) {
            throw refused("give the command once: with --command, or after --");
        }
        if (words.isEmpty()) {
            throw refused("no command after --");
        }
        boolean encodable = true;
        for (String word : words) {
            encodable &= isEncodable(word);
        }
        return encodable ? words : ArgumentBytes.command(this);
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
            if (!has(name) && (words == null || !name.equals("--command"))) {
                missing.add(name);
            }
        }
        if (!missing.isEmpty()) {
            throw UsageException.missing(command, "missing " + String.join(", ", missing));
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
            throw notEncodable(what);
        }
        if (text != null && text.indexOf('\0') >= 0) {
            throw refused(what + " contains a NUL character");
        }
        return text;
    }

    UsageException notEncodable(String what) {
        return refused(what + " contains non-ASCII characters, which the locale cannot encode: set LC_ALL=C.UTF-8,"
            + " in a crontab as a line of its own");
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
            throw invalid(option, text, "give a duration such as 90, 0.5s, 500ms, 15m, 1h30m, 1d, 1w or PT15M");
        }
        return duration;
    }

    /** A duration from zero to 100 years, or null: a number of seconds, numbers with units, or ISO-8601. */
    static Duration parseDuration(String text) {
        try {
            Duration duration = text.startsWith("P") ? Duration.parse(text) : Duration.ofNanos(nanos(text));
            return duration.isNegative() || duration.compareTo(Duration.ofDays(36525)) > 0 ? null : duration;
        } catch (DateTimeParseException | NumberFormatException | ArithmeticException e) {
            return null;
        }
    }

    /** The sum of numbers, each with a unit that is smaller than the one before; a single one may be without. */
    private static long nanos(String text) {
        long sum = 0;
        long before = Long.MAX_VALUE;
        for (int at = 0; at < text.length() || at == 0;) {
            int number = at;
            while (at < text.length() && isOfNumber(text.charAt(at))) {
                at++;
            }
            String digits = text.substring(number, at);
            int name = at;
            while (at < text.length() && !isOfNumber(text.charAt(at))) {
                at++;
            }
            long unit = unit(text.substring(name, at), number == 0);
            if (unit >= before) {
                throw new NumberFormatException(text);
            }
            before = unit;
            sum = Math.addExact(sum, digits.indexOf('.') < 0 ? Math.multiplyExact(Long.parseLong(digits), unit)
                : new BigDecimal(digits).multiply(BigDecimal.valueOf(unit)).toBigInteger().longValueExact());
        }
        return sum;
    }

    private static boolean isOfNumber(char c) {
        return c >= '0' && c <= '9' || c == '.';
    }

    /** In nanoseconds. @param first whether the unit may be missing */
    private static long unit(String name, boolean first) {
        long second = 1_000_000_000L;
        return switch (name) {
            case "ms" -> second / 1000;
            case "s" -> second;
            case "m", "min" -> 60 * second;
            case "h" -> 3600 * second;
            case "d" -> 86_400 * second;
            case "w" -> 604_800 * second;
            default -> {
                if (!first || !name.isEmpty()) {
                    throw new NumberFormatException(name);
                }
                yield second;
            }
        };
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
 * The words of an argument file, {@code @FILE}, by the rules of sh(1) without its expansions: blanks and line ends
 * separate words; what is between single quotes is taken as it is; between double quotes a backslash takes a double
 * quote or backslash as it is, outside of quotes any character, and with a line end it is nothing; {@code #} at the
 * start of a word begins a comment.
 */
final class ArgumentFile {
    private static final int MAX_LENGTH = 1 << 20;
    /** A file that names itself would go on for ever. */
    private static final int MAX_FILES = 100;

    /** @param number how many files there were with this one @throws UsageException when it cannot be read */
    static List<String> read(String name, Command command, int number) throws UsageException {
        if (number > MAX_FILES) {
            throw new UsageException(command, "argument file " + name + ": more than " + MAX_FILES
                + " files; does it name itself?");
        }
        try (FileInputStream in = new FileInputStream(name)) {
            byte[] bytes = in.readNBytes(MAX_LENGTH + 1);
            if (bytes.length > MAX_LENGTH) {
                throw new IOException("longer than 1 MiB");
            }
            return words(new String(bytes, StandardCharsets.UTF_8));
        } catch (IOException e) {
            // FileInputStream: NAME (No such file or directory)
            String reason = Text.reason(e);
            int open = reason.lastIndexOf('(');
            throw new UsageException(command, "cannot read argument file " + name + ": " + (open < 0 ? reason
                : Text.lowerCase(reason.substring(open + 1, reason.length() - 1))));
        }
    }

    static List<String> words(String text) throws IOException {
        List<String> words = new ArrayList<>();
        StringBuilder word = new StringBuilder();
        boolean inWord = false;
        char quote = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            char next = i + 1 < text.length() ? text.charAt(i + 1) : 0;
            boolean escapes = c == '\\' && quote != '\'' && next != 0
                && (quote == 0 || next == '"' || next == '\\' || next == '\n');
            if (escapes) {
                word.append(next == '\n' ? "" : String.valueOf(next));
                inWord |= next != '\n';
                i++;
            } else if (quote == 0 && (c == '\'' || c == '"') || c == quote) {
                quote = quote == 0 ? c : 0;
                inWord = true;
            } else if (quote == 0 && c == '#' && !inWord) {
                i = text.indexOf('\n', i) < 0 ? text.length() : text.indexOf('\n', i);
            } else if (quote == 0 && Character.isWhitespace(c)) {
                if (inWord) {
                    words.add(word.toString());
                }
                word.setLength(0);
                inWord = false;
            } else {
                word.append(c);
                inWord = true;
            }
        }
        if (quote != 0) {
            throw new IOException("a quote " + quote + " is not closed");
        }
        if (inWord) {
            words.add(word.toString());
        }
        return words;
    }

    private ArgumentFile() {
    }
}

/**
 * Words after {@code --} that the locale cannot carry. A JVM gets each byte that it cannot decode as U+FFFD, and can
 * hand on only what it can encode: so the bytes are taken from {@code /proc/self/cmdline} (proc(5)) and written in
 * ASCII, for the printf(1) of a shell that executes them in its own place.
 */
final class ArgumentBytes {
    /** @throws UsageException where the bytes are not to be had */
    static List<String> command(Arguments arguments) throws UsageException {
        List<String> words = arguments.words();
        String[] bytes = commandLine();
        StringBuilder script = new StringBuilder();
        for (int i = 0; i < words.size(); i++) {
            String word = words.get(i);
            if (word.indexOf('\uFFFD') >= 0) {
                int at = bytes.length - 1 - words.size() + i;
                if (at < 0 || !asciiOf(bytes[at]).equals(asciiOf(word))) {
                    throw arguments.notEncodable("the command after --");
                }
                word = bytes[at];
            } else {
                word = new String(word.getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1);
            }
            // a command substitution drops line ends at its end: the x keeps them
            script.append("_word=$(printf '").append(octal(word)).append("x'); set -- \"$@\" \"${_word%x}\"; ");
        }
        return Processes.shell(script + "unset _word; exec \"$@\"");
    }

    private static String[] commandLine() {
        try {
            return Processes.read("/proc/self/cmdline").split("\0", -1);
        } catch (IOException e) {
            return new String[0];
        }
    }

    private static String asciiOf(String text) {
        StringBuilder ascii = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            ascii.append(text.charAt(i) < 0x80 ? String.valueOf(text.charAt(i)) : "");
        }
        return ascii.toString();
    }

    private static String octal(String bytes) {
        StringBuilder octal = new StringBuilder();
        for (int i = 0; i < bytes.length(); i++) {
            octal.append('\\').append(Integer.toOctalString(0x200 | bytes.charAt(i)).substring(1));
        }
        return octal.toString();
    }

    private ArgumentBytes() {
    }
}

/**
 * The parser for what is not plain, and the help. Only this class uses picocli, so that a plain run does not load it.
 */
final class Picocli {
    static Arguments parse(List<Command> commands, List<String> args, List<String> words) throws UsageException {
        CommandLine cli = commandLine(commands).setExpandAtFiles(false);
        ParseResult parsed;
        try {
            parsed = cli.parseArgs(args.toArray(new String[0]));
        } catch (CommandLine.ParameterException e) {
            throw new UsageException(Command.named(e.getCommandLine().getCommandName(), commands), e
                instanceof CommandLine.UnmatchedArgumentException unmatched ? unmatched(unmatched, args)
                : Text.lowerCase(e.getMessage()));
        }
        ParseResult used = parsed.hasSubcommand() ? parsed.subcommand() : parsed;
        CommandLine usedCli = used.commandSpec().commandLine();
        if (used.isUsageHelpRequested()) {
            usedCli.setUsageHelpWidth(terminalWidth()).usage(System.out);
            return null;
        }
        if (used.isVersionHelpRequested()) {
            System.out.println(commands.get(0).name() + " " + Installation.version());
            return null;
        }
        Command command = Command.named(usedCli.getCommandName(), commands);
        Map<String, String> values = new HashMap<>();
        for (Option option : command.options()) {
            if (used.hasMatchedOption(option.name())) {
                values.put(option.name(), option.label() == null ? "" : used.matchedOptionValue(option.name(), ""));
            }
        }
        return new Arguments(command, values, used.hasMatchedPositional(0) ? used.matchedPositionalValue(0, "") : null,
            words);
    }

    private static String unmatched(CommandLine.UnmatchedArgumentException e, List<String> args) {
        String argument = e.getUnmatched().get(0);
        boolean option = e.isUnknownOption();
        String name = option && argument.indexOf('=') > 0 ? argument.substring(0, argument.indexOf('=')) : argument;
        CommandLine cli = e.getCommandLine();
        String similar = similar(name, option ? cli.getCommandSpec().optionsMap().keySet()
            : cli.getSubcommands().keySet());
        if (!option && (args.indexOf(argument) > 0 || similar == null)) {
            boolean takesCommand = cli.getCommandSpec().optionsMap().containsKey("--command");
            return "unexpected argument '" + argument + "'" + (!takesCommand ? "" : args.contains("--command")
                ? ": the command is one argument: quote it, or put it after --" : ": a command goes after --");
        }
        return "unknown " + (option ? "option " : "command ") + name + (similar == null ? ""
            : "; did you mean " + similar + "?");
    }

    /** What a person may have meant, or null: what begins so, or differs by few characters. */
    private static String similar(String name, Set<String> candidates) {
        String best = null;
        int least = 1 + name.length() / 3;
        for (String candidate : candidates) {
            int distance = candidate.startsWith(name) ? 0 : distance(name, candidate);
            if (distance < least) {
                least = distance;
                best = candidate;
            }
        }
        return best;
    }

    /** How many characters must be inserted, deleted or replaced (Levenshtein). */
    private static int distance(String one, String other) {
        int[] row = new int[other.length() + 1];
        for (int j = 0; j < row.length; j++) {
            row[j] = j;
        }
        for (int i = 1; i <= one.length(); i++) {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j < row.length; j++) {
                int replaced = diagonal + (one.charAt(i - 1) == other.charAt(j - 1) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.min(replaced, Math.min(row[j], row[j - 1]) + 1);
            }
        }
        return row[other.length()];
    }

    static void usage(List<Command> commands, String name, PrintWriter out) {
        CommandLine cli = commandLine(commands).setUsageHelpWidth(terminalWidth());
        (cli.getSubcommands().containsKey(name) ? cli.getSubcommands().get(name) : cli).usage(out);
    }

    /** The columns of the terminal, at least 55, which picocli needs; 80 without one. */
    private static int terminalWidth() {
        try {
            Process stty = new ProcessBuilder("/bin/sh", "-c", "stty size </dev/tty")
                .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            int columns = Integer.parseInt(new String(stty.getInputStream().readAllBytes(),
                StandardCharsets.US_ASCII).strip().split(" ")[1]);
            return columns == 0 ? 80 : Math.max(55, columns);
        } catch (IOException | RuntimeException e) {
            return 80;
        }
    }

    /** A completion script for bash. */
    static String completion(List<Command> commands) {
        return AutoComplete.bash(commands.get(0).name(), commandLine(commands));
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
        CommandSpec spec = CommandSpec.create().name(command.name());
        spec.usageMessage().header(command.purpose()).synopsisHeading("%nUsage: ")
            .customSynopsis(command.synopsis().toArray(new String[0])).footer(command.details().toArray(new String[0]))
            .longOptionsMaxWidth(32).sortOptions(false)
            .optionListHeading("%n").commandListHeading("%nCommands:%n");
        spec.addOption(OptionSpec.builder("-h", "--help").usageHelp(true).description("show this help").build());
        spec.addOption(OptionSpec.builder("--version").versionHelp(true).description("show the version").build());
        Map<String, ArgGroupSpec.Builder> groups = new LinkedHashMap<>();
        for (Option option : command.options()) {
            OptionSpec.Builder builder = OptionSpec.builder(option.name()).description(option.description());
            OptionSpec model = (option.label() == null ? builder.type(boolean.class).arity("0")
                : builder.type(String.class).paramLabel(option.label()).completionCandidates(option.values())).build();
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
    /** Nothing runs, and nothing will until somebody acts. */
    static final int STATUS_BLOCKED = 22;
    static final int USAGE = 64;
    static final int DATA = 65;
    static final int INTERNAL = 70;
    static final int CANNOT_CREATE = 73;
    static final int IO = 74;
    static final int THRESHOLD = 75;
    /** EX_PROTOCOL of sysexits(3). */
    static final int LOST = 76;
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
        table.put("126, 127", "the command could not be started; after --: was not found");
        table.put("20, 21, 22", "status, unlock: held; stale or orphaned; foreign or unknown");
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

    /** The command cannot be started: 126; or was not found: 127. */
    static TaskException cannotStart(String message, Throwable cause) {
        return new TaskException(Text.errno(cause) == Text.ENOENT ? ExitStatus.NOT_FOUND : ExitStatus.CANNOT_START,
            "cannot start the command: " + message + "; the lock was released", cause);
    }
}

/** The command line is wrong: exit status 64. */
final class UsageException extends TaskException {
    private static final long serialVersionUID = 1;

    final Command command;
    /** Whether the whole help is shown: who leaves out what is required may not know what there is. */
    final boolean isMissing;

    private UsageException(Command command, boolean isMissing, String message) {
        super(ExitStatus.USAGE, message, null);
        this.command = command;
        this.isMissing = isMissing;
    }

    /** @param command the command whose help shows how it is right */
    UsageException(Command command, String message) {
        this(command, false, message);
    }

    static UsageException missing(Command command, String message) {
        return new UsageException(command, true, message);
    }
}

/** How an error reaches the user of either program. */
final class Errors {
    /**
     * Prints on stderr what is wrong, and for a wrong command line where to read how it is right; for a plugin in its
     * one line on stdout. Returns the exit status.
     *
     * @param commands of the program, its own first
     * @param verbose whether a stack trace follows
     * @param args the command line
     */
    static int print(List<Command> commands, Throwable error, boolean verbose, String... args) {
        PrintWriter err = new PrintWriter(StandardStream.ERR, true);
        String program = commands.get(0).name();
        String message = error instanceof TaskException ? error.getMessage()
            : "internal error: " + error + "; --verbose shows where";
        if (args.length > 0 && args[0].equals("status") && List.of(args).contains("--nagios")) {
            return Status.plugin(Status.UNKNOWN, message, "");
        }
        if (error instanceof UsageException usage) {
            String command = usage.command.name();
            if (usage.isMissing) {
                Picocli.usage(commands, command, err);
            }
            err.println(program + ": " + (command.equals(program) ? "" : command + ": ") + Text.oneLine(message));
            if (!usage.isMissing) {
                err.println("try '" + program + (command.equals(program) ? "" : " " + command) + " --help'");
            }
            return usage.exitStatus;
        }
        err.println(program + ": " + Text.printable(message));
        if (verbose) {
            error.printStackTrace(err);
        }
        return error instanceof TaskException expected ? expected.exitStatus : ExitStatus.INTERNAL;
    }

    private Errors() {
    }
}

// 10. the other commands

/** The subcommands {@code status} and {@code unlock}. */
final class Status {
    /** Of the plugins of Nagios and its relatives (Monitoring Plugins Development Guidelines). */
    static final int UNKNOWN = 3;
    private static final String[] PLUGIN_STATES = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

    static int run(Arguments arguments) throws TaskException {
        Task task = task(arguments);
        boolean counts = arguments.has("--counter-file");
        if (counts != arguments.has("--threshold")) {
            throw arguments.refused("--threshold and --counter-file go together");
        }
        LockState lockState = LockFile.judge(task.lockFile());
        long contentions = counts ? new ContentionCounter(task).read() : -1;
        if (arguments.has("--nagios")) {
            return plugin(lockState, contentions, task.threshold());
        }
        if (arguments.has("--json")) {
            Json json = new Json().put("lockfile", task.lockFile().toString()).put("state", lockState.kind().text())
                .put("message", lockState.message()).put("holder", lockState.holderJson());
            if (counts) {
                json.put("contentions", contentions).put("threshold", task.threshold());
            }
            System.out.println(json);
        } else {
            System.out.println(Text.printable(advised(lockState)) + (counts ? "; contentions " + contentions
                + ", threshold " + task.threshold() : ""));
        }
        return lockState.kind().exitStatus;
    }

    private static Task task(Arguments arguments) throws TaskException {
        arguments.requireAll("--lockfile");
        Task task = Task.of(arguments);
        Path directory = task.lockFile().getParent();
        String wrong = Files.notExists(directory) ? "no such directory: " + directory + "; check --lockfile"
            : RegularFiles.unusableDirectory(task.lockFile());
        if (wrong != null) {
            throw TaskException.cannotCreate("cannot read lock file " + task.lockFile() + ": " + wrong, null);
        }
        return task;
    }

    static String advised(LockState lockState) {
        return lockState.message() + (lockState.advice().isEmpty() ? "" : "; " + lockState.advice());
    }

    /** @param contentions or -1 */
    static int plugin(LockState lockState, long contentions, int threshold) {
        int state = switch (lockState.kind()) {
            case FREE -> 0;
            case HELD, FAILOVER -> contentions > threshold ? 2 : 0;
            case STALE, ORPHANED, PAUSED, SILENT, LOST -> 1;
            case FOREIGN, UNKNOWN -> 2;
        };
        String counted = contentions < 0 ? "" : " contentions=" + contentions + ";;" + threshold + ";0";
        return plugin(state, (state == 0 ? lockState.message() : advised(lockState)) + (contentions < 0 ? ""
            : "; contentions " + contentions + ", threshold " + threshold), "held=" + lockState.ageMillis() / 1000
            + "s;;;0" + counted);
    }

    /** Prints a plugin's one line; returns its exit status. @param data performance data, or "" */
    static int plugin(int state, String message, String data) {
        System.out.println("TASKRUNNER " + PLUGIN_STATES[state] + " - " + Text.printable(message).replace('|', '/')
            + (data.isEmpty() ? "" : " | " + data));
        return System.out.checkError() ? UNKNOWN : state;
    }

    /** Removes a lock file that no living run holds, after it has been said what it is. */
    static int unlock(Arguments arguments) throws TaskException {
        LockState lockState = LockFile.unlock(task(arguments).lockFile());
        switch (lockState.kind()) {
            case HELD, ORPHANED -> {
                System.err.println("taskrunner: not removed: " + Text.printable(advised(lockState)));
                return lockState.kind().exitStatus;
            }
            case FREE -> System.out.println(Text.printable(lockState.message()));
            default -> System.out.println(Text.printable("removed " + lockState.path()));
        }
        return ExitStatus.OK;
    }

    private Status() {
    }
}

/** What is made of the one definition of the options, beside the help: completion scripts and the man page. */
final class Documentation {
    /** The subcommand {@code completion}. */
    static int completion(List<Command> commands, Arguments arguments) throws UsageException {
        if (arguments.parameter() == null || !arguments.parameter().equals("bash")
            && !arguments.parameter().equals("zsh")) {
            throw arguments.refused("give the shell: bash or zsh");
        }
        System.out.print(arguments.parameter().equals("bash") ? bash(commands) : zsh(commands));
        return ExitStatus.OK;
    }

    static String bash(List<Command> commands) {
        return Picocli.completion(commands);
    }

    /** For a directory of zsh's fpath, or to be sourced: zsh runs the script for bash, which has a builtin more. */
    static String zsh(List<Command> commands) {
        String name = commands.get(0).name();
        return "#compdef " + name + "\n(( $+functions[compopt] )) || compopt() { :; }\n" + bash(commands)
            + "[[ $funcstack[1] != _" + name + " ]] || _bash_complete -o default -F _complete_" + name + "\n";
    }

    /** The man page, in the language of man(7). */
    static String manPage(List<Command> commands) {
        Command main = commands.get(0);
        StringBuilder page = new StringBuilder(".TH " + main.name().toUpperCase(Locale.ROOT) + " 1 \"\" \""
            + main.name() + " " + taskrunner.VERSION + "\"\n.nh\n.ad l\n.SH NAME\n" + roff(main.name())
            + " \\- run a command under a lock file, one instance at a time\n.SH SYNOPSIS\n.nf\n");
        for (String line : main.synopsis()) {
            page.append(roff(line.strip())).append('\n');
        }
        page.append(".fi\n.SH DESCRIPTION\n").append(roff(main.purpose())).append('\n');
        options(page, main, ".SH OPTIONS");
        for (Command command : commands.subList(1, commands.size())) {
            page.append(".SH ").append(roff(command.name().toUpperCase(Locale.ROOT))).append("\n.nf\n");
            command.synopsis().forEach(line -> page.append(roff(line.strip())).append('\n'));
            page.append(".fi\n.PP\n").append(roff(command.purpose())).append('\n');
            if (command.options() != main.options()) {
                options(page, command, null);
                details(page, command);
            }
        }
        page.append(".SH \"EXIT STATUS\"\n");
        ExitStatus.table().forEach((status, meaning) -> item(page, status, meaning));
        page.append(".SH NOTES\n");
        details(page, main);
        page.append(".SH \"SEE ALSO\"\n.BR flock (1),\n.BR timeout (1),\n.BR crontab (5),\n.BR systemd.timer (5)\n");
        return page.toString();
    }

    private static void options(StringBuilder page, Command command, String heading) {
        page.append(heading == null ? "" : heading + "\n");
        String group = null;
        for (Option option : command.options()) {
            if (option.group() != null && !option.group().equals(group)) {
                group = option.group();
                page.append(".SS ").append(roff(group)).append('\n');
            }
            item(page, option.name() + (option.label() == null ? "" : " " + option.label()), option.description());
        }
    }

    private static void item(StringBuilder page, String term, String text) {
        page.append(".TP\n.B ").append(roff(term)).append('\n').append(roff(text)).append('\n');
    }

    /** Indented lines are an example. */
    private static void details(StringBuilder page, Command command) {
        boolean example = false;
        for (String line : command.details()) {
            if (line.startsWith("  ") != example) {
                example = !example;
                page.append(example ? ".nf\n" : ".fi\n");
            }
            page.append(line.isEmpty() ? ".PP\n" : roff(line) + "\n");
        }
        page.append(example ? ".fi\n" : "");
    }

    private static String roff(String text) {
        String escaped = text.replace("\\", "\\e").replace("-", "\\-");
        return escaped.startsWith(".") || escaped.startsWith("'") ? "\\&" + escaped : escaped;
    }

    private Documentation() {
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
     * The script's own //JAVA_OPTIONS: the C1 compiler on one thread, and for what is called three times as often as
     * by default (5 % of an installed run, 10 % of taskrunner-batch's), the smallest collector, no shared counters,
     * small stacks, the caller's limit of open files left to the command, and no method handle made for the reflection
     * inside the JDK (5 % of an installed run on JDK 25). A class space of the default 1 GB would not fit under {@code
     * ulimit -v}. A thread dump (SIGQUIT) goes to stderr, not into the command's output.
     */
    static final Installation TASKRUNNER = new Installation("taskrunner", "taskrunner",
        List.of("-XX:TieredStopAtLevel=1", "-XX:CICompilerCount=1", "-XX:CompileThresholdScaling=3",
        "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xss256k", "-XX:-MaxFDLimit",
        "-Djdk.reflect.useNativeAccessorOnly=true", "-XX:CompressedClassSpaceSize=64m",
        "-XX:+DisplayVMOutputToStderr"), "Training");

    /**
     * The time of an archive that nobody has changed since it was made. A damaged one can crash the JVM, and its own
     * check ({@code -XX:+VerifySharedSpaces}) costs 7 to 12 % of a run; the launcher sees without cost that a changed
     * one is newer than the jar.
     */
    private static final FileTime UNTOUCHED = FileTime.fromMillis(946_684_800_000L);
    /** In the data directory: what was written elsewhere, a path a line. */
    private static final String MANIFEST = "installed";
    private static final String LAUNCHER = """
        #!/bin/sh
        # made by: NAME install; removed by: NAME uninstall
        # no name here may be one that the command finds in its environment
        taskrunner_java=JAVA
        [ -x "$taskrunner_java" ] || taskrunner_java=${JAVA_HOME:+$JAVA_HOME/bin/}java
        if ! [ -r JAR ]; then
            echo 'NAME: no permission to read 'JAR'; install it again, or for all users where they may read it' >&2
            exit 126
        fi
        # where it was removed no JVM starts, and the JVM's status would look like the command's
        if ! [ "$PWD" -ef . ] 2>/dev/null && [ -z "$(pwd -P 2>/dev/null)" ]; then
            echo 'NAME: the working directory was removed; cd to one that is there' >&2
            exit 126
        fi
        # this JVM would obey these, and say so on stderr; the command gets them back
        for taskrunner_name in JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS; do
            eval "[ -z \\"\\${$taskrunner_name+set}\\" ] || {
                export TASKRUNNER_$taskrunner_name=\\"\\$$taskrunner_name\\"; unset $taskrunner_name; }"
        done
        taskrunner_archive=ARCHIVE
        [ "$taskrunner_archive" -ot JAR ] && taskrunner_archive=FLAG$taskrunner_archive || taskrunner_archive=
        exec "$taskrunner_java" SETTINGS ${taskrunner_archive:+"$taskrunner_archive"} -cp CLASSPATH MAIN "$@"
        """;

    static List<Command> commands(String name) {
        Option bin = new Option("--bin", "DIR", null, "the launcher's directory (default: ~/.local/bin)");
        return List.of(
            new Command("install", "Installs the command " + name + ", which starts without JBang, its completion for"
                + " bash and zsh and its man page.",
                List.of(name + " install [--bin DIR]"), null, List.of(bin, Options.VERBOSE.ungrouped()), List.of()),
            new Command("uninstall", "Removes what install wrote, wherever it was.",
                List.of(name + " uninstall [--bin DIR]"), null, List.of(bin, Options.VERBOSE.ungrouped()), List.of()));
    }

    /** Version, JDK, where it runs from and whether the start-up archive is in use, in one line. */
    static String version() {
        String from = System.getProperty("java.class.path").split(File.pathSeparator)[0];
        boolean archive = false;
        try {
            String maps = Processes.read("/proc/self/maps");
            for (String line : maps.split("\n")) {
                archive |= (line.endsWith(".jsa") || line.endsWith(".aot")) && line.contains("/taskrunner");
            }
        } catch (IOException e) {
            return taskrunner.VERSION + " (JDK " + System.getProperty("java.version") + ", " + from + ")";
        }
        return taskrunner.VERSION + " (JDK " + System.getProperty("java.version") + ", " + from + ", "
            + (archive ? "with" : "without") + " its start-up archive)";
    }

    /** Where data of all programs is: {@code $XDG_DATA_HOME}. */
    private static Path share() throws TaskException {
        String directory = System.getenv("XDG_DATA_HOME");
        return directory != null && directory.startsWith("/") ? Path.of(directory) : Host.home()
            .resolve(".local/share");
    }

    private Path data() throws TaskException {
        return share().resolve(name);
    }

    /** Where an installed program runs from, and else where one would be installed. */
    private Path installed() throws TaskException {
        Path running = Path.of(System.getProperty("java.class.path").split(File.pathSeparator)[0]).toAbsolutePath()
            .getParent();
        return Files.exists(running.resolve(MANIFEST)) && running.endsWith(name) ? running : data();
    }

    private Path launcher(Arguments arguments) throws TaskException {
        return (arguments.has("--bin") ? Path.of(arguments.text("--bin")).toAbsolutePath() : Host.home()
            .resolve(".local/bin")).resolve(name);
    }

    private boolean isOurs(Path file) throws IOException {
        return Files.readString(file, StandardCharsets.ISO_8859_1).contains(madeBy());
    }

    private String madeBy() {
        return "made by: " + name + " install";
    }

    /** Installs or upgrades; what is replaced stays whole for those who run it. */
    int install(List<Command> commands, Arguments arguments) throws TaskException {
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
            List<Path> made = new ArrayList<>();
            createDirectories(data, made);
            createDirectories(bin, made);
            List<String> jars = new ArrayList<>();
            for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
                Path jar = Path.of(entry).toAbsolutePath();
                Path copy = data.resolve(jar.getFileName());
                if (!jar.equals(copy)) {
                    Files.copy(jar, aside(copy), StandardCopyOption.REPLACE_EXISTING);
                    replace(copy, "rw-r--r--");
                }
                jars.add(copy.toString());
            }
            List<String> java = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java")
                .toString()));
            java.addAll(jvmOptions);
            java.addAll(List.of("-XX:+IgnoreUnrecognizedVMOptions", "-Xlog:disable"));
            Path archive = archive(data, java, String.join(File.pathSeparator, jars), arguments.has("--verbose"));
            document(commands, made);
            Files.writeString(aside(launcher), launcherText(java, jars, archive));
            replace(launcher, "rwxr-xr-x");
            made.add(launcher);
            remember(data, made);
            System.out.println("installed " + launcher + " (jars " + (archive == null ? "" : "and start-up archive ")
                + "in " + data + ")");
            if (!List.of(System.getenv().getOrDefault("PATH", "").split(File.pathSeparator)).contains(bin.toString())) {
                System.out.println(bin + " is not on this PATH: use the full path, also in crontabs");
            }
            System.out.println("in a crontab: " + crontabLine(launcher));
            System.out.println("to remove it: " + Text.shellWords(List.of(launcher.toString(), "uninstall")));
            return ExitStatus.OK;
        } catch (IOException e) {
            throw TaskException.cannotCreate("cannot install into " + data + " and " + bin + ": "
                + Text.reason(e) + "; choose directories with XDG_DATA_HOME and --bin", e);
        }
    }

    /** Writes the completion scripts and the man page where shells and man(1) look. @param made gets what is new */
    private void document(List<Command> commands, List<Path> made) throws IOException, TaskException {
        Map<Path, String> texts = new LinkedHashMap<>();
        texts.put(share().resolve("bash-completion/completions").resolve(name), Documentation.bash(commands));
        texts.put(share().resolve("zsh/site-functions").resolve("_" + name), Documentation.zsh(commands));
        texts.put(share().resolve("man/man1").resolve(name + ".1"), Documentation.manPage(commands));
        for (Map.Entry<Path, String> text : texts.entrySet()) {
            createDirectories(text.getKey().getParent(), made);
            String mark = text.getKey().toString().endsWith(".1") ? ".\\\" " : "# ";
            Files.writeString(aside(text.getKey()), text.getValue() + mark + madeBy() + "\n");
            replace(text.getKey(), "rw-r--r--");
            made.add(text.getKey());
        }
    }

    /** Adds the files to those that uninstall removes. */
    private static void remember(Path data, List<Path> files) throws IOException {
        Set<String> all = new LinkedHashSet<>();
        Path manifest = data.resolve(MANIFEST);
        if (Files.exists(manifest)) {
            all.addAll(Files.readAllLines(manifest));
        }
        files.forEach(file -> all.add(file.toString()));
        Files.write(aside(manifest), all);
        replace(manifest, "rw-r--r--");
    }

    /** In a crontab a percent sign ends the line, see crontab(5). */
    private static String crontabLine(Path launcher) throws TaskException {
        boolean root = System.getProperty("user.name").equals("root");
        String counter = root ? "/var/lib/taskrunner/TASK.count" : Host.home().resolve("TASK.count").toString();
        return "*/5 * * * * " + Text.shellWords(List.of(launcher.toString(), "--quiet", "--lockfile",
            "/run/lock/TASK.lock", "--threshold", "3", "--counter-file", counter, "--", "CMD")).replace("%", "\\%");
    }

    /** Whatever the umask is, others may read what is made. @param made gets the directories that are new */
    private static void createDirectories(Path directory, List<Path> made) throws IOException {
        if (!Files.isDirectory(directory)) {
            createDirectories(directory.getParent(), made);
            Files.createDirectory(directory);
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
            made.add(directory);
        }
    }

    private static Path aside(Path file) {
        return file.resolveSibling(file.getFileName() + ".new");
    }

    private static void replace(Path file, String mode) throws IOException {
        Files.setPosixFilePermissions(aside(file), PosixFilePermissions.fromString(mode));
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
        Path trial = Files.createTempDirectory(Path.of(QuietOutput.directory()), "taskrunner-install");
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
            replace(archive, "rw-r--r--");
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
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(verbose
            ? ProcessBuilder.Redirect.INHERIT : ProcessBuilder.Redirect.DISCARD);
        // as the launcher's JVM, which does not obey them
        builder.environment().keySet().removeAll(List.of(Processes.JAVA_VARIABLES));
        Process process = builder.start();
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
            options.append(options.length() == 0 ? "" : " ").append(Text.quoted(option));
        }
        String path = archive == null ? "" : archive.toString();
        return LAUNCHER.replace("NAME", name).replace("JAVA\n", Text.quoted(java.get(0)) + "\n")
            .replace("JAR", Text.quoted(jars.get(0))).replace("ARCHIVE", Text.quoted(path))
            .replace("FLAG", path.endsWith(".aot") ? "-XX:AOTCache=" : "-XX:SharedArchiveFile=")
            .replace("SETTINGS", options).replace("CLASSPATH", Text.quoted(String.join(File.pathSeparator, jars)))
            .replace("MAIN", mainClass);
    }


    /** Removes what install wrote and remembers, and the launcher of --bin, if it is one; the rest is left alone. */
    int uninstall(Arguments arguments) throws TaskException {
        Path data = installed();
        Path manifest = data.resolve(MANIFEST);
        try {
            Set<Path> files = new LinkedHashSet<>();
            if (Files.exists(manifest)) {
                Files.readAllLines(manifest).forEach(file -> files.add(Path.of(file)));
            }
            files.add(launcher(arguments));
            boolean any = false;
            for (Path file : files) {
                if (Files.isRegularFile(file) && isOurs(file)) {
                    Files.delete(file);
                    any = true;
                    System.out.println("removed " + file);
                }
            }
            if (Files.isDirectory(data)) {
                try (DirectoryStream<Path> own = Files.newDirectoryStream(data, "*.{jar,jsa,aot,new}")) {
                    for (Path file : own) {
                        Files.delete(file);
                    }
                }
                Files.deleteIfExists(manifest);
                any = true;
                System.out.println(data.toFile().delete() ? "removed " + data
                    : "left " + data + ", which is not empty");
            }
            // what is below a directory was made after it; one that others use by now is not empty and stays
            List<Path> directories = new ArrayList<>(files);
            Collections.reverse(directories);
            directories.stream().filter(Files::isDirectory).forEach(directory -> directory.toFile().delete());
            if (!any) {
                System.out.println("no " + name + " launcher at " + launcher(arguments)
                    + "; give its directory: --bin DIR");
            }
            return ExitStatus.OK;
        } catch (IOException e) {
            throw TaskException.io("cannot remove what is installed in " + data + ": " + Text.reason(e), e);
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
        loadAll();
    }

    /**
     * Loads what a run may need of the program's jar: with that in the archive a run never opens the jar, which may be
     * gone, or no descriptor free, when a signal stops it. Help and reports would bring classes of libraries with them,
     * and an AOT cache loads all that it has at each start.
     */
    static void loadAll() throws IOException, ClassNotFoundException {
        try (JarFile jar = new JarFile(System.getProperty("java.class.path").split(File.pathSeparator)[0])) {
            for (JarEntry entry : Collections.list(jar.entries())) {
                String name = entry.getName();
                if (name.endsWith(".class") && name.indexOf('/') < 0 && !name.startsWith("Picocli")
                    && !name.startsWith("Documentation") && !name.startsWith("Report")) {
                    Class.forName(name.substring(0, name.length() - ".class".length()), false,
                        Training.class.getClassLoader());
                }
            }
        }
    }

    private Training() {
    }
}

// 11. small things

/**
 * What stat(2) tells of a file itself; symbolic links are not followed.
 *
 * @param kind what it is, as messages name it; null: a regular file
 * @param uid its owner, -1 where the system has none
 * @param links how many names it has
 * @param inode its number, unique only while the file is open
 * @param key tells device and inode, null where the system has none
 */
record FileStatus(String kind, int uid, int links, long inode, Object key) {
    private static final String WANTED = "unix:mode,uid,nlink,ino,fileKey";
    private static final int TYPE = 0170000;

    /** Null when there is no such file. */
    static FileStatus of(Path path) throws IOException {
        try {
            if (Processes.WINDOWS) {
                BasicFileAttributes basic = Files.readAttributes(path, BasicFileAttributes.class,
                    LinkOption.NOFOLLOW_LINKS);
                return new FileStatus(basic.isRegularFile() ? null : basic.isDirectory() ? "a directory"
                    : "a special file", -1, 1, 0, null);
            }
            Map<String, Object> values = Files.readAttributes(path, WANTED, LinkOption.NOFOLLOW_LINKS);
            return new FileStatus(kind((int) values.get("mode") & TYPE), (int) values.get("uid"),
                (int) values.get("nlink"), (long) values.get("ino"), values.get("fileKey"));
        } catch (NoSuchFileException e) {
            return null;
        } catch (FileSystemException e) {
            if (!Files.isDirectory(path.getParent())) {
                throw new NotDirectoryException(path.getParent().toString());
            }
            throw e;
        }
    }

    /** Device and inode of what is at the path, with less work; null when nothing is or the system has none. */
    static Object key(Path path) throws IOException {
        try {
            return Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS).fileKey();
        } catch (NoSuchFileException e) {
            return null;
        }
    }

    /** By the file types of inode(7). */
    private static String kind(int type) {
        return type == 0100000 ? null : type == 0040000 ? "a directory" : type == 0120000 ? "a symbolic link"
            : "a special file";
    }

    boolean isRegular() {
        return kind == null;
    }

    /** Whether it belongs to the user of this process. */
    boolean isOwn() {
        return uid == Host.uid();
    }

    /** Whether it is the same file as the other, while either is open. */
    boolean isSame(FileStatus other) {
        return other != null && key != null && key.equals(other.key);
    }

    /** The name of its owner, or the number of one without a name. */
    static String owner(Path path) {
        try {
            return Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName();
        } catch (IOException | UnsupportedOperationException e) {
            return "another user";
        }
    }
}

/** Files by their own paths: symbolic links are not followed, as locks and counters may lie in /tmp. */
final class RegularFiles {
    static final Set<OpenOption> READ = Set.of(StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS);
    static final Set<OpenOption> READ_WRITE = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE,
        LinkOption.NOFOLLOW_LINKS);
    /** O_EXCL, since fs.protected_regular (proc_sys_fs(5)) forbids O_CREAT on another user's file even to root. */
    static final Set<OpenOption> NEW = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE,
        StandardOpenOption.CREATE_NEW, LinkOption.NOFOLLOW_LINKS);

    /**
     * Opens a file that was just seen to be a regular one, to be read. To be written as well where that is allowed: so
     * a FIFO that took its place meanwhile does not block (fifo(7)), and cannot be read.
     */
    static FileChannel open(Path path) throws IOException {
        try {
            return FileChannel.open(path, READ_WRITE);
        } catch (NoSuchFileException e) {
            throw e;
        } catch (FileSystemException e) {
            return FileChannel.open(path, READ);
        }
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
    static FileAttribute<?>[] mode(Set<PosixFilePermission> permissions) {
        return Processes.WINDOWS ? new FileAttribute<?>[0]
            : new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(permissions)};
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
        for (FileChannel each : new FileChannel[] {new FileInputStream(FileDescriptor.in).getChannel(),
            new FileOutputStream(FileDescriptor.out).getChannel(), ERR.channel}) {
            try {
                each.size();
            } catch (IOException closed) {
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

    /** A process may need half a second to end, and has no environment then: it may be of any run. */
    static Backoff betweenLooks() {
        return new Backoff(5, 200);
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
    /** No such file or directory, errno(3). */
    static final int ENOENT = 2;
    private static final int MAX_LINE = 300;
    private static final String[] SIGNALS = {"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL",
        "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "POLL", "PWR", "SYS"};

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

    /** The words as a shell reads them back, quoted where need be. */
    static String shellWords(List<String> words) {
        StringBuilder text = new StringBuilder();
        for (String word : words) {
            boolean safe = !word.isEmpty();
            for (int i = 0; i < word.length(); i++) {
                char c = word.charAt(i);
                safe &= Character.isLetterOrDigit(c) || "_@%+=:,./-".indexOf(c) >= 0;
            }
            text.append(text.length() == 0 ? "" : " ").append(safe ? word : quoted(word));
        }
        return text.toString();
    }

    static String quoted(String word) {
        return "'" + word.replace("'", "'\\''") + "'";
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
            reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage().strip();
        }
        // ProcessBuilder: … error=7, Argument list too long (JDK 17); … error: 7 (Argument list too long) (JDK 25), and
        // where its helper cannot start, five lines of what may be wrong with the JDK
        int guesses = reason.indexOf("\nPossible reasons:");
        reason = (guesses < 0 ? reason : reason.substring(0, guesses).strip()).replace(", error: 0 (none)", "");
        int error = errorAt(reason);
        int open = error < 0 ? -1 : Math.max(reason.indexOf(", ", error) + 1, reason.indexOf('(', error));
        reason = open <= 0 ? reason : reason.substring(open + 1, reason.endsWith(")") ? reason.length() - 1
            : reason.length());
        return oneLine(lowerCase(reason));
    }

    private static int errorAt(String message) {
        return Math.max(message.lastIndexOf("error="), message.lastIndexOf("error: "));
    }

    /** The error number, errno(3), in the message of a process that could not be started, or 0. @param e or null */
    static int errno(Throwable e) {
        String message = e == null || e.getMessage() == null ? "" : e.getMessage();
        int at = errorAt(message);
        int number = 0;
        for (int i = at + "error=".length(); at >= 0 && i < message.length(); i++) {
            char c = message.charAt(i);
            if (c >= '0' && c <= '9') {
                number = number * 10 + c - '0';
            } else if (c != ' ') {
                break;
            }
        }
        return number;
    }

    /** The sentence as one that goes on after a colon; a word in capitals stays. */
    static String lowerCase(String sentence) {
        return sentence.length() < 2 || Character.isUpperCase(sentence.charAt(1)) ? sentence
            : Character.toLowerCase(sentence.charAt(0)) + sentence.substring(1);
    }

    private Text() {
    }
}
