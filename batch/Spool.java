import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Outcomes that could not be delivered to their repository: a file of one line each in the state directory. */
final class Spool {
    private static final String END = ".row";

    /** The outcome of an execution. */
    record Entry(RequestRow request, ResultRow result, List<StepRow> steps) {
        String encode(Repository repository) {
            Map<String, Object> columns = new LinkedHashMap<>();
            columns.put("repository", repository.id());
            columns.put("url", repository.database().url());
            columns.putAll(request.columns());
            columns.put("batchstatus", result.batchStatus());
            columns.put("exitstatus", result.exitStatus());
            columns.putAll(result.columns());
            List<String> lines = new ArrayList<>();
            steps.forEach(step -> lines.add(Form.encode(step.columns())));
            columns.put("steps", String.join("\n", lines));
            // a file that was cut somewhere does not have it
            columns.put("complete", "yes");
            return Form.encode(columns) + "\n";
        }

        static Entry decode(Map<String, String> values) {
            Row row = Row.of(values);
            row.required("complete");
            List<StepRow> steps = new ArrayList<>();
            row.required("steps").lines().forEach(line -> steps.add(StepRow.of(Row.of(Form.decode(line)))));
            return new Entry(RequestRow.of(row), ResultRow.of(row), steps);
        }
    }

    /** Keeps the outcome: written whole, or not at all. @return the file */
    static Path write(Repository repository, Entry entry) throws IOException {
        Path directory = directory(repository);
        if (directory == null) {
            throw new IOException("this user has no home directory");
        }
        Database.makePrivateDirectory(directory);
        Path file = directory.resolve(entry.request().runId() + END);
        Path temporary = Files.createTempFile(directory, entry.request().runId(), ".tmp");
        try (FileChannel channel = FileChannel.open(temporary, StandardOpenOption.WRITE)) {
            RegularFiles.append(channel, entry.encode(repository).getBytes(StandardCharsets.UTF_8));
            channel.force(true);
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
            return file;
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    /** Whether an outcome of this run waits here. */
    static boolean has(Repository repository, String runId) {
        Path directory = directory(repository);
        return directory != null && Files.exists(directory.resolve(runId + END));
    }

    /**
     * Delivers what waits for this repository. One that is damaged or refused for good is quarantined; what cannot be
     * delivered now stays. Says on stderr what a person should know, and never fails.
     *
     * @return how many were delivered
     */
    static int deliver(Repository repository) {
        int delivered = 0;
        Path directory = directory(repository);
        if (directory == null || !Files.isDirectory(directory)) {
            return 0;
        }
        try (DirectoryStream<Path> files = Files.newDirectoryStream(directory, "*" + END)) {
            for (Path file : files) {
                delivered += deliver(repository, file) ? 1 : 0;
            }
        } catch (IOException | java.nio.file.DirectoryIteratorException e) {
            warn("cannot read the outcomes that wait in " + directory + ": " + Text.reason(e));
        } catch (RepositoryException e) {
            warn("outcomes that wait in " + directory + " cannot be delivered: " + e.getMessage());
        }
        return delivered;
    }

    private static boolean deliver(Repository repository, Path file) throws RepositoryException {
        try {
            Map<String, String> values = Form.decode(Files.readString(file).strip());
            Row row = Row.of(values);
            // by its id, however it is reached; or another one has taken its place
            if (!repository.id().equals(row.required("repository"))
                    && !repository.database().url().equals(row.required("url"))) {
                return false;
            }
            Entry entry = Entry.decode(values);
            repository.end(entry.request(), entry.result(), entry.steps());
            Files.deleteIfExists(file);
            return true;
        } catch (RepositoryException e) {
            if (!e.isRefusal) {
                throw e;
            }
            quarantine(file, "the repository refuses it: " + e.getMessage());
        } catch (NoSuchFileException e) {
            // another run has delivered it
        } catch (IOException e) {
            warn("cannot read or remove " + file + ", whose outcome waits for delivery: " + Text.reason(e));
        } catch (RuntimeException e) {
            quarantine(file, "it holds no complete outcome");
        }
        return false;
    }

    private static void quarantine(Path file, String why) {
        Path bad = file.resolveSibling(file.getFileName() + ".bad");
        try {
            Files.move(file, bad);
            warn(file + " is quarantined as " + bad.getFileName() + ": " + why);
        } catch (IOException e) {
            // another run has quarantined it
        }
    }

    private static void warn(String message) {
        System.err.println(taskrunnerbatch.NAME + ": " + Text.printable(message));
    }

    /** @return null when the user has no home */
    private static Path directory(Repository repository) {
        Path state = repository.database().stateDirectory();
        return state == null ? null : state.resolve("spool");
    }

    private Spool() {
    }
}
