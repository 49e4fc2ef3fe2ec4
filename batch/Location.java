import java.io.IOException;
import java.io.InputStream;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;

/** Where the audit repository is, and how to connect to it. */
sealed interface Location {
    /** A physical connection with the settings that every use of this database needs. */
    Connection connect() throws SQLException;

    /** Makes what must be there before the first connection. */
    void prepare() throws IOException;

    /** The whole URL, which holds no credentials. */
    String url();

    /** Where things are kept beside the database: rows that could not be written, the native library, the commands' output. */
    Path stateFolder();

    /** What tells one database from another that takes its place, or null when it is gone. */
    Object identity();

    /** Whether a connection that was used before still leads to the database. */
    boolean isUsable(Connection connection) throws SQLException;

    /** Keeps other processes out of the schema until this transaction ends. */
    void lockSchema(Connection connection) throws SQLException;

    /** Keeps other processes off the job instance of the execution until this transaction ends. */
    void lockInstance(Connection connection, long executionId) throws SQLException;

    boolean hasTable(Connection connection, String name) throws SQLException;

    /** Whether the statement failed because there are no tables yet. */
    boolean isMissingTable(SQLException e);

    /** Lets the transaction that begins now survive a power failure once it has committed, and all before it. */
    void makeDurable(Connection connection, boolean durable) throws SQLException;

    /** What a user can do when it cannot be reached. */
    String remedy();

    /**
     * @param text {@code jdbc:postgresql://…} or {@code jdbc:sqlite:FILE}; null or empty: the SQLite database in the state folder
     * @param environment variables as libpq has them (PGUSER, PGPASSWORD, PGSERVICE, PGSSLMODE, …), XDG_STATE_HOME
     */
    static Location parse(String text, Map<String, String> environment) throws RepositoryException {
        if (text == null || text.isEmpty()) {
            return new SqliteFile(stateFolder(environment).resolve("executions.db"), stateFolder(environment));
        }
        if (text.startsWith(SqliteFile.PREFIX)) {
            try {
                return new SqliteFile(Path.of(text.substring(SqliteFile.PREFIX.length())).toAbsolutePath().normalize(), stateFolder(environment));
            } catch (InvalidPathException e) {
                throw new RepositoryException(RepositoryException.USAGE, "--repository: no such path can be: " + e.getMessage(), e);
            }
        }
        if (text.startsWith(PostgresServer.PREFIX)) {
            return PostgresServer.parse(text, environment);
        }
        throw new RepositoryException(RepositoryException.USAGE, "--repository must begin with " + PostgresServer.PREFIX + "// or "
            + SqliteFile.PREFIX + ", not: " + text.substring(0, Math.max(0, text.indexOf(':'))) + ":…");
    }

    /** {@code ${XDG_STATE_HOME:-~/.local/state}/taskrunner}; the XDG base directory specification wants an absolute path. */
    static Path stateFolder(Map<String, String> environment) {
        String state = environment.get("XDG_STATE_HOME");
        Path base = state != null && state.startsWith("/") ? Path.of(state)
            : Host.home().resolve(".local/state");
        return base.resolve("taskrunner");
    }

    /** Makes the folder and what lies above it, for this user alone; one that is there stays as it is. */
    static void makePrivateFolder(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) {
            Files.createDirectories(folder, permissions("rwx------"));
        }
    }

    static FileAttribute<?>[] permissions(String permissions) {
        return FileSystems.getDefault().supportedFileAttributeViews().contains("posix")
            ? new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString(permissions))}
            : new FileAttribute<?>[0];
    }
}

/** An embedded database in write-ahead mode, for any number of processes of one machine; not on a network file system. */
record SqliteFile(Path file, Path stateFolder) implements Location {
    static final String PREFIX = "jdbc:sqlite:";
    /** SQLITE_OPEN_READWRITE without SQLITE_OPEN_CREATE: one that is gone is not made anew behind a run's back. */
    private static final String OPEN_READ_WRITE = "2";
    /** Milliseconds that a writer waits for another one. */
    private static final String BUSY_TIMEOUT = "10000";

    @Override
    public Connection connect() throws SQLException {
        Properties settings = new Properties();
        settings.setProperty("open_mode", OPEN_READ_WRITE);
        settings.setProperty("busy_timeout", BUSY_TIMEOUT);
        settings.setProperty("journal_mode", "WAL");
        settings.setProperty("synchronous", "NORMAL");
        settings.setProperty("foreign_keys", "true");
        settings.setProperty("date_class", "TEXT");
        settings.setProperty("transaction_mode", "IMMEDIATE");
        return new org.sqlite.JDBC().connect(PREFIX + file, settings);
    }

    /** The file's device and inode: one that was removed or replaced would take all that is written to it with it. */
    @Override
    public Object identity() {
        try {
            Object key = Files.readAttributes(file, BasicFileAttributes.class).fileKey();
            return key == null ? file : key;
        } catch (IOException e) {
            return null;
        }
    }

    @Override
    public boolean isUsable(Connection connection) {
        return true;
    }

    /** Nothing to do: transactions begin IMMEDIATE, alone among writers. */
    @Override
    public void lockSchema(Connection connection) {
    }

    /** Nothing to do, for the same reason. */
    @Override
    public void lockInstance(Connection connection, long executionId) {
    }

    @Override
    public boolean hasTable(Connection connection, String name) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")) {
            statement.setString(1, name);
            return statement.executeQuery().next();
        }
    }

    @Override
    public boolean isMissingTable(SQLException e) {
        return e.getMessage().contains("no such table");
    }

    /** In WAL mode FULL syncs at each commit, NORMAL at checkpoints only; neither can corrupt the database. */
    @Override
    public void makeDurable(Connection connection, boolean durable) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
        }
    }

    /**
     * SQLite gives its side files the permissions of the database file. The driver writes times as text in the JVM's time zone,
     * which differs between cron and a terminal: it is UTC from here on.
     */
    @Override
    public void prepare() throws IOException {
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        Location.makePrivateFolder(file.getParent());
        try {
            Files.createFile(file, Location.permissions("rw-------"));
        } catch (FileAlreadyExistsException e) {
            if (!Files.isRegularFile(file)) {
                throw new IOException("it is no regular file", e);
            }
        }
        unpackLibrary();
    }

    /**
     * The driver unpacks its native library into the temporary folder at each start and leaves it there when the process is
     * killed. Unpacked once into the state folder it is neither left behind nor unpacked again.
     */
    private void unpackLibrary() {
        if (System.getProperty("org.sqlite.lib.path") != null) {
            return;
        }
        String system = org.sqlite.util.OSInfo.getNativeLibFolderPathForCurrentOS();
        String name = org.sqlite.util.LibraryLoaderUtil.getNativeLibName();
        Path folder = stateFolder.resolve("lib").resolve("sqlite-" + org.sqlite.SQLiteJDBCLoader.getVersion() + "-" + system.replace('/', '-'));
        Path library = folder.resolve(name);
        try {
            if (!Files.isRegularFile(library, LinkOption.NOFOLLOW_LINKS)) {
                Location.makePrivateFolder(folder);
                Path unpacked = Files.createTempFile(folder, name, ".tmp", Location.permissions("rw-------"));
                try (InputStream in = SqliteFile.class.getResourceAsStream("/org/sqlite/native/" + system + "/" + name)) {
                    Files.write(unpacked, in.readAllBytes());
                    Files.move(unpacked, library, StandardCopyOption.ATOMIC_MOVE);
                } finally {
                    Files.deleteIfExists(unpacked);
                }
            }
            System.setProperty("org.sqlite.lib.path", folder.toString());
            System.setProperty("org.sqlite.lib.name", name);
        } catch (IOException | RuntimeException e) {
            // the driver unpacks it itself then, as it does by default
            System.clearProperty("org.sqlite.lib.path");
        }
    }

    @Override
    public String remedy() {
        return "check that " + file.getParent() + " is a folder of yours on a local disk with space left, or name another with --repository";
    }

    @Override
    public String url() {
        return PREFIX + file;
    }

    @Override
    public String toString() {
        return file.toString();
    }
}

/** A PostgreSQL database, for a fleet. @param settings may hold a password: never show them */
record PostgresServer(String url, Properties settings, Path stateFolder) implements Location {
    static final String PREFIX = "jdbc:postgresql:";
    private static final int PATIENCE_SECONDS = 5;

    static PostgresServer parse(String url, Map<String, String> environment) throws RepositoryException {
        String service = environment.get("PGSERVICE");
        if (service != null && (url.equals(PREFIX + "//") || url.equals(PREFIX + "///"))) {
            return parse(PREFIX + "//?service=" + URLEncoder.encode(service, StandardCharsets.UTF_8), environment);
        }
        String query = url.contains("?") ? url.substring(url.indexOf('?') + 1) : "";
        String authority = url.substring(PREFIX.length(), url.length() - query.length());
        boolean namesUser = false;
        boolean namesService = false;
        for (String parameter : query.split("&")) {
            String name = URLDecoder.decode(parameter.split("=", 2)[0], StandardCharsets.UTF_8);
            if (name.toLowerCase(java.util.Locale.ROOT).contains("password")) {
                throw passwordInUrl();
            }
            namesUser |= name.equals("user");
            namesService |= name.equals("service");
        }
        if (authority.contains("@")) {
            throw passwordInUrl();
        }
        Properties settings = new Properties();
        // seconds; a peer that vanished without a word is noticed by these, not after the hours that TCP takes
        settings.setProperty("connectTimeout", "5");
        settings.setProperty("socketTimeout", "10");
        settings.setProperty("tcpKeepAlive", "true");
        settings.setProperty("ApplicationName", "taskrunner");
        // each statement runs a few times per process; named ones would break behind a pooler in transaction mode
        settings.setProperty("prepareThreshold", "0");
        settings.setProperty("assumeMinServerVersion", "9.5");
        copy(environment, "PGSSLMODE", settings, "sslmode");
        copy(environment, "PGSSLROOTCERT", settings, "sslrootcert");
        copy(environment, "PGSSLCERT", settings, "sslcert");
        copy(environment, "PGSSLKEY", settings, "sslkey");
        copy(environment, "PGPASSWORD", settings, "password");
        if (!namesUser) {
            copy(environment, "PGUSER", settings, "user");
            if (!namesService && environment.get("PGUSER") == null) {
                settings.setProperty("user", System.getProperty("user.name"));
            }
        }
        return new PostgresServer(url, settings, Location.stateFolder(environment));
    }

    private static void copy(Map<String, String> environment, String variable, Properties settings, String name) {
        String value = environment.get(variable);
        if (value != null && !value.isEmpty()) {
            settings.setProperty(name, value);
        }
    }

    private static RepositoryException passwordInUrl() {
        return new RepositoryException(RepositoryException.USAGE, "--repository: no credentials in the URL, every user of this machine can"
            + " read them there; put the password into ~/.pgpass or PGPASSWORD, the user into PGUSER or ?user=");
    }

    @Override
    public Connection connect() throws SQLException {
        return new org.postgresql.Driver().connect(url, settings);
    }

    @Override
    public Object identity() {
        return url;
    }

    @Override
    public boolean isUsable(Connection connection) throws SQLException {
        return connection.isValid(PATIENCE_SECONDS);
    }

    @Override
    public void lockSchema(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("SELECT pg_advisory_xact_lock(hashtextextended('taskrunner schema', 0))");
        }
    }

    @Override
    public void lockInstance(Connection connection, long executionId) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("SELECT 1 FROM job_instance WHERE jobinstanceid ="
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

    /** 42P01 is undefined_table in appendix A of PostgreSQL's manual. */
    @Override
    public boolean isMissingTable(SQLException e) {
        return "42P01".equals(e.getSQLState());
    }

    /** Nothing to do: PostgreSQL's commits are, unless its administrator wants it otherwise. */
    @Override
    public void makeDurable(Connection connection, boolean durable) {
    }

    @Override
    public void prepare() {
        // the schema is all that is needed
    }

    @Override
    public String remedy() {
        return "check that the server runs and that PGUSER, PGPASSWORD or ~/.pgpass are right";
    }

    @Override
    public String toString() {
        int query = url.indexOf('?');
        return query < 0 ? url : url.substring(0, query);
    }
}
