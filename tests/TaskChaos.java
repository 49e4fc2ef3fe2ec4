import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Requests for a few tasks, eight at a time, each with a fault of its own or none; and then what must hold of every
 * request, of every counter and of what is left. A request's plan follows from the seed and its number.
 */
final class TaskChaos implements AutoCloseable {
    private static final int WORKERS = 8;
    private static final int CONTENDED = 99;
    private static final int FAILED = 7;
    private static final int NO_REPORT = 1_000_000;
    private static final Map<Integer, String> STOPPED = Map.of(129, "HUP", 130, "INT", 143, "TERM");
    private static final Pattern COUNTED = Pattern.compile("; contention (\\d+), threshold |"
        + " was busy for (\\d+) requests in a row ");
    private static final Pattern HOLDER = Pattern.compile("(?:held by|holder) pid (\\d+) ");
    /** How each starts that the JVM says when it cannot start, for want of descriptors or on an early signal. */
    private static final Pattern NO_JVM = Pattern.compile("(?m)^(?:Error: |Error occurred during initialization of )");
    /** What a command does; with the dying time of one that is stopped below --kill-after, and one beyond it. */
    private static final List<String> BODIES = List.of("true", "sleep 0.1", "sleep 0.3", "sleep 0.6", "sleep 1.5",
        "sh -c 'sleep 0.4; true'; true", "trap 'sleep 0.1; exit 9' TERM INT HUP; sleep 0.5 & wait",
        "trap '' TERM INT HUP; sleep 0.7", "exit " + FAILED);
    /** Those on the task's files, as they are called on some machine, as often as they matter. */
    private static final List<String> CALLS = List.of("openat", "openat", "openat", "openat", "read,pread64",
        "write,pwrite64", "write,pwrite64", "fdatasync,fsync", "ftruncate", "fcntl", "fcntl", "link,linkat",
        "unlink,unlinkat", "unlink,unlinkat");

    /** What happens to a request. */
    private enum Fault {
        NONE, KILL, KILL_COMMAND, KILL_BOTH, PAUSE, TERM, INT, HUP, ERROR, DESCRIPTORS;

        boolean isStop() {
            return this == TERM || this == INT || this == HUP;
        }
    }

    /** What is done to a task beside its requests. */
    private enum Ambient {
        NONE, FULL_DISK, CLEANER
    }

    /** A task, its directory and its commands' traces, which lie outside of it. */
    private final class Subject {
        final String name;
        /** The directory of its files. */
        final Path home;
        final TestTask task;
        final Ambient ambient;
        final boolean replaces;
        final List<Fault> faults;
        final Path witness;
        final Path overlaps;
        final Path trace;

        Subject(String name, int threshold, Ambient ambient, boolean replaces, Fault... faults) throws IOException {
            this.name = name;
            this.ambient = ambient;
            this.replaces = replaces;
            this.faults = List.of(faults);
            home = Files.createDirectories(directory.resolve("tasks").resolve(name));
            task = new TestTask(directory, home.resolve("task.lock"), home.resolve("task.count"));
            task.threshold = threshold;
            Path traces = Files.createDirectories(directory.resolve("traces"));
            witness = traces.resolve(name + ".witness");
            overlaps = traces.resolve(name + ".overlaps");
            trace = traces.resolve(name + ".trace");
        }

        /**
         * A command that has a lock of flock(2) as long as any process of it lives, whatever kills it, and tells when
         * somebody else has that.
         */
        String command(String body) {
            return "exec 9>>" + witness + "; flock -n 9 || echo $CHAOS_REQUEST >> " + overlaps
                + "; echo begin $CHAOS_REQUEST $PPID $$ >> " + trace + "; echo out; " + (body.startsWith("exit")
                    ? "echo end $CHAOS_REQUEST >> " + trace + "; " + body
                    : body + "; echo end $CHAOS_REQUEST >> " + trace);
        }

        Stream<String> traced(String event) {
            return Files.exists(trace) ? Program.read(trace).lines().filter(line -> line.startsWith(event + " "))
                : Stream.empty();
        }

        @Override
        public String toString() {
            return name;
        }
    }

    /** A request, as planned and as it went. */
    private final class Request {
        final int number;
        final Subject subject;
        final Fault fault;
        /** Whether the fault comes when the command runs, and not at any time. */
        final boolean meetsCommand;
        final int delayMillis;
        final int pauseMillis;
        final String body;
        final boolean timesOut;
        final boolean replaces;
        final List<String> options = new ArrayList<>();
        final String[] wrapper;
        final Path injections;
        final long started = System.nanoTime();
        long ended;
        Result result;
        /** What it said that it counted, or 0. */
        int counted;
        /** The holder that it met, or 0. */
        long holder;
        int begun;
        int finished;

        Request(int number) {
            this.number = number;
            SplittableRandom random = new SplittableRandom(seed * 1_000_000 + number);
            subject = subjects.get(random.nextInt(subjects.size()));
            fault = random.nextInt(5) < 2 ? Fault.NONE : subject.faults.get(random.nextInt(subject.faults.size()));
            meetsCommand = random.nextBoolean();
            delayMillis = random.nextInt(meetsCommand ? 300 : 1000);
            pauseMillis = 50 + random.nextInt(1500);
            body = BODIES.get(random.nextInt(BODIES.size()));
            timesOut = random.nextInt(6) == 0;
            replaces = subject.replaces && random.nextInt(10) == 0;
            injections = directory.resolve("strace-" + number);
            option(timesOut, "--timeout", 100 + random.nextInt(500) + "ms");
            option(random.nextInt(3) == 0, "--wait", random.nextInt(2500) + "ms");
            boolean quiet = random.nextInt(4) == 0;
            option(quiet, "--quiet");
            // a quiet contention that is no error says nothing
            option(quiet || random.nextBoolean(), "--conflict-exit-code", Integer.toString(CONTENDED));
            option(replaces, "--replace");
            option(random.nextInt(5) == 0, "--on-stale", "report");
            option(true, "--kill-after", "1s");
            wrapper = switch (fault) {
                case ERROR -> strace(random);
                case DESCRIPTORS -> new String[] {"sh", "-c", "ulimit -n " + (6 + random.nextInt(20))
                    + "; exec \"$@\"", "sh"};
                default -> new String[0];
            };
        }

        private void option(boolean given, String... words) {
            if (given) {
                options.addAll(List.of(words));
            }
        }

        private String[] strace(SplittableRandom random) {
            String call = CALLS.get(random.nextInt(CALLS.size()));
            String error = List.of("EIO", "ENOSPC", "EMFILE").get(random.nextInt(3));
            TestTask task = subject.task;
            return new String[] {"strace", "-f", "-qq", "-o", injections.toString(), "-P", task.lock.toString(), "-P",
                task.gate.toString(), "-P", task.counter.toString(), "-e", "trace=" + call, "-e",
                "inject=" + call + ":error=" + error + ":when=" + (1 + random.nextInt(3))};
        }

        void run() {
            Running running = subject.task.request(subject.command(body), options.toArray(String[]::new))
                .under(wrapper).env("CHAOS_REQUEST", Integer.toString(number)).env("TMPDIR", temporary(subject))
                .start();
            pids.put(running.pid(), this);
            harm(running);
            result = running.result();
            ended = System.nanoTime();
            Matcher count = COUNTED.matcher(result.err());
            if (count.find()) {
                counted = Integer.parseInt(count.group(count.group(1) == null ? 2 : 1));
                Matcher met = HOLDER.matcher(result.err().substring(result.err().lastIndexOf('\n', count.start()) + 1));
                holder = met.find() ? Long.parseLong(met.group(1)) : 0;
            }
        }

        private void harm(Running running) {
            if (fault == Fault.NONE || fault == Fault.ERROR || fault == Fault.DESCRIPTORS) {
                return;
            }
            if (meetsCommand) {
                while (running.alive() && commands().isEmpty()) {
                    Program.sleep(20);
                }
            }
            Program.sleep(delayMillis);
            long pid = running.pid();
            switch (fault) {
                case PAUSE -> {
                    signal(pid, "STOP");
                    Program.sleep(pauseMillis);
                    signal(pid, "CONT");
                }
                case KILL -> signal(pid, "KILL");
                case KILL_COMMAND -> commands().forEach(command -> signal(command, "KILL"));
                case KILL_BOTH -> {
                    List<Long> commands = commands();
                    signal(pid, "KILL");
                    commands.forEach(command -> signal(command, "KILL"));
                }
                default -> signal(pid, fault.name());
            }
        }

        /** The command's shell, once it runs; none when the request ends or has not got so far. */
        private List<Long> commands() {
            return subject.traced("begin").map(line -> line.split(" "))
                .filter(words -> words[1].equals(Integer.toString(number)))
                .map(words -> Long.parseLong(words[3])).toList();
        }

        /** Whether an error was injected, or can have happened of itself. */
        boolean mayHaveFailed() {
            return subject.ambient == Ambient.FULL_DISK || fault == Fault.DESCRIPTORS
                || fault == Fault.ERROR && Files.exists(injections) && Program.read(injections).contains("(INJECTED)");
        }

        /** Whether it may have counted, or cleared the counter, without a word. */
        boolean isUncertain() {
            return counted == 0 && begun == 0 && (result.status() == 137 || mayHaveFailed());
        }

        boolean overlaps(Request other) {
            return subject == other.subject && started <= other.ended && other.started <= ended;
        }

        private boolean beside(java.util.function.Predicate<Request> other) {
            return requests.stream().anyMatch(each -> overlaps(each) && other.test(each));
        }

        /** Whether the JVM did not get as far as to run the program. */
        private boolean hasNoJvm() {
            return result.status() == 1 && begun == 0 && (fault == Fault.DESCRIPTORS || fault.isStop())
                && NO_JVM.matcher(result.out() + result.err()).find();
        }

        /** What is wrong with it, or null. */
        String fault() {
            int status = result.status();
            String err = result.err();
            boolean expected = switch (status) {
                case 0 -> counted > 0 || finished == 1 && !body.startsWith("exit");
                case FAILED -> finished == 1 && body.startsWith("exit");
                case CONTENDED -> counted > 0;
                case 75 -> counted > 0 && err.contains(" was busy for ");
                case 73, 126 -> begun == 0 && mayHaveFailed();
                case 74 -> mayHaveFailed() || err.contains(" has been in use for ") && begun == 0
                    && beside(other -> other.fault == Fault.PAUSE);
                case 124 -> timesOut;
                case 129, 130, 143 -> fault.name().equals(STOPPED.get(status)) || status == 143
                    && beside(other -> other.replaces);
                case 137 -> fault == Fault.KILL || fault == Fault.KILL_BOTH || fault == Fault.KILL_COMMAND && begun == 1
                    || beside(other -> other.replaces);
                case 1 -> hasNoJvm();
                default -> false;
            };
            return hasNoJvm() ? null
                : !expected ? "unexpected status"
                : begun > 1 || finished > begun ? "the command ran more than once"
                : counted > 0 && (begun > 0 || status != 0 && status != CONTENDED && status != 75 && status != 137)
                    ? "a contention that ran or failed"
                : err.contains("\tat ") || err.contains("Exception") || err.contains("internal error")
                    ? "an exception is shown" : null;
        }

        @Override
        public String toString() {
            return "request " + number + " for " + subject + ", " + fault + (meetsCommand ? " of the command" : "")
                + " after " + delayMillis + " ms (" + pauseMillis + " ms), began " + begun + ", ended " + finished
                + ", counted " + counted + ", " + String.join(" ", wrapper) + ": status " + result.status() + "\n"
                + result.program()
                + (Files.exists(injections) ? "\ninjections: " + Program.read(injections) : "");
        }
    }

    private final Path directory;
    private final long seed;
    private final Path memory;
    private final List<Subject> subjects = new ArrayList<>();
    private final List<Request> requests = Collections.synchronizedList(new ArrayList<>());
    private final Map<Long, Request> pids = Collections.synchronizedMap(new HashMap<>());
    private final AtomicInteger cleanings = new AtomicInteger();
    private final AtomicInteger fillings = new AtomicInteger();
    private final List<Throwable> failures = Collections.synchronizedList(new ArrayList<>());
    private int epochs;
    private int exactEpochs;
    private volatile boolean over;

    /** @param directory an empty one of its own @param seed by which a run can be repeated */
    TaskChaos(Path directory, long seed) throws IOException {
        this.directory = directory;
        this.seed = seed;
        Fault[] all = {Fault.KILL, Fault.KILL, Fault.KILL_COMMAND, Fault.KILL_BOTH, Fault.PAUSE, Fault.TERM, Fault.INT,
            Fault.HUP, Fault.ERROR, Fault.ERROR, Fault.ERROR, Fault.DESCRIPTORS};
        Fault[] clean = {Fault.TERM, Fault.INT, Fault.HUP};
        Fault[] withoutTrace = Stream.of(all).filter(fault -> fault != Fault.ERROR).toArray(Fault[]::new);
        subjects.add(new Subject("counting", NO_REPORT, Ambient.NONE, false, all));
        subjects.add(new Subject("reporting", 1, Ambient.NONE, true, all));
        subjects.add(new Subject("full", 1, Ambient.FULL_DISK, false, withoutTrace));
        // a cleaner and a crash together may break the lock, and a cleaner the counts: see lock.pml
        subjects.add(new Subject("swept", NO_REPORT, Ambient.CLEANER, false, clean));
        memory = subjects.get(2).home;
        Program.shell(directory, "mount -t tmpfs -o size=64k,mode=755 taskrunner-chaos \"$1\"", memory.toString())
            .run().exitedWith(0);
        for (Subject subject : subjects) {
            Files.createDirectories(Path.of(temporary(subject)));
        }
    }

    private String temporary(Subject subject) {
        return (subject.ambient == Ambient.FULL_DISK ? memory : directory).resolve("temporary").toString();
    }

    private static void signal(long pid, String name) {
        try {
            new ProcessBuilder("kill", "-" + name, Long.toString(pid)).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Makes so many requests; returns when they have ended, and all that they started. */
    void run(int count) throws InterruptedException {
        AtomicInteger next = new AtomicInteger();
        List<Thread> workers = new ArrayList<>();
        for (int i = 0; i < WORKERS; i++) {
            workers.add(start(() -> {
                for (int number = next.getAndIncrement(); number < count; number = next.getAndIncrement()) {
                    Request request = new Request(number);
                    request.run();
                    requests.add(request);
                }
            }));
        }
        Thread filler = start(this::fill);
        Thread cleaner = start(this::clean);
        for (Thread worker : workers) {
            worker.join();
        }
        over = true;
        filler.join();
        cleaner.join();
    }

    private Thread start(Runnable work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (RuntimeException | Error e) {
                failures.add(e);
            }
        });
        thread.start();
        return thread;
    }

    /** Fills the disk for a moment, again and again. */
    private void fill() {
        Random random = new Random(seed);
        Path ballast = memory.resolve("ballast");
        while (!over) {
            try (var file = Files.newOutputStream(ballast, StandardOpenOption.CREATE)) {
                while (true) {
                    file.write(new byte[512]);
                }
            } catch (IOException e) {
                fillings.incrementAndGet();
            }
            Program.sleep(random.nextInt(600));
            ballast.toFile().delete();
            Program.sleep(random.nextInt(600));
        }
    }

    /** Removes the gate's file as soon as it is seen; not twice while one request is inside. */
    private void clean() {
        Random random = new Random(seed);
        Path gate = subjects.get(3).task.gate;
        while (!over) {
            if (Files.exists(gate) && gate.toFile().delete()) {
                cleanings.incrementAndGet();
                Program.sleep(1000 + random.nextInt(1000));
            }
            LockSupport.parkNanos(100_000);
        }
    }

    String summary() {
        Map<String, Integer> faults = new TreeMap<>();
        Map<Integer, Integer> statuses = new TreeMap<>();
        for (Request request : requests) {
            faults.merge(request.fault == Fault.ERROR && !request.mayHaveFailed() ? "ERROR (not reached)"
                : request.fault.name(), 1, Integer::sum);
            statuses.merge(request.result.status(), 1, Integer::sum);
        }
        return "chaos: seed " + seed + ", " + requests.size() + " requests, faults " + faults + ", disk filled "
            + fillings + " times, gate removed " + cleanings + " times, exit statuses " + statuses + ", "
            + requests.stream().filter(request -> request.finished > 0).count() + " commands, "
            + requests.stream().filter(request -> request.counted > 0).count() + " contentions, "
            + requests.stream().filter(request -> request.result.err().contains("recovered stale")).count()
            + " recoveries; " + exactEpochs + " of " + epochs + " counts exact";
    }

    /** All that must hold; returns what happened. */
    String check() throws IOException {
        assertEquals(List.of(), failures, () -> "seed " + seed);
        Program.await("all processes have ended", () -> Program.processesOf(directory).isEmpty());
        List<String> wrong = new ArrayList<>();
        for (Subject subject : subjects) {
            readTraces(subject);
            if (Files.exists(subject.overlaps)) {
                wrong.add("two commands at once of " + subject + ": requests " + Program.read(subject.overlaps)
                    + Program.read(subject.trace));
            }
        }
        for (Request request : List.copyOf(requests)) {
            String fault = request.fault();
            if (fault != null) {
                wrong.add(fault + ": " + request);
            }
        }
        for (Subject subject : subjects) {
            if (subject.ambient != Ambient.CLEANER) {
                checkCounts(subject, wrong);
            }
            checkEnd(subject, wrong);
        }
        String summary = summary();
        assertTrue(wrong.isEmpty(), () -> summary + "\n" + String.join("\n---\n", wrong));
        return summary;
    }

    private void readTraces(Subject subject) {
        Map<Integer, Request> byNumber = new HashMap<>();
        requests.forEach(request -> byNumber.put(request.number, request));
        subject.traced("begin").map(line -> line.split(" ")).forEach(words -> {
            Request request = byNumber.get(Integer.parseInt(words[1]));
            request.begun++;
            pids.put(Long.parseLong(words[2]), request);
        });
        subject.traced("end").map(line -> line.split(" ")).forEach(words ->
            byNumber.get(Integer.parseInt(words[1])).finished++);
    }

    /**
     * The contentions that one holder's lock met are 1, 2, 3, and so on, each told once, and from 1 again after a
     * report; some may be missing that requests counted which were killed or failed at that time.
     */
    private void checkCounts(Subject subject, List<String> wrong) {
        Map<Long, List<Request>> byHolder = new TreeMap<>();
        for (Request request : requests) {
            if (request.subject == subject && request.counted > 0) {
                byHolder.computeIfAbsent(request.holder, pid -> new ArrayList<>()).add(request);
            }
        }
        List<Request> unnamed = byHolder.getOrDefault(0L, List.of());
        byHolder.remove(0L);
        byHolder.forEach((pid, contentions) -> {
            Request holder = pids.get(pid);
            boolean cleared = holder != null && holder.begun > 0;
            long from = Stream.concat(contentions.stream(), Stream.ofNullable(holder)).mapToLong(each -> each.started)
                .min().orElseThrow();
            long to = contentions.stream().mapToLong(each -> each.ended).max().orElseThrow();
            int uncertain = (int) Stream.concat(requests.stream().filter(Request::isUncertain), unnamed.stream())
                .filter(each -> each.subject == subject && each != holder && each.ended >= from && each.started <= to)
                .count();
            epochs++;
            exactEpochs += cleared && uncertain == 0 ? 1 : 0;
            List<Integer> counted = contentions.stream().map(each -> each.counted).sorted().toList();
            if (!isCount(counted, uncertain, subject.task.threshold + 2, cleared)) {
                wrong.add("contentions " + counted + " with the holder pid " + pid + ", beside " + uncertain
                    + " requests that may have counted, of " + subject + ":\n" + contentions + "\nholder: " + holder);
            }
        });
    }

    /**
     * Whether the numbers are the first ones of 1, 2, … report, 1, 2, …, when so many at most are missing.
     *
     * @param cleared whether the counter was 0 before
     */
    private static boolean isCount(List<Integer> counted, int missing, int report, boolean cleared) {
        if (Collections.max(counted) > report) {
            return false;
        }
        for (int before : cleared ? List.of(0) : Stream.concat(Stream.of(0), counted.stream().map(n -> n - 1))
            .toList()) {
            Map<Integer, Integer> times = new TreeMap<>();
            long last = 0;
            for (int number : counted) {
                int place = Math.floorMod(number - 1 - before, report) + 1;
                last = Math.max(last, (times.merge(place, 1, Integer::sum) - 1L) * report + place);
            }
            if (last <= counted.size() + missing) {
                return true;
            }
        }
        return false;
    }

    /** Nothing is left that keeps the task from running, and nothing at all once it has run. */
    private void checkEnd(Subject subject, List<String> wrong) throws IOException {
        TestTask task = subject.task;
        Result last = task.request("echo last").env("TMPDIR", temporary(subject)).run();
        if (last.status() != 0 || !last.out().equals("last\n")) {
            wrong.add("the last request for " + subject + " did not run: status " + last.status() + ", "
                + last.program());
        }
        List<Path> roots = List.of(subject.home, Path.of(temporary(subject)), directory.resolve("home"),
            directory.resolve("tmp"));
        for (Path root : roots) {
            try (Stream<Path> files = Files.walk(root)) {
                List<Path> left = files.filter(file -> !Files.isDirectory(file)).toList();
                if (!left.isEmpty()) {
                    wrong.add("left of " + subject + ": " + left);
                }
            }
        }
    }

    /** Ends what still runs, and gives the disk back. */
    @Override
    public void close() {
        over = true;
        Program.killProcessesOf(directory);
        Program.shell(directory, "umount -l \"$1\"", memory.toString()).run();
    }
}
