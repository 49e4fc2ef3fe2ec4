///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../batch/taskrunnerbatch.java
//SOURCES ReportData.java

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Makes the pages of the four data sets in a directory, to be looked at, and prints their sizes and times. */
public class reportpages {
    public static void main(String[] args) throws Exception {
        if (args.length != 1) {
            System.err.println("usage: tests/reportpages.java DIRECTORY");
            System.exit(64);
        }
        Path directory = Path.of(args[0]).toAbsolutePath();
        Instant end = Instant.now();
        Map<String, List<ReportData.Made>> sets = new LinkedHashMap<>();
        sets.put("nothing", ReportData.nothing(end));
        sets.put("one-task", ReportData.oneTask(end));
        sets.put("thirty-tasks", ReportData.thirtyTasks(end, 30));
        sets.put("hostile", ReportData.hostile(end, 5000));
        for (Map.Entry<String, List<ReportData.Made>> set : sets.entrySet()) {
            Path file = directory.resolve(set.getKey() + ".html");
            String url = ReportData.store(set.getValue(), directory.resolve(set.getKey()));
            long start = System.nanoTime();
            int status = taskrunnerbatch.run("report", "--since", "31d", "--until",
                end.toString(), "--repository", url, "--output", file.toString());
            System.out.printf("%-12s %5d executions, %7d bytes, %5d ms, exit status %d: %s%n", set.getKey(),
                set.getValue().size(), Files.size(file), (System.nanoTime() - start) / 1_000_000, status, file);
        }
    }
}
