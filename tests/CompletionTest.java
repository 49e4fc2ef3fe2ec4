import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/** {@code taskrunner completion} and the man page, made of the one definition of the options. */
class CompletionTest extends TaskTest {
    private String completed(String words) {
        return shell("exec bash -c \"$1\" 2>/dev/null", taskrunner("completion", "bash").shellCommand()
            + " > script; . ./script; COMP_LINE='"
            + words + "'; COMP_POINT=${#COMP_LINE}; read -ra COMP_WORDS <<< \"$COMP_LINE.\";"
            + " COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
            + " COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%.}; _complete_taskrunner; echo \"${COMPREPLY[@]}\"")
            .out().strip();
    }

    @Test
    void bashCompletesCommandsOptionsAndValues() {
        assertEquals("status", completed("taskrunner stat"));
        assertEquals("--lockfile --log-file --log-format", completed("taskrunner --lo"));
        assertEquals("recover report", completed("taskrunner --on-stale "));
        assertEquals("--json", completed("taskrunner status --j"));
    }

    @Test
    void zshFindsTheScriptByItsFirstLine() {
        assertTrue(taskrunner("completion", "zsh").run().exitedWith(0).out().startsWith("#compdef taskrunner\n"));
        taskrunner("completion", "fish").run().exitedWith(64).errContains("completion: give the shell: bash or zsh\n");
        taskrunner("completion").run().exitedWith(64).errContains("completion: give the shell: bash or zsh\n");
    }

    @Test
    void theManPageNamesEveryOptionCommandAndStatus() {
        String page = Documentation.manPage(Options.COMMANDS);
        for (Command command : Options.COMMANDS) {
            assertTrue(page.contains(command.name().toUpperCase()), command.name());
            for (Option option : command.options()) {
                assertTrue(page.contains("\n.B " + option.name().replace("-", "\\-")), option.name());
            }
        }
        for (String status : ExitStatus.table().keySet()) {
            assertTrue(page.contains("\n.B " + status.replace("-", "\\-") + "\n"), status);
        }
        assertTrue(page.lines().noneMatch(line -> line.startsWith("'")), page);
    }
}
