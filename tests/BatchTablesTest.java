import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TimeZone;

import jakarta.batch.operations.JobOperator;
import jakarta.batch.runtime.BatchStatus;
import jakarta.batch.runtime.JobExecution;
import jakarta.transaction.TransactionManager;
import org.jberet.repository.JdbcRepository;
import org.jberet.repository.JobRepository;
import org.jberet.spi.ArtifactFactory;
import org.jberet.spi.BatchEnvironment;
import org.jberet.spi.JobOperatorContext;
import org.jberet.spi.JobTask;
import org.jberet.spi.JobXmlResolver;
import org.jberet.tools.MetaInfBatchJobsJobXmlResolver;
import org.jberet.tx.LocalTransactionManager;
import org.junit.jupiter.api.Test;

/** The tables: JBeret's are JBeret's, and those of version 1 become those of version 2. */
@Concurrent
class BatchTablesTest extends BatchTest {
    private static final List<String> VERSION_1 = List.of("job_execution_id", "run_id", "restarted_from", "user_name",
        "host",
        "boot_id", "pid_namespace", "pid", "pid_start", "lock_file", "command", "threshold", "counter_file", "options",
        "output_file", "started", "acquired", "ended", "process_exit", "counter", "holder", "message", "evidence");

    @Test
    void jberetReadsItsTablesAndRestartsFromThem() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        Result result = batch.program("BatchTablesTest$WithJberet", batch.database().toString(), task.lock.toString(),
            task.mark()).run()
            .exitedWith(0);
        assertEquals(List.of("FAILED EXIT_3 [acquireLock=ACQUIRED, resetCounter=RESET, runCommand=EXIT_3,"
            + " releaseLock=RELEASED]",
            "COMPLETED SUCCEEDED [acquireLock=ACQUIRED, resetCounter=RESET, runCommand=SUCCEEDED,"
            + " releaseLock=RELEASED]", "same instance"),
            result.out().lines().toList(), result::toString);
        assertEquals(2, task.marks());
        assertEquals(List.of("1 2"), batch.query("SELECT (SELECT count(*) FROM job_instance), (SELECT count(*) FROM"
            + " job_execution)"));
    }

    @Test
    void whatIsInjectedIntoTheArtifactsIsThere() throws Exception {
        batch.program("BatchTablesTest$Validation").run().exitedWith(0).outIs("valid\n");
    }

    static final class Validation {
        public static void main(String[] args) {
            Beans.validate(Workflow.ARTIFACTS);
            System.out.println("valid");
            System.exit(0);
        }
    }

    /** A runtime as JBeret has it, with its own repository on the tables. */
    static final class WithJberet implements BatchEnvironment {
        private final JobRepository jobs;
        private final Beans beans = Beans.start(Workflow.ARTIFACTS);

        WithJberet(String database) {
            org.sqlite.SQLiteDataSource source = new org.sqlite.SQLiteDataSource();
            source.setUrl("jdbc:sqlite:" + database);
            source.getConfig().setDateClass("TEXT");
            jobs = new JdbcRepository(source, new Properties());
        }

        public static void main(String[] args) throws Exception {
            TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
            JobOperator operator = JobOperatorContext.create(new WithJberet(args[0])).getJobOperator();
            tell(operator, 1);
            Repository repository = Repository.open(Database.parse("jdbc:sqlite:" + args[0] + ".other",
                Map.of("XDG_STATE_HOME", args[0] + ".state")), true);
            Arguments arguments = Arguments.parse(taskrunnerbatch.COMMANDS, "--command", args[2], "--lockfile", args[1],
                "--threshold",
                "2", "--counter-file", args[1] + ".count");
            Execution execution = new Execution(new Request(arguments));
            RequestRow row = taskrunnerbatch.row(execution, repository, args[2], Map.of(), null);
            new AuditedRun(execution, repository, row, new OutputFile(null, 1000, null, execution.log), null, 1);
            Properties parameters = new Properties();
            parameters.setProperty(JobRunner.RUN, row.runId());
            long restarted = operator.restart(1, parameters);
            tell(operator, restarted);
            System.out.println(operator.getJobInstance(1).getInstanceId() == operator.getJobInstance(restarted)
                .getInstanceId()
                ? "same instance" : "another instance");
            System.exit(0);
        }

        private static void tell(JobOperator operator, long id) {
            JobExecution execution = operator.getJobExecution(id);
            assertTrue(execution.getBatchStatus() != BatchStatus.STARTED && execution.getEndTime() != null);
            System.out.println(execution.getBatchStatus() + " " + execution.getExitStatus() + " "
                + operator.getStepExecutions(id).stream()
                .map(step -> step.getStepName() + "=" + step.getExitStatus()).toList());
        }

        @Override
        public ClassLoader getClassLoader() {
            return WithJberet.class.getClassLoader();
        }

        @Override
        public ArtifactFactory getArtifactFactory() {
            return beans;
        }

        @Override
        public void submitTask(JobTask task) {
            task.run();
        }

        @Override
        public TransactionManager getTransactionManager() {
            return LocalTransactionManager.getInstance();
        }

        @Override
        public JobRepository getJobRepository() {
            return jobs;
        }

        @Override
        public JobXmlResolver getJobXmlResolver() {
            return new MetaInfBatchJobsJobXmlResolver();
        }

        @Override
        public Properties getBatchConfigurationProperties() {
            return new Properties();
        }

        @Override
        public String getApplicationName() {
            return null;
        }
    }

    @Test
    void tablesOfVersion1AreMigratedByTheNextRunAndNotByAReport() throws Exception {
        batch.request(task.mark() + "; exit 3").run().exitedWith(3);
        toVersion1();
        batch.batch("history").run().exitedWith(69).errContains("it has no tables of version");
        List<Running> runs = java.util.stream.Stream.of("a", "b", "c").map(name -> other(name).request("true").start())
            .toList();
        runs.forEach(run -> run.result().exitedWith(0));
        assertEquals(4, batch.history().size());
        Map<String, String> old = batch.history().get(3);
        assertEquals("FAILED EXIT_3 3 0", old.get("batch_status") + " " + old.get("exit_status") + " "
            + old.get("exit_code") + " "
            + old.get("contentions"), old::toString);
        batch.restart(1).exitedWith(3);
        assertEquals(2, task.marks());
    }

    private BatchTask other(String name) {
        try {
            return batch.other(directory.resolve(name));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    /** Undoes what the second version's step does. */
    private void toVersion1() throws Exception {
        try (Connection connection = DriverManager.getConnection("jdbc:sqlite:"
            + batch.database()); Statement statement = connection
                .createStatement()) {
            for (String[] column : new String[][] {{"create_time", "started"}, {"end_time", "ended"},
                {"exit_code", "process_exit"},
                {"contentions", "counter"}}) {
                statement.execute("ALTER TABLE taskrunner_execution RENAME COLUMN " + column[0] + " TO " + column[1]);
            }
            statement.execute("DROP INDEX IF EXISTS taskrunner_execution_fleet");
            for (String column : BatchTask.query(connection,
                "SELECT name FROM pragma_table_info('taskrunner_execution')")) {
                if (!VERSION_1.contains(column)) {
                    statement.execute("ALTER TABLE taskrunner_execution DROP COLUMN " + column);
                }
            }
            statement.execute("UPDATE taskrunner_execution SET options = replace(options, 'working-directory=',"
                + " 'working-folder=')");
            statement.execute("DROP TABLE taskrunner_purged");
            statement.execute("ALTER TABLE taskrunner_schema DROP COLUMN id");
            statement.execute("UPDATE taskrunner_schema SET version = 1");
        }
    }

    @Test
    void aRunIsThreeSyncsOfTheDatabase() throws Exception {
        batch.request("true").run().exitedWith(0);
        Path trace = directory.resolve("trace");
        batch.request("true").under("strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace.toString()).run()
            .exitedWith(0);
        List<String> syncs = Files.readAllLines(trace).stream()
            .filter(line -> line.contains("sync(") && line.contains(batch.state.toString()))
            .toList();
        assertTrue(syncs.size() >= 2 && syncs.size() <= 3, syncs::toString);
    }
}
