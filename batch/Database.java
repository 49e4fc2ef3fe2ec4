import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.Driver;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;
import java.util.concurrent.ConcurrentHashMap;
import java.util.logging.Logger;

import javax.sql.DataSource;

import org.sqlite.util.LibraryLoaderUtil;

/**
 * The database of the audit repository: SQLite by default, or PostgreSQL.
 *
 * <p>Each thread has one connection of its own, whose {@code close} does nothing: JBeret closes its connection after each statement,
 * which would cost a new connection each time; and a SQLite connection that two threads share loses transactions. A connection that
 * has gone is replaced, for as long as {@link #patience} says.
 */
final class Database implements DataSource, AutoCloseable {
    /** EX_UNAVAILABLE of sysexits(3): the repository cannot be reached. */
    static final int UNAVAILABLE = 69;
    private static final String SQLITE = "jdbc:sqlite:";
    private static final String POSTGRESQL = "jdbc:postgresql:";
    /** How long a job waits for a repository that has gone: its lock is held meanwhile. */
    private static final Duration SHORT = Duration.ofSeconds(2);

    /** One thread's connection: the driver's, and the one that is handed out. */
    private record Held(Connection physical, Connection shown) {
    }

    /** Work in one transaction. */
    interface Work<T> {
        T run() throws SQLException, TaskException;
    }

    private final String url;
    private final Path file;
    private final Driver driver;
    private final Properties properties = new Properties();
    private final Map<Thread, Held> held = new ConcurrentHashMap<>();
    private volatile Duration patience = SHORT;

    private Database(String url, Path file, Driver driver) {
        this.url = url;
        this.file = file;
        this.driver = driver;
    }

    /**
     * The repository that the option, {@code TASKRUNNER_REPOSITORY} or the default says; its folder is created, nothing is connected.
     *
     * @param option the value of {@code --repository}, or null
     * @throws TaskException 64 when the URL is not one, 69 when the folder cannot be made
     */
    static Database open(String option) throws TaskException {
        String given = option != null ? option : System.getenv("TASKRUNNER_REPOSITORY");
        if (given != null && given.startsWith(POSTGRESQL)) {
            return postgresql(given);
        }
        if (given != null && (!given.startsWith(SQLITE) || given.length() == SQLITE.length() || given.indexOf('?') >= 0
                || given.startsWith(SQLITE + ":"))) {
            throw new TaskException(ExitStatus.USAGE, "invalid repository '" + withoutSecrets(given)
                + "': give jdbc:postgresql://HOST/DATABASE or jdbc:sqlite:FILE");
        }
        return sqlite(given == null ? stateFolder().resolve("repository.db") : Path.of(given.substring(SQLITE.length())).toAbsolutePath());
    }

    /** {@code ${XDG_STATE_HOME:-~/.local/state}/taskrunner}; as the XDG specification says, a relative path there is ignored. */
    static Path stateFolder() {
        String home = System.getenv("XDG_STATE_HOME");
        Path base = home != null && home.startsWith("/") ? Path.of(home) : Path.of(System.getProperty("user.home"), ".local", "state");
        return base.resolve("taskrunner");
    }

    private static Database postgresql(String url) throws TaskException {
        String lower = url.toLowerCase(java.util.Locale.ROOT);
        int query = lower.indexOf('?');
        if (lower.indexOf("password=", Math.max(query, 0)) >= 0 || lower.substring(0, query < 0 ? lower.length() : query).contains("@")) {
            throw new TaskException(ExitStatus.USAGE, "the repository's URL has credentials in it, which every user of this host can see:"
                + " put them into PGUSER and PGPASSWORD, ~/.pgpass or a service file");
        }
        Database database = new Database(url, null, new org.postgresql.Driver());
        String user = System.getenv("PGUSER");
        if (user != null && !lower.contains("user=")) {
            database.properties.setProperty("user", user);
        }
        String password = System.getenv("PGPASSWORD");
        if (password != null) {
            database.properties.setProperty("password", password);
        }
        String[] defaults = {"connectTimeout", "5", "loginTimeout", "10", "socketTimeout", "20", "tcpKeepAlive", "true", "ApplicationName",
            "taskrunner"};
        for (int i = 0; i < defaults.length; i += 2) {
            database.properties.setProperty(defaults[i], defaults[i + 1]);
        }
        return database;
    }

    private static Database sqlite(Path file) throws TaskException {
        // The driver writes times in the JVM's zone: local ones would repeat an hour in autumn.
        TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
        try {
            makePrivateFolder(file.getParent());
            try {
                // The driver would create it with the umask's mode; its -wal and -shm take the mode of the database.
                Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
            } catch (FileAlreadyExistsException e) {
                // an earlier run made it
            } catch (UnsupportedOperationException e) {
                // no POSIX modes here: the folder of the user protects it
            }
            prepareLibrary();
        } catch (IOException e) {
            throw new TaskException(UNAVAILABLE, "cannot make repository " + file + ": " + Text.reason(e)
                + "; give another one with --repository jdbc:sqlite:FILE", e);
        }
        Database database = new Database(SQLITE + file, file, new org.sqlite.JDBC());
        String[] settings = {"journal_mode", "WAL", "busy_timeout", "10000", "foreign_keys", "true", "date_class", "TEXT",
            "transaction_mode", "IMMEDIATE"};
        for (int i = 0; i < settings.length; i += 2) {
            database.properties.setProperty(settings[i], settings[i + 1]);
        }
        return database;
    }

    private static void makePrivateFolder(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) {
            Files.createDirectories(folder.getParent());
            try {
                Files.createDirectory(folder, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
            } catch (FileAlreadyExistsException e) {
                // another process was quicker
            } catch (UnsupportedOperationException e) {
                Files.createDirectories(folder);
            }
        }
    }

    /** Extracts SQLite's library once: the driver does it at each start, and leaves it behind when it is killed. */
    private static void prepareLibrary() throws IOException {
        String name = LibraryLoaderUtil.getNativeLibName();
        Path folder = stateFolder().resolve("sqlite-" + org.sqlite.SQLiteJDBCLoader.getVersion() + "-" + System.getProperty("os.arch"));
        Path library = folder.resolve(name);
        System.setProperty("org.sqlite.tmpdir", folder.toString());
        System.setProperty("org.sqlite.lib.path", folder.toString());
        if (Files.exists(library)) {
            return;
        }
        makePrivateFolder(stateFolder());
        makePrivateFolder(folder);
        try (InputStream in = Database.class.getResourceAsStream(LibraryLoaderUtil.getNativeLibResourcePath() + "/" + name)) {
            if (in != null) {
                Path temporary = Files.createTempFile(folder, name, ".new");
                Files.copy(in, temporary, StandardCopyOption.REPLACE_EXISTING);
                Files.move(temporary, library, StandardCopyOption.ATOMIC_MOVE);
            }
        }
    }

    private static String withoutSecrets(String url) {
        int secret = url.toLowerCase(java.util.Locale.ROOT).indexOf("password");
        return secret < 0 ? url : url.substring(0, secret) + "…";
    }

    boolean isSqlite() {
        return file != null;
    }

    /** For messages: the file, or the URL, which has no credentials in it. */
    String name() {
        return file != null ? file.toString() : url;
    }

    /** How long {@link #getConnection} tries again while the database is away; 2 s at the start. */
    void patience(Duration longest) {
        patience = longest;
    }

    @Override
    public Connection getConnection() throws SQLException {
        Held mine = held.get(Thread.currentThread());
        if (mine != null && (!mine.physical.getAutoCommit() || isSound(mine.physical))) {
            return mine.shown;
        }
        drop();
        long deadline = System.nanoTime() + patience.toNanos();
        long pause = 50;
        while (true) {
            try {
                Connection physical = driver.connect(url, (Properties) properties.clone());
                if (physical == null) {
                    throw new SQLException("the driver does not know the URL " + url);
                }
                held.put(Thread.currentThread(), mine = new Held(physical, uncloseable(physical)));
                return mine.shown;
            } catch (SQLException e) {
                long left = (deadline - System.nanoTime()) / 1_000_000;
                if (left <= 0 || e.getSQLState() != null && e.getSQLState().startsWith("28")) {
                    throw e;
                }
                try {
                    Thread.sleep(Math.min(pause, left));
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                    throw e;
                }
                pause = Math.min(pause * 2, 1000);
            }
        }
    }

    /** SQLite keeps writing to a file that was removed: sound is only what the path still leads to. */
    private boolean isSound(Connection connection) throws SQLException {
        return file != null ? Files.exists(file) && !connection.isClosed() : connection.isValid(5);
    }

    private static Connection uncloseable(Connection physical) {
        return (Connection) Proxy.newProxyInstance(Database.class.getClassLoader(), new Class<?>[] {Connection.class},
            (proxy, method, arguments) -> {
                if (method.getName().equals("close")) {
                    return null;
                }
                try {
                    return method.invoke(physical, arguments);
                } catch (InvocationTargetException e) {
                    throw e.getCause();
                }
            });
    }

    /** Runs the work in one transaction of this thread's connection, JBeret's statements included. */
    <T> T transaction(Work<T> work) throws SQLException, TaskException {
        Connection connection = getConnection();
        boolean done = false;
        connection.setAutoCommit(false);
        try {
            T result = work.run();
            connection.commit();
            done = true;
            return result;
        } finally {
            if (done) {
                connection.setAutoCommit(true);
            } else {
                // closing it rolls back, also when the server has gone
                drop();
            }
        }
    }

    private void drop() {
        Held mine = held.remove(Thread.currentThread());
        if (mine != null) {
            close(mine);
        }
    }

    private static void close(Held connection) {
        try {
            if (!connection.physical.getAutoCommit()) {
                connection.physical.rollback();
            }
        } catch (SQLException e) {
            // it has gone, and the server rolls back
        }
        try {
            connection.physical.close();
        } catch (SQLException e) {
            // it has gone already
        }
    }

    @Override
    public void close() {
        for (Held connection : held.values()) {
            close(connection);
        }
        held.clear();
    }

    /** Runs the statements one by one. */
    void execute(Iterable<String> statements) throws SQLException {
        try (Statement statement = getConnection().createStatement()) {
            for (String sql : statements) {
                statement.execute(sql);
            }
        }
    }

    @Override
    public Connection getConnection(String user, String password) throws SQLException {
        throw new SQLFeatureNotSupportedException("credentials come from the environment");
    }

    @Override
    public PrintWriter getLogWriter() {
        return null;
    }

    @Override
    public void setLogWriter(PrintWriter out) {
    }

    @Override
    public void setLoginTimeout(int seconds) {
    }

    @Override
    public int getLoginTimeout() {
        return 0;
    }

    @Override
    public Logger getParentLogger() {
        return Logger.getGlobal();
    }

    @Override
    public <T> T unwrap(Class<T> type) throws SQLException {
        throw new SQLException("wraps nothing");
    }

    @Override
    public boolean isWrapperFor(Class<?> type) {
        return false;
    }
}
