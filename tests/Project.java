import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** Where the project is, and what its script says about itself. */
final class Project {
    static final Path ROOT = root();

    private Project() {
    }

    /** The options of the script's {@code //JAVA_OPTIONS} lines. */
    static List<String> scriptOptions() throws IOException {
        List<String> options = new ArrayList<>();
        for (String line : Files.readAllLines(ROOT.resolve("taskrunner.java"))) {
            if (line.startsWith("//JAVA_OPTIONS ")) {
                options.addAll(Arrays.asList(line.substring("//JAVA_OPTIONS ".length()).trim().split(" +")));
            }
        }
        return options;
    }

    static void deleteTree(Path directory) {
        try (Stream<Path> files = Files.walk(directory)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Path root() {
        for (Path directory = Path.of("").toAbsolutePath(); directory != null; directory = directory.getParent()) {
            if (Files.exists(directory.resolve("jbang-catalog.json"))) {
                return directory;
            }
        }
        throw new IllegalStateException("run the tests inside the repository");
    }
}
