import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;

/**
 * What a command prints: passed on as it comes, and kept in a file, of which no more than the first and the last half
 * of the limit.
 *
 * <p>While the command runs, what exceeds the first half goes in turn to two files beside it, so that a runner that is
 * killed leaves the beginning and the latest output; {@link #close} makes one file of them.
 */
final class OutputFile implements Execution.Output {
    /** How long a background process that goes on printing may keep the end of the command waiting, in milliseconds. */
    private static final int MAX_DRAIN_MILLIS = 1000;
    private static final int MAX_LINE = 65536;
    private static final int FLUSH_MILLIS = 100;
    /** What a run id may hold: it comes from the repository, and names a file to be read or deleted. */
    private static final Pattern RUN_ID = Pattern.compile("[0-9A-Za-z]+-[0-9]+-[0-9a-f]+");
    /** Bytes; java.util.regex calls itself for each repetition of a group. */
    private static final long STACK_FOR_PATTERNS = 64L << 20;
    /** How often, 2 ms apart, nothing has come when only a background process can still have the pipe open. */
    private static final int IDLE_LOOKS = 12;
    private static final String LATEST = ".latest";
    private static final String BEFORE = ".before";

    private final Path path;
    private final long half;
    private final Redaction redaction;
    private final Log log;
    /** Whether one pipe carries stdout and stderr, which keeps their order. */
    final boolean onePipe;
    private final List<Pump> pumps = new ArrayList<>();
    private OutputStream file;
    private long inFile;
    private long leftOut;
    private boolean tail;
    private boolean closed;
    /** Why it is not complete, or null. */
    private String note;
    /** Whose line is not complete yet, or null. */
    private Pump unfinished;

    /**
     * @param path null: nothing is kept
     * @param limit bytes that are kept, at least 2
     * @param redaction what is masked in the lines that are kept, or null
     */
    OutputFile(Path path, long limit, Redaction redaction, Log log) {
        this.path = path;
        this.closed = path == null;
        this.half = limit / 2;
        this.redaction = redaction;
        this.log = log;
        this.onePipe = log.isQuiet() || isOnePlace();
    }

    /**
     * Where the output of a run of this user is kept on this host; null without a home, or when that is no run's id.
     */
    static Path of(Path stateDirectory, String runId) {
        return stateDirectory != null && RUN_ID.matcher(runId).matches()
            ? stateDirectory.resolve("output").resolve(runId + ".log") : null;
    }

    /** What is missing of the output, or null. */
    synchronized String note() {
        return note;
    }

    /** Whether stdout and stderr go to one place, by device and inode. */
    private static boolean isOnePlace() {
        try {
            Path out = Path.of("/proc/self/fd/1");
            Path err = Path.of("/proc/self/fd/2");
            return Files.getAttribute(out, "unix:dev").equals(Files.getAttribute(err, "unix:dev"))
                && Files.getAttribute(out, "unix:ino").equals(Files.getAttribute(err, "unix:ino"));
        } catch (IOException | RuntimeException e) {
            return false;
        }
    }

    private Path latest() {
        return sibling(path, LATEST);
    }

    private Path before() {
        return sibling(path, BEFORE);
    }

    private static Path sibling(Path path, String end) {
        return path.resolveSibling(path.getFileName() + end);
    }

    @Override
    public void started(Process process) {
        pumps.add(new Pump(process.getInputStream(), FileDescriptor.out));
        if (!onePipe) {
            pumps.add(new Pump(process.getErrorStream(), FileDescriptor.err));
        }
        for (Pump pump : pumps) {
            pump.setDaemon(true);
            pump.start();
        }
        if (!onePipe && redaction == null) {
            Thread flusher = new Thread(this::flush, "output flusher");
            flusher.setDaemon(true);
            flusher.start();
        }
    }

    /** Keeps the beginning of a line whose end does not come, as a prompt's. */
    private void flush() {
        try {
            while (true) {
                Thread.sleep(FLUSH_MILLIS);
                synchronized (this) {
                    if (closed) {
                        return;
                    }
                    for (Pump pump : pumps) {
                        if (pump.line.size() > 0 && System.nanoTime() - pump.since > FLUSH_MILLIS * 1_000_000L) {
                            keepUnmasked(pump, pump.line.toByteArray());
                            pump.line.reset();
                        }
                    }
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /**
     * Waits as long as the command itself would for who reads its output, but no longer than a second for a background
     * process.
     */
    @Override
    public void ended(BooleanSupplier hurry) {
        long left = MAX_DRAIN_MILLIS * 1_000_000L;
        long now = System.nanoTime();
        for (Pump pump : pumps) {
            long before = -1;
            for (int idle = 0; idle < IDLE_LOOKS && pump.isAlive() && left > 0;) {
                try {
                    pump.join(2);
                    boolean unchanged = pump.reads == before;
                    boolean reading = pump.reads % 2 == 0;
                    idle = unchanged && reading ? idle + 1 : 0;
                    before = pump.reads;
                    long then = now;
                    now = System.nanoTime();
                    if (!unchanged || reading || hurry.getAsBoolean()) {
                        left -= now - then;
                    }
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    return;
                }
            }
        }
    }

    private final class Pump extends Thread {
        private final InputStream from;
        private final OutputStream to;
        /** Even while it waits for output; {@code available()} would wait for the reader's monitor. */
        private volatile long reads;
        private final ByteArrayOutputStream line = new ByteArrayOutputStream();
        private long since;

        /** Not by System.out, whose monitor would keep the end of this process waiting for who reads it. */
        Pump(InputStream from, FileDescriptor to) {
            super(null, null, "output", redaction == null ? 0 : STACK_FOR_PATTERNS);
            this.from = from;
            this.to = new StandardStream(to);
        }

        @Override
        public void run() {
            byte[] buffer = new byte[16384];
            for (int ends = 0; ends < 2; reads++) {
                int n = read(buffer);
                reads++;
                if (n < 0) {
                    // when the process ends, the JDK may take the last bytes and offer them only after the pipe's end
                    // was seen
                    ends++;
                    continue;
                }
                ends = 0;
                byte[] bytes = Arrays.copyOf(buffer, n);
                keep(this, bytes);
                if (!log.print(bytes, to)) {
                    // the command gets SIGPIPE, as it would if it wrote there itself
                    closeInput();
                }
            }
        }

        private void closeInput() {
            try {
                from.close();
            } catch (IOException e) {
                // it is closed all the same
            }
        }

        private int read(byte[] buffer) {
            try {
                return from.read(buffer);
            } catch (IOException e) {
                return -1;
            }
        }
    }

    /** Whole lines are kept, so that those of stdout and stderr do not mix; a line of more than 64 KiB in pieces. */
    private synchronized void keep(Pump pump, byte[] bytes) {
        if (redaction == null && onePipe) {
            keep(bytes);
            return;
        }
        pump.since = System.nanoTime();
        pump.line.writeBytes(bytes);
        byte[] all = pump.line.toByteArray();
        int end = all.length;
        while (end > 0 && all[end - 1] != '\n' && all.length < MAX_LINE) {
            end--;
        }
        pump.line.reset();
        pump.line.write(all, end, all.length - end);
        if (redaction != null) {
            keepMasked(Arrays.copyOf(all, end));
        } else {
            keepUnmasked(pump, Arrays.copyOf(all, end));
        }
    }

    private void keepUnmasked(Pump pump, byte[] bytes) {
        if (bytes.length > 0) {
            if (unfinished != null && unfinished != pump) {
                keep(new byte[] {'\n'});
            }
            unfinished = bytes[bytes.length - 1] == '\n' ? null : pump;
            keep(bytes);
        }
    }

    private void keepMasked(byte[] lines) {
        if (!closed) {
            try {
                keep(redaction.mask(new String(lines, StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8));
            } catch (Redaction.Undecided e) {
                stopKeeping(e.getMessage());
            }
        }
    }

    /** A full disk ends the keeping, not the command. */
    private synchronized void keep(byte[] bytes) {
        int from = 0;
        try {
            while (from < bytes.length && !closed) {
                if (file == null) {
                    file = open(tail ? latest() : path);
                }
                int n = (int) Math.min(bytes.length - from, half - inFile);
                file.write(bytes, from, n);
                from += n;
                inFile += n;
                if (inFile == half) {
                    file.close();
                    file = null;
                    inFile = 0;
                    if (tail) {
                        leftOut += size(before());
                        Files.move(latest(), before(), StandardCopyOption.REPLACE_EXISTING);
                    }
                    tail = true;
                }
            }
        } catch (IOException e) {
            stopKeeping(Text.reason(e));
        }
    }

    private OutputStream open(Path part) throws IOException {
        Database.makePrivateDirectory(path.getParent());
        Files.deleteIfExists(part);
        return Channels.newOutputStream(Files.newByteChannel(part, Set.of(StandardOpenOption.CREATE_NEW,
            StandardOpenOption.WRITE), Database.permissions("rw-------")));
    }

    private synchronized void stopKeeping(String why) {
        closed = true;
        note = "the output is not kept to its end: " + why;
        log.warn("output", "cannot keep the command's output in " + path + ": " + why);
    }

    private static long size(Path path) throws IOException {
        return Files.exists(path) ? Files.size(path) : 0;
    }

    /** Makes one file of what was kept; what a background process prints from now on is not kept. */
    synchronized void close() {
        for (Pump pump : pumps) {
            if (redaction != null) {
                keepMasked(pump.line.toByteArray());
            } else {
                keepUnmasked(pump, pump.line.toByteArray());
            }
        }
        closed = true;
        if (path == null) {
            return;
        }
        try {
            if (file != null) {
                file.close();
            }
            join();
        } catch (IOException e) {
            stopKeeping(Text.reason(e));
        }
        if (note != null) {
            mark();
        }
    }

    /** Says at the file's end that something is missing: in the place of its last bytes, since the disk may be full. */
    private void mark() {
        byte[] mark = ("\n[" + note + "]\n").getBytes(StandardCharsets.UTF_8);
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(mark), Math.max(0, channel.size() - mark.length));
        } catch (IOException e) {
            // the row has the note
        }
    }

    /** Appends the last half of what the two files beside hold, after a mark where bytes were left out. */
    private void join() throws IOException {
        long latest = size(latest());
        long before = size(before());
        long skipped = Math.max(0, before + latest - half);
        if (before + latest > 0) {
            try (FileChannel whole = FileChannel.open(path,
                Set.of(StandardOpenOption.WRITE, StandardOpenOption.APPEND))) {
                if (skipped + leftOut > 0) {
                    whole.write(ByteBuffer.wrap(gap(skipped + leftOut).getBytes(StandardCharsets.UTF_8)));
                }
                append(whole, before(), Math.min(before, skipped));
                append(whole, latest(), Math.max(0, skipped - before));
            }
            Files.deleteIfExists(before());
            Files.deleteIfExists(latest());
        }
    }

    private static String gap(long bytes) {
        return "\n[" + bytes + " bytes left out]\n";
    }

    private static void append(FileChannel whole, Path part, long from) throws IOException {
        if (Files.exists(part)) {
            try (FileChannel channel = FileChannel.open(part)) {
                for (long at = from; at < channel.size();) {
                    at += channel.transferTo(at, channel.size() - at, whole);
                }
            }
        }
    }

    /** Reads what was kept from its beginning, also of one that was killed, or that still runs. */
    static final class Reader {
        private final Path path;
        private final ByteBuffer buffer = ByteBuffer.allocate(65536);
        private FileChannel part;
        private final Set<Object> read = new HashSet<>();

        /** @param path null: there is none */
        Reader(Path path) throws IOException {
            if (path == null) {
                throw new NoSuchFileException("output");
            }
            this.path = path;
        }

        /** Copies what has come since. */
        void copyTo(OutputStream out) throws IOException {
            while (part != null || next(path)) {
                buffer.clear();
                if (part.read(buffer) > 0) {
                    out.write(buffer.array(), 0, buffer.position());
                } else if (!next(sibling(path, BEFORE)) && !next(sibling(path, LATEST))) {
                    return;
                }
            }
        }

        /** Goes on with a part that has not been read yet: those beside take each other's names in turn. */
        private boolean next(Path candidate) throws IOException {
            try {
                Object found = Files.readAttributes(candidate, BasicFileAttributes.class).fileKey();
                if (read.contains(found)) {
                    return false;
                }
                FileChannel opened = FileChannel.open(candidate, Set.of(StandardOpenOption.READ,
                    java.nio.file.LinkOption.NOFOLLOW_LINKS));
                if (part != null) {
                    part.close();
                }
                part = opened;
                read.add(found);
                return true;
            } catch (NoSuchFileException e) {
                if (part == null) {
                    throw e;
                }
                return false;
            }
        }
    }

    /** The last lines of what a run has kept, also of one that was killed or still runs. */
    static List<String> lastLines(Path path, int count) throws IOException {
        Path before = sibling(path, BEFORE);
        ByteArrayOutputStream end = new ByteArrayOutputStream();
        for (Path part : List.of(Files.exists(before) ? before : path, sibling(path, LATEST))) {
            end.writeBytes(end(part));
        }
        String text = end.toString(StandardCharsets.UTF_8);
        String[] lines = text.split("\n");
        return text.isEmpty() ? List.of() : List.of(lines).subList(Math.max(0, lines.length - count), lines.length);
    }

    private static byte[] end(Path part) throws IOException {
        try (FileChannel channel = FileChannel.open(part)) {
            ByteBuffer end = ByteBuffer.allocate((int) Math.min(channel.size(), 16384));
            channel.read(end, channel.size() - end.capacity());
            return end.array();
        } catch (NoSuchFileException e) {
            return new byte[0];
        }
    }

    /** @return whether there was any */
    static boolean delete(Path path) throws IOException {
        boolean found = false;
        for (String end : List.of("", LATEST, BEFORE)) {
            found |= Files.deleteIfExists(sibling(path, end));
        }
        return found;
    }
}
