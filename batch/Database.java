import java.io.IOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Where the audit repository is: how to connect to it, and what its SQL has of its own. */
sealed interface Database permits Sqlite, Postgres {
    /**
     * A connection with all the settings that its use depends on, so that no default of server, role or JVM leaks in.
     *
     * @param patience how long a statement may wait for locks or an answer
     */
    Connection connect(Duration patience) throws SQLException;

    /** Another patience, without a round trip. */
    void limit(Connection connection, Duration patience) throws SQLException;

    /**
     * What must be there before the first connection.
     *
     * @param create whether to make it
     * @throws IOException when it is not there, or not to be trusted
     */
    void prepare(boolean create) throws IOException;

    /** The whole URL, which holds no credentials. */
    String url();

    /** Where things are kept beside the database: undelivered rows, the native library, the commands' output. */
    Path stateDirectory();

    /** What tells one database from another that takes its place, or null when it is gone. */
    Object identity();

    /** Whether a connection costs others something while it is not used. */
    boolean isServer();

    /** A query for the ids {@code instance_id} and {@code execution_id} of the next rows of JBeret's tables. */
    Sql nextIds();

    /** Whether what is committed from now on, and all before it, survives a power failure at once. */
    void makeDurable(Connection connection, boolean durable) throws SQLException;

    /**
     * Runs the statements in one transaction, or in that of the caller; durable once it has committed.
     *
     * @return false when the first one changed no row: then nothing is written
     */
    boolean write(Connection connection, List<Sql> statements) throws SQLException;

    /** The SQL expression by which a time of JBeret's tables is written from text, UTC, ISO-8601. */
    String toTimestamp();

    /** The SQL expression that tells such a column as text, UTC, ISO-8601 to the millisecond. */
    String fromTimestamp(String column);

    /** Keeps other processes out of the schema until this transaction ends. */
    void lockSchema(Connection connection) throws SQLException;

    /** Keeps other processes off the job instance of the execution until this transaction ends. */
    void lockInstance(Connection connection, long executionId) throws SQLException;

    boolean hasTable(Connection connection, String name) throws SQLException;

    /** Whether the statement failed because there is no such table, or no such column. */
    boolean isMissing(SQLException e);

    /** The text with a visible substitute for each character that the database cannot store. */
    String storable(Connection connection, String text) throws SQLException;

    /** Whether the same may succeed when it is tried again. */
    boolean isTransient(SQLException e);

    /** Whether what was to be written will never be taken. */
    boolean isRefusal(SQLException e);

    /** What a user can do about it. */
    String remedy(Throwable cause);

    /** Gives the space of deleted rows back, where the database does not by itself. */
    void shrink(Connection connection) throws SQLException;

    /**
     * @param text {@code jdbc:postgresql://…} or {@code jdbc:sqlite:FILE}; null or empty: the SQLite database in the
     *     state
     *     directory
     * @param environment variables as libpq has them (PGHOST, PGUSER, PGPASSFILE, PGSERVICE, …), XDG_STATE_HOME
     */
    static Database parse(String text, Map<String, String> environment) throws TaskException {
        if (text == null || text.isEmpty()) {
            Path state = stateDirectory(environment);
            return new Sqlite(state.resolve("executions.db"), state);
        }
        refuseCredentials(text);
        if (text.startsWith(Sqlite.PREFIX) && !text.contains("?")) {
            try {
                return new Sqlite(Path.of(text.substring(Sqlite.PREFIX.length())).toAbsolutePath().normalize(),
                    stateDirectory(environment));
            } catch (InvalidPathException e) {
                throw new RepositoryException(RepositoryException.USAGE, "--repository: no such path can be: "
                    + e.getMessage(), e);
            }
        }
        if (text.startsWith(Postgres.PREFIX)) {
            return Postgres.parse(text, environment);
        }
        throw new RepositoryException(RepositoryException.USAGE,
            "--repository: unsupported URL; use jdbc:postgresql://HOST/DATABASE or jdbc:sqlite:FILE");
    }

    private static void refuseCredentials(String url) throws RepositoryException {
        boolean inAuthority = url.matches("[^?;]*//[^/?;]*@.*");
        boolean asParameter = false;
        for (String parameter : url.substring(Math.max(0, url.indexOf(':'))).split("[?&;]")) {
            String name;
            try {
                name = URLDecoder.decode(parameter.split("=", 2)[0], StandardCharsets.UTF_8).toLowerCase(Locale.ROOT);
            } catch (IllegalArgumentException e) {
                throw new RepositoryException(RepositoryException.USAGE, "--repository: unsupported URL: an odd %", e);
            }
            asParameter |= parameter.contains("=") && (name.contains("pass") || name.contains("pwd"));
        }
        if (inAuthority || asParameter || url.contains(";")) {
            throw new RepositoryException(RepositoryException.USAGE,
                "--repository: no credentials in the URL, every user of"
                + " this machine can read them there; put the password into ~/.pgpass or PGPASSWORD, the user into"
                + " PGUSER or"
                + " ?user=");
        }
    }

    /**
     * {@code ${XDG_STATE_HOME:-~/.local/state}/taskrunner}; the XDG base directory specification wants an absolute
     * path.
     */
    static Path stateDirectory(Map<String, String> environment) throws TaskException {
        String state = environment.get("XDG_STATE_HOME");
        Path base = state != null && state.startsWith("/") ? Path.of(state)
            : Host.home().resolve(".local/state");
        return base.resolve("taskrunner");
    }

    /** Makes the directory and what lies above it, for this user alone; one that is there stays as it is. */
    static void makePrivateDirectory(Path directory) throws IOException {
        if (!Files.isDirectory(directory)) {
            Files.createDirectories(directory, permissions("rwx------"));
        }
    }

    /** No database stores NUL in text, nor half a character. */
    static String whole(String text) {
        StringBuilder whole = null;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            boolean pair = Character.isHighSurrogate(c) && i + 1 < text.length()
                && Character.isLowSurrogate(text.charAt(i + 1));
            if (pair) {
                i++;
            } else if (c == 0 || Character.isSurrogate(c)) {
                whole = whole == null ? new StringBuilder(text) : whole;
                whole.setCharAt(i, c == 0 ? '\u2400' : '\uFFFD');
            }
        }
        return whole == null ? text : whole.toString();
    }

    static FileAttribute<?>[] permissions(String permissions) {
        return FileSystems.getDefault().supportedFileAttributeViews().contains("posix")
            ? new FileAttribute<?>[] {
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(permissions))}
            : new FileAttribute<?>[0];
    }
}
