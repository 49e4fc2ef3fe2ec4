//SOURCES BatchTask.java

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Stream;

import javax.xml.XMLConstants;
import javax.xml.transform.stream.StreamSource;
import javax.xml.validation.SchemaFactory;
import javax.xml.validation.Validator;

import jakarta.batch.operations.JobOperator;
import jakarta.batch.runtime.BatchRuntime;
import jakarta.batch.runtime.JobExecution;
import jakarta.batch.runtime.StepExecution;
import jakarta.inject.Named;
import org.junit.jupiter.api.Test;
import org.xml.sax.SAXException;

/** The job is standard Jakarta Batch: valid, and it runs unchanged on other runtimes, Apache BatchEE and jbatch. */
class BatchPortabilityTest extends TaskTest {
    private static final String JOB = "META-INF/batch-jobs/taskrunner.xml";

    @Test
    void jobIsValidAgainstTheStandardsSchema() throws Exception {
        SchemaFactory factory = SchemaFactory.newInstance(XMLConstants.W3C_XML_SCHEMA_NS_URI);
        factory.setProperty(XMLConstants.ACCESS_EXTERNAL_SCHEMA, "");
        factory.setProperty(XMLConstants.ACCESS_EXTERNAL_DTD, "");
        Validator validator = factory.newSchema(JobOperator.class.getResource("/xsd/jobXML_2_0.xsd")).newValidator();
        String job = Program.read(Project.ROOT.resolve("batch").resolve(JOB));
        validator.validate(new StreamSource(new StringReader(job)));
        String broken = job.replace("<batchlet ref=\"runCommand\"/>", "<batchlet name=\"runCommand\"/>");
        assertThrows(SAXException.class, () -> validator.validate(new StreamSource(new StringReader(broken))));
    }

    @Test
    void jobRunsOnApacheBatchEe() throws Exception {
        assertRunsOn("batchee", "org.apache.batchee.", Map.of("batchee.properties", "PersistenceManagerService="
            + "org.apache.batchee.container.services.persistence.MemoryPersistenceManagerService\n"));
    }

    @Test
    void jobRunsOnJbatch() throws Exception {
        String services = "com.ibm.jbatch.container.services.impl.";
        assertRunsOn("jbatch", "com.ibm.jbatch.", Map.of("META-INF/services/batch-services.properties",
            "J2SE_MODE=true\nCONTAINER_ARTIFACT_FACTORY_SERVICE=" + services + "DelegatingBatchArtifactFactoryImpl\n"
            + "BATCH_THREADPOOL_SERVICE=" + services + "GrowableThreadPoolServiceImpl\n",
            "META-INF/services/batch-config.properties", "J2SE_MODE=true\nJDBC_DRIVER=org.apache.derby.jdbc."
            + "EmbeddedDriver\nJDBC_URL=jdbc:derby:memory:jobs;create=true\n"));
    }

    /** @param runtime the script that knows its class path @param configuration its files by their names */
    private void assertRunsOn(String runtime, String prefix, Map<String, String> configuration) throws Exception {
        TestTask held = new TestTask(Files.createDirectories(directory.resolve("held")));
        Running holder = held.hold();
        Result result = on(runtime, prefix, configuration, task.lock, held.lock);
        held.finish();
        holder.result().exitedWith(0);
        String acquired = " acquireLock=ACQUIRED resetCounter=RESET";
        assertEquals(List.of("COMPLETED SUCCEEDED" + acquired + " runCommand=SUCCEEDED releaseLock=RELEASED",
            "FAILED EXIT_3" + acquired + " runCommand=EXIT_3 releaseLock=RELEASED",
            "COMPLETED SUCCEEDED" + acquired + " runCommand=SUCCEEDED releaseLock=RELEASED",
            "COMPLETED CONTENDED acquireLock=CONTENDED incrementCounter=COUNT_1",
            "FAILED CONTENDED acquireLock=CONTENDED incrementCounter=COUNT_2",
            "COMPLETED CONTENDED acquireLock=CONTENDED incrementCounter=COUNT_3",
            "FAILED THRESHOLD_EXCEEDED acquireLock=THRESHOLD_EXCEEDED incrementCounter=COUNT_0",
            "FAILED SIGNAL_9" + acquired + " runCommand=SIGNAL_9 releaseLock=RELEASED",
            "FAILED LOCK_ERROR acquireLock=LOCK_ERROR",
            "FAILED COUNTER_ERROR acquireLock=COUNTER_ERROR",
            "STOPPED STOPPED" + acquired + " runCommand=STOPPED releaseLock=RELEASED"), result.out().lines()
            .toList(), result::toString);
        assertEquals(2, task.marks());
        assertEquals(0, held.count());
        task.assertFree();
        held.assertFree();
    }

    /** The artifacts by name for a runtime without CDI, and no database of its own. */
    private Result on(String runtime, String prefix, Map<String, String> configuration, Path... locks)
        throws Exception {
        StringBuilder artifacts =
            new StringBuilder("<batch-artifacts xmlns=\"https://jakarta.ee/xml/ns/jakartaee\" version=\"2.0\">\n");
        for (Class<?> artifact : Workflow.ARTIFACTS) {
            artifacts.append("<ref id=\"" + artifact.getAnnotation(Named.class).value() + "\" class=\""
                + artifact.getName() + "\"/>\n");
        }
        Path resources = Files.createDirectories(directory.resolve("resources/META-INF/services")).getParent()
            .getParent();
        Files.writeString(resources.resolve("META-INF/batch.xml"), artifacts + "</batch-artifacts>\n");
        for (Map.Entry<String, String> file : configuration.entrySet()) {
            Files.writeString(resources.resolve(file.getKey()), file.getValue());
        }
        Path classes = Path.of(taskrunnerbatch.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        String libraries = Program.script(directory, runtime + ".java").out().strip();
        assertTrue(!libraries.contains("jberet") && libraries.contains("jbatch"), libraries);
        return new Program(directory, Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
            String.join(File.pathSeparator, resources.toString(), classes.toString(), libraries),
            OnAnotherRuntime.class.getName(), prefix, directory.toString())
            .with(Stream.of(locks).map(Path::toString).toArray(String[]::new)).with(task.mark()).run().exitedWith(0);
    }

    /** The child process: no class of JBeret or Weld is on its class path. */
    static final class OnAnotherRuntime {
        public static void main(String[] args) throws Exception {
            JobOperator operator = BatchRuntime.getJobOperator();
            if (!operator.getClass().getName().startsWith(args[0])) {
                throw new IllegalStateException("another runtime: " + operator.getClass());
            }
            run(operator, Path.of(args[1]), args[2], args[3], args[4]);
            System.exit(0);
        }

        private static void run(JobOperator operator, Path directory, String lock, String held, String mark)
            throws Exception {
            Repository repository = Repository.open(Database.parse("jdbc:sqlite:" + directory + "/executions.db",
                Map.of("XDG_STATE_HOME", directory.toString())), true);
            tell(operator, operator.start("taskrunner", run(repository, directory, lock, mark)));
            long failed = operator.start("taskrunner", run(repository, directory, lock, "exit 3"));
            tell(operator, failed);
            tell(operator, operator.restart(failed, run(repository, directory, lock, mark)));
            tell(operator, operator.start("taskrunner", run(repository, directory, held, mark)));
            long again = operator.start("taskrunner", run(repository, directory, lock, "exit 3"));
            ended(operator, again);
            tell(operator, operator.restart(again, run(repository, directory, held, mark, again)));
            tell(operator, operator.start("taskrunner", run(repository, directory, held, mark)));
            tell(operator, operator.start("taskrunner", run(repository, directory, held, mark)));
            tell(operator, operator.start("taskrunner", run(repository, directory, lock, "kill -KILL $$")));
            tell(operator, operator.start("taskrunner",
                run(repository, directory, directory + "/missing/task.lock", mark)));
            Path other = Files.createDirectories(directory.resolve("other")).resolve("task.lock");
            Files.writeString(other.resolveSibling("task.count"), "no number");
            tell(operator, operator.start("taskrunner", run(repository, directory, other.toString(), mark)));
            Properties stopped = run(repository, directory, lock, "touch " + directory + "/runs; sleep 60");
            long id = operator.start("taskrunner", stopped);
            Program.await("it runs", () -> Files.exists(directory.resolve("runs")));
            AuditedRun.of(stopped.getProperty("run")).execution.stop(Execution.StopSignal.TERM);
            tell(operator, id);
        }

        private static Properties run(Repository repository, Path directory, String lock, String command)
            throws Exception {
            return run(repository, directory, lock, command, null);
        }

        private static Properties run(Repository repository, Path directory, String lock, String command,
            Long restarted)
            throws Exception {
            Arguments arguments = Arguments.parse(taskrunnerbatch.COMMANDS, "--command", command, "--lockfile", lock,
                "--threshold", "2", "--counter-file", lock.replace(".lock", ".count"));
            Execution execution = new Execution(new Request(arguments));
            RequestRow row = taskrunnerbatch.row(execution, repository, command, Map.of(), restarted);
            new AuditedRun(execution, repository, row, new OutputFile(directory.resolve("output"), 1000, null,
                execution.log), directory.toFile(), 1);
            Properties parameters = new Properties();
            parameters.setProperty("run", row.runId());
            return parameters;
        }

        private static JobExecution ended(JobOperator operator, long id) {
            JobExecution execution = operator.getJobExecution(id);
            while (execution.getEndTime() == null) {
                Program.sleep(20);
                execution = operator.getJobExecution(id);
            }
            return execution;
        }

        private static void tell(JobOperator operator, long id) {
            JobExecution execution = ended(operator, id);
            StringBuilder line = new StringBuilder(execution.getBatchStatus() + " " + execution.getExitStatus());
            for (StepExecution step : operator.getStepExecutions(id)) {
                line.append(' ').append(step.getStepName()).append('=').append(step.getExitStatus());
            }
            System.out.println(line);
        }
    }
}
