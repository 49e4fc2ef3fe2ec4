//SOURCES TestPostgres.java

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * Hosts on one machine: network namespaces with addresses of their own (ip-netns(8)) on a bridge that is in a namespace
 * too, with PostgreSQL servers and poolers on some of them, and the faults that a network can have (nft(8)). Needs
 * root.
 */
final class FleetNet implements AutoCloseable {
    static final String OWNER = "fleet_owner";
    static final String RUNNER = "fleet_runner";
    private static final int PORT = 5432;

    /** Of this machine's interface and the namespaces; at most 15 characters with what follows. */
    private final String id = "t" + Long.toString(ProcessHandle.current().pid(), 36)
        + Long.toString(System.nanoTime() & 0xFFFF, 36);
    private final int subnet = 1 + (int) Math.floorMod(ProcessHandle.current().pid() * 31 + System.nanoTime(), 250L);
    final Path directory;
    private final List<Node> nodes = new ArrayList<>();
    private int lastAddress;

    FleetNet() throws IOException {
        directory = Files.createTempDirectory("taskrunner-fleet");
        Files.setPosixFilePermissions(directory, java.nio.file.attribute.PosixFilePermissions.fromString("rwxr-xr-x"));
        try {
            shell("ip netns add " + id + "-sw && ip -n " + id + "-sw link add br0 type bridge && ip -n " + id
                + "-sw link set br0 up"
                + " && ip link add " + id + " type veth peer name test netns " + id + "-sw && ip -n " + id
                    + "-sw link set test master br0 up"
                + " && ip addr add 10.77." + subnet + ".254/24 dev " + id + " && ip link set " + id + " up");
        } catch (AssertionError e) {
            throw new AssertionError("these tests need network namespaces (root, ip, nft), which this machine does not"
                + " allow: " + e.getMessage());
        }
    }

    /** Runs it to its end, which must be a good one. @return what it printed */
    static String shell(String script) {
        try {
            Process process = new ProcessBuilder("sh", "-ec", script).redirectErrorStream(true)
                .redirectInput(new java.io.File("/dev/null"))
                .start();
            String out = new String(process.getInputStream().readAllBytes());
            assertTrue(process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0, () -> script + ": " + out);
            return out;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** A new host. */
    Node host(String name) {
        synchronized (this) {
            Node node = new Node(name, ++lastAddress);
            nodes.add(node);
            return node;
        }
    }

    /** A new host with a server. */
    Server server(String name) throws Exception {
        return new Server(host(name));
    }

    /** One host. */
    final class Node {
        final String name;
        final String address;
        private final String namespace;

        private Node(String name, int number) {
            this.name = name;
            address = "10.77." + subnet + "." + number;
            namespace = id + "-" + number;
            String link = "p" + number;
            shell("ip netns add " + namespace + "; ip -n " + namespace + " link add eth0 type veth peer name " + link
                + " netns " + id + "-sw;"
                + " ip -n " + id + "-sw link set " + link + " master br0 up; ip -n " + namespace + " addr add "
                    + address + "/24 dev eth0;"
                + " ip -n " + namespace + " link set eth0 up; ip -n " + namespace + " link set lo up");
        }

        /** What is put before a command so that it runs there. */
        String[] prefix() {
            return new String[] {"ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c", "hostname " + name
                + "; exec \"$@\"", "sh"};
        }

        /** What it keeps of its own. */
        Path state() {
            return directory.resolve("state-" + address);
        }

        private void filter(String input, String output) {
            heal();
            shell("ip netns exec " + namespace
                + " nft 'table inet fault { chain in { type filter hook input priority 0; " + input
                + "; }; chain out { type filter hook output priority 0; " + output + "; }; }'");
        }

        /** Packets vanish, both ways. */
        void cut() {
            filter("iifname eth0 drop", "oifname eth0 drop");
        }

        /** Packets into the host vanish. */
        void cutInbound() {
            filter("iifname eth0 drop", "accept");
        }

        /** Connections are reset, both ends are told. */
        void reset() {
            filter("iifname eth0 meta l4proto tcp reject with tcp reset",
                "oifname eth0 meta l4proto tcp reject with tcp reset");
        }

        /**
         * What the server sends is answered with a reset, of which the host is not told: a firewall that forgot its
         * state.
         */
        void resetServer() {
            filter("iifname eth0 tcp sport " + PORT + " reject with tcp reset", "accept");
        }

        void heal() {
            shell("ip netns exec " + namespace + " nft delete table inet fault 2>/dev/null || true");
        }

        List<Long> pids() {
            return Stream.of(shell("ip netns pids " + namespace).split("\\s+")).filter(word -> !word.isEmpty())
                .map(Long::valueOf).toList();
        }

        /** A signal, such as STOP, to all processes of the host. */
        void signalAll(String signal) {
            for (long pid : pids()) {
                shell("kill -" + signal + " " + pid + " 2>/dev/null || true");
            }
        }

        private void close() {
            signalAll("KILL");
            shell("ip netns del " + namespace);
        }
    }

    /** A server on a host, of the programs that {@link TestPostgres} has, run by the user nobody. */
    final class Server {
        final Node node;
        private final Path data;

        private Server(Node node) throws Exception {
            this(node, null);
            program("initdb", "-A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync");
            Files.writeString(data.resolve("pg_hba.conf"), "local all all trust\nhost all all 0.0.0.0/0 trust\n"
                + "host replication all 0.0.0.0/0 trust\n");
            start();
            execute("postgres", "postgres", "CREATE ROLE " + OWNER + " LOGIN", "CREATE ROLE " + RUNNER + " LOGIN");
        }

        private Server(Node node, Server unused) throws IOException {
            this.node = node;
            data = directory.resolve(node.name + "-" + node.address);
            Files.createDirectory(data);
            shell("chown nobody " + data);
        }

        private String program(String program, String arguments) {
            return shell("cd / && ip netns exec " + node.namespace
                + " setpriv --reuid=65534 --regid=65534 --clear-groups "
                + TestPostgres.Programs.DIRECTORY.resolve("bin").resolve(program) + " -D " + data + " " + arguments);
        }

        void start(String... settings) {
            StringBuilder options =
                new StringBuilder("-c listen_addresses=* -c unix_socket_directories= -c fsync=off -c port=" + PORT
                + " -c max_connections=120");
            for (String setting : settings) {
                options.append(" -c ").append(setting);
            }
            program("pg_ctl", "-w -l " + data + "/log -o '" + options + "' start >/dev/null");
        }

        /** @param mode fast (sessions are ended) or immediate (as in a crash) */
        void stop(String mode) {
            program("pg_ctl", "-w -m " + mode + " stop");
        }

        /** A streaming replica of this server on a host of its own. */
        Server replica(String name) throws Exception {
            Server replica = new Server(host(name), null);
            stop("fast");
            shell("cp -a " + data + "/. " + replica.data + "; rm -f " + replica.data + "/postmaster.pid; touch "
                + replica.data
                + "/standby.signal; chown nobody " + replica.data + "/standby.signal; echo \"primary_conninfo = 'host="
                    + node.address
                + " user=postgres application_name=" + name + " connect_timeout=2'\" >>" + replica.data
                    + "/postgresql.auto.conf");
            start();
            replica.start();
            return replica;
        }

        void promote() {
            program("pg_ctl", "-w promote");
        }

        void createDatabase(String name) throws SQLException {
            execute("postgres", "postgres", "CREATE DATABASE " + name + " OWNER " + OWNER);
        }

        /** Shortens the grace, as the owner of the tables can: nobody else may drop the constraint that wants 30 s. */
        void grace(String database, String grace) throws SQLException {
            execute(database, OWNER, "ALTER TABLE taskrunner_fleet DROP CONSTRAINT IF EXISTS taskrunner_fleet_grace",
                "UPDATE taskrunner_fleet SET grace = '" + grace + "'");
        }

        String url(String database) {
            return "jdbc:postgresql://" + node.address + "/" + database;
        }

        /** What its processes have used so far. */
        double cpuSeconds() {
            double ticks = 0;
            for (long pid : node.pids()) {
                try {
                    String stat = Program.read(Path.of("/proc/" + pid + "/stat"));
                    String[] fields = stat.substring(stat.lastIndexOf(") ") + 2).split(" ");
                    // utime, stime and those of the dead children, see proc_pid_stat(5)
                    for (int field = 14; field <= 17; field++) {
                        ticks += Long.parseLong(fields[field - 3]);
                    }
                } catch (UncheckedIOException e) {
                    // it has ended meanwhile: its parent has its time
                }
            }
            return ticks / 100;
        }

        String urlThrough(Node pooler, String database) {
            return "jdbc:postgresql://" + pooler.address + "/" + database;
        }

        boolean has(String database, String sql) {
            try {
                return !query(database, sql).isEmpty();
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
        }

        Connection connect(String database, String user) throws SQLException {
            return DriverManager.getConnection(url(database) + "?connectTimeout=5&socketTimeout=20", user, "");
        }

        void execute(String database, String user, String... statements) throws SQLException {
            try (Connection connection = connect(database, user)) {
                for (String sql : statements) {
                    connection.createStatement().execute(sql);
                }
            }
        }

        /** Each row, its columns joined by blanks. */
        List<String> query(String database, String sql) throws SQLException {
            try (Connection connection = connect(database, "postgres")) {
                return BatchTask.query(connection, sql);
            }
        }

        /** pgbouncer on a host of its own. @param mode session or transaction */
        Node pooler(String mode) throws Exception {
            Node pooler = host("pool-" + mode);
            Path own = Files.createDirectory(directory.resolve(pooler.name + "-" + pooler.address));
            Files.writeString(own.resolve("users"), "\"" + RUNNER + "\" \"\"\n\"" + OWNER + "\" \"\"\n");
            Files.writeString(own.resolve("ini"), "[databases]\n* = host=" + node.address + " port=" + PORT
                + "\n[pgbouncer]\nlisten_addr = *\n"
                + "listen_port = " + PORT + "\nauth_type = trust\nauth_file = " + own + "/users\npool_mode = " + mode
                    + "\nunix_socket_dir =\n"
                + "ignore_startup_parameters = extra_float_digits\ntcp_keepidle = 10\ntcp_keepintvl = 5\ntcp_keepcnt ="
                    + " 3\n"
                + "tcp_user_timeout = 25000\nlogfile = " + own + "/log\npidfile = " + own + "/pid\n");
            shell("chown -R nobody " + own + "; cd /; ip netns exec " + pooler.namespace
                + " setpriv --reuid=65534 --regid=65534 --clear-groups pgbouncer -q -d " + own
                    + "/ini >/dev/null 2>&1");
            return pooler;
        }

        Node host(String name) {
            return FleetNet.this.host(name);
        }
    }

    @Override
    public void close() {
        for (Node node : nodes) {
            node.close();
        }
        shell("ip link del " + id + "; ip netns del " + id + "-sw; rm -r " + directory);
        assertEquals("", shell("ip netns list | grep " + id + " || true"));
    }
}
