import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The lock's protocol as a model (lock.pml), searched by spin: what holds, and that planted errors are found. */
class LockModelTest {
    /** pan's word for an assertion of the model: the violated property's number comes first. */
    private static final Pattern VIOLATED = Pattern.compile("(?m)^pan:1: assertion violated \\(([0-9])&&");
    private static final Pattern REACHED = Pattern.compile("(?m)^reached: ([0-9])$");

    /** What searches that more than one test asks for have found. */
    private static final Map<String, String> FOUND = new HashMap<>();

    @TempDir
    private Path directory;

    @BeforeEach
    void copyModel() throws IOException {
        Files.copy(Project.ROOT.resolve("tests/lock.pml"), directory.resolve("lock.pml"));
    }

    @Test
    void threeRequestsKeepTheLockWhereverTheyDie() {
        assertHolds("-DCRASHES=1");
        assertHolds("-DCRASHES=2");
        assertHolds("-DPATIENCE=1 -DCRASHES=1");
        assertHolds("-DN=2 -DTWO=2 -DCRASHES=2");
    }

    @Test
    void twoExecutionsInOneJvmKeepIt() {
        assertHolds("-DJVM=1 -DNI=7");
    }

    @Test
    void anOperatorsFilesStopNothing() {
        assertHolds("-DOPRM=1 -DN=2");
        assertHolds("-DTOUCH=1 -DN=2");
        assertHolds("-DN=2 -DKEEP=1 -DGIVEUP=1 -DKEEPSTALE=1 -DIOERR=1");
    }

    @Test
    void aCleanerThatRemovesTheGateOnceGivesNoTwoHolders() {
        assertHolds("-DCLEANS=1 -DCRASHES=0");
        assertHolds("-DCLEANS=1 -DCRASHES=1 -DN=2");
    }

    @Test
    void whatDoesNotHoldIsSaid() {
        for (int property : new int[] {2, 6, 8}) {
            assertFinds(property, "-DCLEANS=1 -DCRASHES=0 -DONLY=" + property);
        }
        assertFinds(1, "-DCLEANS=1 -DONLY=1");
        assertFinds(4, "-DCLEANS=1 -DONLY=4");
        assertFinds(3, "-DCLEANS=2 -DCRASHES=0 -DONLY=3");
        assertFinds(1, "-DOPRM=1 -DSTRICT=1 -DONLY=1");
        assertFinds(4, "-DOPRM=1 -DSTRICT=1 -DONLY=4");
    }

    @Test
    void plantedErrorsAreFound() {
        assertFinds(8, "-DBUG=1 -DTWO=1");
        assertFinds(1, "-DBUG=2 -DTWO=1");
        assertFinds(5, "-DBUG=3 -DTWO=1");
        assertFinds(2, "-DBUG=4 -DTWO=1");
        assertFinds(1, "-DBUG=5 -DTWO=1");
        assertFinds(2, "-DBUG=6 -DPATIENCE=1");
        assertFinds(8, "-DBUG=7 -DTWO=1");
        assertFinds(6, "-DBUG=8 -DTWO=1");
        assertFinds(2, "-DBUG=9 -DTWO=1");
        assertFinds(2, "-DBUG=10 -DTWO=1");
        assertFinds(1, "-DBUG=12 -DCLEANS=1 -DCRASHES=0");
        assertFinds(5, "-DBUG=13 -DTWO=1");
        assertFinds(3, "-DBUG=14 -DTWO=1");
        assertFinds(3, "-DBUG=15 -DTWO=1");
        assertFinds(3, "-DBUG=16 -DCLEANS=1 -DCRASHES=0");
        assertFinds(4, "-DBUG=17 -DTWO=1");
        assertFinds(4, "-DBUG=19 -DJVM=1 -DNI=7 -DOPRM=1");
        assertFinds(8, "-DBUG=20 -DIOERR=1 -DTWO=1");
        assertFinds(5, "-DBUG=21 -DJVM=1 -DNI=7");
        assertFinds(5, "-DBUG=22 -DJVM=1 -DNI=7");
        assertFinds(7, "-DBUG=23 -DTWO=1");
        String deadlock = search("-DBUG=18 -DTWO=1");
        assertTrue(deadlock.contains("pan:1: invalid end state"), deadlock);
    }

    /** With it that it searched something: each situation of its head is reached. */
    @Test
    void allSituationsAreReached() {
        Set<String> reached = new TreeSet<>();
        for (String options : List.of("-DN=2 -DTWO=2 -DCRASHES=2", "-DCRASHES=1", "-DCLEANS=1 -DCRASHES=1 -DN=2")) {
            Matcher matcher = REACHED.matcher(assertHolds(options));
            while (matcher.find()) {
                reached.add(matcher.group(1));
            }
        }
        assertEquals("[1, 2, 3, 4, 5, 6, 7, 8]", reached.toString());
    }

    private String assertHolds(String options) {
        String found = search(options);
        assertTrue(found.contains(" errors: 0\n") && !found.contains("max search depth too small"),
            options + ":\n" + found);
        return found;
    }

    private void assertFinds(int property, String options) {
        String found = search(options);
        Matcher violated = VIOLATED.matcher(found);
        assertTrue(violated.find(), options + ":\n" + found);
        assertEquals(property, Integer.parseInt(violated.group(1)), options);
    }

    /** All states, or up to the first error. */
    private String search(String options) {
        return FOUND.computeIfAbsent(options, o -> Program.shell(directory, "spin -a " + o + " lock.pml >spin.out"
            + " && gcc -w -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -o pan pan.c && ./pan -m200000 -w22").run().out());
    }
}
