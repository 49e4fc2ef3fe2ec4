/**
 * Requests one after another in one process, as many as are asked for, so that a test with many of them does not
 * spend its time on starting JVMs. Each is what {@code taskrunner-batch} does with its arguments.
 */
final class BatchLoop {
    /** @param args a count, then the arguments of the request, in which {@code #} stands for its number */
    public static void main(String[] args) {
        String process = Long.toString(ProcessHandle.current().pid());
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            String[] request = new String[args.length - 1];
            for (int j = 0; j < request.length; j++) {
                request[j] = args[j + 1].replace("#", process + "-" + i);
            }
            taskrunnerbatch.run(request);
        }
    }

    private BatchLoop() {
    }
}
