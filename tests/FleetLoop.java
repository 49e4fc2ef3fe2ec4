import java.util.ArrayList;
import java.util.List;

/**
 * Requests one after another in one process, and how long each took, so that what is measured is not the start of JVMs. Each is what
 * {@code taskrunner-batch} does with its arguments.
 */
final class FleetLoop {
    /** @param args a count, then the arguments of the request; prints a time in microseconds a line */
    public static void main(String[] args) {
        String[] request = java.util.Arrays.copyOfRange(args, 1, args.length);
        List<Long> micros = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            long before = System.nanoTime();
            taskrunnerbatch.run(request);
            micros.add((System.nanoTime() - before) / 1000);
        }
        micros.forEach(System.out::println);
    }

    private FleetLoop() {
    }
}
