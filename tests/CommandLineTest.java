import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;

import org.junit.jupiter.api.Test;

/** The command after {@code --}, argument files, and what a mistake is answered with. */
class CommandLineTest extends TaskTest {
    private Program after(String... words) {
        return taskrunner(task.options()).with("--").with(words);
    }

    @Test
    void commandAfterDashesRunsWithoutShell() {
        after("printf", "<%s>", "a  b", "", "$HOME", "*", "--quiet", "--", "@daily", "it's", "line\nend\n").run()
            .exitedWith(0)
            .outIs("<a  b><><$HOME><*><--quiet><--><@daily><it's><line\nend\n>")
            .errContains("running: printf '<%s>' 'a  b' '' '$HOME' '*' --quiet -- @daily 'it'\\''s' 'line\\nend\\n'\n");
        task.assertFree();
    }

    @Test
    void statusesAreThoseOfEnv() throws IOException {
        after("no-such-command").run().exitedWith(127)
            .errContains("cannot start the command: no-such-command: no such file or directory; the lock was"
                + " released\n");
        after(directory.toString()).run().exitedWith(126)
            .errContains(directory + ": permission denied; the lock was released\n");
        Path script = Files.writeString(directory.resolve("script"), "#!/no/such/interpreter\n");
        after(script.toString()).run().exitedWith(126);
        Files.setPosixFilePermissions(script, PosixFilePermissions.fromString("rwxr-xr-x"));
        after(script.toString()).run().exitedWith(127);
        after("sh", "-c", "exit 7").run().exitedWith(7);
        after("sh", "-c", "kill -KILL $$").run().exitedWith(137).errContains("killed by SIGKILL");
        task.assertFree();
    }

    @Test
    void bytesArriveInAnyLocale() throws IOException {
        byte[] bytes = "é🚀\n\n".getBytes(StandardCharsets.UTF_8);
        for (String locale : List.of("C", "C.UTF-8")) {
            // \377 is no UTF-8, and the word ends in line ends
            taskrunner(task.options())
                .underShell("exec \"$@\" -- sh -c 'printf %s \"$1\" > bytes; printf %s \"$2\" > ascii' x"
                + " \"$(printf '\\303\\251\\360\\237\\232\\200')\n\n\" 'a b'").env("LC_ALL", locale).run()
                .exitedWith(0);
            assertArrayEquals(bytes, Files.readAllBytes(directory.resolve("bytes")), locale);
            assertEquals("a b", Program.read(directory.resolve("ascii")));
            taskrunner(task.options())
                .underShell("exec \"$@\" -- sh -c 'printf %s \"$1\" > bytes' x \"$(printf '\\377')\"")
                .env("LC_ALL", locale).run().exitedWith(0);
            assertArrayEquals(new byte[] {(byte) 0xFF}, Files.readAllBytes(directory.resolve("bytes")), locale);
        }
        Path file = Files.writeString(directory.resolve("arguments"), "-- sh -c 'printf %s \"$1\" > bytes' x é");
        taskrunner(task.options()).with("@" + file).env("LC_ALL", "C").run().exitedWith(0);
        assertEquals("é", Program.read(directory.resolve("bytes")));
    }

    @Test
    void commandIsGivenOnce() {
        refused("give the command once: with --command, or after --", taskrunner("--command", task.mark())
            .with(task.options()).with("--", "true"));
        refused("no command after --", after());
        refused("unexpected argument 'hello': the command is one argument: quote it, or put it after --",
            taskrunner("--command", "echo", "hello").with(task.options()));
        refused("unexpected argument 'backup.sh': a command goes after --", taskrunner(task.options())
            .with("backup.sh"));
    }

    @Test
    void mistakesAreAnsweredWithWhatWasProbablyMeant() {
        refused("unknown option --lock-file; did you mean --lockfile?", taskrunner("--lock-file", "x"));
        refused("unknown option --lock-file; did you mean --lockfile?", taskrunner("--lock-file=x"));
        refused("unknown option --timout; did you mean --timeout?", task.request(task.mark(), "--timout", "3"));
        refused("unknown option --frobnicate", task.request(task.mark(), "--frobnicate"));
        refused("unknown command stauts; did you mean status?", taskrunner("stauts"));
        refused("invalid --notify-on 'broken': give all or, separated by commas, of " + Notification.EVENTS,
            task.request(task.mark(), "--notify", "true", "--notify-on", "broken"));
        refused("--notify-on needs --notify CMD", task.request(task.mark(), "--notify-on", "failed"));
        Result status = taskrunner("status", "--lokfile", "x").run().exitedWith(64).outIs("");
        assertEquals("taskrunner: status: unknown option --lokfile; did you mean --lockfile?\n"
            + "try 'taskrunner status --help'\n", status.err());
    }

    private void refused(String why, Program request) {
        request.run().exitedWith(64).outIs("").errIs("taskrunner: " + why + "\ntry 'taskrunner --help'\n");
        task.assertDidNotRun();
        task.assertFree();
    }

    @Test
    void argumentFileStandsWhereAnOptionMay() throws IOException {
        Path file = Files.writeString(directory.resolve("arguments"), "--lockfile " + task.lock
            + " --threshold 2\n--counter-file "
            + task.counter + "\n-- printf '%s|' \"a 'b' \\\"c\\\" \\d\" 'e\\f' g\\ h '' i#j # not this\n"
            + "# nor this\n  k");
        taskrunner("@" + file).run().exitedWith(0).outIs("a 'b' \"c\" \\d|e\\f|g h||i#j|k|");
        taskrunner("@" + file, "l").run().exitedWith(0).outContains("|k|l|");
        Path options = Files.writeString(directory.resolve("options"), "--timeout 1m\n@"
            + Files.writeString(directory.resolve("more"),
            "--quiet"));
        task.request("exit 3", "@" + options).run().exitedWith(3);
        task.request("@daily", "--quiet").run().exitedWith(127).errContains("@daily");
        task.request("x", "@" + options, "--command", "@" + file).run().exitedWith(127)
            .errContains("running: @" + file);
        after("printf", "%s", "@" + options).run().outIs("@" + options);
        Path status = Files.writeString(directory.resolve("status"), "status --lockfile " + task.lock);
        taskrunner("@" + status).run().exitedWith(0).outContains(" is free\n");
    }

    @Test
    void argumentFileThatCannotBeReadIsNamed() throws IOException {
        refused("cannot read argument file nowhere: no such file or directory", taskrunner("@nowhere"));
        refused("cannot read argument file home: is a directory", taskrunner("@home"));
        Files.writeString(directory.resolve("open"), "--command 'x");
        refused("cannot read argument file open: a quote ' is not closed", taskrunner("@open"));
        Files.writeString(directory.resolve("self"), "--quiet @self");
        refused("argument file self: more than 100 files; does it name itself?", taskrunner("@self"));
        Files.writeString(directory.resolve("nul"), "--command 'touch ran \0'");
        refused("--command contains a NUL character", taskrunner("@nul").with(task.options()));
    }

    @Test
    void argumentFileNeedsNoPicocli() throws IOException {
        Path file = Files.writeString(directory.resolve("arguments"), "--quiet --lockfile " + task.lock
            + " --threshold 2 --counter-file "
            + task.counter + " --timeout 1h30m --overdue 1d -- true");
        Result loaded = taskrunner("@" + file).jvm("-Xlog:class+load").run().exitedWith(0);
        assertTrue(loaded.out().contains(" ArgumentFile ") && !loaded.out().contains(" picocli."), "picocli is loaded");
    }

    @Test
    void outputThatDoesNotArriveIsAnError() {
        for (String[] arguments : new String[][] {{"--help"}, {"--version"}, {"completion", "bash"},
            {"status", "--lockfile", task.lock.toString()}, {"status", "--lockfile", task.lock.toString(), "--json"}}) {
            taskrunner(arguments).underShell("exec \"$@\" > /dev/full").run().exitedWith(74)
                .errContains("taskrunner: cannot write to stdout");
        }
    }

    @Test
    void helpIsAsWideAsTheTerminal() {
        // script(1) gives it a terminal of its own
        String wide = shell("script -qec \"stty cols 150; $1 --help\" /dev/null", taskrunner().shellCommand()).out()
            .replace("\r", "");
        assertTrue(wide.lines().anyMatch(line -> line.length() > 110 && line.length() <= 150), wide);
        String narrow = taskrunner("--help").under("setsid", "-w").run().out();
        assertTrue(narrow.lines().allMatch(line -> line.length() <= 80), narrow);
    }
}
