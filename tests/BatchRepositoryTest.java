import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

/** What is kept, for whom, and where it cannot be. */
@Concurrent
class BatchRepositoryTest extends BatchTest {
    @Test
    void filesAreForTheirUserAlone() throws Exception {
        batch.request("seq 2000; touch inside", "--output-limit", "2000").underShell("umask 000; exec \"$@\"").run()
            .exitedWith(0);
        batch.request("seq 2000", "--output-limit", "2000").underShell("umask 000; exec \"$@\"").run().exitedWith(0);
        assertEquals("rw-rw-rw-", mode(directory.resolve("inside")), "the umask has no effect on this file system");
        assertTrue(files().size() >= 4, files()::toString);
        for (Path file : files()) {
            assertEquals("rw-------", mode(file), file::toString);
        }
        try (Stream<Path> all = Files.walk(directory.resolve("state"))) {
            for (Path each : all.filter(Files::isDirectory).toList()) {
                assertEquals("rwx------", mode(each), each::toString);
            }
        }
    }

    private static String mode(Path path) throws Exception {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(path, LinkOption.NOFOLLOW_LINKS));
    }

    private List<Path> files() throws Exception {
        try (Stream<Path> all = Files.walk(batch.state)) {
            return all.filter(Files::isRegularFile).toList();
        }
    }

    @Test
    void redactedTextIsStoredNowhereAndDoesNotRestart() throws Exception {
        batch.request(": secret-1234 secret-abcd; echo done; exit 3", "--redact", "secret-[a-z0-9]+", "--notify",
            ": secret-5678").run()
            .exitedWith(3).outIs("done\n");
        assertEquals(": *** ***; echo done; exit 3", batch.newest().get("command"));
        for (Path file : files()) {
            assertFalse(Files.readString(file, java.nio.charset.StandardCharsets.ISO_8859_1).contains("secret-"),
                () -> "a secret is in " + file);
        }
        batch.restart(1).exitedWith(65).errContains("was stored with --redact and cannot be restarted");
        batch.markingRequest("--redact", "(").run().exitedWith(64).errContains("invalid --redact");
        assertEquals(1, batch.history().size());
    }

    @Test
    void passwordInTheUrlIsRefusedAndNotShown() throws Exception {
        for (String url : new String[] {"jdbc:postgresql://me:sesame@127.0.0.1/db",
            "jdbc:postgresql://127.0.0.1/db?user=me&password=sesame",
            "postgres://me:sesame@127.0.0.1/db"}) {
            Result result = batch.markingRequest("--repository", url).run().exitedWith(64).errContains("--repository");
            result.errHasNo("sesame");
        }
        assertNothingRan();
    }

    @Test
    void withoutRepositoryNothingRuns() throws Exception {
        batch.markingRequest("--repository", "jdbc:postgresql://127.0.0.1:1/db").run().exitedWith(69)
            .errContains("audit repository jdbc:postgresql://127.0.0.1:1/db: cannot be opened: ")
            .errContains("check that the server runs");
        Path file = Files.createFile(directory.resolve("file"));
        batch.markingRequest("--repository", "jdbc:sqlite:" + file + "/x/executions.db").run().exitedWith(69)
            .errContains("audit repository " + file + "/x/executions.db: cannot be opened: ");
        Path garbage = Files.writeString(directory.resolve("garbage.db"),
            "no database at all, but quite some text\n".repeat(100));
        batch.markingRequest("--repository", "jdbc:sqlite:" + garbage).run().exitedWith(69)
            .errContains("audit repository " + garbage);
        assertNothingRan();
    }

    private void assertNothingRan() {
        task.assertDidNotRun();
        assertFalse(Files.exists(task.counter));
        task.assertFree();
    }
}
