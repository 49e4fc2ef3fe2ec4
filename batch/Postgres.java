import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.postgresql.PGConnection;

/**
 * A PostgreSQL database, for a fleet.
 *
 * @param url with host, port and database, wherever they come from; or with a service
 * @param settings may hold a password: never show them
 * @param stateDirectory null when the user has no home
 */
record Postgres(String url, Properties settings, Path stateDirectory) implements Database {
    static final String PREFIX = "jdbc:postgresql:";
    private static final int MAX_WAIT_SECONDS = 10;
    private static final String DIVISION_BY_ZERO = "22012";
    private static final Set<String> TRANSIENT = Set.of("40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02",
        "57P03");
    private static final Pattern URL = Pattern.compile("jdbc:postgresql:(?://([^/?]*)/?)?([^?]*)(?:\\?(.*))?");
    private static final Pattern HOST = Pattern.compile("(\\[[^]]*]|[^:]*)(?::([0-9]+))?");
    /**
     * Variables of libpq (https://www.postgresql.org/docs/current/libpq-envars.html) and what the driver calls them.
     */
    private static final Map<String, String> VARIABLES = Map.of("PGSSLMODE", "sslmode", "PGSSLROOTCERT", "sslrootcert",
        "PGSSLCERT", "sslcert", "PGSSLKEY", "sslkey", "PGPASSWORD", "password", "PGOPTIONS", "options",
        "PGCHANNELBINDING",
        "channelBinding", "PGGSSENCMODE", "gssEncMode", "PGKRBSRVNAME", "kerberosServerName");
    /** Of {@code PGTARGETSESSIONATTRS}. */
    private static final Map<String, String> TARGETS = Map.of("any", "any", "read-write", "primary", "primary",
        "primary",
        "read-only", "secondary", "standby", "secondary", "prefer-standby", "preferSecondary");

    static Postgres parse(String text, Map<String, String> environment) throws RepositoryException {
        Matcher url = URL.matcher(text);
        if (!url.matches()) {
            throw new RepositoryException(RepositoryException.USAGE,
                "--repository: unsupported URL; use jdbc:postgresql://HOST/DATABASE");
        }
        Map<String, String> parameters = new LinkedHashMap<>();
        for (String parameter : url.group(3) == null || url.group(3).isEmpty() ? new String[0]
            : url.group(3).split("&")) {
            String[] pair = parameter.split("=", 2);
            parameters.put(URLDecoder.decode(pair[0], StandardCharsets.UTF_8), pair.length == 1 ? "" : pair[1]);
        }
        Properties settings = settings(environment);
        String service = environment.get("PGSERVICE");
        if (service != null && !service.isEmpty()) {
            parameters.putIfAbsent("service", URLEncoder.encode(service, StandardCharsets.UTF_8));
        }
        String hosts = url.group(1) == null ? "" : url.group(1);
        String database = url.group(2);
        if (!parameters.containsKey("service")) {
            String user = parameters.getOrDefault("user", settings.getProperty("user"));
            hosts = hosts(hosts.isEmpty() ? environment.getOrDefault("PGHOST", "") : hosts,
                environment.getOrDefault("PGPORT", ""));
            database = !database.isEmpty() ? database : environment.getOrDefault("PGDATABASE", user);
        } else if (!environment.containsKey("PGUSER")) {
            settings.remove("user");
        }
        if (parameters.containsKey("user")) {
            settings.remove("user");
        }
        StringBuilder query = new StringBuilder();
        parameters.forEach((name, value) -> query.append(query.length() == 0 ? '?' : '&')
            .append(URLEncoder.encode(name, StandardCharsets.UTF_8)).append('=').append(value));
        String whole = hosts.isEmpty() ? PREFIX + (database.isEmpty() ? "//" : database) : PREFIX + "//" + hosts + "/"
            + database;
        return new Postgres(whole + query, settings, state(environment));
    }

    private static String hosts(String hosts, String ports) throws RepositoryException {
        if (hosts.startsWith("/")) {
            throw new RepositoryException(RepositoryException.USAGE,
                "PGHOST is a directory of sockets, which cannot be used"
                + " from Java: name the host in --repository");
        }
        String[] port = ports.split(",");
        List<String> whole = new ArrayList<>();
        for (String each : (hosts.isEmpty() ? "localhost" : hosts).split(",")) {
            Matcher host = HOST.matcher(each);
            if (!host.matches()) {
                throw new RepositoryException(RepositoryException.USAGE, "--repository: no such host and port can be");
            }
            String its = port[Math.min(whole.size(), port.length - 1)];
            whole.add(host.group(1) + ":" + (host.group(2) != null ? host.group(2) : its.isEmpty() ? "5432" : its));
        }
        return String.join(",", whole);
    }

    private static Properties settings(Map<String, String> environment) throws RepositoryException {
        Properties settings = new Properties();
        settings.setProperty("ApplicationName", environment.getOrDefault("PGAPPNAME", "taskrunner"));
        // each statement runs a few times per process; named ones would break behind a pooler in transaction mode
        settings.setProperty("prepareThreshold", "0");
        settings.setProperty("assumeMinServerVersion", "9.5");
        settings.setProperty("tcpKeepAlive", "true");
        settings.setProperty("user", environment.getOrDefault("PGUSER", System.getProperty("user.name")));
        VARIABLES.forEach((variable, name) -> {
            String value = environment.get(variable);
            if (value != null && !value.isEmpty()) {
                settings.setProperty(name, value);
            }
        });
        String target = environment.get("PGTARGETSESSIONATTRS");
        if (target != null && !target.isEmpty()) {
            if (!TARGETS.containsKey(target)) {
                throw new RepositoryException(RepositoryException.USAGE, "PGTARGETSESSIONATTRS is '" + target
                    + "': set it to one of " + String.join(", ", new TreeSet<>(TARGETS.keySet())));
            }
            settings.setProperty("targetServerType", TARGETS.get(target));
        }
        return settings;
    }

    /** The driver looks for its files in the JVM's idea of the home. */
    private static Path state(Map<String, String> environment) {
        try {
            for (String[] file : new String[][] {{"PGPASSFILE", "org.postgresql.pgpassfile", ".pgpass"},
                {"PGSERVICEFILE", "org.postgresql.pgservicefile", ".pg_service.conf"}}) {
                if (!environment.containsKey(file[0])) {
                    System.setProperty(file[1], Host.home().resolve(file[2]).toString());
                }
            }
            return Database.stateDirectory(environment);
        } catch (TaskException e) {
            return null;
        }
    }

    /** The settings are one statement: each costs a round trip. */
    @Override
    public Connection connect(Duration patience) throws SQLException {
        Properties limited = new Properties();
        limited.putAll(settings);
        long seconds = Math.max(1, Math.min(patience.toSeconds(), MAX_WAIT_SECONDS));
        limited.setProperty("connectTimeout", Long.toString(seconds));
        // the server is to give up before this side does
        limited.setProperty("socketTimeout", Long.toString(seconds + 1));
        Connection connection = new org.postgresql.Driver().connect(url, limited);
        try (Statement statement = connection.createStatement()) {
            statement.execute("SELECT set_config(name, value, false) FROM (VALUES"
                + " ('default_transaction_isolation', 'read committed'), ('default_transaction_read_only', 'off'),"
                + " ('TimeZone', 'UTC'), ('lock_timeout', '" + seconds + "s'), ('statement_timeout', '" + seconds
                + "s'),"
                + " ('idle_in_transaction_session_timeout', '60s'), ('synchronous_commit',"
                + " CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'"
                + " ELSE current_setting('synchronous_commit') END)) AS setting (name, value)");
            return connection;
        } catch (SQLException e) {
            connection.close();
            throw e;
        }
    }

    @Override
    public void limit(Connection connection, Duration patience) throws SQLException {
        connection.setNetworkTimeout(null, (int) Math.max(100, patience.toMillis()));
    }

    /**
     * The connection of a fleet's lock, with nothing set but how long to wait for an answer.
     *
     * @param name of the session, for who looks at the server
     */
    Connection connectForLock(String name) throws SQLException {
        Properties limited = new Properties();
        limited.putAll(settings);
        limited.setProperty("connectTimeout", "3");
        limited.setProperty("socketTimeout", "5");
        limited.setProperty("ApplicationName", name);
        if (hosts().contains(",")) {
            // where the URL says something else, that counts
            limited.setProperty("targetServerType", "primary");
            limited.setProperty("hostRecheckSeconds", "1");
        }
        return new org.postgresql.Driver().connect(url, limited);
    }

    /** The host or hosts as the URL has them, {@code localhost} without one. */
    String hosts() {
        String rest = url.substring(PREFIX.length());
        String authority = rest.startsWith("//") ? rest.substring(2).split("[/?]", 2)[0] : "";
        return authority.isEmpty() ? "localhost" : authority;
    }

    @Override
    public Object identity() {
        return url;
    }

    /** Nothing to do: its commits are. */
    @Override
    public void makeDurable(Connection connection, boolean durable) {
    }

    @Override
    public boolean isServer() {
        return true;
    }

    @Override
    public Sql nextIds() {
        return new Sql("SELECT nextval(pg_get_serial_sequence('job_instance', 'jobinstanceid')) AS instance_id,"
            + " nextval(pg_get_serial_sequence('job_execution', 'jobexecutionid')) AS execution_id");
    }

    /** One statement, thus one round trip and one transaction. */
    @Override
    public boolean write(Connection connection, List<Sql> statements) throws SQLException {
        try {
            Sql.all(statements).rows(connection);
            return true;
        } catch (SQLException e) {
            if (DIVISION_BY_ZERO.equals(e.getSQLState())) {
                return false;
            }
            throw e;
        }
    }

    @Override
    public String toTimestamp() {
        return "CAST(? AS timestamptz)";
    }

    @Override
    public String fromTimestamp(String column) {
        return "to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    }

    @Override
    public void lockSchema(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("SELECT pg_advisory_xact_lock(hashtextextended('taskrunner schema', 0))");
        }
    }

    @Override
    public void lockInstance(Connection connection, long executionId) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT 1 FROM job_instance WHERE jobinstanceid"
            + " ="
            + " (SELECT jobinstanceid FROM job_execution WHERE jobexecutionid = ?) FOR UPDATE")) {
            statement.setLong(1, executionId);
            statement.executeQuery();
        }
    }

    @Override
    public boolean hasTable(Connection connection, String name) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT EXISTS (SELECT 1 FROM pg_tables"
            + " WHERE schemaname = current_schema() AND tablename = ?)")) {
            statement.setString(1, name);
            ResultSet rows = statement.executeQuery();
            rows.next();
            return rows.getBoolean(1);
        }
    }

    /** undefined_table and undefined_column of appendix A of PostgreSQL's manual. */
    @Override
    public boolean isMissing(SQLException e) {
        return "42P01".equals(e.getSQLState()) || "42703".equals(e.getSQLState());
    }

    @Override
    public String storable(Connection connection, String text) throws SQLException {
        String whole = Database.whole(text);
        String encoding = connection.unwrap(PGConnection.class).getParameterStatus("server_encoding");
        // SQL_ASCII keeps whatever bytes it gets
        if (encoding == null || encoding.equals("UTF8") || encoding.equals("SQL_ASCII")) {
            return whole;
        }
        Charset charset = charset(encoding);
        return new String(whole.getBytes(charset), charset);
    }

    /** Of a server's encoding: see "Character Set Support" in PostgreSQL's manual. */
    private static Charset charset(String encoding) {
        String latin = "LATIN";
        int number = encoding.startsWith(latin) ? Integer.parseInt(encoding.substring(latin.length())) : 0;
        // LATIN5 is ISO 8859-9 and so on; 11 and 12 are no Latin alphabets
        String name = number == 0 ? encoding.replace("WIN", "windows-").replace("KOI8", "KOI8-")
            : "ISO-8859-" + (number <= 4 ? number : number <= 6 ? number + 4 : number + 6);
        return Charset.isSupported(name) ? Charset.forName(name) : StandardCharsets.US_ASCII;
    }

    /** Serialization failure, deadlock, too many connections, lock not available, starting up or shutting down. */
    @Override
    public boolean isTransient(SQLException e) {
        return TRANSIENT.contains(e.getSQLState());
    }

    /** Classes 22, data exception, and 23, integrity constraint violation. */
    @Override
    public boolean isRefusal(SQLException e) {
        return e.getSQLState() != null && (e.getSQLState().startsWith("22") || e.getSQLState().startsWith("23"));
    }

    /** Autovacuum does. */
    @Override
    public void shrink(Connection connection) {
    }

    @Override
    public void prepare(boolean create) {
        // the schema is all that is needed
    }

    /** By the SQLSTATEs of appendix A of PostgreSQL's manual. */
    @Override
    public String remedy(Throwable cause) {
        for (Throwable each = cause; each != null; each = each.getCause()) {
            if (each instanceof java.net.UnknownHostException) {
                return "no such host: check the name in the URL or PGHOST";
            }
            if (each instanceof java.net.ConnectException) {
                return "check that the server runs there and listens";
            }
            if (each instanceof java.net.SocketTimeoutException) {
                return "the server does not answer: it is stopped, overloaded or cut off";
            }
        }
        String state = cause instanceof SQLException e && e.getSQLState() != null ? e.getSQLState() : "";
        return switch (state) {
            case "28P01", "28000" -> "check user and password (PGUSER, PGPASSWORD or ~/.pgpass) and the server's"
                + " pg_hba.conf";
            case "42501" -> "the role lacks a privilege: taskrunner-batch schema prints what to grant";
            case "3D000" -> "create the database: createdb -O OWNER NAME";
            case "25006" -> "it is a standby or read-only: name all hosts in the URL, and targetServerType=primary";
            case "53300" -> "too many connections: raise max_connections or the limit of the role, or run fewer tasks"
                + " at once";
            case "53100" -> "the server's disk is full";
            case "55P03", "57014" -> "another session holds a lock: see pg_stat_activity and pg_locks";
            case "57P01", "57P02", "57P03" -> "the server is starting or shutting down: try again";
            case "22021", "22P05" -> "the database's encoding cannot store it: create the database with ENCODING"
                + " 'UTF8'";
            case "40001", "40P01" -> "it met another transaction: try again";
            case "XX001", "XX002" -> "the database is damaged: restore it from a backup";
            default -> state.startsWith("08") ? "check that the server runs and that this host reaches it"
                : "the server's log tells more";
        };
    }

    @Override
    public String toString() {
        int query = url.indexOf('?');
        return query < 0 ? url : url.substring(0, query);
    }
}
