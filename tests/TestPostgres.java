import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;

/**
 * A PostgreSQL server of the tests' own, from Maven: on a free port of the loopback interface, its data in a
 * directory of its own, run by the user nobody, since it refuses to run as root.
 */
final class TestPostgres implements AutoCloseable {
    static final String USER = "postgres";
    static final String PASSWORD = "it's a: \\secret";

    final int port;
    private final Path directory;

    /** Starts it, with an empty database named after its user. */
    TestPostgres() throws IOException {
        directory = Programs.temporaryDirectory();
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = free.getLocalPort();
        }
        Path password = Files.writeString(directory.resolve("password"), PASSWORD + "\n");
        Program.shell(directory, "chown -R nobody .").run().exitedWith(0);
        run("initdb", "-A", "scram-sha-256", "-U", USER, "--pwfile=" + password, "-E", "UTF8", "--locale=C.UTF-8",
            "--no-sync");
        start();
    }

    /** What a stopped one continues with: the same port and data. */
    void start() {
        run("pg_ctl", "-w", "-l", directory + "/log", "-o", "-p " + port + " -c listen_addresses=127.0.0.1"
            + " -c unix_socket_directories=" + directory + " -c fsync=off", "start");
    }

    /** @param mode fast (connections are ended) or immediate (as in a crash) */
    void stop(String mode) {
        run("pg_ctl", "-w", "-m", mode, "stop");
    }

    private void run(String program, String... arguments) {
        new Program(directory, Programs.DIRECTORY.resolve("bin").resolve(program).toString()).with(arguments)
            .env("PGDATA", directory.resolve("data").toString())
            .under("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups").run().exitedWith(0);
    }

    String url(String database) {
        return "jdbc:postgresql://127.0.0.1:" + port + "/" + database;
    }

    Connection connect(String database) throws SQLException {
        return DriverManager.getConnection(url(database), USER, PASSWORD);
    }

    void createDatabase(String name) throws SQLException {
        try (Connection connection = connect(USER)) {
            connection.createStatement().execute("CREATE DATABASE " + name);
        }
    }

    @Override
    public void close() {
        stop("immediate");
        Project.deleteTree(directory);
    }

    /** The server's programs, unpacked once for all tests where the user nobody may read them. */
    static final class Programs {
        static final Path DIRECTORY = unpack();

        static Path temporaryDirectory() throws IOException {
            return Files.setPosixFilePermissions(Files.createTempDirectory("taskrunner-postgres"),
                PosixFilePermissions.fromString("rwxr-xr-x"));
        }

        private static Path unpack() {
            try {
                Path directory = temporaryDirectory();
                Runtime.getRuntime().addShutdownHook(new Thread(() -> Project.deleteTree(directory)));
                String architecture = System.getProperty("os.arch").equals("aarch64") ? "arm64v8" : "amd64";
                Program.script(directory, "-Dpostgres.architecture=" + architecture, "postgres.java",
                    directory.toString());
                return directory;
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
