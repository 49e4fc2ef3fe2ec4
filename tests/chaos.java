///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../batch/taskrunnerbatch.java
//SOURCES ChaosTest.java
//SOURCES AlsoWithoutProc.java
//SOURCES Program.java
//SOURCES Project.java
//SOURCES Result.java
//SOURCES Running.java
//SOURCES TestArchive.java
//SOURCES TestTask.java
//DEPS org.junit:junit-bom:6.1.3@pom
//DEPS org.junit.jupiter:junit-jupiter
//DEPS org.junit.platform:junit-platform-launcher
//JAVA_OPTIONS -XX:TieredStopAtLevel=1 -XX:+UseSerialGC

import java.nio.file.Files;
import java.nio.file.Path;

/**
 * The tests' requests under random faults, as many as wanted: {@code ./jbang tests/chaos.java REQUESTS [SEED]}, as
 * root. What they leave stays when something is wrong.
 */
public class chaos {
    public static void main(String[] args) throws Exception {
        Path directory = Files.createTempDirectory("taskrunner-chaos");
        long seed = args.length > 1 ? Long.parseLong(args[1]) : System.nanoTime() % 1_000_000;
        try {
            System.out.println(ChaosTest.run(directory, Integer.parseInt(args[0]), seed));
        } catch (Exception | AssertionError e) {
            System.out.println("see " + directory + "\n" + e.getMessage());
            System.exit(1);
        }
        Project.deleteTree(directory);
    }
}
