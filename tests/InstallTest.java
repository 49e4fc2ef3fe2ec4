import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;

@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class InstallTest {
    private Path directory;
    private Path data;
    private Path launcher;
    private Result installed;

    @BeforeAll
    void install(@TempDir Path directory) throws IOException {
        this.directory = directory;
        data = directory.resolve("data");
        launcher = directory.resolve("bin dir/taskrunner");
        installed = installInto(launcher.getParent()).run();
    }

    private Program installInto(Path bin) {
        return Program.taskrunner(directory, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", data.toString());
    }

    private Result run(Path launcher, String command) {
        return new Program(directory, launcher.toString(), "--quiet", "--command", command)
            .with(new TestTask(directory).options()).run();
    }

    private void assertRuns(Path launcher, String what) {
        Result result = run(launcher, "true");
        assertEquals("0, '', ''", result.status() + ", '" + result.out() + "', '" + result.err() + "'", what);
    }

    @Test
    void saysWhatItWroteAndWhatToPutInACrontab() {
        installed.exitedWith(0).outContains("installed " + launcher).outContains("start-up archive")
            .outContains("is not on this PATH")
            .outContains("*/5 * * * * '" + launcher + "' --quiet --lockfile ").errIs("");
    }

    @Test
    void installedCommandRelaysTheStatus() throws IOException {
        assertRuns(launcher, "installed");
        Result failed = run(launcher, "echo out; exit 7").exitedWith(7);
        assertTrue(failed.err().startsWith("out\n") || failed.err().contains("\nout\n"), failed.err());
        String archive = Runtime.version().feature() >= 25 ? "taskrunner.aot" : "taskrunner.jsa";
        assertTrue(Files.size(data.resolve("taskrunner").resolve(archive)) > 1_000_000);
        assertTrue(Files.readString(launcher).contains("/" + archive));
    }

    @Test
    void launcherHasTheScriptsJvmOptions() throws IOException {
        for (String option : Project.scriptOptions()) {
            assertTrue(Files.readString(launcher).contains("'" + option + "'"), option);
        }
    }

    @Test
    void damagedArchiveAndAnotherJdkFallBackInSilence(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin");
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run()
            .exitedWith(0);
        Path copy = bin.resolve("taskrunner");
        Path archive;
        try (Stream<Path> files = Files.list(other.resolve("taskrunner"))) {
            archive = files.filter(file -> file.toString().matches(".*\\.(jsa|aot)")).findFirst().orElseThrow();
        }
        byte[] bytes = Files.readAllBytes(archive);
        archive.toFile().setWritable(true);
        Files.write(archive, Arrays.copyOf(bytes, bytes.length / 2));
        assertRuns(copy, "half an archive");
        byte[] damaged = bytes.clone();
        Arrays.fill(damaged, bytes.length / 4, bytes.length / 3, (byte) 0);
        Files.write(archive, damaged);
        assertRuns(copy, "a damaged archive");
        Files.write(archive, new byte[100_000]);
        assertRuns(copy, "an archive of zeros");
        Files.delete(archive);
        assertRuns(copy, "no archive");
        Files.write(archive, bytes);
        Files.setLastModifiedTime(jar(other.resolve("taskrunner")), FileTime.fromMillis(0));
        assertRuns(copy, "a jar that is not the archive's");
        String text = Files.readString(copy);
        Files.writeString(copy, text.replaceFirst("java='[^']*'", "java='/no/such/java'"));
        assertRuns(copy, "its JDK gone, the one on PATH used");
        Files.delete(jar(other.resolve("taskrunner")));
        Result broken = run(copy, "true").exitedWith(126);
        assertTrue(broken.err().endsWith("; install it again, or for all users where they may read it\n"),
            broken.err());
    }

    /** The first jar of the class path, the one with the program in it. */
    private static Path jar(Path data) throws IOException {
        try (Stream<Path> files = Files.list(data)) {
            String first = System.getProperty("java.class.path").split(":")[0];
            return files.filter(file -> first.endsWith("/" + file.getFileName())).findFirst().orElseThrow();
        }
    }

    @Test
    void installsOverItselfAndIsRemovedWhole(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin");
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run()
            .exitedWith(0);
        Path installed = bin.resolve("taskrunner");
        new Program(other, installed.toString(), "install", "--bin", bin.toString())
            .env("XDG_DATA_HOME", other.toString())
            .run().exitedWith(0);
        assertRuns(installed, "installed by itself");
        new Program(other, installed.toString(), "uninstall").run().exitedWith(0)
            .outContains("removed " + bin + "/taskrunner\n").outContains("removed " + other + "/taskrunner\n")
            .errIs("");
        try (Stream<Path> left = Files.walk(other)) {
            assertEquals(List.of(), left.map(file -> other.relativize(file).toString())
                .filter(file -> file.matches("(bin|man|zsh|bash-completion|taskrunner)(/.*)?")).toList());
        }
    }

    @Test
    void uninstallLeavesOtherFilesAlone(@TempDir Path other) throws IOException {
        Path own = Files.writeString(Files.createDirectories(other.resolve("bin")).resolve("taskrunner"),
            "#!/bin/sh\n");
        Program.taskrunner(other, "uninstall", "--bin", own.getParent().toString()).run().exitedWith(0)
            .outContains("no taskrunner launcher at");
        assertTrue(Files.exists(own));
    }

    @Test
    void installLeavesOtherFilesAlone(@TempDir Path other) throws IOException {
        Path own = Files.writeString(other.resolve("taskrunner"), "#!/bin/sh\n");
        Program.taskrunner(other, "install", "--bin", other.toString())
            .env("XDG_DATA_HOME", other.resolve("data").toString()).run().exitedWith(73)
            .errContains(own + " exists and was not created by taskrunner install");
        assertEquals("#!/bin/sh\n", Files.readString(own));
    }

    @Test
    void unwritableDirectoryIsNamedWithTheRemedy(@TempDir Path other) throws IOException {
        Path file = Files.createFile(other.resolve("file"));
        Program.taskrunner(other, "install", "--bin", file + "/bin").env("XDG_DATA_HOME", other.toString()).run()
            .exitedWith(73)
            .errContains("choose directories with XDG_DATA_HOME and --bin");
    }

    @Test
    void completionAndManPageAreWhereShellsAndManLook() throws IOException {
        for (String file : new String[] {"bash-completion/completions/taskrunner", "zsh/site-functions/_taskrunner",
            "man/man1/taskrunner.1"}) {
            assertTrue(Files.readString(data.resolve(file)).contains("--lockfile") || file.endsWith(".1"), file);
        }
        assertTrue(Files.readString(data.resolve("zsh/site-functions/_taskrunner"))
            .startsWith("#compdef taskrunner\n"));
        assertTrue(Files.readString(data.resolve("man/man1/taskrunner.1")).startsWith(".TH TASKRUNNER 1"));
    }

    @Test
    void theVersionTellsWhereItRunsFromAndWhetherTheArchiveIsInUse() throws IOException {
        new Program(directory, launcher.toString(), "--version").run().exitedWith(0)
            .outIs("taskrunner " + taskrunner.VERSION
            + " (JDK " + System.getProperty("java.version") + ", " + jar(data.resolve("taskrunner"))
            + ", with its start-up archive)\n");
    }

    @Test
    void othersMayReadWhatIsInstalledWhateverTheUmask(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin 100%");
        Result result = Program.taskrunner(other, "install", "--bin", bin.toString())
            .env("XDG_DATA_HOME", other + "/share")
            .underShell("umask 077; exec \"$@\"").run().exitedWith(0)
            .outContains(" * * * '" + other + "/bin 100\\%/taskrunner' --quiet --lockfile ");
        try (Stream<Path> files = Stream.concat(Files.walk(other.resolve("share")), Files.walk(bin))) {
            for (Path file : files.toList()) {
                String mode = PosixFilePermissions.toString(Files.getPosixFilePermissions(file));
                assertTrue(mode.startsWith("r") && mode.charAt(6) == 'r'
                    && (!Files.isDirectory(file) || mode.endsWith("r-x")),
                    file + " " + mode + " " + result);
            }
        }
    }

    @Test
    void aRunInProgressSurvivesUpgradeAndUninstall(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin");
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run()
            .exitedWith(0);
        TestTask task = new TestTask(other);
        Running run = task.hold(new Program(other, bin.resolve("taskrunner").toString(), "--command", task.untilFinish()
            + "; exit 3",
            "--metrics-file", other + "/m.prom", "--notify", "touch told", "--log-format", "json")
            .with(task.options()));
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run()
            .exitedWith(0);
        new Program(other, bin.resolve("taskrunner").toString(), "uninstall").run().exitedWith(0);
        task.finish();
        run.result().exitedWith(3);
        assertTrue(Files.exists(other.resolve("told")) && Files.exists(other.resolve("m.prom")));
        task.assertFree();
    }

    @Test
    void aSignalStopsARunThatHasNoFreeDescriptor(@TempDir Path other) throws IOException {
        TestTask task = new TestTask(other);
        Running run = task.hold(new Program(other, launcher.toString(), "--command", task.untilFinish(), "--kill-after",
            "0s").with(task.options()));
        Program.shell(other, "prlimit --pid " + run.pid() + " --nofile=3").run().exitedWith(0);
        run.signal("TERM");
        run.result().exitedWith(74).errContains(" (it cannot be looked at: ").errHasNo("Exception").errHasNo("Error");
        task.finishOrphan();
        task.markingRequest().run().exitedWith(0).errContains("recovered stale lock");
        task.assertRan();
        task.assertFree();
    }
}
