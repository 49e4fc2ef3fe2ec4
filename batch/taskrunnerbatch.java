///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../taskrunner.java
//SOURCES AuditedRun.java
//SOURCES BatchInjection.java
//SOURCES Beans.java
//SOURCES JobRunner.java
//SOURCES Location.java
//SOURCES OutputFile.java
//SOURCES QuietLogging.java
//SOURCES Reports.java
//SOURCES Repository.java
//SOURCES RepositoryException.java
//SOURCES Schema.java
//SOURCES Settlement.java
//SOURCES ThreadConnections.java
//SOURCES Workflow.java
//FILES META-INF/batch-jobs/taskrunner.xml=META-INF/batch-jobs/taskrunner.xml
//FILES META-INF/services/org.jboss.logging.LoggerProvider=META-INF/services/org.jboss.logging.LoggerProvider
//DEPS org.jberet:jberet-core:3.1.0.Final
//DEPS org.jberet:jberet-se:3.1.0.Final
//DEPS jakarta.batch:jakarta.batch-api:2.1.1
//DEPS jakarta.transaction:jakarta.transaction-api:2.0.1
//DEPS jakarta.annotation:jakarta.annotation-api:3.0.0
//DEPS jakarta.inject:jakarta.inject-api:2.0.1
//DEPS jakarta.enterprise:jakarta.enterprise.cdi-api:4.1.0
//DEPS org.jboss.weld.se:weld-se-core:6.0.4.Final
//DEPS org.jboss.weld:weld-core-impl:6.0.4.Final
//DEPS org.jboss.logging:jboss-logging:3.6.3.Final
//DEPS org.wildfly.security:wildfly-elytron-security-manager:2.9.2.Final
//DEPS org.wildfly.security:wildfly-elytron-security-manager-action:2.9.2.Final
//DEPS org.wildfly.security:wildfly-elytron-permission:2.9.2.Final
//DEPS org.xerial:sqlite-jdbc:3.53.4.0
//DEPS org.postgresql:postgresql:42.7.13
//RUNTIME_OPTIONS -XX:+IgnoreUnrecognizedVMOptions --enable-native-access=ALL-UNNAMED

import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/** The workflow of {@link taskrunner} as a Jakarta Batch job, so that every execution request leaves a row that an auditor can trust. */
public class taskrunnerbatch {
    private static final String NAME = "taskrunner-batch";
    private static final String AUDIT = "What is kept";
    private static final String WORKING_FOLDER = "working-folder";
    private static final String REDACTED = "redacted";
    private static final long DEFAULT_OUTPUT_LIMIT = 10 << 20;
    private static final Option REPOSITORY = new Option("--repository", "URL", AUDIT, "jdbc:postgresql://HOST/DATABASE or jdbc:sqlite:FILE"
        + " (default: $TASKRUNNER_REPOSITORY, else SQLite in ~/.local/state/taskrunner)");
    private static final Option VERBOSE = new Option("--verbose", null, null, "show stack traces of errors");

    private static final Command RUN = new Command(NAME, Options.RUN.purpose() + " Every request is kept in an audit repository.",
        List.of(NAME + " --command CMD --lockfile FILE --threshold N --counter-file FILE [OPTION...]",
            "       " + NAME + " restart | show | stop ID; history; purge; status; install; uninstall"), null,
        join(Options.REQUEST, REPOSITORY, new Option("--redact", "REGEX", AUDIT, "mask what matches in the stored command, options,"
            + " messages and, line by line, output, not in paths; such an execution cannot be restarted"),
            new Option("--output-limit", "BYTES", AUDIT, "keep so much of the command's output, its first and last half (default: 10485760)")),
        join(Options.RUN.details().subList(0, 3), "Exit status 69: the repository cannot be reached; nothing was run."));

    static final List<Command> COMMANDS = Options.with(List.of(RUN,
        new Command("run", "Runs the command (the default).", List.of(NAME + " [run] --command CMD ..."), null, RUN.options(), RUN.details()),
        byId("restart", "Restarts a FAILED or STOPPED execution with the same parameters."),
        new Command("history", "Lists executions, newest first.", List.of(NAME + " history [OPTION...]"), null, List.of(
            new Option("--lockfile", "FILE", null, "only this task's"), new Option("--host", "NAME", null, "only this host's"),
            new Option("--status", "STATUS", null, "only with this batch status or exit status"),
            new Option("--since", "TIME", null, "started at or after: 2026-11-24, 2026-11-24T02:00:00Z or a duration ago such as 7d"),
            new Option("--until", "TIME", null, "started before"), new Option("--limit", "N", null, "at most so many (default: 20; 0: all)"),
            new Option("--format", "table|json|csv", null, "(default: table)"), ungrouped(REPOSITORY), VERBOSE), List.of()),
        byId("show", "Shows one execution whole."),
        byId("stop", "Stops an execution that runs on this host."),
        new Command("purge", "Deletes old executions and their output files.", List.of(NAME + " purge --older-than DURATION [--keep N]"), null,
            List.of(new Option("--older-than", "DURATION", null, "those that ended longer ago, such as 90d"),
                new Option("--keep", "N", null, "keep the newest N of each task in any case (default: 0)"), ungrouped(REPOSITORY), VERBOSE),
            List.of()),
        Options.STATUS, Options.UNLOCK, Options.COMPLETION), Installation.commands(NAME));

    private static final Installation INSTALLATION = new Installation(NAME, "taskrunnerbatch",
        join(Installation.TASKRUNNER.jvmOptions(), "--enable-native-access=ALL-UNNAMED"), "BatchTraining");

    private static Command byId(String name, String purpose) {
        return new Command(name, purpose, List.of(NAME + " " + name + " ID [--repository URL]"), "ID", List.of(ungrouped(REPOSITORY), VERBOSE),
            List.of());
    }

    private static Option ungrouped(Option option) {
        return new Option(option.name(), option.label(), null, option.description());
    }

    @SafeVarargs
    private static <T> List<T> join(List<T> some, T... more) {
        List<T> all = new ArrayList<>(some);
        all.addAll(List.of(more));
        return all;
    }

    public static void main(String[] args) {
        taskrunner.exit(run(args));
    }

    static int run(String... args) {
        Arguments arguments = null;
        try {
            arguments = Arguments.parse(COMMANDS, args);
            return arguments == null ? taskrunner.printed(ExitStatus.OK, COMMANDS) : run(arguments);
        } catch (TaskException | RuntimeException | Error e) {
            return Errors.print(COMMANDS, e, arguments != null && arguments.has("--verbose"), args);
        }
    }

    private static int run(Arguments arguments) throws TaskException {
        switch (arguments.command().name()) {
            case "restart":
                return restart(arguments);
            case "history":
                return history(arguments);
            case "show":
                return show(arguments);
            case "stop":
                return stop(arguments);
            case "purge":
                return purge(arguments);
            case "status":
                return taskrunner.printed(Status.run(arguments), COMMANDS);
            case "unlock":
                return taskrunner.printed(Status.unlock(arguments), COMMANDS);
            case "completion":
                return taskrunner.printed(Documentation.completion(COMMANDS, arguments), COMMANDS);
            case "install":
                return INSTALLATION.install(COMMANDS, arguments);
            case "uninstall":
                return INSTALLATION.uninstall(arguments);
            default:
                return request(arguments);
        }
    }

    private static Repository open(Arguments arguments) throws TaskException {
        String url = arguments.has("--repository") ? arguments.text("--repository") : System.getenv("TASKRUNNER_REPOSITORY");
        return Repository.open(Location.parse(url, System.getenv()));
    }

    // Runs

    private static int request(Arguments arguments) throws TaskException {
        Request request = new Request(arguments);
        Pattern redact = redaction(arguments);
        Beans beans = Beans.start(Workflow.ARTIFACTS);
        try (Repository repository = open(arguments)) {
            repository.takeOverSpooled();
            Map<String, String> options = new TreeMap<>(arguments.values());
            options.keySet().removeAll(List.of("--command", "--lockfile", "--threshold", "--counter-file", "--repository", "--redact"));
            options.put(WORKING_FOLDER, System.getProperty("user.dir"));
            for (String file : List.of("--log-file", "--metrics-file")) {
                options.computeIfPresent(file, (name, value) -> Path.of(value).toAbsolutePath().toString());
            }
            String command = request.command;
            if (redact != null) {
                options.put(REDACTED, "");
                command = redact.matcher(command).replaceAll("***");
                options.replaceAll((name, value) -> redact.matcher(value).replaceAll("***"));
            }
            Execution execution = new Execution(request);
            RequestRow row = row(execution, repository, command, options, null);
            return run(arguments, execution, repository, row, new JobRunner(repository, beans), null, null);
        }
    }

    private static Pattern redaction(Arguments arguments) throws UsageException {
        try {
            return arguments.has("--redact") ? Pattern.compile(arguments.text("--redact")) : null;
        } catch (PatternSyntaxException e) {
            throw arguments.refused("invalid --redact: " + e.getDescription());
        }
    }

    private static RequestRow row(Execution execution, Repository repository, String command, Map<String, String> options, Long restartedFrom) {
        Holder owner = execution.holder;
        Path output = repository.location().stateFolder().resolve("output").resolve(owner.runId() + ".log");
        return new RequestRow(owner.runId(), owner.user(), owner.host(), owner.bootId(), owner.pidNamespace(), owner.process().pid(),
            owner.process().start(), execution.request.task.lockFile().toString(), command, execution.request.task.threshold(),
            execution.request.task.counterFile().toString(), options, owner.started(), output.toString(), restartedFrom);
    }

    /** @param restarted the execution that is restarted, or null @param workingFolder of the command, or null for this process's */
    private static int run(Arguments arguments, Execution execution, Repository repository, RequestRow row, JobRunner runner, Long restarted,
            File workingFolder) throws TaskException {
        Path output = Path.of(row.outputFile());
        try {
            Location.makePrivateFolder(output.getParent());
        } catch (IOException e) {
            throw new TaskException(ExitStatus.IO, "cannot make " + output.getParent() + " for the command's output: " + Text.reason(e), e);
        }
        long limit = arguments.number("--output-limit", 1000, Integer.MAX_VALUE, (int) DEFAULT_OUTPUT_LIMIT);
        AuditedRun run = new AuditedRun(execution, repository, row, new OutputFile(output, limit, redaction(arguments), execution.log),
            workingFolder);
        execution.stopOnSignals();
        long id = restarted == null ? runner.start(row) : runner.restart(restarted, row);
        return run.run(runner, id);
    }

    private static int restart(Arguments arguments) throws TaskException {
        long id = id(arguments);
        Beans beans = Beans.start(Workflow.ARTIFACTS);
        try (Repository repository = open(arguments)) {
            repository.takeOverSpooled();
            Settlement.ofHost(repository, Host.name());
            RequestRow before = find(repository, id).request();
            if (before.options().containsKey(REDACTED)) {
                throw new TaskException(ExitStatus.DATA, "execution " + id + " was stored with --redact and cannot be restarted: start it anew");
            }
            Map<String, String> values = new HashMap<>(before.options());
            values.remove(WORKING_FOLDER);
            values.put("--command", before.command());
            values.put("--lockfile", before.lockFile());
            values.put("--threshold", Integer.toString(before.threshold()));
            values.put("--counter-file", before.counterFile());
            Arguments again = new Arguments(RUN, values, null);
            Execution execution = new Execution(new Request(again));
            RequestRow row = row(execution, repository, before.command(), before.options(), id);
            return run(again, execution, repository, row, new JobRunner(repository, beans), id, new File(before.options().get(WORKING_FOLDER)));
        }
    }

    private static long id(Arguments arguments) throws UsageException {
        try {
            return Long.parseLong(arguments.parameter() == null ? "" : arguments.parameter());
        } catch (NumberFormatException e) {
            throw arguments.refused("give the id of a job execution; history lists them");
        }
    }

    private static ExecutionRow find(Repository repository, long id) throws TaskException {
        return repository.find(id).orElseThrow(() -> new RepositoryException(RepositoryException.USAGE, "no job execution " + id + " in "
            + repository.location() + "; history lists them"));
    }

    private static int stop(Arguments arguments) throws TaskException {
        long id = id(arguments);
        try (Repository repository = open(arguments)) {
            Settlement.ofHost(repository, Host.name());
            ExecutionRow row = find(repository, id);
            RequestRow request = row.request();
            ProcessId runner = new ProcessId(request.pid(), request.pidStart());
            if (!row.isUnfinished()) {
                throw new RepositoryException(RepositoryException.USAGE, "job execution " + id + " has ended already: " + row.batchStatus());
            }
            if (!Settlement.isVisiblyAlive(request)) {
                throw new RepositoryException(RepositoryException.USAGE, "job execution " + id + " runs on " + request.host()
                    + ", or in another container: stop it there");
            }
            if (!Processes.signal(runner, false)) {
                throw new RepositoryException(RepositoryException.USAGE, "job execution " + id + " is " + request.user() + "'s: stop it as that"
                    + " user");
            }
            while (Processes.lives(runner)) {
                try {
                    Thread.sleep(50);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    break;
                }
            }
            ExecutionRow ended = find(repository, id);
            System.out.println("job execution " + id + " is " + ended.batchStatus());
            return ExitStatus.OK;
        }
    }

    // Reports

    /** A report is shown even to who may only read. */
    private static void settle(Repository repository) {
        try {
            repository.takeOverSpooled();
            Settlement.ofHost(repository, Host.name());
        } catch (RepositoryException e) {
            System.err.println(NAME + ": the ends of dead executions cannot be written, they are shown as they are: " + e.getMessage());
        }
    }

    private static int history(Arguments arguments) throws TaskException {
        Path lockFile = arguments.path("--lockfile");
        String format = arguments.has("--format") ? arguments.text("--format") : "table";
        if (!List.of("table", "json", "csv").contains(format)) {
            throw arguments.refused("invalid --format '" + format + "': give table, json or csv");
        }
        Filter filter = new Filter(lockFile == null ? null : lockFile.toString(), arguments.values().get("--host"),
            arguments.has("--status") ? arguments.text("--status").toUpperCase(Locale.ROOT) : null,
            time(arguments, "--since"), time(arguments, "--until"),
            arguments.number("--limit", 0, Integer.MAX_VALUE, 20));
        try (Repository repository = open(arguments)) {
            settle(repository);
            List<ExecutionRow> rows = repository.history(filter);
            // RFC 8259 wants UTF-8, whatever the locale
            PrintStream utf8 = new PrintStream(System.out, true, StandardCharsets.UTF_8);
            switch (format) {
                case "json" -> Reports.json(rows, utf8);
                case "csv" -> Reports.csv(rows, utf8);
                default -> Reports.table(rows, terminalWidth(), System.out);
            }
            return ExitStatus.OK;
        }
    }

    /** The columns of the terminal; without one lines are as long as they need to be. */
    private static int terminalWidth() {
        if (System.console() == null) {
            return Integer.MAX_VALUE / 2;
        }
        try {
            Process process = new ProcessBuilder("sh", "-c", "stty size </dev/tty").redirectError(ProcessBuilder.Redirect.DISCARD).start();
            return Integer.parseInt(new String(process.getInputStream().readAllBytes()).strip().split(" ")[1]);
        } catch (IOException | RuntimeException e) {
            return 80;
        }
    }

    /** The time as rows have it, or null without the option. */
    private static String time(Arguments arguments, String option) throws UsageException {
        if (!arguments.has(option)) {
            return null;
        }
        String text = arguments.text(option);
        try {
            java.time.Duration ago = Arguments.parseDuration(text);
            return Repository.time(ago != null ? Instant.now().minus(ago) : text.length() == 10
                ? LocalDate.parse(text).atStartOfDay().toInstant(ZoneOffset.UTC) : Instant.parse(text));
        } catch (DateTimeParseException e) {
            throw arguments.refused("invalid " + option + " '" + text
                + "': give a time such as 2026-11-24, 2026-11-24T02:00:00Z, or a duration ago such as 7d");
        }
    }

    private static int show(Arguments arguments) throws TaskException {
        try (Repository repository = open(arguments)) {
            settle(repository);
            Reports.show(repository, find(repository, id(arguments)), System.out);
            return ExitStatus.OK;
        }
    }

    private static int purge(Arguments arguments) throws TaskException {
        arguments.requireAll("--older-than");
        String text = arguments.text("--older-than");
        java.time.Duration age = Arguments.parseDuration(text);
        if (age == null) {
            throw arguments.refused("invalid --older-than '" + text + "': give a duration such as 90d");
        }
        int keep = arguments.number("--keep", 0, Integer.MAX_VALUE, 0);
        try (Repository repository = open(arguments)) {
            Repository.Purged purged = repository.purge(Repository.time(Instant.now().minus(age)), keep);
            int files = 0;
            for (String output : purged.outputFiles()) {
                try {
                    files += OutputFile.delete(Path.of(output)) ? 1 : 0;
                } catch (IOException e) {
                    System.err.println(NAME + ": cannot delete " + output + ": " + Text.reason(e));
                }
            }
            System.out.println("purged " + purged.executions() + " executions and the output of " + files);
            return ExitStatus.OK;
        }
    }
}

/** What the start-up archive is trained with: a run and the reports. */
final class BatchTraining {
    public static void main(String[] args) {
        String repository = "jdbc:sqlite:" + args[0] + "/executions.db";
        taskrunnerbatch.run("--command", "true", "--lockfile", args[0] + "/lock", "--threshold", "1", "--counter-file", args[0] + "/count",
            "--repository", repository);
        taskrunnerbatch.run("history", "--repository", repository);
        taskrunnerbatch.run("show", "1", "--repository", repository);
    }

    private BatchTraining() {
    }
}
