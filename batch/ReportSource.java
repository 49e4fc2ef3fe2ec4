import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/** Where the report's executions come from. */
interface ReportSource {
    /** The executions of the window, and those that have not ended, newest first. */
    void executions(Consumer<ReportRow> consumer) throws TaskException;

    /** Of each task the latest executions before the window, newest first. */
    void before(Consumer<ReportRow> consumer) throws TaskException;

    /** The steps of executions, by their ids. */
    Map<Long, List<StepRow>> steps(Collection<Long> ids) throws TaskException;

    /** The last lines of the output that is kept on this host, or none. */
    List<String> output(ReportRow row, int lines);
}
