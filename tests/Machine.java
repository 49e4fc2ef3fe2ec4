import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** What the tests need of the machine beside a JDK and JBang, and how they get it. */
final class Machine {
    /** Programs, each with Debian's package. */
    private static final Map<String, String> PROGRAMS = new TreeMap<>(Map.ofEntries(
        Map.entry("chromium", "chromium"),
        Map.entry("curl", "curl"),
        Map.entry("gcc", "gcc libc6-dev"),
        Map.entry("ip", "iproute2"),
        Map.entry("mount", "mount"),
        Map.entry("mvn", "maven"),
        Map.entry("nft", "nftables"),
        Map.entry("perl", "perl"),
        Map.entry("pgbouncer", "pgbouncer"),
        Map.entry("ps", "procps"),
        Map.entry("script", "bsdutils"),
        Map.entry("setpriv", "util-linux"),
        Map.entry("spin", "spin"),
        Map.entry("strace", "strace"),
        Map.entry("systemd-analyze", "systemd"),
        Map.entry("unshare", "util-linux")));

    /** Where programs for root are, which are not on every user's PATH. */
    private static final String PATH = System.getenv("PATH") + ":/usr/sbin:/sbin";
    private static final List<String> SUDO = List.of("sudo", "-n", "-H");
    /**
     * With a pid namespace, since processes that the kernel hides from this root could be anybody's: the tests are
     * about what a root sees.
     */
    private static final List<String> USER_NAMESPACE = List.of("unshare", "--user", "--map-root-user", "--map-auto",
        "--mount", "--pid", "--fork", "--kill-child", "--mount-proc");
    /** Whether other users, mounts and pid namespaces are to be had. */
    private static final String PROBE =
        "setpriv --reuid=65534 --clear-groups true && unshare --mount --pid --fork --mount-proc true";
    /**
     * Gives root this user's home, by which JBang and Maven go, and the tests a session of their own, since one that
     * began outside the pid namespace has no id. The shell stays, since process 1 must reap orphans.
     */
    private static final String IN_NAMESPACE = """
        passwd=$(mktemp) && sed "s|^\\(root:[^:]*:0:0:[^:]*:\\)[^:]*|\\1$HOME|" /etc/passwd > "$passwd" &&
            chmod 644 "$passwd" && mount --bind "$passwd" /etc/passwd && rm "$passwd" || exit
        setsid --wait "$@"
        exit $?
        """;

    private Machine() {
    }

    /** The machine lacks something; the message says what to do. */
    static final class Unfit extends Exception {
        private static final long serialVersionUID = 1;

        Unfit(String message) {
            super(message);
        }
    }

    /** Installs the programs that are missing, as root or with sudo where that asks for no password. */
    static void install() throws Unfit, IOException, InterruptedException {
        Map<String, String> missing = missing();
        if (missing.isEmpty()) {
            return;
        }
        String packages = String.join(" ", missing.values().stream().distinct().toList());
        String what = String.join(", ", missing.keySet()) + " missing: ";
        String remedy = what + "as root: apt-get install " + packages;
        if (!isRoot() && !succeeds(SUDO, "true")) {
            throw new Unfit(remedy);
        }
        System.out.println(what + "installing " + packages);
        String install = "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ";
        if (!succeeds(isRoot() ? List.of() : SUDO, "sh", "-c", install + packages) || !missing().isEmpty()) {
            throw new Unfit(remedy + " (which failed just now)");
        }
    }

    private static Map<String, String> missing() {
        Map<String, String> missing = new TreeMap<>(PROGRAMS);
        missing.keySet().removeIf(program -> Stream.of(PATH.split(File.pathSeparator))
            .anyMatch(directory -> Files.isExecutable(Path.of(directory, program))));
        return missing;
    }

    /** What comes before a command to run it as root: nothing, a user namespace, or sudo. */
    static List<String> asRoot() throws Unfit, IOException, InterruptedException {
        if (isRoot()) {
            if (!succeeds(List.of(), "sh", "-c", PROBE)) {
                throw new Unfit("root may make no namespaces here, which the tests need: in a container,"
                    + " start it with --privileged");
            }
            return List.of();
        }
        // sudo first: a namespace's root may neither connect network namespaces to the host's nor make control groups
        if (succeeds(SUDO, "sh", "-c", PROBE)) {
            return join(SUDO, "env", "PATH=" + PATH, "JAVA_HOME=" + System.getProperty("java.home"), "LC_ALL=C.UTF-8");
        }
        if (succeeds(USER_NAMESPACE, "sh", "-c", PROBE)) {
            return join(USER_NAMESPACE, "sh", "-c", IN_NAMESPACE, "sh");
        }
        String user = System.getProperty("user.name");
        throw new Unfit("the tests need other users, mounts and namespaces, but " + user + " may neither enter a user"
            + " namespace nor use sudo: as root: apt-get install uidmap && usermod --add-subuids 100000-165535"
            + " --add-subgids 100000-165535 " + user);
    }

    private static boolean isRoot() throws IOException {
        return Files.getAttribute(Path.of("/proc/self"), "unix:uid").equals(0);
    }

    private static boolean succeeds(List<String> prefix, String... command) throws IOException, InterruptedException {
        try {
            return builder(join(prefix, command)).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor() == 0;
        } catch (IOException e) {
            return false;
        }
    }

    /** A command in a locale that encodes all arguments of the tests, with the programs for root on its PATH. */
    static ProcessBuilder builder(List<String> command) {
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().putAll(Map.of("LC_ALL", "C.UTF-8", "PATH", PATH));
        return builder;
    }

    private static List<String> join(List<String> prefix, String... more) {
        List<String> all = new ArrayList<>(prefix);
        all.addAll(List.of(more));
        return all;
    }
}
