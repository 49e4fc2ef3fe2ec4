import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

/** How a program ended; each assertion shows the whole of it when it fails. */
record Result(Running program, int status, String out, String err) {
    Result exitedWith(int expected) {
        assertEquals(expected, status, () -> "exit status of " + program);
        return this;
    }

    Result outIs(String expected) {
        assertEquals(expected, out, () -> "stdout of " + program);
        return this;
    }

    Result errIs(String expected) {
        assertEquals(expected, err, () -> "stderr of " + program);
        return this;
    }

    Result outContains(String expected) {
        assertTrue(out.contains(expected), () -> "no '" + expected + "' in stdout of " + program);
        return this;
    }

    Result errContains(String expected) {
        assertTrue(err.contains(expected), () -> "no '" + expected + "' in stderr of " + program);
        return this;
    }

    Result errHasNo(String unexpected) {
        assertFalse(err.contains(unexpected), () -> "'" + unexpected + "' in stderr of " + program);
        return this;
    }

    /** The last line of stderr. */
    String lastErr() {
        String[] lines = err.split("\n");
        return lines[lines.length - 1];
    }
}
