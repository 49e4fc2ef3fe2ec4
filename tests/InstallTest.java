import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;

@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class InstallTest {
    private Path folder;
    private Path data;
    private Path launcher;
    private Program.Result installed;

    @BeforeAll
    void install(@TempDir Path folder) throws IOException {
        this.folder = folder;
        data = folder.resolve("data");
        launcher = folder.resolve("bin dir/taskrunner");
        installed = installInto(launcher.getParent()).run();
    }

    private Program installInto(Path bin) {
        return Program.taskrunner(folder, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", data.toString());
    }

    private record Shell(int status, String out, String err) {
    }

    private Shell launch(Path launcher, String... arguments) throws IOException {
        List<String> line = new java.util.ArrayList<>(List.of(launcher.toString()));
        line.addAll(List.of(arguments));
        Path out = Files.createTempFile(folder, "out", "");
        Path err = Files.createTempFile(folder, "err", "");
        ProcessBuilder builder = new ProcessBuilder(line).redirectOutput(out.toFile()).redirectError(err.toFile());
        builder.environment().remove("JAVA_TOOL_OPTIONS");
        try {
            Process process = builder.start();
            assertTrue(process.waitFor(60, TimeUnit.SECONDS));
            return new Shell(process.exitValue(), Files.readString(out), Files.readString(err));
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private Shell run(Path launcher, String command) throws IOException {
        return launch(launcher, "--quiet", "--command", command, "--lockfile", folder + "/task.lock", "--threshold", "1",
            "--counter-file", folder + "/task.count");
    }

    @Test
    void itTellsWhatItWroteAndWhatToPutInACrontab() {
        installed.exitedWith(0).outContains("installed " + launcher).outContains("start-up archive").outContains("is not on this PATH")
            .outContains("*/5 * * * * " + launcher + " --quiet --command").errIs("");
    }

    @Test
    void theInstalledCommandRunsWithTheArchiveAndRelaysTheStatus() throws IOException {
        assertEquals(new Shell(0, "", ""), run(launcher, "true"));
        Shell failed = run(launcher, "echo out; exit 7");
        assertEquals(7, failed.status);
        assertTrue(failed.err.startsWith("out\n") || failed.err.contains("\nout\n"), failed.err);
        String archive = Runtime.version().feature() >= 25 ? "taskrunner.aot" : "taskrunner.jsa";
        assertTrue(Files.size(data.resolve("taskrunner").resolve(archive)) > 1_000_000);
        assertTrue(Files.readString(launcher).contains("/" + archive));
    }

    @Test
    void theLauncherUsesTheScriptsOwnJvmOptions() throws IOException {
        for (String option : Program.scriptOptions()) {
            assertTrue(Files.readString(launcher).contains("'" + option + "'"), option);
        }
    }

    @Test
    void aDamagedOrMissingArchiveAndAnotherJdkFallBackInSilence(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin");
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run().exitedWith(0);
        Path copy = bin.resolve("taskrunner");
        Path archive;
        try (Stream<Path> files = Files.list(other.resolve("taskrunner"))) {
            archive = files.filter(file -> file.toString().matches(".*\\.(jsa|aot)")).findFirst().orElseThrow();
        }
        byte[] bytes = Files.readAllBytes(archive);
        archive.toFile().setWritable(true);
        Files.write(archive, java.util.Arrays.copyOf(bytes, bytes.length / 2));
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "half an archive");
        byte[] damaged = bytes.clone();
        java.util.Arrays.fill(damaged, bytes.length / 4, bytes.length / 3, (byte) 0);
        Files.write(archive, damaged);
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "a damaged archive");
        Files.write(archive, new byte[100_000]);
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "an archive of zeros");
        Files.delete(archive);
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "no archive");
        Files.write(archive, bytes);
        Files.setLastModifiedTime(jar(other.resolve("taskrunner")), java.nio.file.attribute.FileTime.fromMillis(0));
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "a jar that is not the archive's");
        String text = Files.readString(copy);
        Files.writeString(copy, text.replaceFirst("java='[^']*'", "java='/no/such/java'"));
        assertEquals(new Shell(0, "", ""), run(copy, "true"), "its JDK gone, the one on PATH used");
        Files.delete(jar(other.resolve("taskrunner")));
        Shell broken = run(copy, "true");
        assertEquals(126, broken.status);
        assertTrue(broken.err.endsWith(" cannot be read: install it again, or for all users where they may read it\n"), broken.err);
    }

    /** The first jar of the class path, the one with the program in it. */
    private static Path jar(Path data) throws IOException {
        try (Stream<Path> files = Files.list(data)) {
            String first = System.getProperty("java.class.path").split(":")[0];
            return files.filter(file -> first.endsWith("/" + file.getFileName())).findFirst().orElseThrow();
        }
    }

    @Test
    void itIsInstalledAgainOverItselfAndRemovedWhole(@TempDir Path other) throws IOException {
        Path bin = other.resolve("bin");
        Program.taskrunner(other, "install", "--bin", bin.toString()).env("XDG_DATA_HOME", other.toString()).run().exitedWith(0);
        assertEquals(0, launch(Path.of("/usr/bin/env"), "XDG_DATA_HOME=" + other, bin + "/taskrunner", "install", "--bin",
            bin.toString()).status);
        assertEquals(new Shell(0, "", ""), run(bin.resolve("taskrunner"), "true"));
        Shell removed = launch(Path.of("/usr/bin/env"), "XDG_DATA_HOME=" + other, bin + "/taskrunner", "uninstall", "--bin", bin.toString());
        assertEquals(new Shell(0, "removed " + bin + "/taskrunner\nremoved " + other + "/taskrunner\n", ""), removed);
        assertFalse(Files.exists(bin.resolve("taskrunner")));
        assertFalse(Files.exists(other.resolve("taskrunner")));
    }

    @Test
    void uninstallLeavesAFileAloneThatIsNotItsLauncher(@TempDir Path other) throws IOException {
        Path own = Files.writeString(Files.createDirectories(other.resolve("bin")).resolve("taskrunner"), "#!/bin/sh\n");
        Program.taskrunner(other, "uninstall", "--bin", own.getParent().toString()).run().exitedWith(0).outContains("no taskrunner launcher at");
        assertTrue(Files.exists(own));
    }

    @Test
    void installLeavesAFileAloneThatIsNotItsLauncher(@TempDir Path other) throws IOException {
        Path own = Files.writeString(other.resolve("taskrunner"), "#!/bin/sh\n");
        Program.taskrunner(other, "install", "--bin", other.toString()).env("XDG_DATA_HOME", other.resolve("data").toString()).run().exitedWith(73)
            .errContains(own + " is something else");
        assertEquals("#!/bin/sh\n", Files.readString(own));
    }

    @Test
    void aFolderThatCannotBeWrittenIsNamedWithTheRemedy(@TempDir Path other) throws IOException {
        Path file = Files.createFile(other.resolve("file"));
        Program.taskrunner(other, "install", "--bin", file + "/bin").env("XDG_DATA_HOME", other.toString()).run().exitedWith(73)
            .errContains("choose folders with XDG_DATA_HOME and --bin");
    }
}
