import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;

/** What may be in a counter file, and in its place. */
class CounterFileTest extends TaskTest {
    @Test
    void otherContentIsLeftAsItIsAndNothingRuns() throws IOException {
        List<byte[]> contents = new ArrayList<>();
        for (String text : List.of("127.0.0.1 localhost\n", "-1\n", "+1\n", "1.5\n", "9223372036854775808\n", "1 2\n",
            "0x10\n", "1\u0663\n",
            "1".repeat(1_000_000), "5" + " ".repeat(5000) + "x", "5\0")) {
            contents.add(text.getBytes(StandardCharsets.UTF_8));
        }
        contents.add(new byte[] {0, 1, (byte) 0xff, (byte) 0xfe});
        for (byte[] content : contents) {
            Files.write(task.counter, content);
            assertRefusesTheCounter(task.markingRequest());
            assertArrayEquals(content, Files.readAllBytes(task.counter));
            task.assertFree();
        }
        Files.delete(task.counter);
        Running holder = task.hold();
        for (byte[] content : contents) {
            Files.write(task.counter, content);
            assertRefusesTheCounter(task.markingRequest());
            assertArrayEquals(content, Files.readAllBytes(task.counter));
        }
        task.threshold = 0;
        task.markingRequest().run().exitedWith(0);
        task.finish(holder);
        task.request("echo the counter is not read").run().exitedWith(0).outIs("the counter is not read\n");
    }

    private void assertRefusesTheCounter(Program request) {
        request.run().exitedWith(65).outIs("").errContains("counter file " + task.counter
            + " contains '");
        task.assertDidNotRun();
    }

    @Test
    void whiteSpaceAndAnEmptyFileAreFine() throws IOException {
        Running holder = task.hold();
        task.threshold = 20;
        for (Map.Entry<String, String> counter : Map.of("", "1\n", "\n", "1\n", " 2 \n\n", "3\n", "\t7", "8\n", "9",
            "10\n", "0000000009\r\n",
            "10\n").entrySet()) {
            Files.writeString(task.counter, counter.getKey());
            task.markingRequest().run().exitedWith(0);
            assertEquals(counter.getValue(), Program.read(task.counter));
        }
        task.threshold = 2;
        for (String large : List.of("10\n", "9223372036854775807\n")) {
            Files.writeString(task.counter, large);
            task.markingRequest().run().exitedWith(75);
            assertEquals("0\n", Program.read(task.counter));
        }
        task.finish(holder);
    }

    @Test
    void onlyARegularFileIsACounter() throws IOException {
        Path target = Files.writeString(directory.resolve("target"), "5\n");
        Files.createSymbolicLink(task.counter, target);
        assertCounterIs74("a symbolic link");
        assertEquals("5\n", Program.read(target));
        assertTrue(Files.isSymbolicLink(task.counter));
        Files.delete(task.counter);
        Files.createSymbolicLink(task.counter, directory.resolve("nowhere"));
        assertCounterIs74("a symbolic link");
        assertFalse(Files.exists(directory.resolve("nowhere")));
        Files.delete(task.counter);
        Files.createDirectory(task.counter);
        assertCounterIs74("a directory");
        Files.delete(task.counter);
        shell("mkfifo task.count");
        assertCounterIs74("a special file");
    }

    private void assertCounterIs74(String kind) throws IOException {
        String message = "cannot use counter file " + task.counter + ": " + kind
            + " is in its place; remove it or choose another --counter-file";
        task.markingRequest().run().exitedWith(74).errContains(message);
        task.assertFree();
        Files.writeString(task.lock, "made by hand\n");
        task.markingRequest().run().exitedWith(74).errContains(message);
        assertEquals("made by hand\n", Program.read(task.lock));
        Files.delete(task.lock);
        task.assertDidNotRun();
    }

    @Test
    void missingDirectoryIs74() {
        new TestTask(directory, task.lock, directory.resolve("no/task.count")).markingRequest().run().exitedWith(74)
            .outIs("").errContains("create it: mkdir -p");
        task.assertFree();
    }
}
