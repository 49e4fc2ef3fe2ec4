import java.util.Arrays;

/**
 * Requests one after another in one process, so that a test with many of them does not spend its time on starting JVMs.
 * Each is what {@code taskrunner-batch} does with its arguments.
 */
final class FleetLoop {
    /** @param args a count, then the arguments of the request; prints the exit status and the microseconds of each */
    public static void main(String[] args) {
        String[] request = Arrays.copyOfRange(args, 1, args.length);
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            long before = System.nanoTime();
            int status = taskrunnerbatch.run(request);
            System.out.println("status " + status + " " + (System.nanoTime() - before) / 1000);
            System.out.flush();
        }
    }

    private FleetLoop() {
    }
}
