///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS info.picocli:picocli:4.7.7
//COMPILE_OPTIONS -encoding UTF-8 -XDignore.symbol.file -XDstringConcat=inline
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Xss256k -XX:-MaxFDLimit -Djdk.reflect.useNativeAccessorOnly=true

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.AtomicMoveNotSupportedException;
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
import java.util.LinkedHashMap;
import java.util.List;
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

/**
 * Runs a command under a lock file so that only one instance runs at a time, counts the requests that find the lock held, and
 * reports an error once they exceed a threshold.
 *
 * <p>Read from the top: the command line ({@link Options} makes a {@link Request}), the workflow ({@link Execution}, which ends in
 * an {@link Outcome}), the lock ({@link LockFile}, {@link Gate}, {@link Owner}, {@link Verdict}), the {@link FailureCounter}, the
 * command's processes ({@link ProcessTree}, {@link Processes}), and what is told about it ({@link Log}, {@link Metrics},
 * {@link Notification}).
 */
public class taskrunner {
    static final String VERSION = "1.0.0";

    public static void main(String[] args) {
        exit(run(args));
    }

    /**
     * Ends this JVM. Not by {@link System#exit}, which since JDK 21 looks for a logger in every jar of the class path (contention, JDK 25,
     * installed: 1.46 of a JVM that does nothing, instead of 1.63); no shutdown hook has anything to do.
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
                    break;
            }
            Execution execution = new Execution(Options.request(arguments));
            execution.stopOnSignals();
            return execution.run();
        } catch (UsageException e) {
            return e.show(Options.COMMANDS);
        } catch (TaskException e) {
            return complain(e.getMessage(), e.exitStatus, e, arguments.has("--verbose"));
        } catch (RuntimeException | Error e) {
            return complain("internal error: " + e + "; --verbose shows where", ExitStatus.INTERNAL, e, arguments.has("--verbose"));
        }
    }

    private static int complain(String message, int exitStatus, Throwable cause, boolean verbose) {
        System.err.println("taskrunner: " + Text.printable(message));
        if (verbose) {
            cause.printStackTrace();
        }
        return exitStatus;
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
    /** A process that signal n ended has the status 128 + n in a POSIX shell. */
    static final int SIGNAL = 128;

    /** The table for {@code --help}. */
    static Map<String, String> table() {
        Map<String, String> table = new LinkedHashMap<>();
        table.put("0", "the command succeeded; or contention that is not reported");
        table.put("1-255", "the command failed: its own status, unchanged");
        table.put("128+n", "the command was ended by signal n; or taskrunner was, after it had ended the command and released the lock");
        table.put("64", "usage; nothing was touched");
        table.put("65", "the counter file holds something other than a counter; it is left as it is");
        table.put("73", "the lock file cannot be created");
        table.put("74", "I/O error on the lock file or counter file, or a process that cannot be killed");
        table.put("75", "contention beyond the threshold: reported");
        table.put("124", "--timeout ended the command");
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

    TaskException(int exitStatus, String message, Throwable cause) {
        super(message, cause);
        this.exitStatus = exitStatus;
    }

    TaskException(int exitStatus, String message) {
        this(exitStatus, message, null);
    }
}

/** The counter file is what cannot be used: exit status 65 or 74. */
final class CounterException extends TaskException {
    private static final long serialVersionUID = 1;

    CounterException(int exitStatus, String message, Throwable cause) {
        super(exitStatus, message, cause);
    }
}

/** The command line is wrong: exit status 64. */
final class UsageException extends TaskException {
    private static final long serialVersionUID = 1;

    private final String command;

    /** @param command the name of the command whose help shows how it is right */
    UsageException(Command command, String message) {
        super(ExitStatus.USAGE, message);
        this.command = command.name();
    }

    /** Prints the help and, as the last line on stderr, what is wrong; returns the exit status. */
    int show(List<Command> commands) {
        PrintWriter err = new PrintWriter(System.err, true);
        Picocli.usage(commands, command, err);
        err.println("taskrunner: " + Text.oneLine(getMessage()));
        return exitStatus;
    }
}

/**
 * One execution request, validated.
 *
 * @param command the text for the system shell
 * @param lockFile absolute, its folder with symbolic links resolved, so that two spellings are one task
 * @param threshold contentions that are tolerated, at least 0; 0: contentions are not counted
 * @param counterFile absolute, resolved like the lock file
 * @param patience how long to try again before a contention counts; zero: try once
 * @param timeout the longest that the command may run; zero: no limit
 * @param killAfter how long after SIGTERM the command's processes get SIGKILL
 * @param notifyCommand the text for the system shell, or null
 * @param logFile where log lines go, or null for stderr
 * @param metricsFile or null
 */
record Request(String command, Path lockFile, int threshold, Path counterFile, Duration patience, Duration timeout, Duration killAfter,
               boolean takeOverStale, int conflictExitStatus, boolean exitZero, String notifyCommand, boolean quiet, Path logFile,
               boolean jsonLog, Path metricsFile, boolean verbose) {
    /** The same for another command. */
    Request withCommand(String other) {
        return new Request(other, lockFile, threshold, counterFile, patience, timeout, killAfter, takeOverStale, conflictExitStatus, exitZero,
            notifyCommand, quiet, logFile, jsonLog, metricsFile, verbose);
    }

    /** Checks the folders of the lock file and, where contentions are counted, of the counter file, before anything is touched. */
    void checkFolders() throws TaskException {
        checkFolder("lock file", lockFile, ExitStatus.CANNOT_CREATE);
        if (threshold > 0) {
            try {
                checkFolder("counter file", counterFile, ExitStatus.IO);
            } catch (TaskException e) {
                throw new CounterException(e.exitStatus, e.getMessage(), e);
            }
            if (!Files.isWritable(counterFile.getParent())) {
                throw new CounterException(ExitStatus.IO, "counter file " + counterFile + ": folder " + counterFile.getParent()
                    + " is not writable: give it to this user or choose another --counter-file", null);
            }
        }
    }

    static void checkFolder(String what, Path file, int exitStatus) throws TaskException {
        Path folder = file.getParent();
        if (!Files.isDirectory(folder)) {
            throw new TaskException(exitStatus, what + " " + file + ": " + (Files.exists(folder) ? folder + " is not a folder"
                : Files.notExists(folder) ? "no such folder: mkdir -p " + folder
                : "this user may not enter " + folder + ": give it access or choose another folder"));
        }
    }
}

/** An option. @param label of its value, or null for a flag @param group the heading under which the help shows it, or null */
record Option(String name, String label, String group, String description) {
}

/** A command with its options. @param parameter the label of its one positional parameter, or null @param details for the help's end */
record Command(String name, String purpose, List<String> synopsis, String parameter, List<Option> options, List<String> details) {
}

/** What the command line says: the command, the values of its options ("" for a flag) and the positional parameter or null. */
record Arguments(Command command, Map<String, String> values, String parameter) {
    /**
     * Parses the command line; the first of the commands is the one without a name in front.
     *
     * <p>Arguments that can mean one thing only are taken as they are, since picocli needs 107 ms of the 130 ms that a run takes more than
     * an empty JVM (JDK 17, two cores, without a start-up archive). All others (help, errors, {@code --option=value},
     * {@code @file}, a value that looks like an option) are picocli's.
     *
     * @return null when the arguments asked for the help or the version, which have been printed
     */
    static Arguments parse(List<Command> commands, String... args) throws UsageException {
        Arguments plain = plain(commands, args);
        return plain != null ? plain : Picocli.parse(commands, args);
    }

    private static Arguments plain(List<Command> commands, String... args) {
        Command command = commands.get(0);
        int next = 0;
        for (Command other : commands) {
            if (other != command && args.length > 0 && args[0].equals(other.name())) {
                command = other;
                next = 1;
            }
        }
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
            if (option == null || valued && (next == args.length || args[next].startsWith("-") || args[next].startsWith("@"))
                    || values.put(name, valued ? args[next++] : "") != null) {
                return null;
            }
        }
        return command.parameter() == null ? new Arguments(command, values, null) : null;
    }

    boolean has(String option) {
        return values.containsKey(option);
    }
}

/** The parser for what is not plain, and the help. Only this class uses picocli, so that a plain run does not load it. */
final class Picocli {
    static Arguments parse(List<Command> commands, String... args) throws UsageException {
        CommandLine cli = commandLine(commands);
        ParseResult parsed;
        try {
            parsed = cli.parseArgs(args);
        } catch (CommandLine.ParameterException e) {
            throw new UsageException(byName(commands, e.getCommandLine().getCommandName()), Text.lowerCase(e.getMessage()));
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
        Command command = byName(commands, usedCli.getCommandName());
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

    private static Command byName(List<Command> commands, String name) {
        for (Command command : commands) {
            if (command.name().equals(name)) {
                return command;
            }
        }
        return commands.get(0);
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
            .customSynopsis(command.synopsis().toArray(new String[0])).footer(command.details().toArray(new String[0])).width(100)
            .longOptionsMaxWidth(32).sortOptions(false).optionListHeading("%n").commandListHeading("%nCommands:%n");
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
                if (!groups.containsKey(option.group())) {
                    groups.put(option.group(), ArgGroupSpec.builder().validate(false).order(groups.size())
                        .heading("%n" + option.group() + ":%n"));
                }
                groups.get(option.group()).addArg(model);
            }
        }
        for (ArgGroupSpec.Builder group : groups.values()) {
            spec.addArgGroup(group.build());
        }
        if (command.parameter() != null) {
            spec.addPositional(CommandLine.Model.PositionalParamSpec.builder().index("0").arity("0..1").type(String.class)
                .paramLabel(command.parameter()).build());
        }
        return spec;
    }

    private Picocli() {
    }
}

/** The options: one definition for the parser, the help, the script and the batch variant. */
final class Options {
    private static final String REQUIRED = "Required";
    private static final String RUNS = "How it runs";
    private static final String ENDS = "How it ends";
    private static final String SAYS = "What it says";
    private static final Option VERBOSE = new Option("--verbose", null, SAYS, "say more: debug lines, and stack traces of internal errors");

    /** The options of an execution request. */
    static final List<Option> REQUEST = List.of(
        new Option("--command", "CMD", REQUIRED, "the command, run through the system shell"),
        new Option("--lockfile", "FILE", REQUIRED, "the lock file that identifies the task; best in /run/lock"),
        new Option("--threshold", "N", REQUIRED, "contentions that are tolerated before one is reported; 0: they are not counted"),
        new Option("--counter-file", "FILE", REQUIRED, "where the contentions are counted"),
        new Option("--wait", "DURATION", RUNS, "on contention try again for so long before it counts (default: 0, try once)"),
        new Option("--timeout", "DURATION", RUNS, "end the command after so long: exit status 124 (default: 0, no limit)"),
        new Option("--kill-after", "DURATION", RUNS, "send SIGKILL so long after SIGTERM (default: 10s)"),
        new Option("--on-stale", "recover|report", RUNS, "a lock file whose run is proven dead: take it over, or count it as contention"
            + " (default: recover)"),
        new Option("--conflict-exit-code", "N", ENDS, "exit status of contention that is not reported, 0-255 (default: 0)"),
        new Option("--exit-zero", null, ENDS, "exit with 0 whenever the command has run and the lock was released"),
        new Option("--notify", "CMD", ENDS, "run CMD on threshold, failed, timeout, recovered (a stale lock) and error; TASKRUNNER_EVENT and"
            + " TASKRUNNER_MESSAGE, _RUN, _LOCKFILE, _COMMAND, _EXIT_STATUS, _COUNT, _THRESHOLD, _HOLDER_PID tell which"),
        new Option("--quiet", null, SAYS, "print nothing unless the exit status is not 0; then all output, on stderr"),
        new Option("--log-file", "FILE", SAYS, "append log lines to FILE (default: stderr); errors go to stderr as well"),
        new Option("--log-format", "text|json", SAYS, "format of the log lines (default: text)"),
        new Option("--metrics-file", "FILE", SAYS, "write Prometheus metrics for the textfile collector to FILE"),
        VERBOSE);

    static final Command RUN = new Command("taskrunner", "Runs a command under a lock file so that only one instance runs at a time. Requests"
        + " that find the lock held are counted; beyond the threshold they are reported as an error.",
        List.of("taskrunner --command CMD --lockfile FILE --threshold N --counter-file FILE [OPTION...]",
            "       taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]"), null, REQUEST,
        List.of("", "Durations: 90, 90s, 15m, 2h, 1d or ISO-8601 (PT15M). @FILE reads arguments from FILE.", "", "Example:",
            "  taskrunner --command 'pg_dump shop > shop.sql' --lockfile /run/lock/shop.lock \\",
            "      --threshold 3 --counter-file /var/lib/taskrunner/shop.count --quiet"));

    static final Command STATUS = new Command("status", "Tells who holds the lock, since when and in which state, and the counter.",
        List.of("taskrunner status --lockfile FILE [--threshold N --counter-file FILE] [--json]"), null,
        List.of(new Option("--lockfile", "FILE", null, "the lock file"), new Option("--threshold", "N", null, "the task's threshold"),
            new Option("--counter-file", "FILE", null, "the task's counter file"), new Option("--json", null, null, "print one JSON object"),
            new Option("--verbose", null, null, "show stack traces of internal errors")),
        List.of("", "Exit status: 0 free, 20 held or foreign, 21 stale or orphaned."));

    static final List<Command> COMMANDS = List.of(RUN, STATUS, Installation.command("taskrunner"), Installation.undo("taskrunner"));

    /** The request that the options ask for; throws when one is missing or malformed, before anything is touched. */
    static Request request(Arguments arguments) throws TaskException {
        requireAll(arguments, "--command", "--lockfile", "--threshold", "--counter-file");
        String command = text(arguments, "--command");
        if (command.isBlank()) {
            throw new UsageException(arguments.command(), "--command is empty");
        }
        int threshold = threshold(arguments);
        Duration wait = duration(arguments, "--wait", Duration.ZERO);
        Duration timeout = duration(arguments, "--timeout", Duration.ZERO);
        Duration killAfter = duration(arguments, "--kill-after", Duration.ofSeconds(10));
        boolean recover = choice(arguments, "--on-stale", "recover", "report").equals("recover");
        boolean json = choice(arguments, "--log-format", "text", "json").equals("json");
        int conflictExitStatus = number(arguments, "--conflict-exit-code", 0, 255, 0);
        String notify = arguments.has("--notify") ? text(arguments, "--notify") : null;
        Path lockFile = path(arguments, "--lockfile");
        Path counterFile = path(arguments, "--counter-file");
        Path logFile = path(arguments, "--log-file");
        Path metricsFile = path(arguments, "--metrics-file");
        refuseShared(arguments, lockFile, counterFile, "--counter-file");
        refuseShared(arguments, lockFile, logFile, "--log-file");
        refuseShared(arguments, lockFile, metricsFile, "--metrics-file");
        if (counterFile.equals(logFile) || counterFile.equals(metricsFile) || logFile != null && logFile.equals(metricsFile)) {
            throw new UsageException(arguments.command(), "--counter-file, --log-file and --metrics-file must be different files");
        }
        if (metricsFile != null) {
            Path aside = LockFile.gateOf(metricsFile);
            if (aside.equals(lockFile) || aside.equals(counterFile) || aside.equals(logFile)) {
                throw new UsageException(arguments.command(), "--metrics-file is written aside as " + aside + ", which is the lock, counter or log"
                    + " file: give another file");
            }
        }
        return new Request(command, lockFile, threshold, counterFile, wait, timeout, killAfter, recover, conflictExitStatus,
            arguments.has("--exit-zero"), notify, arguments.has("--quiet"), logFile, json, metricsFile,
            arguments.has("--verbose"));
    }

    static void requireAll(Arguments arguments, String... names) throws UsageException {
        List<String> missing = new ArrayList<>();
        for (String name : names) {
            if (!arguments.has(name)) {
                missing.add(name);
            }
        }
        if (!missing.isEmpty()) {
            throw new UsageException(arguments.command(), "missing " + String.join(", ", missing));
        }
    }

    static int threshold(Arguments arguments) throws UsageException {
        return number(arguments, "--threshold", 0, Integer.MAX_VALUE, 0);
    }

    static int number(Arguments arguments, String option, int least, int most, int byDefault) throws UsageException {
        if (!arguments.has(option)) {
            return byDefault;
        }
        String text = text(arguments, option);
        try {
            int number = Integer.parseInt(text);
            if (number >= least && number <= most && text.charAt(0) != '+') {
                return number;
            }
        } catch (NumberFormatException e) {
            // falls through to the same message
        }
        throw new UsageException(arguments.command(), "invalid " + option + " '" + text + "': give an integer from " + least + " to " + most);
    }

    private static String choice(Arguments arguments, String option, String byDefault, String other) throws UsageException {
        String text = arguments.has(option) ? text(arguments, option) : byDefault;
        if (text.equals(byDefault) || text.equals(other)) {
            return text;
        }
        throw new UsageException(arguments.command(), "invalid " + option + " '" + text + "': give " + byDefault + " or " + other);
    }

    private static Duration duration(Arguments arguments, String option, Duration byDefault) throws UsageException {
        if (!arguments.has(option)) {
            return byDefault;
        }
        String text = text(arguments, option);
        Duration duration = parseDuration(text);
        if (duration == null) {
            throw new UsageException(arguments.command(), "invalid " + option + " '" + text + "': give a duration such as 90, 90s, 15m, 2h, 1d or PT15M");
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
                long number = Long.parseLong(text.substring(0, digits));
                switch (text.substring(digits)) {
                    case "", "s" -> duration = Duration.ofSeconds(number);
                    case "m" -> duration = Duration.ofMinutes(number);
                    case "h" -> duration = Duration.ofHours(number);
                    case "d" -> duration = Duration.ofDays(number);
                    default -> {
                        return null;
                    }
                }
            }
            return duration.isNegative() || duration.compareTo(Duration.ofDays(36525)) > 0 ? null : duration;
        } catch (DateTimeParseException | NumberFormatException | ArithmeticException e) {
            return null;
        }
    }

    /** The option's text, when the locale could carry it to here and can carry it on to the command. */
    static String text(Arguments arguments, String option) throws UsageException {
        return carried(arguments, arguments.values().get(option), option);
    }

    /** Whether the locale can carry the text from and to the system. */
    static boolean isCarried(String text) {
        boolean ascii = true;
        for (int i = 0; i < text.length(); i++) {
            ascii &= text.charAt(i) < 0x80;
        }
        return ascii || text.indexOf('\uFFFD') < 0
            && Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8")).newEncoder().canEncode(text);
    }

    private static String carried(Arguments arguments, String text, String option) throws UsageException {
        if (!isCarried(text)) {
            throw new UsageException(arguments.command(), option + " has characters that the locale cannot carry: start it with LC_ALL=C.UTF-8"
                + " in its environment");
        }
        return text;
    }

    /** The option's path, absolute and with its folder's links resolved, so that two spellings are one file; null without the option. */
    static Path path(Arguments arguments, String option) throws UsageException {
        if (!arguments.has(option)) {
            return null;
        }
        String text = text(arguments, option);
        if (text.isEmpty()) {
            throw new UsageException(arguments.command(), option + " is empty");
        }
        try {
            Path path = Path.of(text);
            if (path.getFileName() == null || text.endsWith(File.separator)) {
                throw new UsageException(arguments.command(), "invalid " + option + " '" + text + "': give a file, not a folder");
            }
            if (!path.isAbsolute()) {
                carried(arguments, System.getProperty("user.dir"), option + " is relative to a working folder that");
            }
            Path absolute = path.toAbsolutePath();
            try {
                return absolute.getParent().toRealPath().resolve(path.getFileName());
            } catch (IOException e) {
                return absolute.normalize();
            }
        } catch (InvalidPathException e) {
            throw new UsageException(arguments.command(), "invalid " + option + " '" + text + "': " + e.getReason());
        }
    }

    static void refuseShared(Arguments arguments, Path lockFile, Path other, String option) throws UsageException {
        if (lockFile.equals(other) || LockFile.gateOf(lockFile).equals(other)) {
            throw new UsageException(arguments.command(), option + " " + other + " is the lock file or its .tmp: give another file");
        }
    }

    private Options() {
    }
}

/**
 * One execution request from the lock to its outcome: acquire the lock; when acquired run the command and release the lock. The
 * script calls {@link #run}; the batch variant calls the steps one by one.
 *
 * <p>One thread goes through the steps; {@link #stop} may be called by any other.
 */
final class Execution {
    private static final int LONGEST_WAIT_BETWEEN_TRIES = 500;
    /** The statuses of a command that SIGHUP, SIGINT or SIGTERM ended. */
    private static final Set<Integer> SIGNALLED = Set.of(129, 130, 143);
    private static final int TOLD_MILLIS = 200;

    final Request request;
    final Owner owner;
    final Log log;
    private LockFile lock;
    private Verdict recovered;
    private Outcome outcome;
    private Run run;
    private StopSignal stopSignal;
    private ProcessTree tree;
    private Thread waiting;

    /** A signal that asked taskrunner to stop. */
    record StopSignal(String name, int number) {
    }

    Execution(Request request) {
        this.request = request;
        this.owner = Owner.self();
        this.log = new Log(request, owner);
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
     * Acquires the lock and with it clears the counter; on contention counts it. Both happen inside the gate, so that every
     * contention is counted exactly once and none of another run's.
     *
     * @return true when acquired; otherwise {@link #outcome} says why not
     */
    boolean acquireLock() {
        long deadline = System.nanoTime() + request.patience().toNanos();
        int pause = 50;
        while (true) {
            long left = deadline - System.nanoTime();
            try {
                request.checkFolders();
                LockFile.Attempt attempt = LockFile.attempt(request, owner, left <= 0);
                if (attempt instanceof LockFile.Acquired acquired) {
                    lock = acquired.lock();
                    recovered = acquired.recovered();
                    if (recovered != null) {
                        log.warn("recovered", "took over stale lock " + request.lockFile() + ": " + recovered.deaths());
                    }
                    return true;
                }
                LockFile.Refused refused = (LockFile.Refused) attempt;
                if (left <= 0) {
                    outcome = refused.count().reported()
                        ? new Outcome.Reported(refused.verdict(), refused.count().value())
                        : new Outcome.Contended(refused.verdict(), refused.count().value());
                    return false;
                }
            } catch (TaskException e) {
                outcome = stopSignal() != null ? new Outcome.Stopped(null, stopSignal()) : new Outcome.Broken(null, e);
                return false;
            }
            if (pauseUnlessStopped(Math.min(pause, left / 1_000_000 + 1))) {
                outcome = new Outcome.Stopped(null, stopSignal);
                return false;
            }
            pause = Math.min(pause * 2, LONGEST_WAIT_BETWEEN_TRIES);
        }
    }

    private synchronized boolean pauseUnlessStopped(long millis) {
        if (stopSignal == null) {
            try {
                wait(millis);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                stopSignal = new StopSignal("TERM", 15);
            }
        }
        return stopSignal != null;
    }

    /** Takes the command's output where the command does not write it itself. */
    interface Output {
        void started(Process process);

        /** The command has ended; what it has written so far is to be taken. @param hurry whether nothing may delay the end any more */
        void ended(BooleanSupplier hurry);
    }

    /** Runs the command with the caller's standard streams, or into the held-back output of {@code --quiet}. */
    void runCommand() {
        ProcessBuilder builder = new ProcessBuilder().inheritIO();
        log.holdBackOutput(builder);
        runCommand(builder, null);
    }

    /**
     * Runs the command to its end and keeps what became of it as the outcome; the lock must be held.
     *
     * @param builder says where the standard streams go
     * @param output or null
     * @return the started process's end as an outcome
     */
    Outcome runCommand(ProcessBuilder builder, Output output) {
        log.info("started", "running: " + Text.oneLine(request.command()));
        long startedMillis = System.currentTimeMillis();
        long startedNanos = System.nanoTime();
        run = new Run(startedMillis, 0);
        Process process;
        synchronized (this) {
            if (stopSignal != null) {
                return outcome = new Outcome.Stopped(null, stopSignal);
            }
            waiting = Thread.currentThread();
            try {
                process = start(builder);
            } catch (TaskException e) {
                return outcome = new Outcome.Broken(null, e);
            }
        }
        try {
            return await(process, output, startedMillis, startedNanos);
        } catch (RuntimeException | Error e) {
            boolean ended = false;
            try {
                ended = tree.end(Duration.ZERO).isEmpty();
            } finally {
                if (!ended) {
                    lock.abandon();
                    lock = null;
                }
            }
            return outcome = new Outcome.Broken(run, new TaskException(ExitStatus.INTERNAL, "the command was ended after an internal error: "
                + e + "; --verbose shows where", e));
        }
    }

    private Outcome await(Process process, Output output, long startedMillis, long startedNanos) {
        log.outputOpened();
        lock.recordCommand(tree.root());
        if (output != null) {
            output.started(process);
        }
        boolean timedOut = false;
        int status = -1;
        try {
            if (request.timeout().isZero()) {
                status = process.waitFor();
            } else {
                timedOut = !process.waitFor(request.timeout().toMillis(), TimeUnit.MILLISECONDS);
                status = timedOut ? -1 : process.exitValue();
            }
            if (SIGNALLED.contains(status)) {
                // a terminal, or kill(1) of a process group, signals both: the command may be the first to end
                pauseUnlessStopped(TOLD_MILLIS);
            }
        } catch (InterruptedException e) {
            stop(new StopSignal("TERM", 15));
        }
        List<Long> survivors = timedOut || stopSignal() != null ? tree.end(request.killAfter()) : List.of();
        StopSignal stopped = stopSignal();
        if (output != null) {
            boolean forced = timedOut;
            output.ended(() -> forced || stopSignal() != null);
        }
        run = new Run(startedMillis, (System.nanoTime() - startedNanos) / 1_000_000);
        if (!survivors.isEmpty()) {
            outcome = new Outcome.Broken(run, new TaskException(ExitStatus.IO, "cannot kill " + Text.pids(survivors) + ": lock file "
                + request.lockFile() + " stays until they end; find out what holds them with: ps -o pid,stat,wchan:20,args -p "
                + Text.list(survivors)));
            lock.abandon();
            lock = null;
        } else if (stopped != null) {
            outcome = new Outcome.Stopped(run, stopped);
        } else if (timedOut) {
            outcome = new Outcome.TimedOut(run);
        } else {
            outcome = status == 0 ? new Outcome.Succeeded(run) : new Outcome.Failed(run, status);
        }
        return outcome;
    }

    private synchronized StopSignal stopSignal() {
        return stopSignal;
    }

    private Process start(ProcessBuilder builder) throws TaskException {
        String workingFolder = System.getProperty("user.dir");
        if (Options.isCarried(workingFolder) && !Files.isDirectory(Path.of(workingFolder))) {
            throw new TaskException(ExitStatus.CANNOT_START, "cannot start the command: working folder " + workingFolder
                + " is gone; the lock was released");
        }
        Map<String, String> environment = builder.environment();
        String outerRun = environment.get(Owner.RUN_ID);
        if (outerRun != null) {
            String outerRuns = environment.get(Owner.OUTER_RUN_IDS);
            environment.put(Owner.OUTER_RUN_IDS, outerRuns == null ? outerRun : outerRuns + " " + outerRun);
        }
        environment.put(Owner.RUN_ID, owner.runId());
        environment.put("TASKRUNNER_LOCKFILE", request.lockFile().toString());
        if (builder.redirectInput() == ProcessBuilder.Redirect.INHERIT && Processes.stdinIsClosed()) {
            builder.redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")));
        }
        try {
            Process process = builder.command(Processes.shell(request.command())).start();
            tree = new ProcessTree(Processes.idOf(process), owner.runId());
            return process;
        } catch (IOException | OutOfMemoryError e) {
            if (e instanceof OutOfMemoryError) {
                // a JVM that cannot start its reaper thread throws after the fork: the child lives already
                tree = new ProcessTree(null, owner.runId());
                tree.end(Duration.ZERO);
            }
            throw new TaskException(ExitStatus.CANNOT_START, "cannot start the command: " + Text.reason(e)
                + "; the lock was released", e);
        }
    }

    /** Ends the command and lets the request end as stopped; a second call kills at once. */
    void stop(StopSignal signal) {
        ProcessTree running;
        synchronized (this) {
            running = tree;
            if (stopSignal != null) {
                if (running != null) {
                    running.hurry();
                }
                return;
            }
            stopSignal = signal;
            notifyAll();
        }
        if (running != null && running.end(request.killAfter()).contains(running.root().pid())) {
            // the command itself cannot be killed: who waits for it would wait for ever
            waiting.interrupt();
        }
    }

    /** Stops this request on SIGTERM, SIGINT and SIGHUP; one that is ignored, as under nohup(1), stays so. */
    void stopOnSignals() {
        for (String name : new String[] {"TERM", "INT", "HUP"}) {
            try {
                sun.misc.Signal.handle(new sun.misc.Signal(name), new sun.misc.SignalHandler() {
                    @Override
                    public void handle(sun.misc.Signal signal) {
                        stop(new StopSignal(signal.getName(), signal.getNumber()));
                    }
                });
            } catch (IllegalArgumentException e) {
                log.debug("signal", "this system has no SIG" + name);
            }
        }
    }

    /** Releases the lock, if this request holds it. A failure is the outcome, unless a signal or the timeout ended the command. */
    void releaseLock() {
        if (lock == null) {
            return;
        }
        try {
            if (!lock.release()) {
                log.warn("replaced", "lock file " + request.lockFile() + " was removed or replaced while the command ran: it is left"
                    + " alone; another instance may have run at the same time");
            }
        } catch (TaskException e) {
            if (outcome instanceof Outcome.Stopped || outcome instanceof Outcome.TimedOut && !request.exitZero()) {
                log.error("error", e.getMessage());
            } else {
                outcome = new Outcome.Broken(run, e);
            }
        }
        lock = null;
    }

    /** Writes the metrics, notifies, and logs the outcome as the last line; returns the exit status. */
    int finish() {
        int exitStatus = outcome.exitStatus(request);
        if (request.metricsFile() != null) {
            try {
                Metrics.write(request, outcome, exitStatus);
            } catch (IOException | TaskException e) {
                log.warn("metrics", "cannot write metrics file " + request.metricsFile() + ": " + Text.reason(e));
            }
        }
        if (request.notifyCommand() != null) {
            if (recovered != null) {
                notify("recovered", "took over stale lock " + request.lockFile() + ": " + recovered.deaths(), exitStatus);
            }
            String event = outcome.notification();
            if (event != null) {
                notify(event, outcome.message(request), exitStatus);
            }
        }
        log.outcome(outcome, exitStatus);
        return exitStatus;
    }

    private void notify(String event, String message, int exitStatus) {
        try {
            Process process = Notification.start(request, owner, outcome, event, message, exitStatus);
            synchronized (this) {
                tree = new ProcessTree(Processes.idOf(process), null);
            }
            if (!process.waitFor(Notification.LONGEST_SECONDS, TimeUnit.SECONDS)) {
                tree.end(Duration.ofSeconds(1));
                log.warn("notify", "notification command was ended after " + Notification.LONGEST_SECONDS + " s: "
                    + Text.oneLine(request.notifyCommand()));
            } else if (process.exitValue() != 0) {
                log.warn("notify", "notification command failed with status " + process.exitValue() + ": "
                    + Text.oneLine(request.notifyCommand()));
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
        outcome = new Outcome.Broken(run, error);
    }
}

/** When the command started (milliseconds since 1970, UTC) and how long it ran (milliseconds). */
record Run(long startedMillis, long durationMillis) {
}

/** How a request ended. Exit status, log line, JSON, metrics and notification are views of it. */
sealed interface Outcome {
    /** The name of the ending in logs. */
    String event();

    int exitStatus(Request request);

    /** One line: what happened, to what, what to do. */
    String message(Request request);

    default String level() {
        return "ERROR";
    }

    /** The event for {@code --notify}, or null when nobody needs to know. */
    default String notification() {
        return event();
    }

    /** The command's run, or null when it did not start. */
    default Run run() {
        return null;
    }

    /** What was found in the lock's place on contention, or null. */
    default Verdict verdict() {
        return null;
    }

    /** The counter after this request, or -1 when it was neither read nor written. */
    default long count() {
        return -1;
    }

    /** The signal that ended the command or taskrunner, without SIG, or null. */
    default String signal() {
        return null;
    }

    record Succeeded(Run run) implements Outcome {
        @Override
        public String event() {
            return "succeeded";
        }

        @Override
        public String level() {
            return "INFO";
        }

        @Override
        public String notification() {
            return null;
        }

        @Override
        public int exitStatus(Request request) {
            return ExitStatus.OK;
        }

        @Override
        public String message(Request request) {
            return "command succeeded after " + Text.duration(run.durationMillis()) + ": " + Text.oneLine(request.command());
        }
    }

    /** @param status the shell's exit status, 1 to 255 */
    record Failed(Run run, int status) implements Outcome {
        @Override
        public String event() {
            return "failed";
        }

        @Override
        public String signal() {
            return status > ExitStatus.SIGNAL && status <= ExitStatus.SIGNAL + 64 ? Text.signal(status - ExitStatus.SIGNAL) : null;
        }

        @Override
        public int exitStatus(Request request) {
            return request.exitZero() ? ExitStatus.OK : status;
        }

        @Override
        public String message(Request request) {
            return "command failed with status " + status + (signal() == null ? "" : " (signal " + signal() + ")") + " after "
                + Text.duration(run.durationMillis()) + ": " + Text.oneLine(request.command());
        }
    }

    record TimedOut(Run run) implements Outcome {
        @Override
        public String event() {
            return "timeout";
        }

        @Override
        public int exitStatus(Request request) {
            return request.exitZero() ? ExitStatus.OK : ExitStatus.TIMEOUT;
        }

        @Override
        public String message(Request request) {
            return "command ended by --timeout " + Text.duration(request.timeout().toMillis()) + ": "
                + Text.oneLine(request.command());
        }
    }

    record Stopped(Run run, Execution.StopSignal stopSignal) implements Outcome {
        @Override
        public String event() {
            return "stopped";
        }

        @Override
        public String level() {
            return "WARN";
        }

        @Override
        public String notification() {
            return null;
        }

        @Override
        public String signal() {
            return stopSignal.name();
        }

        @Override
        public int exitStatus(Request request) {
            return ExitStatus.SIGNAL + stopSignal.number();
        }

        @Override
        public String message(Request request) {
            return run == null ? "stopped by SIG" + signal() + " before the command started: " + Text.oneLine(request.command())
                : "stopped by SIG" + signal() + " after " + Text.duration(run.durationMillis()) + ", all processes of the command are gone: "
                    + Text.oneLine(request.command());
        }
    }

    /** Contention that is not reported. */
    record Contended(Verdict verdict, long count) implements Outcome {
        @Override
        public String event() {
            return "contention";
        }

        @Override
        public String level() {
            return "WARN";
        }

        @Override
        public String notification() {
            return null;
        }

        @Override
        public int exitStatus(Request request) {
            return request.conflictExitStatus();
        }

        @Override
        public String message(Request request) {
            return verdict.message() + (count < 0 ? "; contention, not counted (threshold 0)"
                : "; contention " + count + ", threshold " + request.threshold()
                    + (count > request.threshold() ? ": the next one is reported" : ""));
        }
    }

    /** Contention beyond the threshold. @param contentions how many there were, this one included */
    record Reported(Verdict verdict, long contentions) implements Outcome {
        @Override
        public String event() {
            return "threshold";
        }

        @Override
        public long count() {
            return 0;
        }

        @Override
        public int exitStatus(Request request) {
            return ExitStatus.THRESHOLD;
        }

        @Override
        public String message(Request request) {
            return "task " + request.lockFile() + ": contention " + contentions + " exceeds threshold " + request.threshold() + "; "
                + verdict.message() + "; " + verdict.advice() + "; the counter starts again at 0";
        }
    }

    /** The request could not do its work, or not release the lock. */
    record Broken(Run run, TaskException error) implements Outcome {
        @Override
        public String event() {
            return "error";
        }

        @Override
        public int exitStatus(Request request) {
            return error.exitStatus;
        }

        @Override
        public String message(Request request) {
            return error.getMessage();
        }
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

/**
 * Who holds a lock: the record that its lock file carries, lines of text with {@code key=value} after a first line that names the
 * format. {@code lock.md} of the specification has the fields.
 *
 * @param runner the taskrunner process
 * @param command the command's shell, or null before it was started
 * @param started UTC, ISO-8601, to the millisecond
 */
record Owner(String runId, ProcessId runner, String pidNamespace, String host, String bootId, String user, String started,
             ProcessId command) {
    /** The environment variable by which the processes of a run are found. */
    static final String RUN_ID = "TASKRUNNER_RUN_ID";
    /** The run ids of the taskrunners around this one, separated by blanks. */
    static final String OUTER_RUN_IDS = "TASKRUNNER_OUTER_RUN_IDS";
    static final String MAGIC = "taskrunner-lock 1\n";
    private static final int LONGEST = 4096;

    static Owner self() {
        ProcessId self = Processes.self();
        String started = Text.time(System.currentTimeMillis());
        String runId = started.replace("-", "").replace(":", "").replace(".", "") + "-" + self.pid() + "-"
            + Long.toHexString((System.nanoTime() ^ Processes.bootId().hashCode()) & 0xFFFFFF);
        return new Owner(runId, self, Processes.pidNamespace(), Processes.host(), Processes.bootId(),
            System.getProperty("user.name"), started, null);
    }

    String text() {
        return MAGIC + "run=" + runId + "\npid=" + runner.pid() + "\nstart=" + runner.start() + "\npid-namespace=" + pidNamespace
            + "\nhost=" + host + "\nboot=" + bootId + "\nuser=" + user + "\nstarted=" + started + "\n";
    }

    static String commandText(ProcessId command) {
        return "command-pid=" + command.pid() + "\ncommand-start=" + command.start() + "\n";
    }

    /** Whether the bytes are a record or the torn beginning of one. */
    static boolean mayBe(String text) {
        return text.startsWith(MAGIC) || MAGIC.startsWith(text);
    }

    /** The record in the file, or null when it holds none. */
    static Owner read(FileChannel file) throws IOException {
        return parse(Text.read(file, LONGEST));
    }

    private static Owner parse(String text) {
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
                ? new ProcessId(Long.parseLong(values.get("command-pid")), Long.parseLong(values.get("command-start"))) : null;
            Owner owner = new Owner(values.get("run"), new ProcessId(Long.parseLong(values.get("pid")),
                Long.parseLong(values.get("start"))), values.get("pid-namespace"), values.get("host"), values.get("boot"),
                values.get("user"), values.get("started"), command);
            boolean whole = owner.runId != null && !owner.runId.isEmpty() && owner.pidNamespace != null && owner.host != null
                && owner.bootId != null && owner.user != null && owner.started != null;
            return whole ? owner : null;
        } catch (NumberFormatException e) {
            return null;
        }
    }

    /** For messages: {@code pid 4711 (root@db1) since 2026-11-24T02:00:03Z}. */
    String describe() {
        return "pid " + runner.pid() + " (" + user + "@" + host + ") since " + started.substring(0, Math.min(19, started.length()))
            + "Z";
    }
}

/** What was found at a lock file's path. */
record Verdict(State state, Path lockFile, Owner owner, List<Long> pids, String why) {
    enum State {
        /** Nothing is there. */
        FREE,
        /** Its runner lives. */
        HELD,
        /** Its runner is dead, processes of its run live. */
        ORPHANED,
        /** Its runner and every process of its run are proven dead. */
        STALE,
        /** Something else than taskrunner made it. */
        FOREIGN,
        /** Made by taskrunner, and nothing can be proven. */
        UNKNOWN;

        String text() {
            return name().toLowerCase(java.util.Locale.ROOT);
        }
    }

    static Verdict of(State state, Path lockFile, Owner owner, String why) {
        return new Verdict(state, lockFile, owner, List.of(), why);
    }

    /** One line without an end mark. */
    String message() {
        String lock = "lock " + lockFile;
        switch (state) {
            case FREE:
                return lock + " is free";
            case HELD:
                return lock + " is held by " + (owner == null ? "a process that left no record in it" : owner.describe()
                    + ", running for " + age()) + (why == null ? "" : " (" + why + ")");
            case ORPHANED:
                return lock + " is orphaned: its taskrunner, " + owner.describe() + ", is dead, but of its run "
                    + Text.pids(pids) + (pids.size() == 1 ? " still lives" : " still live")
                    + ": wait, or end with: kill " + Text.list(pids).replace(',', ' ');
            case STALE:
                return lock + " is stale: " + deaths() + "; without --on-stale report it is taken over";
            case FOREIGN:
                return lock + " is foreign: " + why;
            default:
                return lock + " of " + (owner == null ? "an unknown run" : owner.describe()) + " cannot be judged: " + why
                    + "; if its task does not run: rm " + lockFile;
        }
    }

    /** What proves it stale. */
    String deaths() {
        return "its taskrunner, " + owner.describe() + ", and its command are dead" + (why == null ? "" : " (" + why + ")");
    }

    /** What to do when the lock does not go away. */
    String advice() {
        switch (state) {
            case HELD:
                return owner == null ? "look for its holder with: fuser -v " + lockFile
                    : "look with: ps -o pid,stat,etime,args -p " + owner.runner().pid()
                        + (owner.command() == null ? "" : "," + owner.command().pid()) + "; if it is stuck, kill " + owner.runner().pid()
                        + " ends the command and frees the lock";
            case ORPHANED:
                return "look with: ps -o pid,stat,etime,args -p " + Text.list(pids) + "; once they have ended the lock is taken over";
            case STALE:
                return "or: rm " + lockFile;
            default:
                return "look who made it with: ls -l " + lockFile;
        }
    }

    private String age() {
        long since = Text.millis(owner.started());
        return since < 0 ? "an unknown time" : Text.duration(Math.max(0, System.currentTimeMillis() - since) / 1000 * 1000);
    }

    Json holder() {
        if (owner == null) {
            return null;
        }
        Json json = new Json().put("run_id", owner.runId()).put("pid", owner.runner().pid()).put("user", owner.user())
            .put("host", owner.host()).put("started", owner.started());
        return owner.command() == null ? json : json.put("command_pid", owner.command().pid());
    }
}

/**
 * A lock that this request holds, and the way to get one: the protocol of the specification's {@code lock.md}.
 *
 * <p>The lock file's existence is the lock. The kernel lock (fcntl(2)) on its inode, kept through open channels, marks that the
 * holder lives. Closing <em>any</em> channel of this JVM on that inode would drop it (POSIX), so none is opened a second time but
 * for {@link #sameInode}, whose channels stay open as long.
 */
final class LockFile {
    /** The locks that this JVM holds: asked before any lock file is opened. */
    private static final Map<Path, Owner> HELD = new ConcurrentHashMap<>();

    private final Path path;
    private final Owner owner;
    private final List<FileChannel> channels;

    /** What came of one try. */
    sealed interface Attempt {
    }

    /** @param recovered the stale lock that was taken over, or null */
    record Acquired(LockFile lock, Verdict recovered) implements Attempt {
    }

    record Refused(Verdict verdict, FailureCounter.Count count) implements Attempt {
    }

    /** Device and inode, null where the system has none; nothing else can get them while the channels are open. */
    private final Object inode;

    private LockFile(Path path, Owner owner, List<FileChannel> channels, Object inode) {
        this.path = path;
        this.owner = owner;
        this.channels = channels;
        this.inode = inode;
    }

    static Path gateOf(Path lockFile) {
        return lockFile.resolveSibling(lockFile.getFileName() + ".tmp");
    }

    /**
     * Tries once to acquire the lock.
     *
     * @param count whether a contention is counted
     * @throws TaskException 73 when the lock file cannot be created, 74 on I/O errors, 65 on a counter file that holds no counter
     */
    static Attempt attempt(Request request, Owner owner, boolean count) throws TaskException {
        Path path = request.lockFile();
        while (true) {
            try (Gate gate = Gate.enter(gateOf(path), Owner.MAGIC)) {
                Attempt attempt = inside(gate, request, owner, count);
                if (attempt != null) {
                    return attempt;
                }
            } catch (IOException e) {
                throw new TaskException(ExitStatus.IO, "lock file " + path + ": " + Text.reason(e), e);
            }
        }
    }

    /** @return null when the gate was removed meanwhile, as by a cleaner: then enter anew */
    private static Attempt inside(Gate gate, Request request, Owner owner, boolean count) throws TaskException, IOException {
        Path path = request.lockFile();
        FailureCounter counter = new FailureCounter(request.counterFile(), request.threshold());
        Verdict recovered = null;
        while (true) {
            Found found = look(path, gate);
            if (found == null) {
                gate.write(owner.text());
                long cleared = counter.reset();
                boolean linked = false;
                try {
                    linked = link(path, gate);
                } finally {
                    if (!linked) {
                        counter.restore(cleared);
                    }
                }
                if (linked) {
                    LockFile lock = held(path, gate, owner);
                    return lock == null ? null : new Acquired(lock, recovered);
                }
                continue;
            }
            try {
                if (found.verdict.state() != Verdict.State.STALE || !request.takeOverStale()) {
                    return new Refused(found.verdict, count ? counter.increment() : FailureCounter.NOT_COUNTED);
                }
                counter.check();
                if (found.removed(gate)) {
                    recovered = found.verdict;
                }
            } finally {
                found.close();
            }
        }
    }

    /** @return null when the gate was removed meanwhile, since the lock file may then be a link to another request's node */
    private static LockFile held(Path path, Gate gate, Owner owner) throws IOException {
        try {
            BasicFileAttributes attributes = attributes(path);
            List<FileChannel> node = gate.leaveWithNode();
            if (node != null) {
                HELD.put(path, owner);
                return new LockFile(path, owner, node, attributes == null ? null : attributes.fileKey());
            }
        } catch (IOException e) {
            Files.deleteIfExists(path);
            throw e;
        }
        FileChannel same = sameInode(path);
        if (same != null) {
            gate.keepOpen(same);
            Files.delete(path);
        }
        return null;
    }

    private static boolean link(Path path, Gate gate) throws TaskException {
        try {
            Files.createLink(path, gate.path());
            return true;
        } catch (FileAlreadyExistsException e) {
            return false;
        } catch (IOException | UnsupportedOperationException e) {
            throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot create lock file " + path + ": " + Text.reason(e)
                + "; it needs a file system with hard links, such as /run/lock", e);
        }
    }

    /** Judges the lock file without changing anything, for {@code status}. */
    static Verdict judge(Path path) throws TaskException {
        try {
            if (!Files.isWritable(path.getParent())) {
                return verdict(look(path, null), path);
            }
            try (Gate gate = Gate.enter(gateOf(path), Owner.MAGIC)) {
                return verdict(look(path, gate), path);
            }
        } catch (IOException e) {
            throw new TaskException(ExitStatus.IO, "lock file " + path + ": " + Text.reason(e), e);
        }
    }

    private static Verdict verdict(Found found, Path path) throws IOException {
        if (found == null) {
            return Verdict.of(Verdict.State.FREE, path, null, null);
        }
        found.close();
        return found.verdict;
    }

    /** A lock file that was judged; open until it is decided what becomes of it. */
    private record Found(Path path, Verdict verdict, FileChannel channel) {
        /** Removes the very file that was judged; false when another one is there by now. */
        boolean removed(Gate gate) throws TaskException {
            try {
                FileChannel same = sameInode(path);
                if (same == null) {
                    return false;
                }
                // It may be the gate's own inode: closing the channel would drop the gate's kernel lock and let a second request in.
                gate.keepOpen(same);
                Files.delete(path);
                return true;
            } catch (NoSuchFileException e) {
                return false;
            } catch (IOException e) {
                throw new TaskException(ExitStatus.IO, "cannot take over stale lock file " + path + ": " + Text.reason(e)
                    + "; remove it as its owner", e);
            }
        }

        void close() throws IOException {
            if (channel != null) {
                channel.close();
            }
        }
    }

    /** What is at the path, or null when nothing is. @param gate the gate that the caller is in, or null */
    private static Found look(Path path, Gate gate) throws TaskException, IOException {
        while (true) {
            BasicFileAttributes attributes = attributes(path);
            if (attributes == null) {
                return null;
            }
            if (!attributes.isRegularFile()) {
                throw new TaskException(ExitStatus.CANNOT_CREATE, "lock file " + path + ": " + kind(attributes)
                    + " is in its place: remove it or choose another --lockfile");
            }
            Owner own = HELD.get(path);
            if (own != null) {
                return new Found(path, Verdict.of(Verdict.State.HELD, path, own, null), null);
            }
            FileChannel channel;
            try {
                channel = FileChannel.open(path, READ_ONLY);
            } catch (NoSuchFileException e) {
                continue;
            } catch (AccessDeniedException e) {
                return new Found(path, Verdict.of(Verdict.State.UNKNOWN, path, null, "this user may not read it"), null);
            }
            boolean keep = false;
            try {
                FileLock probe = channel.tryLock(0, Long.MAX_VALUE, true);
                Owner owner = Owner.read(channel);
                if (probe == null) {
                    keep = true;
                    return new Found(path, Verdict.of(Verdict.State.HELD, path, owner, null), channel);
                }
                FileChannel same = sameInode(path);
                if (same != null) {
                    same.close();
                    Found found = new Found(path, Evidence.judge(path, owner), channel);
                    keep = true;
                    return found;
                }
            } catch (UncheckedIOException e) {
                throw e.getCause();
            } catch (OverlappingFileLockException e) {
                // The gate's own inode, and its kernel lock is ours: its owner died between link and unlink, before the command.
                Owner owner = Owner.read(channel);
                gate.keepOpen(channel);
                keep = true;
                return new Found(path, owner == null ? Verdict.of(Verdict.State.FOREIGN, path, null, "it holds no record")
                    : Verdict.of(Verdict.State.STALE, path, owner, "killed before the command started"), null);
            } finally {
                if (!keep) {
                    channel.close();
                }
            }
        }
    }

    private static final Set<OpenOption> READ_ONLY = Set.of(StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS);

    /**
     * A channel on the file at the path, when this JVM holds a kernel lock on its inode; otherwise null. Java has no fstat(2), but
     * its table of file locks is keyed by device and inode of the open file, so that an overlapping lock proves the same inode.
     */
    static FileChannel sameInode(Path path) throws IOException {
        BasicFileAttributes attributes = attributes(path);
        if (attributes == null || !attributes.isRegularFile()) {
            return null;
        }
        FileChannel channel;
        try {
            channel = FileChannel.open(path, READ_ONLY);
        } catch (NoSuchFileException | AccessDeniedException e) {
            return null;
        }
        try {
            channel.tryLock(0, Long.MAX_VALUE, true);
        } catch (OverlappingFileLockException e) {
            return channel;
        }
        channel.close();
        return null;
    }

    /** The attributes of the file itself, links not followed, or null when there is none. */
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
        return attributes.isDirectory() ? "a folder" : attributes.isSymbolicLink() ? "a symbolic link" : "a special file";
    }

    /** Adds the command's process to the record. Without it the run's id in the environment still proves what lives. */
    void recordCommand(ProcessId command) {
        try {
            FileChannel node = channels.get(0);
            node.write(ByteBuffer.wrap(Owner.commandText(command).getBytes(StandardCharsets.UTF_8)), node.size());
        } catch (IOException e) {
            // a full disk here must not end a command that runs
        }
    }

    /**
     * Removes the lock file, outside the gate, then lets the kernel lock go.
     *
     * @return false when the path no longer leads to this lock: then it is left alone
     * @throws TaskException 74 when it has become a folder (EISDIR) or cannot be removed
     */
    boolean release() throws TaskException {
        try {
            BasicFileAttributes attributes = attributes(path);
            if (attributes != null && attributes.isDirectory()) {
                throw new TaskException(ExitStatus.IO, "cannot release the lock: lock file " + path
                    + " has become a folder (EISDIR): remove it with: rmdir " + path);
            }
            FileChannel same = sameInode(path);
            if (same != null) {
                channels.add(same);
            } else if (attributes == null || inode == null || !inode.equals(attributes.fileKey())) {
                return false;
            }
            Files.delete(path);
            return true;
        } catch (NoSuchFileException e) {
            return false;
        } catch (IOException e) {
            throw new TaskException(ExitStatus.IO, "cannot release the lock: lock file " + path + ": " + Text.reason(e)
                + "; remove it with: rm " + path, e);
        } finally {
            abandon();
        }
    }

    /** Lets the kernel lock go and leaves the lock file: what still runs makes it orphaned. */
    void abandon() {
        for (FileChannel channel : channels) {
            try {
                channel.close();
            } catch (IOException e) {
                // the descriptor is gone all the same, see close(2)
            }
        }
        // only now, since an open channel would look like the gate's own; only its own entry, since another thread may hold the lock by now
        HELD.remove(path, owner);
    }
}

/** What proves whether a lock whose kernel lock is free still has a living run. */
final class Evidence {
    private static final Set<String> LOCAL_FILE_SYSTEMS = Set.of("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs",
        "f2fs", "jfs", "ramfs", "bcachefs", "apfs", "hfs", "ufs", "NTFS");

    static Verdict judge(Path path, Owner owner) throws IOException {
        if (owner == null) {
            return Verdict.of(Verdict.State.FOREIGN, path, null, "taskrunner did not make it, it holds the task off until somebody"
                + " removes it: rm " + path);
        }
        if (!Processes.HAVE_PROC && System.getProperty("os.name").equals("Linux")) {
            return unknown(path, owner, "without /proc nothing can be proven: mount it");
        }
        if (!owner.bootId().equals(Processes.bootId())) {
            if (!owner.host().equals(Processes.host())) {
                return unknown(path, owner, "it was made on another machine, " + owner.host());
            }
            String type = Files.getFileStore(path).type();
            return LOCAL_FILE_SYSTEMS.contains(type) ? stale(path, owner, "the machine was started again since")
                : unknown(path, owner, "it was made before the last boot, on a " + type + " file system that others may share");
        }
        if (!owner.pidNamespace().equals(Processes.pidNamespace())) {
            return unknown(path, owner, "it was made in another container (pid namespace)");
        }
        if (Processes.lives(owner.runner())) {
            return Verdict.of(Verdict.State.HELD, path, owner, "its kernel lock is gone: the lock file was copied or restored");
        }
        if (!Processes.HAVE_PROC) {
            return byRecord(path, owner);
        }
        Verdict first = byEnvironment(path, owner);
        // a process that forks or executes while /proc is read can be missed once
        return first.state() == Verdict.State.STALE ? byEnvironment(path, owner) : first;
    }

    private static Verdict byEnvironment(Path path, Owner owner) throws IOException {
        List<Long> alive = new ArrayList<>();
        List<Long> hidden = new ArrayList<>();
        Map<Long, Processes.Entry> all = Processes.all();
        for (Processes.Entry process : all.values()) {
            if (process.dead() || process.id().equals(Processes.self())) {
                continue;
            }
            if (process.id().equals(owner.command())) {
                alive.add(process.id().pid());
                continue;
            }
            if (process.id().start() < owner.runner().start()) {
                continue;
            }
            switch (Processes.belongsTo(process, owner.runId())) {
                case YES -> alive.add(process.id().pid());
                case HIDDEN -> {
                    // A run's process whose parent died belongs to pid 1 or another reaper: below an older process it was never of the run.
                    Processes.Entry parent = all.get(process.parent());
                    if (parent == null || process.parent() == 1 || parent.id().start() >= owner.runner().start()) {
                        hidden.add(process.id().pid());
                    }
                }
                case NO -> {
                }
            }
        }
        if (!alive.isEmpty()) {
            return new Verdict(Verdict.State.ORPHANED, path, owner, alive, null);
        }
        if (!all.containsKey(1L)) {
            return unknown(path, owner, "/proc hides other users' processes (hidepid), and one may be of its run");
        }
        if (!hidden.isEmpty()) {
            return unknown(path, owner, "its taskrunner is dead, but " + Text.pids(hidden) + " started later and may be of its run (environment"
                + " not readable)");
        }
        return stale(path, owner, null);
    }

    private static Verdict byRecord(Path path, Owner owner) throws IOException {
        if (owner.command() == null) {
            return unknown(path, owner, "its taskrunner is dead and the record names no command");
        }
        return Processes.lives(owner.command())
            ? new Verdict(Verdict.State.ORPHANED, path, owner, List.of(owner.command().pid()), null) : stale(path, owner, null);
    }

    private static Verdict stale(Path path, Owner owner, String why) throws IOException {
        if (!Processes.isOwn(path)) {
            return unknown(path, owner, "its run is dead, but the file belongs to another user, " + Files.getOwner(path,
                LinkOption.NOFOLLOW_LINKS).getName());
        }
        return Verdict.of(Verdict.State.STALE, path, owner, why);
    }

    private static Verdict unknown(Path path, Owner owner, String why) {
        return Verdict.of(Verdict.State.UNKNOWN, path, owner, why);
    }

    private Evidence() {
    }
}

/**
 * The gate: whoever holds the kernel lock on the inode at its path is alone in looking at, making or taking over the file beside it,
 * and in changing the counter. Closing it leaves the gate.
 */
final class Gate implements AutoCloseable {
    /** How long a request waits to enter: nobody stays inside longer than milliseconds. */
    private static final long PATIENCE_NANOS = Duration.ofSeconds(10).toNanos();
    /** File locks are the JVM's, not a thread's: only one thread may be at a gate. */
    private static final ReentrantLock THIS_JVM = new ReentrantLock();
    private static final FileAttribute<?>[] MODE = Processes.mode(PosixFilePermission.OWNER_READ, PosixFilePermission.OWNER_WRITE,
        PosixFilePermission.GROUP_READ, PosixFilePermission.OTHERS_READ);

    private final Path path;
    private final List<FileChannel> channels = new ArrayList<>(3);

    private Gate(Path path, FileChannel node, FileChannel same) {
        this.path = path;
        channels.add(node);
        channels.add(same);
    }

    Path path() {
        return path;
    }

    /**
     * Waits up to 10 s for the gate.
     *
     * @param content how the file begins that a crash may have left here; one with other content is the user's
     * @throws TaskException 73 when the gate cannot be made, 74 when somebody stays in it
     */
    static Gate enter(Path path, String content) throws TaskException, IOException {
        long deadline = System.nanoTime() + PATIENCE_NANOS;
        try {
            if (!THIS_JVM.tryLock(PATIENCE_NANOS, TimeUnit.NANOSECONDS)) {
                throw stuck(path, "another execution in this process is inside");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw stuck(path, "interrupted");
        }
        Gate gate = null;
        try {
            for (int pause = 1; gate == null; pause = Math.min(pause * 2, 8)) {
                gate = tryEnter(path, content);
                if (gate == null) {
                    if (System.nanoTime() > deadline) {
                        throw stuck(path, Processes.lockHolder(path));
                    }
                    sleep(pause);
                }
            }
            return gate;
        } finally {
            if (gate == null) {
                THIS_JVM.unlock();
            }
        }
    }

    private static Gate tryEnter(Path path, String content) throws TaskException, IOException {
        FileChannel node = open(path);
        if (node == null) {
            return null;
        }
        FileChannel same = null;
        try {
            if (node.tryLock() == null) {
                return null;
            }
            same = LockFile.sameInode(path);
            if (same == null) {
                return null;
            }
            if (node.size() > 0) {
                String text = Text.read(node, content.length());
                if (!text.startsWith(content) && !content.startsWith(text)) {
                    throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot create the lock: " + path
                        + " is needed for it but holds something else: move it away or choose another --lockfile");
                }
            }
            if (!Processes.isOwn(path)) {
                Files.delete(path);
                return null;
            }
            Gate gate = new Gate(path, node, same);
            node = null;
            return gate;
        } catch (FileSystemException e) {
            throw cannotCreate(path, e);
        } catch (IOException e) {
            throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot lock " + path + ": " + Text.reason(e)
                + "; the lock file needs a file system with kernel locks, such as /run/lock", e);
        } finally {
            if (node != null) {
                node.close();
                if (same != null) {
                    same.close();
                }
            }
        }
    }

    private static final Set<OpenOption> EXISTING = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
    /** O_EXCL, since fs.protected_regular (proc_sys_fs(5)) forbids O_CREAT on another user's file even to root. */
    private static final Set<OpenOption> NEW = Set.of(StandardOpenOption.READ, StandardOpenOption.WRITE,
        StandardOpenOption.CREATE_NEW, LinkOption.NOFOLLOW_LINKS);

    /** The file at the gate's path, made if need be; null when it changed meanwhile or is another user's. */
    private static FileChannel open(Path path) throws TaskException {
        try {
            BasicFileAttributes attributes = LockFile.attributes(path);
            if (attributes == null) {
                return FileChannel.open(path, NEW, MODE);
            }
            if (!attributes.isRegularFile()) {
                throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot create the lock: " + LockFile.kind(attributes) + " is at " + path
                    + ": remove it or choose another --lockfile");
            }
            return FileChannel.open(path, EXISTING);
        } catch (NoSuchFileException | FileAlreadyExistsException e) {
            if (!Files.isDirectory(path.getParent())) {
                throw cannotCreate(path, e);
            }
            return null;
        } catch (AccessDeniedException e) {
            if (Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
                return null;
            }
            throw cannotCreate(path, e);
        } catch (IOException e) {
            throw cannotCreate(path, e);
        }
    }

    private static TaskException cannotCreate(Path path, IOException e) {
        return new TaskException(ExitStatus.CANNOT_CREATE, "cannot create the lock: " + path + ": " + Text.reason(e)
            + "; see that this user may write in " + path.getParent() + " and that the disk is not full", e);
    }

    private static TaskException stuck(Path path, String who) {
        return new TaskException(ExitStatus.IO, path + " has been in use for 10 s, which should take milliseconds: " + who);
    }

    private static void sleep(int millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** Replaces the node's content and forces it to the disk, before the node becomes a lock file. */
    void write(String text) throws IOException {
        FileChannel node = channels.get(0);
        node.truncate(0);
        ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
            node.write(bytes, bytes.position());
        }
        node.force(false);
    }

    /** Keeps one more channel on the node's inode open, since closing it would drop the kernel lock. */
    void keepOpen(FileChannel channel) {
        channels.add(channel);
    }

    /** Leaves the gate and hands over the node's channels with their kernel lock; null when the gate was removed meanwhile. */
    List<FileChannel> leaveWithNode() throws IOException {
        if (!unlink()) {
            return null;
        }
        List<FileChannel> node = new ArrayList<>(channels);
        channels.clear();
        return node;
    }

    private boolean unlink() throws IOException {
        FileChannel same = LockFile.sameInode(path);
        if (same != null) {
            channels.add(same);
            Files.deleteIfExists(path);
        }
        return same != null;
    }

    @Override
    public void close() throws IOException {
        try {
            if (!channels.isEmpty()) {
                unlink();
            }
        } finally {
            for (FileChannel channel : channels) {
                channel.close();
            }
            THIS_JVM.unlock();
        }
    }
}

/**
 * The failure counter: contentions since the lock was last acquired or the threshold was last reported. To be used inside the gate
 * only, but for {@link #read}.
 */
final class FailureCounter {
    static final Count NOT_COUNTED = new Count(-1, false);
    private static final int LONGEST = 4096;
    private static final Set<OpenOption> NEW = Set.of(StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW, LinkOption.NOFOLLOW_LINKS);
    private final Path file;
    private final int threshold;

    /** @param value the counter, or on a report the number of contentions reached, or -1 when not counted */
    record Count(long value, boolean reported) {
    }

    FailureCounter(Path file, int threshold) {
        this.file = file;
        this.threshold = threshold;
    }

    /**
     * The counter's value; 0 without a file or with an empty one.
     *
     * @throws TaskException 65 when the file holds anything but an integer from 0 to 2^63-1, 74 when it cannot be read
     */
    long read() throws TaskException {
        try (FileChannel channel = open(StandardOpenOption.READ)) {
            return channel == null ? 0 : parse(Text.read(channel, LONGEST));
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

    /**
     * Removes the counter file, unless the threshold is 0 or the file holds no counter.
     *
     * @return what it held, for {@link #restore}
     */
    long reset() throws TaskException {
        if (threshold == 0) {
            return 0;
        }
        try {
            long count = 0;
            if (LockFile.attributes(file) != null) {
                count = read();
                Files.deleteIfExists(file);
            }
            return count;
        } catch (IOException e) {
            throw unusable(e);
        }
    }

    /** Takes a reset back. */
    void restore(long count) throws TaskException {
        if (count > 0) {
            write(count);
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

    /** One write that covers the old content, so that a full disk or a crash loses nothing, then the rest is cut off. */
    private void write(long value) throws TaskException {
        boolean created = false;
        try {
            FileChannel existing = open(StandardOpenOption.READ, StandardOpenOption.WRITE);
            try (FileChannel channel = existing == null ? FileChannel.open(file, NEW) : existing) {
                created = existing == null;
                String text = value + "\n";
                String blanks = "\n".repeat((int) Math.max(0, channel.size() - text.length()));
                ByteBuffer bytes = ByteBuffer.wrap((text + blanks).getBytes(StandardCharsets.US_ASCII));
                while (bytes.hasRemaining()) {
                    channel.write(bytes, bytes.position());
                }
                channel.truncate(text.length());
            }
        } catch (IOException e) {
            if (created) {
                try {
                    Files.deleteIfExists(file);
                } catch (IOException ignored) {
                    // an empty counter file counts as 0
                }
            }
            throw unusable(e);
        }
    }

    private FileChannel open(OpenOption... options) throws IOException, TaskException {
        BasicFileAttributes attributes = LockFile.attributes(file);
        if (attributes == null) {
            return null;
        }
        if (!attributes.isRegularFile()) {
            throw new CounterException(ExitStatus.IO, "counter file " + file + ": " + LockFile.kind(attributes)
                + " is in its place: remove it or choose another --counter-file", null);
        }
        Set<OpenOption> all = new java.util.HashSet<>(List.of(options));
        all.add(LinkOption.NOFOLLOW_LINKS);
        return FileChannel.open(file, all);
    }

    private long parse(String text) throws TaskException {
        String number = text.strip();
        if (number.isEmpty()) {
            return 0;
        }
        try {
            boolean digits = text.length() < LONGEST;
            for (int i = 0; i < number.length(); i++) {
                digits &= number.charAt(i) >= '0' && number.charAt(i) <= '9';
            }
            if (digits) {
                return Long.parseLong(number);
            }
        } catch (NumberFormatException e) {
            // falls through to the same message
        }
        throw new CounterException(ExitStatus.DATA, "counter file " + file + " holds something other than a counter: it is left as it is;"
            + " choose another --counter-file or empty it", null);
    }

    private TaskException unusable(IOException e) {
        return new CounterException(ExitStatus.IO, "counter file " + file + ": " + Text.reason(e)
            + "; see that this user may write it and that the disk is not full", e);
    }
}

/** A process, its descendants and, on Linux, every process that carries the run's id in its environment. */
final class ProcessTree {
    /** How long after SIGKILL a process may take to go: one in uninterruptible sleep does not. */
    private static final long UNKILLABLE_NANOS = Duration.ofSeconds(5).toNanos();
    private static final int LONGEST_PAUSE = 100;
    private final ProcessId root;
    private final String runId;
    private final Map<ProcessId, Boolean> members = new LinkedHashMap<>();
    private volatile boolean hurry;
    /** When SIGKILL followed, or 0. */
    private long killed;

    /** @param root or null @param runId or null */
    ProcessTree(ProcessId root, String runId) {
        this.root = root;
        this.runId = runId;
        if (root != null) {
            members.put(root, false);
        }
    }

    ProcessId root() {
        return root;
    }

    /** Lets SIGKILL follow now. */
    void hurry() {
        hurry = true;
    }

    /**
     * Sends SIGTERM to all, SIGKILL after the given time, until all are gone.
     *
     * @return the pids that cannot be killed
     */
    synchronized List<Long> end(Duration killAfter) {
        long killAt = System.nanoTime() + killAfter.toNanos();
        for (int pause = 5;; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
            List<ProcessId> alive = alive();
            if (alive.isEmpty()) {
                return List.of();
            }
            long now = System.nanoTime();
            if (killed != 0 && now - killed > UNKILLABLE_NANOS) {
                List<Long> survivors = new ArrayList<>();
                for (ProcessId id : alive) {
                    survivors.add(id.pid());
                }
                hurry = true;
                return survivors;
            }
            boolean kill = killed != 0 || hurry || now - killAt >= 0;
            if (kill && killed == 0) {
                killed = now;
            }
            try {
                for (ProcessId id : alive) {
                    if (kill || !members.get(id)) {
                        Processes.signal(id, kill);
                        members.put(id, true);
                    }
                }
            } catch (UncheckedIOException e) {
                // tried again at the next look
            }
            try {
                Thread.sleep(pause);
            } catch (InterruptedException e) {
                hurry = true;
            }
        }
    }

    /** The members that live or may live, found anew: once a member, always a member, also after its parent died. */
    private List<ProcessId> alive() {
        try {
            return alive(Processes.all());
        } catch (UncheckedIOException e) {
            return List.copyOf(members.keySet());
        }
    }

    private List<ProcessId> alive(Map<Long, Processes.Entry> all) {
        List<ProcessId> alive = new ArrayList<>();
        boolean found = true;
        while (found) {
            found = false;
            for (Processes.Entry process : all.values()) {
                ProcessId id = process.id();
                if (!process.dead() && !members.containsKey(id) && !id.equals(Processes.self())) {
                    Processes.Entry parent = all.get(process.parent());
                    if (parent != null && members.containsKey(parent.id())
                            || runId != null && Processes.belongsTo(process, runId) == Processes.Belongs.YES) {
                        members.put(id, false);
                        found = true;
                    }
                }
            }
        }
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
 * What the operating system tells about processes: proc(5) on Linux, {@link ProcessHandle} elsewhere. A process's start is field 22
 * of {@code /proc/PID/stat} (clock ticks since boot, which a step of the clock does not move), elsewhere milliseconds since 1970.
 */
final class Processes {
    static final boolean WINDOWS = File.separatorChar == '\\';
    static final boolean HAVE_PROC = new File("/proc/self/stat").exists();
    private static final int LONGEST_TRANSITION_MILLIS = 500;
    /** PF_KTHREAD of Linux's include/linux/sched.h. */
    private static final long KERNEL_THREAD = 0x00200000;
    private static ProcessId self;
    private static String bootId;

    /** @param parent its pid @param dead zombies without a thread are, and kernel threads: neither runs a program */
    record Entry(ProcessId id, long parent, boolean dead, String name) {
    }

    /** Whether a process belongs to a run. */
    enum Belongs { YES, NO, HIDDEN }

    static List<String> shell(String command) {
        return WINDOWS ? List.of("cmd", "/c", command) : List.of("/bin/sh", "-c", "--", command);
    }

    static synchronized ProcessId self() {
        if (self == null) {
            Entry entry = HAVE_PROC ? stat("self") : null;
            self = entry != null ? entry.id() : idOf(ProcessHandle.current());
        }
        return self;
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
                all.put(handle.pid(), new Entry(idOf(handle), parent.isPresent() ? parent.get().pid() : 0, !handle.isAlive(), ""));
            }
        }
        return all;
    }

    /**
     * {@code pid (name) state ppid …}, where the name may hold blanks and parentheses; null when there is no such process or it is hidden.
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
            int field = close + 2;
            char state = stat.charAt(field);
            long parent = 0;
            boolean kernelThread = false;
            long threads = 0;
            long start = 0;
            for (int number = 3; number <= 22; number++) {
                int end = stat.indexOf(' ', field);
                if (number == 4) {
                    parent = Long.parseLong(stat.substring(field, end));
                } else if (number == 9) {
                    kernelThread = (Long.parseLong(stat.substring(field, end)) & KERNEL_THREAD) != 0;
                } else if (number == 20) {
                    threads = Long.parseLong(stat.substring(field, end));
                } else if (number == 22) {
                    start = Long.parseLong(stat.substring(field, end));
                }
                field = end + 1;
            }
            return new Entry(new ProcessId(Long.parseLong(stat.substring(0, open - 1)), start), parent,
                state == 'Z' && threads <= 1 || state == 'X' || kernelThread,
                stat.substring(open + 1, close));
        } catch (IOException e) {
            if (new File("/proc/" + pid, "stat").canRead()) {
                throw new UncheckedIOException(e);
            }
            return null;
        }
    }

    /** Whether the process carries the run's id in its environment, as proc(5) shows it to the same user and to root. */
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
                    return carries("\0" + new String(Files.readAllBytes(environment), StandardCharsets.ISO_8859_1) + "\0", runId)
                        ? Belongs.YES : Belongs.NO;
                } catch (AccessDeniedException e) {
                    return Belongs.HIDDEN;
                } catch (IOException e) {
                    // a process that is ending (ESRCH, while its state is still R) is gone at the next look
                }
            }
            if (tries == LONGEST_TRANSITION_MILLIS) {
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
        if (environment.contains("\0" + Owner.RUN_ID + "=" + runId + "\0")) {
            return true;
        }
        int outer = environment.indexOf("\0" + Owner.OUTER_RUN_IDS + "=");
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
     * Whether this process was started without a stdin ({@code <&-}): the first file that the JVM opened, {@code lib/modules} of its
     * own, then has descriptor 0, and the command would read it.
     */
    static boolean stdinIsClosed() {
        try {
            return HAVE_PROC && Files.readSymbolicLink(Path.of("/proc/self/fd/0")).endsWith("lib/modules");
        } catch (IOException e) {
            return true;
        }
    }

    /** As the XDG base directory specification has it; the JVM itself goes by the user database. */
    static Path home() {
        String home = System.getenv("HOME");
        return Path.of(home != null && home.startsWith("/") ? home : System.getProperty("user.home"));
    }

    static String pidNamespace() {
        try {
            return HAVE_PROC ? Files.readSymbolicLink(Path.of("/proc/self/ns/pid")).toString() : "";
        } catch (IOException e) {
            return "";
        }
    }

    static synchronized String bootId() {
        if (bootId == null) {
            bootId = firstLine("/proc/sys/kernel/random/boot_id", "");
        }
        return bootId;
    }

    static String host() {
        String host = firstLine("/proc/sys/kernel/hostname", null);
        if (host == null) {
            host = System.getenv(WINDOWS ? "COMPUTERNAME" : "HOSTNAME");
        }
        if (host == null) {
            try {
                host = java.net.InetAddress.getLocalHost().getHostName();
            } catch (java.net.UnknownHostException e) {
                host = "localhost";
            }
        }
        return host;
    }

    private static String firstLine(String file, String otherwise) {
        try {
            return read(file).strip();
        } catch (IOException e) {
            return otherwise;
        }
    }

    /** Latin-1, so that every byte stays apart. */
    private static String read(String file) throws IOException {
        try (FileInputStream in = new FileInputStream(file)) {
            return new String(in.readAllBytes(), StandardCharsets.ISO_8859_1);
        }
    }

    /** The attribute of a new file, where the system has such. */
    static FileAttribute<?>[] mode(PosixFilePermission... permissions) {
        return WINDOWS ? new FileAttribute<?>[0] : new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(Set.of(permissions))};
    }

    /** Whether the file belongs to the user of this process. */
    static boolean isOwn(Path path) throws IOException {
        if (HAVE_PROC) {
            return Files.getAttribute(path, "unix:uid", LinkOption.NOFOLLOW_LINKS).equals(Files.getAttribute(Path.of("/proc/self"),
                "unix:uid"));
        }
        return Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName().endsWith(System.getProperty("user.name"));
    }

    /** Who has a kernel lock on the file, as proc_locks(5) tells, for a message. */
    static String lockHolder(Path path) {
        try {
            String inode = ":" + Files.getAttribute(path, "unix:ino", LinkOption.NOFOLLOW_LINKS) + " ";
            for (String line : read("/proc/locks").split("\n")) {
                if (line.contains(inode)) {
                    return "pid " + line.strip().split(" +")[4] + " holds it; if that process is stopped or stuck, kill it";
                }
            }
            return "it belongs to " + Files.getOwner(path, LinkOption.NOFOLLOW_LINKS).getName() + ", and this user may not open it; run"
                + " the task as one user only, or remove the file as its owner: rm " + path;
        } catch (IOException | RuntimeException e) {
            return "its holder is not to be found; try again";
        }
    }

    private Processes() {
    }
}

/**
 * taskrunner's own log lines: to stderr or a file, as text or JSON. With {@code --quiet} lines for stderr and the command's output
 * are held back in a temporary file, and shown in their order when the exit status is not 0.
 */
final class Log {
    private final Request request;
    private final Owner owner;
    private OutputStream file;
    private HeldBack heldBack;

    Log(Request request, Owner owner) {
        this.request = request;
        this.owner = owner;
        if (request.quiet()) {
            heldBack = new HeldBack(owner.runId());
        }
        if (request.logFile() != null) {
            try {
                file = Files.newOutputStream(request.logFile(), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            } catch (IOException e) {
                warn("log", "cannot write log file " + request.logFile() + ": " + Text.reason(e) + "; log lines go to stderr");
            }
        }
    }

    void debug(String event, String message) {
        if (request.verbose()) {
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

    /** The last line; with {@code --quiet} all that was held back comes out now, or is dropped. */
    void outcome(Outcome outcome, int exitStatus) {
        Json json = new Json().put("exit_status", exitStatus);
        if (outcome.signal() != null) {
            json.put("signal", outcome.signal());
        }
        if (outcome.run() != null) {
            json.put("started", Text.time(outcome.run().startedMillis()));
            json.raw("duration_seconds", Text.seconds(outcome.run().durationMillis()));
        }
        if (outcome.count() >= 0) {
            json.put("count", outcome.count());
        }
        json.put("threshold", request.threshold());
        if (outcome.verdict() != null) {
            json.put("lock_state", outcome.verdict().state().text());
            if (outcome.verdict().owner() != null) {
                json.put("holder", outcome.verdict().holder());
            }
        }
        line(outcome.level(), outcome.event(), outcome.message(request), json);
        if (request.verbose() && outcome instanceof Outcome.Broken broken) {
            java.io.StringWriter trace = new java.io.StringWriter();
            broken.error().printStackTrace(new PrintWriter(trace, true));
            toStderr(trace.toString());
        }
        if (heldBack != null) {
            heldBack.close(exitStatus != ExitStatus.OK);
        }
    }

    /** With {@code --quiet}, lets the command write where its output is held back. */
    void holdBackOutput(ProcessBuilder builder) {
        if (heldBack != null) {
            try {
                heldBack.receive(builder);
            } catch (IOException e) {
                heldBack.close(true);
                heldBack = null;
                warn("quiet", "cannot hold output back in " + System.getProperty("java.io.tmpdir") + ": " + Text.reason(e)
                    + "; it is shown as it comes");
            }
        }
    }

    /** The command has its output open now. */
    void outputOpened() {
        if (heldBack != null) {
            heldBack.unlink();
        }
    }

    private synchronized void line(String level, String event, String text, Json more) {
        String message = Text.printable(text);
        long now = System.currentTimeMillis();
        String plain = Text.time(now).substring(0, 19) + "Z " + level + " taskrunner[" + owner.runner().pid() + "]: " + message + "\n";
        String line = plain;
        if (request.jsonLog()) {
            Json json = new Json().put("time", Text.time(now)).put("level", level).put("event", event).put("message", message)
                .put("run_id", owner.runId()).put("lockfile", request.lockFile().toString());
            line = (more == null ? json : json.putAll(more)) + "\n";
        }
        if (file != null) {
            try {
                file.write(line.getBytes(StandardCharsets.UTF_8));
                if (!level.equals("ERROR")) {
                    return;
                }
                line = plain;
            } catch (IOException e) {
                file = null;
                warn("log", "cannot write log file " + request.logFile() + ": " + Text.reason(e) + "; log lines go to stderr");
            }
        }
        toStderr(line);
    }

    private void toStderr(String text) {
        print(text.getBytes(StandardCharsets.UTF_8), System.err);
    }

    /** Shows output of the command, or holds it back. A reader that is slow keeps only who writes to it waiting. */
    void print(byte[] bytes, OutputStream stream) {
        synchronized (this) {
            if (heldBack != null) {
                heldBack.write(bytes);
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

/** Output that is held back in a temporary file, which has no name any more once the command writes to it. */
final class HeldBack {
    private final Path path;
    private final java.io.ByteArrayOutputStream early = new java.io.ByteArrayOutputStream();
    /** Appends, as the command does, since what was left behind may write at the same time. */
    private FileChannel channel;
    private FileChannel reader;

    HeldBack(String runId) {
        path = Path.of(System.getProperty("java.io.tmpdir"), "taskrunner-" + runId + ".out");
    }

    /** Makes the file and lets the command's stdout and stderr be appended to it. */
    void receive(ProcessBuilder builder) throws IOException {
        channel = FileChannel.open(path, Set.of(StandardOpenOption.APPEND, StandardOpenOption.CREATE_NEW),
            Processes.mode(PosixFilePermission.OWNER_READ, PosixFilePermission.OWNER_WRITE));
        reader = FileChannel.open(path, StandardOpenOption.READ);
        write(early.toByteArray());
        builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(path.toFile()));
    }

    /** Takes the file's name away, so that no crash leaves it behind; where open files keep their name, later. */
    void unlink() {
        try {
            Files.deleteIfExists(path);
        } catch (IOException e) {
            // Windows: close() removes it
        }
    }

    void write(byte[] bytes) {
        if (channel == null) {
            early.writeBytes(bytes);
            return;
        }
        try {
            channel.write(ByteBuffer.wrap(bytes));
        } catch (IOException e) {
            System.err.write(bytes, 0, bytes.length);
        }
    }

    /** Ends it. @param show whether all goes to stderr, in its order */
    void close(boolean show) {
        try {
            if (show && reader == null) {
                System.err.write(early.toByteArray());
            } else if (show) {
                // what a process that was left behind goes on writing is not waited for
                long left = reader.size();
                byte[] buffer = new byte[8192];
                for (int n; left > 0 && (n = reader.read(ByteBuffer.wrap(buffer, 0, (int) Math.min(left, buffer.length)))) > 0; left -= n) {
                    System.err.write(buffer, 0, n);
                }
            }
            System.err.flush();
            if (reader != null) {
                reader.close();
                channel.close();
            }
        } catch (IOException e) {
            System.err.println("taskrunner: cannot show the output that was held back: " + Text.reason(e));
        }
        unlink();
    }
}

/** The command of {@code --notify}. */
final class Notification {
    static final int LONGEST_SECONDS = 30;
    /** execve(2) refuses a string of 128 KiB or more. */
    private static final int LONGEST_VALUE = 30_000;

    /** Starts it with its output on stderr and without input. */
    static Process start(Request request, Owner owner, Outcome outcome, String event, String message, int exitStatus)
            throws IOException {
        List<String> command = Processes.WINDOWS ? Processes.shell(request.notifyCommand())
            : List.of("/bin/sh", "-c", "exec /bin/sh -c -- \"$1\" >&2", "notify", request.notifyCommand());
        ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT)
            .redirectOutput(Processes.WINDOWS ? ProcessBuilder.Redirect.DISCARD : ProcessBuilder.Redirect.INHERIT)
            .redirectInput(ProcessBuilder.Redirect.from(new File(Processes.WINDOWS ? "NUL" : "/dev/null")));
        if (request.quiet()) {
            builder.redirectError(ProcessBuilder.Redirect.DISCARD).redirectOutput(ProcessBuilder.Redirect.DISCARD);
        }
        put(builder, "EVENT", event);
        put(builder, "MESSAGE", message);
        put(builder, "RUN", owner.runId());
        put(builder, "LOCKFILE", request.lockFile().toString());
        put(builder, "COMMAND", request.command());
        put(builder, "EXIT_STATUS", Integer.toString(exitStatus));
        put(builder, "COUNT", outcome.count() < 0 ? "" : Long.toString(outcome.count()));
        put(builder, "THRESHOLD", Integer.toString(request.threshold()));
        Verdict verdict = outcome.verdict();
        put(builder, "HOLDER_PID", verdict == null || verdict.owner() == null ? "" : Long.toString(verdict.owner().runner().pid()));
        return builder.start();
    }

    private static void put(ProcessBuilder builder, String name, String value) {
        builder.environment().put("TASKRUNNER_" + name, value.length() > LONGEST_VALUE ? value.substring(0, LONGEST_VALUE) : value);
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

    /** A request that did not run the command keeps what the file before says of the last run. */
    static void write(Request request, Outcome outcome, int exitStatus) throws IOException, TaskException {
        Path file = request.metricsFile();
        try (Gate gate = Gate.enter(LockFile.gateOf(file), "# HELP taskrunner_")) {
            Map<String, String> values = before(file);
            Run run = outcome.run();
            if (run != null) {
                values.put(START, Text.seconds(run.startedMillis()));
                values.put(DURATION, Text.seconds(run.durationMillis()));
                if (outcome instanceof Outcome.Succeeded) {
                    values.put(SUCCESS, Text.seconds(run.startedMillis() + run.durationMillis()));
                }
            }
            if (!(outcome instanceof Outcome.Contended)) {
                values.put(STATUS, Integer.toString(exitStatus));
            }
            if (outcome.count() >= 0) {
                values.put(CONTENTIONS, Long.toString(outcome.count()));
            } else if (run != null) {
                values.put(CONTENTIONS, "0");
            }
            values.put(THRESHOLD, Integer.toString(request.threshold()));
            gate.write(text(values, request.lockFile()));
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

    private static String text(Map<String, String> values, Path lockFile) {
        String label = lockFile.toString().replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
        StringBuilder text = new StringBuilder();
        metric(text, values, label, START, "when the command was last started");
        metric(text, values, label, SUCCESS, "when the command last succeeded");
        metric(text, values, label, DURATION, "how long the command last ran");
        metric(text, values, label, STATUS, "exit status of the last run or error");
        metric(text, values, label, CONTENTIONS, "contentions since the lock was last acquired or the threshold last reported");
        metric(text, values, label, THRESHOLD, "contentions that are tolerated");
        return text.toString();
    }

    private static void metric(StringBuilder text, Map<String, String> values, String label, String name, String help) {
        if (values.containsKey(name)) {
            text.append("# HELP ").append(name).append(' ').append(help).append("\n# TYPE ").append(name).append(" gauge\n")
                .append(name).append("{lockfile=\"").append(label).append("\"} ").append(values.get(name)).append('\n');
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

/** The subcommand {@code status}. */
final class Status {
    static int run(Arguments arguments) throws TaskException {
        Options.requireAll(arguments, "--lockfile");
        Path lockFile = Options.path(arguments, "--lockfile");
        boolean counts = arguments.has("--counter-file");
        if (counts != arguments.has("--threshold")) {
            throw new UsageException(arguments.command(), "--threshold and --counter-file go together");
        }
        int threshold = Options.threshold(arguments);
        Path counterFile = Options.path(arguments, "--counter-file");
        Request.checkFolder("lock file", lockFile, ExitStatus.CANNOT_CREATE);
        Verdict verdict = LockFile.judge(lockFile);
        long count = counts ? new FailureCounter(counterFile, threshold).read() : -1;
        if (arguments.has("--json")) {
            Json json = new Json().put("lockfile", lockFile.toString()).put("state", verdict.state().text())
                .put("message", verdict.message());
            if (verdict.owner() != null) {
                json.put("holder", verdict.holder());
            }
            if (counts) {
                json.put("count", count).put("threshold", threshold);
            }
            System.out.println(json);
        } else {
            System.out.println(Text.printable(verdict.message()) + (counts ? "; contentions " + count + ", threshold " + threshold : ""));
        }
        switch (verdict.state()) {
            case FREE:
                return ExitStatus.OK;
            case STALE:
            case ORPHANED:
                return ExitStatus.STATUS_LEFT_BEHIND;
            default:
                return ExitStatus.STATUS_HELD;
        }
    }

    private Status() {
    }
}

/**
 * The subcommands {@code install} and {@code uninstall}: a command that starts without JBang. It is made of the class path's jars and a
 * start-up archive for this JDK in the user's data folder ({@code $XDG_DATA_HOME}, else {@code ~/.local/share}), and a launcher.
 *
 * @param name of the command and of its data folder
 * @param jvmOptions of the launcher, the same as the script's own: the C1 compiler, the smallest collector, no shared counters, small
 *     stacks, the caller's limit of open files left to the command, and no method handle made for the reflection inside the JDK (5 % of an
 *     installed run on JDK 25)
 * @param training the main class and its arguments that use what a run uses, for the archive
 */
record Installation(String name, String mainClass, List<String> jvmOptions, List<String> training) {
    static final Installation TASKRUNNER = new Installation("taskrunner", "taskrunner",
        List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xss256k", "-XX:-MaxFDLimit",
            "-Djdk.reflect.useNativeAccessorOnly=true"),
        List.of("Training"));

    /**
     * The time of an archive that nobody has changed since it was made. A damaged one can crash the JVM, and its own check
     * ({@code -XX:+VerifySharedSpaces}) costs 7 to 12 % of a run; the launcher sees without cost that a changed one is newer than the jar.
     */
    private static final FileTime UNTOUCHED = FileTime.fromMillis(946_684_800_000L);

    static Command command(String name) {
        return new Command("install", "Installs the command " + name + ", which starts without JBang.",
            List.of(name + " install [--bin DIR]"), null, List.of(new Option("--bin", "DIR", null, "where the launcher goes (default: ~/.local/bin)"),
                new Option("--verbose", null, null, "show what making the start-up archive said")), List.of());
    }

    static Command undo(String name) {
        return new Command("uninstall", "Removes what install wrote.", List.of(name + " uninstall [--bin DIR]"), null,
            List.of(new Option("--bin", "DIR", null, "where the launcher is (default: ~/.local/bin)"),
                new Option("--verbose", null, null, "show stack traces of internal errors")), List.of());
    }

    private static Path home(String variable, String otherwise) {
        String folder = System.getenv(variable);
        return folder != null && folder.startsWith("/") ? Path.of(folder) : Processes.home().resolve(otherwise);
    }

    private Path data() {
        return home("XDG_DATA_HOME", ".local/share").resolve(name);
    }

    private Path launcher(Arguments arguments) throws UsageException {
        Path bin = arguments.has("--bin") ? Path.of(Options.text(arguments, "--bin")).toAbsolutePath()
            : Processes.home().resolve(".local/bin");
        return bin.resolve(name);
    }

    private boolean isOurs(Path launcher) throws IOException {
        return Files.readString(launcher, StandardCharsets.ISO_8859_1).contains("made by: " + name + " install");
    }

    /** Installs or upgrades; what is replaced stays whole for those who run it. */
    int install(Arguments arguments) throws TaskException {
        if (Processes.WINDOWS) {
            throw new TaskException(ExitStatus.CANNOT_CREATE, "install needs a POSIX shell; on Windows use: jbang app install");
        }
        Path data = data();
        Path launcher = launcher(arguments);
        try {
            if (Files.exists(launcher) && !isOurs(launcher)) {
                throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot install: " + launcher + " is something else: move it away or"
                    + " choose another folder with --bin");
            }
            Files.createDirectories(data);
            Files.createDirectories(launcher.getParent());
            List<String> jars = new ArrayList<>();
            for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
                Path jar = Path.of(entry).toAbsolutePath();
                if (!jar.startsWith(data)) {
                    Path copy = data.resolve(jar.getFileName());
                    Files.copy(jar, aside(copy), StandardCopyOption.REPLACE_EXISTING);
                    Files.move(aside(copy), copy, StandardCopyOption.ATOMIC_MOVE);
                    jar = copy;
                }
                jars.add(jar.toString());
            }
            List<String> java = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
            java.addAll(jvmOptions);
            java.addAll(List.of("-XX:+IgnoreUnrecognizedVMOptions", "-Xlog:disable"));
            List<String> classPath = List.of("-cp", String.join(File.pathSeparator, jars));
            Path archive = archive(data, java, classPath, arguments.has("--verbose"));
            Files.writeString(aside(launcher), launcherText(java, classPath, archive));
            Files.setPosixFilePermissions(aside(launcher), PosixFilePermissions.fromString("rwxr-xr-x"));
            Files.move(aside(launcher), launcher, StandardCopyOption.ATOMIC_MOVE);
            System.out.println("installed " + launcher + " (jars " + (archive == null ? "" : "and start-up archive ") + "in " + data + ")");
            if (!List.of(System.getenv().getOrDefault("PATH", "").split(File.pathSeparator)).contains(launcher.getParent().toString())) {
                System.out.println(launcher.getParent() + " is not on this PATH: use the full path, also in crontabs");
            }
            System.out.println("in a crontab: */5 * * * * " + launcher + " --quiet --command 'CMD' --lockfile /run/lock/TASK.lock --threshold 3"
                + " --counter-file " + Processes.home().resolve("TASK.count"));
            System.out.println("to remove it: " + launcher + " uninstall" + (arguments.has("--bin") ? " --bin " + launcher.getParent() : ""));
            return ExitStatus.OK;
        } catch (IOException e) {
            throw new TaskException(ExitStatus.CANNOT_CREATE, "cannot install into " + data + " and " + launcher.getParent() + ": "
                + Text.reason(e) + "; choose folders with XDG_DATA_HOME and --bin", e);
        }
    }

    private static Path aside(Path file) {
        return file.resolveSibling(file.getFileName() + ".new");
    }

    /**
     * Makes the start-up archive: an AOT cache (JEP 514) from JDK 25 on, before that a static CDS archive, which unlike a dynamic one takes
     * picocli's old class files. G1 dumps it whatever collector runs with it: only an archive with heap objects is checked for its length.
     *
     * @return null when this JDK cannot make one: the command then starts without
     */
    private Path archive(Path data, List<String> java, List<String> classPath, boolean verbose) throws IOException {
        boolean aot = Runtime.version().feature() >= 25;
        Path archive = data.resolve(name + (aot ? ".aot" : ".jsa"));
        Path list = data.resolve(name + ".classes");
        Files.deleteIfExists(data.resolve(name + (aot ? ".jsa" : ".aot")));
        Path trial = Files.createTempDirectory("taskrunner-install");
        try {
            List<String> train = new ArrayList<>(training);
            train.add(trial.toString());
            if (aot) {
                run(verbose, java, List.of("-XX:AOTCacheOutput=" + aside(archive)), classPath, train);
            } else {
                run(verbose, java, List.of("-Xshare:off", "-XX:DumpLoadedClassList=" + list), classPath, train);
                run(verbose, java, List.of("-Xshare:dump", "-XX:-UseSerialGC", "-XX:+UseG1GC", "-XX:SharedClassListFile=" + list, "-XX:SharedArchiveFile=" + aside(archive)),
                    classPath, List.of());
            }
            Files.setLastModifiedTime(aside(archive), UNTOUCHED);
            Files.move(aside(archive), archive, StandardCopyOption.ATOMIC_MOVE);
            return archive;
        } catch (IOException e) {
            System.err.println("no start-up archive: " + Text.reason(e) + "; " + name + " starts without");
            return null;
        } finally {
            Files.deleteIfExists(list);
            try (Stream<Path> left = Files.walk(trial)) {
                left.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
            }
        }
    }

    private static void run(boolean verbose, List<String> java, List<String> options, List<String> classPath, List<String> arguments)
            throws IOException {
        List<String> command = new ArrayList<>(java);
        command.addAll(options);
        command.addAll(classPath);
        command.addAll(arguments);
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.redirectOutput(verbose ? ProcessBuilder.Redirect.INHERIT : ProcessBuilder.Redirect.DISCARD);
        try {
            Process process = builder.start();
            if (!process.waitFor(2, TimeUnit.MINUTES)) {
                process.destroyForcibly();
                throw new IOException("java took over two minutes: " + String.join(" ", options));
            }
            if (process.exitValue() != 0) {
                throw new IOException("java ended with status " + process.exitValue() + ": " + String.join(" ", options));
            }
        } catch (InterruptedException e) {
            throw new IOException("interrupted", e);
        }
    }

    private String launcherText(List<String> java, List<String> classPath, Path archive) {
        StringBuilder options = new StringBuilder();
        for (String option : java.subList(1, java.size())) {
            options.append(' ').append(quoted(option));
        }
        String firstJar = classPath.get(1).split(File.pathSeparator)[0];
        String useArchive = archive == null ? "archive=\n" : "archive=" + quoted(archive.toString()) + "\n[ \"$archive\" -ot " + quoted(firstJar)
            + " ] && archive=" + (archive.toString().endsWith(".aot") ? "-XX:AOTCache=" : "-XX:SharedArchiveFile=")
            + "$archive || archive=\n";
        return "#!/bin/sh\n# made by: " + name + " install; removed by: " + name + " uninstall\n"
            + "java=" + quoted(java.get(0)) + "\n"
            + "[ -x \"$java\" ] || java=${JAVA_HOME:+$JAVA_HOME/bin/}java\n"
            + "[ -r " + quoted(firstJar) + " ] || { echo " + quoted(name + ": " + firstJar
                + " cannot be read: install it again, or for all users where they may read it") + " >&2; exit " + ExitStatus.CANNOT_START + "; }\n" + useArchive
            + "exec \"$java\"" + options + " ${archive:+\"$archive\"} -cp " + quoted(classPath.get(1)) + " " + mainClass + " \"$@\"\n";
    }

    private static String quoted(String text) {
        return "'" + text.replace("'", "'\\''") + "'";
    }

    /** Removes the launcher, if it is one, and the data folder's jars and archives. */
    int uninstall(Arguments arguments) throws TaskException {
        Path launcher = launcher(arguments);
        Path data = data();
        try {
            if (Files.exists(launcher) && isOurs(launcher)) {
                Files.delete(launcher);
                System.out.println("removed " + launcher);
            } else {
                System.out.println("no " + name + " launcher at " + launcher + ": give its folder with --bin");
            }
            if (Files.isDirectory(data)) {
                for (File file : data.toFile().listFiles()) {
                    String own = file.getName();
                    if (own.endsWith(".jar") || own.endsWith(".jsa") || own.endsWith(".aot") || own.endsWith(".new")) {
                        Files.delete(file.toPath());
                    }
                }
                if (data.toFile().delete()) {
                    System.out.println("removed " + data);
                }
            }
            return ExitStatus.OK;
        } catch (IOException e) {
            throw new TaskException(ExitStatus.IO, "cannot remove " + launcher + " and " + data + ": " + Text.reason(e), e);
        }
    }
}

/** What the start-up archive is trained with: a run, a held lock, {@code --quiet} and {@code status}. */
final class Training {
    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        String lock = folder.resolve("lock").toString();
        String held = folder.resolve("held").toString();
        String[] request = {"--command", "true", "--lockfile", lock, "--threshold", "1", "--counter-file", folder.resolve("count").toString()};
        taskrunner.run(request);
        request[1] = "exit 1";
        taskrunner.run("--quiet", "--command", "exit 1", "--lockfile", lock, "--threshold", "1", "--counter-file", request[7]);
        Execution holder = new Execution(Options.request(Arguments.parse(Options.COMMANDS, request)));
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

/** One JSON object (RFC 8259), in the order in which its members are put. */
final class Json {
    private final StringBuilder members = new StringBuilder();

    Json put(String name, String value) {
        return raw(name, quote(value));
    }

    Json put(String name, long value) {
        return raw(name, Long.toString(value));
    }

    Json put(String name, Json value) {
        return raw(name, value.toString());
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

/** Small pieces of text. Without formatters and regular expressions, which would cost more at start-up than the rest of a run. */
final class Text {
    private static final int LONGEST_LINE = 300;
    private static final String[] SIGNALS = {"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM"};

    /** The text as one line of printable characters, cut when long. */
    static String oneLine(String text) {
        String line = printable(text);
        return line.length() < LONGEST_LINE ? line : line.substring(0, LONGEST_LINE) + "…";
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
        return seconds < 86400 ? seconds / 3600 + "h" + seconds / 60 % 60 + "m" : seconds / 86400 + "d" + seconds / 3600 % 24 + "h";
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
        for (int i = 0; i < pids.size() && i < 20; i++) {
            list.append(i == 0 ? "" : ",").append(pids.get(i));
        }
        return list.toString();
    }

    /** What went wrong, without the class names and paths that a JDK message repeats. */
    static String reason(Throwable e) {
        if (e instanceof NoSuchFileException) {
            return "no such file or folder";
        }
        if (e instanceof AccessDeniedException) {
            return "permission denied";
        }
        if (e instanceof NotDirectoryException) {
            return "not a folder";
        }
        if (e instanceof FileSystemException f && f.getReason() != null) {
            return lowerCase(f.getReason());
        }
        String message = e.getMessage();
        if (message == null) {
            return e.getClass().getSimpleName();
        }
        int error = message.indexOf("error=");
        if (error >= 0) {
            return oneLine(lowerCase(message.substring(message.indexOf(", ", error) + 2)));
        }
        // so says JDK 25: Exec failed, error: 7 (Argument list too long)
        error = message.indexOf("error: ");
        int open = message.indexOf('(', error);
        int close = message.lastIndexOf(')');
        return oneLine(lowerCase(error >= 0 && open >= 0 && close > open ? message.substring(open + 1, close) : message));
    }

    /** The sentence as one that goes on after a colon; a word in capitals stays. */
    static String lowerCase(String sentence) {
        return sentence.length() < 2 || Character.isUpperCase(sentence.charAt(1)) ? sentence
            : Character.toLowerCase(sentence.charAt(0)) + sentence.substring(1);
    }

    /** The first bytes of the file as text. */
    static String read(FileChannel file, int longest) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(longest);
        while (bytes.hasRemaining() && file.read(bytes, bytes.position()) > 0) {
            continue;
        }
        return new String(bytes.array(), 0, bytes.position(), StandardCharsets.UTF_8);
    }

    private Text() {
    }
}
