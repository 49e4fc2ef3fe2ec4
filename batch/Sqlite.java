import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.zip.CRC32;

/**
 * An embedded database in write-ahead mode, for any number of processes of one machine; not on a network file system.
 */
record Sqlite(Path file, Path stateDirectory) implements Database {
    static final String PREFIX = "jdbc:sqlite:";
    /** SQLITE_OPEN_READWRITE without SQLITE_OPEN_CREATE: one that is gone is not made anew behind a run's back. */
    private static final String OPEN_READ_WRITE = "2";

    /** SQLITE_OPEN_READONLY and SQLITE_OPEN_URI. */
    private static final String OPEN_READ_ONLY_URI = "65";

    /** In WAL mode a commit is one fsync, of the log, when {@code synchronous} is FULL. */
    @Override
    public Connection connect(Duration patience) throws SQLException {
        Properties settings = new Properties();
        boolean unused = !Files.isWritable(file) && Files.notExists(file.resolveSibling(file.getFileName() + "-wal"));
        settings.setProperty("open_mode", unused ? OPEN_READ_ONLY_URI : OPEN_READ_WRITE);
        settings.setProperty("busy_timeout", Long.toString(Math.max(100, patience.toMillis())));
        if (!unused) {
            settings.setProperty("journal_mode", "WAL");
        }
        settings.setProperty("synchronous", "FULL");
        settings.setProperty("foreign_keys", "true");
        settings.setProperty("transaction_mode", "IMMEDIATE");
        // who may only read cannot make the log that write-ahead mode needs: without one nobody writes, and nothing
        // changes
        return new org.sqlite.JDBC().connect(PREFIX + (unused ? file.toUri().toString().replace("file:///", "file:/")
            + "?immutable=1" : file), settings);
    }

    @Override
    public void limit(Connection connection, Duration patience) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA busy_timeout = " + Math.max(100, patience.toMillis()));
        }
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
    public void makeDurable(Connection connection, boolean durable) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("PRAGMA synchronous = " + (durable ? "FULL" : "NORMAL"));
        }
    }

    @Override
    public boolean isServer() {
        return false;
    }

    /** Writers are alone, since transactions begin IMMEDIATE; AUTOINCREMENT goes on behind an id that was given. */
    @Override
    public Sql nextIds() {
        return new Sql("SELECT " + next("job_instance") + " AS instance_id, " + next("job_execution")
            + " AS execution_id");
    }

    private static String next(String table) {
        return "coalesce((SELECT seq FROM sqlite_sequence WHERE name = '" + table + "'), 0) + 1";
    }

    @Override
    public boolean write(Connection connection, List<Sql> statements) throws SQLException {
        boolean alone = connection.getAutoCommit();
        connection.setAutoCommit(false);
        try {
            if (statements.get(0).update(connection) == 0) {
                return false;
            }
            for (Sql each : statements.subList(1, statements.size())) {
                each.update(connection);
            }
            if (alone) {
                connection.commit();
            }
            return true;
        } finally {
            if (alone) {
                connection.rollback();
                connection.setAutoCommit(true);
            }
        }
    }

    /** As the driver writes times, and therefore JBeret reads them where the JVM's time zone is UTC. */
    @Override
    public String toTimestamp() {
        return "strftime('%Y-%m-%d %H:%M:%f', ?)";
    }

    @Override
    public String fromTimestamp(String column) {
        return "strftime('%Y-%m-%dT%H:%M:%fZ', " + column + ")";
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
        try (PreparedStatement statement = connection.prepareStatement("SELECT 1 FROM sqlite_schema WHERE type ="
            + " 'table' AND name = ?")) {
            statement.setString(1, name);
            return statement.executeQuery().next();
        }
    }

    @Override
    public boolean isMissing(SQLException e) {
        return e.getMessage().contains("no such table") || e.getMessage().contains("no such column");
    }

    @Override
    public String storable(Connection connection, String text) {
        return Database.whole(text);
    }

    @Override
    public boolean isTransient(SQLException e) {
        return (e.getErrorCode() & 0xFF) == 5 || (e.getErrorCode() & 0xFF) == 6;
    }

    /** SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH. */
    @Override
    public boolean isRefusal(SQLException e) {
        return (e.getErrorCode() & 0xFF) >= 18 && (e.getErrorCode() & 0xFF) <= 20;
    }

    @Override
    public void shrink(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("VACUUM");
            statement.execute("PRAGMA wal_checkpoint(TRUNCATE)");
        }
    }

    /** SQLite gives its side files the permissions of the database file. */
    @Override
    public void prepare(boolean create) throws IOException {
        if (create) {
            Database.makePrivateDirectory(file.getParent());
            try {
                Files.createFile(file, Database.permissions("rw-------"));
            } catch (FileAlreadyExistsException e) {
                // it is checked below
            }
        } else if (Files.notExists(file)) {
            throw new NoSuchFileException(file.toString());
        }
        if (!Files.isRegularFile(file)) {
            throw new IOException("it is no regular file");
        }
        checkOwner();
        unpackLibrary();
    }

    /** What another user has put there would be restarted, or written to, in this user's name. */
    private void checkOwner() throws IOException {
        int writableByOthers = 0022;
        if (!Processes.WINDOWS) {
            FileStatus status = FileStatus.of(file);
            boolean foreign = status != null && !status.isOwn() && status.uid() != 0;
            boolean writable = ((int) Files.getAttribute(file, "unix:mode") & writableByOthers) != 0;
            if (foreign || writable) {
                throw new IOException(foreign ? "it belongs to another user, " + Files.getOwner(file).getName()
                    : "other users may write to it");
            }
        }
    }

    /**
     * The driver unpacks its native library into the temporary directory at each start and leaves it there when the
     * process is killed. Unpacked once into the state directory, under a name that tells its checksum, it is neither
     * left behind nor unpacked again; one that was damaged since would crash the JVM, and is unpacked anew.
     */
    private void unpackLibrary() {
        if (System.getProperty("org.sqlite.lib.path") != null) {
            return;
        }
        try {
            // the driver's own way to tell systems apart starts a process; this tells those that can share a home
            boolean musl = new File("/lib/ld-musl-x86_64.so.1").exists()
                || new File("/lib/ld-musl-aarch64.so.1").exists();
            String driver = Path.of(org.sqlite.JDBC.class.getProtectionDomain().getCodeSource().getLocation().toURI())
                .getFileName().toString();
            Path directory = stateDirectory.resolve("lib").resolve(driver + "-" + System.getProperty("os.name") + "-"
                + System.getProperty("os.arch") + (musl ? "-musl" : ""));
            Database.makePrivateDirectory(directory);
            Path library = null;
            try (DirectoryStream<Path> unpacked = Files.newDirectoryStream(directory)) {
                for (Path each : unpacked) {
                    if (each.getFileName().toString().startsWith(checksum(Files.readAllBytes(each)) + "-")) {
                        library = each;
                    }
                }
            }
            library = library != null ? library : unpack(directory);
            System.setProperty("org.sqlite.lib.path", directory.toString());
            System.setProperty("org.sqlite.lib.name", library.getFileName().toString());
        } catch (IOException | URISyntaxException | RuntimeException e) {
            // the driver unpacks it itself then, as it does by default
        }
    }

    private static Path unpack(Path directory) throws IOException {
        String name = org.sqlite.util.LibraryLoaderUtil.getNativeLibName();
        String resource = "/org/sqlite/native/" + org.sqlite.util.OSInfo.getNativeLibFolderPathForCurrentOS() + "/"
            + name;
        try (InputStream in = Sqlite.class.getResourceAsStream(resource)) {
            return unpack(in.readAllBytes(), directory, name);
        }
    }

    private static Path unpack(byte[] bytes, Path directory, String name) throws IOException {
        Path library = directory.resolve(checksum(bytes) + "-" + name);
        Path temporary = Files.createTempFile(directory, name, ".tmp", Database.permissions("rw-------"));
        try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
            RegularFiles.append(channel, bytes);
            channel.force(true);
            return Files.move(temporary, library, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    private static String checksum(byte[] bytes) {
        CRC32 sum = new CRC32();
        sum.update(bytes);
        return Long.toHexString(sum.getValue());
    }

    /** By the result codes of https://www.sqlite.org/rescode.html, which the driver has as vendor codes. */
    @Override
    public String remedy(Throwable cause) {
        if (cause instanceof NoSuchFileException) {
            return "the first run creates it; see that --repository and TASKRUNNER_REPOSITORY are right";
        }
        return switch (cause instanceof SQLException e ? e.getErrorCode() & 0xFF : 0) {
            case 5, 6 -> "another process keeps it locked: find it with: fuser -v " + file;
            case 8 -> "it is read-only for this user: see ls -l " + file;
            case 10 -> "see the system log for errors of the disk that " + file.getParent() + " is on";
            case 11, 26 -> "it is damaged, or no SQLite database: move it away or restore it; check with: sqlite3 "
                + file
                + " 'PRAGMA integrity_check'";
            case 13 -> "the disk is full: see df " + file.getParent();
            case 3, 14, 23 -> "see that this user may read and write " + file + " and its directory";
            default -> "name a file in a directory of yours, on a local disk, with"
                + " --repository";
        };
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
