import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A start-up archive, as install makes one for its launcher, for all JVMs that the tests start: a third of each start.
 */
final class TestArchive {
    private static final Path FILE = make();

    private TestArchive() {
    }

    /** The JVM's options to start with it. */
    static String[] options() {
        return new String[] {"-XX:SharedArchiveFile=" + FILE, "-Xlog:disable"};
    }

    private static Path make() {
        try {
            Path directory = Files.createTempDirectory("taskrunner-archive");
            Runtime.getRuntime().addShutdownHook(new Thread(() -> Project.deleteTree(directory)));
            Path file = directory.resolve("archive.jsa");
            Program.plainJava(directory, Workout.class.getName(), directory.toString())
                .jvm("--enable-native-access=ALL-UNNAMED", "-XX:ArchiveClassesAtExit=" + file).run().exitedWith(0);
            assertTrue(Files.size(file) > 0);
            return file;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** What the archive is made of: what each program does to make its own. */
    static final class Workout {
        private Workout() {
        }

        public static void main(String[] args) throws Exception {
            Training.main(new String[] {Files.createDirectory(Path.of(args[0], "script")).toString()});
            BatchTraining.main(new String[] {Files.createDirectory(Path.of(args[0], "batch")).toString()});
        }
    }
}
