import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;

/**
 * What the command line says of a fleet's tasks: {@code --fleet} of a run, {@code status}, and {@code stop} from any
 * host.
 */
final class FleetOperations {
    private static final int MAX_NAME = 200;
    private static final int MAX_BACKOFF_MILLIS = 200;

    /** The request that the options ask for, of a task of a fleet or of this host alone. */
    static Request request(Arguments arguments) throws UsageException {
        if (!arguments.has("--fleet")) {
            return new Request(arguments);
        }
        if (arguments.has("--counter-file")) {
            throw arguments.refused("--counter-file: the counter of a fleet's task is kept in the database; leave it"
                + " out");
        }
        if (arguments.has("--replace")) {
            throw arguments.refused("--replace does not reach other hosts; stop the run with: taskrunner-batch stop"
                + " ID");
        }
        return new Request(arguments, name(arguments));
    }

    private static String name(Arguments arguments) throws UsageException {
        String name = arguments.text("--fleet");
        if (name.isBlank() || name.length() > MAX_NAME || !Text.printable(name).equals(name)) {
            throw arguments.refused("invalid --fleet: give a name of 1 to " + MAX_NAME + " printable characters");
        }
        return name;
    }

    /** @param request of {@link #request} */
    static Execution execution(Request request, Repository repository) throws TaskException {
        if (request.task.counterFile() != null) {
            return new Execution(request);
        }
        Postgres database = server(repository.database());
        return new Execution(request, execution -> new Fleet(database, execution));
    }

    private static Postgres server(Database database) throws RepositoryException {
        if (database instanceof Postgres server) {
            return server;
        }
        throw new RepositoryException(RepositoryException.USAGE, "--fleet needs a repository that all hosts share:"
            + " --repository jdbc:postgresql://HOST/DATABASE");
    }

    static int status(Arguments arguments) throws TaskException {
        String task = name(arguments);
        try (Repository repository = taskrunnerbatch.open(arguments, false)) {
            Postgres database = server(repository.database());
            try (Connection connection = database.connectForLock("taskrunner status")) {
                FleetRow row = FleetSession.look(connection, task);
                LockState state = row == null ? Fleet.unknown(task) : Fleet.lockState(row);
                return print(arguments, task, row, state, FleetSession.lastRequests(connection, task));
            } catch (SQLException e) {
                throw RepositoryException.unavailable(database, "cannot be read", e);
            }
        }
    }

    private static int print(Arguments arguments, String task, FleetRow row, LockState state, List<Row> requests) {
        Long threshold = null;
        long newest = -1;
        for (Row request : requests) {
            if (request.requiredNumber("job_execution_id") > newest) {
                newest = request.requiredNumber("job_execution_id");
                threshold = request.number("threshold");
            }
        }
        long contentions = row == null ? 0 : row.counter();
        if (arguments.has("--nagios")) {
            return Status.plugin(state, threshold == null ? -1 : contentions, threshold == null ? 0
                : threshold.intValue());
        }
        if (!arguments.has("--json")) {
            System.out.println(Text.printable(Status.advised(state) + "; contentions " + contentions
                + (threshold == null ? "" : ", threshold " + threshold)));
            for (Row request : requests) {
                System.out.println(Text.printable("  host " + request.text("host") + ": last request "
                    + request.text("create_time") + ", " + request.text("ending")));
            }
            return state.kind().exitStatus;
        }
        StringBuilder hosts = new StringBuilder();
        for (Row request : requests) {
            hosts.append(hosts.length() == 0 ? "" : ",").append(new Json().put("host", request.text("host"))
                .put("last_request", request.text("create_time")).put("exit_status", request.text("ending")));
        }
        Json json = new Json().put("task", task).put("state", state.kind().text()).put("message", state.message())
            .put("holder", state.holderJson());
        if (row != null && row.runId() != null) {
            json.put("job_execution", row.jobExecutionId()).put("fence", row.fence())
                .put("last_beat", Text.time(row.seen()));
        }
        json.put("contentions", contentions).put("threshold", threshold);
        System.out.println(json.raw("hosts", "[" + hosts + "]"));
        return state.kind().exitStatus;
    }

    /** Stops an execution of a fleet's task on another host. @param wait for its end */
    static int stop(Repository repository, ExecutionRow row, Duration wait) throws TaskException {
        Postgres database = server(repository.database());
        String who = System.getProperty("user.name") + "@" + Host.name();
        String what = "job execution " + row.id() + " of task " + row.request().fleetTask() + " on " + row.request()
            .host();
        try (Connection connection = database.connectForLock("taskrunner stop")) {
            if (!FleetSession.askToStop(connection, row.request().runId(), who)) {
                throw new RepositoryException(RepositoryException.USAGE, what
                    + " does not hold its task: there is nothing to stop");
            }
        } catch (SQLException e) {
            throw RepositoryException.unavailable(database, "cannot be written", e);
        }
        long deadline = System.nanoTime() + wait.toNanos();
        Backoff backoff = new Backoff(20, MAX_BACKOFF_MILLIS);
        ExecutionRow now = taskrunnerbatch.find(repository, row.id());
        while (now.isUnfinished() && System.nanoTime() < deadline && backoff.pause()) {
            now = taskrunnerbatch.find(repository, row.id());
        }
        if (now.isUnfinished()) {
            throw TaskException.io(what + " has not ended after " + Text.duration(wait.toMillis())
                + silence(database, row)
                + ": nothing was stopped yet; it is when its host answers", null);
        }
        System.out.println("job execution " + row.id() + " is " + now.batchStatus());
        return ExitStatus.OK;
    }

    private static String silence(Postgres database, ExecutionRow row) throws TaskException {
        try (Connection connection = database.connectForLock("taskrunner stop")) {
            FleetRow task = FleetSession.look(connection, row.request().fleetTask());
            return task == null ? "" : ", its host does not answer (silent for "
                + Text.duration(task.silent() / 1000 * 1000) + ")";
        } catch (SQLException e) {
            throw RepositoryException.unavailable(database, "cannot be read", e);
        }
    }

    private FleetOperations() {
    }
}
