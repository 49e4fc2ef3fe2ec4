///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../taskrunner.java
//SOURCES AuditedRun.java
//SOURCES BatchInjection.java
//SOURCES Beans.java
//SOURCES Database.java
//SOURCES Fleet.java
//SOURCES FleetLock.java
//SOURCES FleetOperations.java
//SOURCES FleetSession.java
//SOURCES Form.java
//SOURCES JobRunner.java
//SOURCES Operations.java
//SOURCES OutputFile.java
//SOURCES Postgres.java
//SOURCES QuietLogging.java
//SOURCES Reconciliation.java
//SOURCES Redaction.java
//SOURCES Report.java
//SOURCES ReportChart.java
//SOURCES ReportPage.java
//SOURCES ReportRow.java
//SOURCES ReportTask.java
//SOURCES ReportText.java
//SOURCES Reports.java
//SOURCES Repository.java
//SOURCES RepositoryException.java
//SOURCES Row.java
//SOURCES Schema.java
//SOURCES Spool.java
//SOURCES Sql.java
//SOURCES Sqlite.java
//SOURCES Watchdog.java
//SOURCES Workflow.java
//FILES META-INF/batch-jobs/taskrunner.xml=META-INF/batch-jobs/taskrunner.xml
//FILES META-INF/services/org.jboss.logging.LoggerProvider=META-INF/services/org.jboss.logging.LoggerProvider
//FILES report.css=report.css
//FILES report.ftlh=report.ftlh
//FILES report.js=report.js
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
//DEPS org.freemarker:freemarker:2.3.35
//RUNTIME_OPTIONS -XX:+IgnoreUnrecognizedVMOptions --enable-native-access=ALL-UNNAMED

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import java.util.TreeMap;
import java.util.stream.Stream;

/**
 * The workflow of {@link taskrunner} as a Jakarta Batch job, so that every execution request leaves a row that an
 * auditor can trust.
 */
public class taskrunnerbatch {
    static final String NAME = "taskrunner-batch";
    private static final String AUDIT = "Audit trail";
    private static final String WORKING_DIRECTORY = "working-directory";
    /** The words after {@code --}, for a restart. */
    private static final String WORDS = "words";
    private static final String REDACTED = "redacted";
    private static final String SUBSTITUTED = "substituted";
    private static final int DEFAULT_OUTPUT_LIMIT = 10 << 20;
    private static final Option REPOSITORY = new Option("--repository", "URL", AUDIT,
        "jdbc:postgresql://HOST/DATABASE or"
        + " jdbc:sqlite:FILE (default: $TASKRUNNER_REPOSITORY, else SQLite in ~/.local/state/taskrunner)");
    private static final String FLEET_TASK = "the task's name in a fleet of hosts; the lock and the counter are in the"
        + " PostgreSQL repository";
    private static final Option VERBOSE = new Option("--verbose", null, null, "show stack traces of errors");

    private static final Command RUN = new Command(NAME, Options.RUN.purpose()
        + " Every request is kept in an audit repository.",
        List.of(NAME + " OPTION... --command CMD", "       " + NAME + " OPTION... -- CMD ARG...",
            "       " + NAME + " @FILE", "       " + NAME + " restart | show | stop | abandon ID",
            "       " + NAME + " history | report | purge | schema [OPTION...]",
            "       " + NAME + " status | unlock | completion | install | uninstall"),
        null, Options.with(Options.REQUEST, List.of(REPOSITORY,
            new Option("--fleet", "NAME", "Locking", FLEET_TASK + ", and --lockfile is this host's own"),
            new Option("--redact", "REGEX", AUDIT,
                "mask what matches in the stored command, options, messages and, line by"
                + " line, output, not in paths; such an execution cannot be restarted"),
            new Option("--notify-after", "N", AUDIT,
            "tell of failed and timeout at the Nth in a row (default: 1), then of"
                + " resolved at the next success; killed: when a dead run is found"),
            new Option("--output-limit", "BYTES", AUDIT, "keep so much of the command's output, its first and last half"
                + " (default: 10485760)"))),
        Options.with(Options.RUN.details().subList(0, 3),
            List.of("Exit status 69: the repository cannot be reached; nothing was run.",
                "76: the lock of a fleet's task was lost while the command ran, which was terminated.")));

    static final List<Command> COMMANDS = Options.with(List.of(RUN,
        new Command("run", "Runs the command (the default).", List.of(NAME + " [run] --command CMD ..."), null,
            RUN.options(), RUN.details()),
        byId("restart", "Restarts a FAILED or STOPPED execution with the same parameters.",
            new Option("--as-me", null, null, "also one of another user, with the rights of this one"),
            new Option("--even-if-done", null, null, "also one that is LOST: it may have succeeded")),
        command("history", "Lists executions, newest first.", " [OPTION...]",
            new Option("--lockfile", "FILE", null, "only this task's"),
            new Option("--fleet", "NAME", null, "only this task's of a fleet"),
            new Option("--host", "NAME", null, "only this host's"),
            new Option("--user", "NAME", null, "only this user's"),
            new Option("--status", "STATUS", null, "only with this batch status or exit status"),
            new Option("--since", "TIME", null,
            "requested at or after: 2026-11-24, 2026-11-24T02:00:00Z or a duration ago"
                + " such as 7d"),
            new Option("--until", "TIME", null, "requested before"),
            new Option("--limit", "N", null, "at most so many (default: 20; 0: all)"),
            new Option("--format", "table|json|csv", null, "(default: table)")),
        command("report", "Writes a page of HTML about tasks and executions, to look at in a browser.", " [OPTION...]",
            new Option("--since", "TIME", null, "requested at or after, as of history (default: 7d)"),
            new Option("--until", "TIME", null, "requested before"),
            new Option("--lockfile", "FILE", null, "only this task's"),
            new Option("--fleet", "NAME", null, "only this task's of a fleet"),
            new Option("--host", "NAME", null, "only this host's"),
            new Option("--output", "FILE", null, "written to a temporary file and renamed (default: stdout)"),
            new Option("--no-output", null, null, "without the last lines of what commands printed")),
        byId("show", "Shows one execution in full.",
            new Option("--format", "text|json", null, "(default: text)"),
            new Option("--output", null, null, "print the output that was kept, as it is"),
            new Option("--follow", null, null, "print the output as it comes, until the execution ends")),
        byId("stop", "Stops an execution that runs on this host, or, of a fleet's task, on any.",
            new Option("--wait", "DURATION", null, "for up to so long for its end: exit status 75 after that (default:"
                + " 30s)")),
        byId("abandon", "Ends the row of an execution that nobody can prove dead.",
            new Option("--reason", "TEXT", null, "why, for the auditor (required)")),
        command("purge", "Deletes old executions and their output files.", " --older-than DURATION [--keep N]",
            new Option("--older-than", "DURATION", null, "those that ended longer ago, such as 90d"),
            new Option("--keep", "N", null, "keep the newest N of each task in any case (default: 0)")),
        new Command("schema", "Prints the SQL of the tables and of the roles that need no more than they are granted,"
            + " for PostgreSQL.", List.of(NAME + " schema"), null, List.of(), List.of()),
        new Command("status", Options.STATUS.purpose(), Options.with(Options.STATUS.synopsis(),
            List.of("       " + NAME + " status --fleet NAME [--repository URL] [--json]")), null,
            Options.with(Options.STATUS.options(), List.of(new Option("--fleet", "NAME", null, FLEET_TASK),
                new Option(REPOSITORY.name(), REPOSITORY.label(), null, REPOSITORY.description()))),
            Options.with(Options.STATUS.details(),
                List.of("With --fleet: 0 free, 20 held or waiting after a fail-over, 21"
                + " the holder is paused, silent or lost."))),
        Options.UNLOCK, Options.COMPLETION), Installation.commands(NAME));

    private static final Installation INSTALLATION = new Installation(NAME, "taskrunnerbatch",
        Options.with(Installation.TASKRUNNER.jvmOptions(), List.of("--enable-native-access=ALL-UNNAMED")),
        "BatchTraining");

    private static Command byId(String name, String purpose, Option... options) {
        return new Command(name, purpose, List.of(NAME + " " + name + " ID [OPTION...]"), "ID",
            withRepository(options), List.of());
    }

    private static Command command(String name, String purpose, String synopsis, Option... options) {
        return new Command(name, purpose, List.of(NAME + " " + name + synopsis), null, withRepository(options),
            List.of());
    }

    private static List<Option> withRepository(Option... options) {
        return Options.with(List.of(options), List.of(new Option(REPOSITORY.name(), REPOSITORY.label(), null,
            REPOSITORY.description()), VERBOSE));
    }

    /** The drivers hand the JVM's time zone on: PostgreSQL's refuses a {@code TZ} that the server does not know. */
    public static void main(String[] args) {
        StandardStream.occupyClosed();
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        Repository.leaveOpenAtExit();
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
        return switch (arguments.command().name()) {
            case "restart" -> restart(arguments);
            case "history" -> Reports.history(arguments);
            case "report" -> Report.run(arguments);
            case "show" -> Reports.show(arguments);
            case "stop" -> Operations.stop(arguments);
            case "abandon" -> Operations.abandon(arguments);
            case "purge" -> Operations.purge(arguments);
            case "schema" -> Schema.print(System.out);
            case "status" -> taskrunner.printed(arguments.has("--fleet")
                ? FleetOperations.status(arguments) : Status.run(arguments), COMMANDS);
            case "unlock" -> taskrunner.printed(Status.unlock(arguments), COMMANDS);
            case "completion" -> taskrunner.printed(Documentation.completion(COMMANDS, arguments), COMMANDS);
            case "install" -> INSTALLATION.install(COMMANDS, arguments);
            case "uninstall" -> INSTALLATION.uninstall(arguments);
            default -> request(arguments);
        };
    }

    /** @param create whether the repository is made or migrated when need be: only runs do */
    static Repository open(Arguments arguments, boolean create) throws TaskException {
        String url = arguments.has("--repository") ? arguments.text("--repository")
            : System.getenv("TASKRUNNER_REPOSITORY");
        return Repository.open(Database.parse(url, System.getenv()), create);
    }

    /** The id of a job execution that the command line names. */
    static long id(Arguments arguments) throws UsageException {
        try {
            return Long.parseLong(arguments.parameter() == null ? "" : arguments.parameter());
        } catch (NumberFormatException e) {
            throw arguments.refused("give the id of a job execution; history lists them");
        }
    }

    static ExecutionRow find(Repository repository, long id) throws TaskException {
        return repository.find(id).orElseThrow(() ->
            new RepositoryException(RepositoryException.USAGE, "no job execution "
            + id + " in " + repository.database() + "; history lists them"));
    }

    /** Before executions are shown or acted upon; also for who may only read. */
    static void reconcile(Repository repository) {
        Spool.deliver(repository);
        try {
            Reconciliation.ofAll(repository);
        } catch (RepositoryException e) {
            System.err.println(NAME + ": the rows of dead executions cannot be ended, they are shown as they are: "
                + Text.printable(e.getMessage()));
        }
    }

    private static int request(Arguments arguments) throws TaskException {
        Request request = FleetOperations.request(arguments);
        Redaction redaction = Redaction.of(arguments);
        JobRunner runner = new JobRunner(Beans.start(Workflow.ARTIFACTS));
        Map<String, String> options = new TreeMap<>(arguments.values());
        options.keySet().removeAll(List.of("--command", "--lockfile", "--threshold", "--counter-file", "--repository",
            "--redact"));
        options.put(WORKING_DIRECTORY, System.getProperty("user.dir"));
        for (String file : List.of("--log-file", "--metrics-file")) {
            options.computeIfPresent(file, (name, value) -> Path.of(value).toAbsolutePath().toString());
        }
        String command = request.command;
        if (redaction != null) {
            try {
                command = redaction.mask(command);
                for (Map.Entry<String, String> option : options.entrySet()) {
                    option.setValue(redaction.mask(option.getValue()));
                }
            } catch (Redaction.Undecided e) {
                throw arguments.refused("the command or an option cannot be masked: " + e.getMessage());
            }
            options.put(REDACTED, "");
        } else if (arguments.words() != null) {
            options.put(WORDS, String.join("&", arguments.words().stream().map(Form::encode).toList()));
        }
        try (Repository repository = open(arguments, true)) {
            Execution execution = FleetOperations.execution(request, repository);
            String stored = repository.storable(command);
            if (!stored.equals(command)) {
                options.put(SUBSTITUTED, "");
                execution.log.warn("repository",
                    "the repository cannot store some characters of the command: a substitute"
                    + " stands for each, and the execution cannot be restarted");
            }
            return run(arguments, execution, repository, row(execution, repository, stored, options, null), redaction,
                runner, null);
        }
    }

    static RequestRow row(Execution execution, Repository repository, String command, Map<String, String> options,
            Long restartedFrom) {
        Holder holder = execution.holder;
        Task task = execution.request.task;
        Path output = OutputFile.of(repository.database().stateDirectory(), holder.runId());
        return new RequestRow(holder.runId(), Requester.user(), Requester.uid(), Requester.login(), holder.host(),
            Reconciliation.machineId(), holder.bootId(), holder.pidNamespace(), holder.process().pid(),
            holder.process().start(), task.lockFile().toString(), command, task.threshold(),
            task.counterFile() == null ? "" : task.counterFile().toString(), options, holder.started(),
            output == null ? null : output.toString(), restartedFrom, options.get("--fleet"));
    }

    /** @param workingDirectory of the command, or null for this process's */
    private static int run(Arguments arguments, Execution execution, Repository repository, RequestRow row,
            Redaction redaction, JobRunner runner, File workingDirectory) throws TaskException {
        int limit = arguments.number("--output-limit", 1000, Integer.MAX_VALUE, DEFAULT_OUTPUT_LIMIT);
        OutputFile output = new OutputFile(row.outputFile() == null ? null : Path.of(row.outputFile()), limit,
            redaction, execution.log);
        AuditedRun run = new AuditedRun(execution, repository, row, output, workingDirectory,
            arguments.number("--notify-after", 1, 1000, 1));
        execution.stopOnSignals();
        return run.run(runner, repository.request(row,
            !execution.request.wait.isZero()));
    }

    private static int restart(Arguments arguments) throws TaskException {
        long id = id(arguments);
        JobRunner runner = new JobRunner(Beans.start(Workflow.ARTIFACTS));
        try (Repository repository = open(arguments, true)) {
            reconcile(repository);
            ExecutionRow before = find(repository, id);
            RequestRow request = before.request();
            checkRestartable(arguments, before);
            Map<String, String> values = new HashMap<>(request.options());
            values.remove(WORKING_DIRECTORY);
            String words = values.remove(WORDS);
            if (words == null) {
                values.put("--command", request.command());
            }
            values.put("--lockfile", request.lockFile());
            values.put("--threshold", Integer.toString(request.threshold()));
            if (request.fleetTask() == null) {
                values.put("--counter-file", request.counterFile());
            } else {
                System.err.println(NAME + ": job execution " + id + " of task " + Text.printable(request.fleetTask())
                    + ", which ran on " + Text.printable(request.host()) + ", is restarted here, on " + Host.name());
            }
            // who asks for a restart wants to know when it was too early
            values.put("--conflict-exit-code", Integer.toString(ExitStatus.THRESHOLD));
            // the stored options go through the same validation as a command line
            Arguments again = new Arguments(RUN, values, null, words == null ? null
                : Stream.of(words.split("&", -1)).map(Form::decodeText).toList());
            Execution execution = FleetOperations.execution(FleetOperations.request(again), repository);
            RequestRow row = row(execution, repository, request.command(), request.options(), id);
            return run(again, execution, repository, row, null, runner,
                new File(request.options().get(WORKING_DIRECTORY)));
        }
    }

    private static void checkRestartable(Arguments arguments, ExecutionRow before) throws TaskException {
        RequestRow request = before.request();
        String why = null;
        for (String changed : List.of(REDACTED, SUBSTITUTED)) {
            if (request.options().containsKey(changed)) {
                throw new TaskException(ExitStatus.DATA, "execution " + before.id() + " was stored "
                    + (changed.equals(REDACTED) ? "with --redact" : "with substituted characters")
                    + " and cannot be restarted: start it anew", null);
            }
        }
        boolean own = request.uid() == null ? request.user().equals(Requester.user())
            : request.uid().equals(Requester.uid());
        if (!own && !arguments.has("--as-me")) {
            why = "is " + request.user() + "'s: restart it as that user, or, to run its command with your rights, with"
                + " --as-me: " + Text.oneLine(request.command());
        } else if ("LOST".equals(before.exitStatus()) && !arguments.has("--even-if-done")) {
            why = "is LOST: it may have succeeded, and its outcome may still arrive; restart it nevertheless with"
                + " --even-if-done";
        }
        if (why != null) {
            throw new RepositoryException(RepositoryException.USAGE, "execution " + before.id() + " " + why);
        }
    }
}

/** Who asks for an execution, as the kernel knows it. */
final class Requester {
    /** What the kernel has for a process that no login began, see pam_loginuid(8). */
    private static final String NO_LOGIN = "4294967295";

    /** The user's name, or its number where the user database has none. */
    static String user() {
        String name = System.getProperty("user.name");
        return name.equals("?") ? String.valueOf(uid()) : name;
    }

    /** The user's number, or null where there is none. */
    static Long uid() {
        try {
            return ((Number) Files.getAttribute(Path.of("/proc/self"), "unix:uid")).longValue();
        } catch (IOException | RuntimeException e) {
            return null;
        }
    }

    /** Who logged in, or used sudo, to become this user; null when it is the user itself, or nobody did. */
    static String login() {
        String user = user();
        String login = System.getenv("SUDO_USER");
        try {
            String uid = Files.readString(Path.of("/proc/self/loginuid")).strip();
            login = uid.equals(NO_LOGIN) ? login : name(uid);
        } catch (IOException e) {
            // a kernel without audit
        }
        return user.equals(login) ? null : login;
    }

    private static String name(String uid) throws IOException {
        for (String line : Files.readString(Path.of("/etc/passwd")).split("\n")) {
            String[] fields = line.split(":");
            if (fields.length > 2 && fields[2].equals(uid)) {
                return fields[0];
            }
        }
        return "uid " + uid;
    }

    private Requester() {
    }
}

/** What the start-up archive is trained with: a run and the reports. */
final class BatchTraining {
    public static void main(String[] args) throws Exception {
        String repository = "jdbc:sqlite:" + args[0] + "/executions.db";
        taskrunnerbatch.run("--command", "true", "--lockfile", args[0] + "/lock", "--threshold", "1", "--counter-file",
            args[0] + "/count", "--repository", repository);
        taskrunnerbatch.run("history", "--repository", repository);
        taskrunnerbatch.run("show", "1", "--repository", repository);
        Training.loadAll();
    }

    private BatchTraining() {
    }
}
