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

/** The job is standard Jakarta Batch: valid, and it runs unchanged on another runtime, Apache BatchEE. */
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
        TestTask held = new TestTask(Files.createDirectories(directory.resolve("held")));
        Running holder = held.hold();
        Result result = onBatchEe(task.lock, held.lock);
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
    private Result onBatchEe(Path... locks) throws Exception {
        StringBuilder artifacts =
            new StringBuilder("<batch-artifacts xmlns=\"https://jakarta.ee/xml/ns/jakartaee\" version=\"2.0\">\n");
        for (Class<?> artifact : Workflow.ARTIFACTS) {
            artifacts.append("<ref id=\"" + artifact.getAnnotation(Named.class).value() + "\" class=\""
                + artifact.getName() + "\"/>\n");
        }
        Path resources = Files.createDirectories(directory.resolve("resources/META-INF")).getParent();
        Files.writeString(resources.resolve("META-INF/batch.xml"), artifacts + "</batch-artifacts>\n");
        Files.writeString(resources.resolve("batchee.properties"), "PersistenceManagerService="
            + "org.apache.batchee.container.services.persistence.MemoryPersistenceManagerService\n");
        Path classes = Path.of(taskrunnerbatch.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        String batchEe = Program.script(directory, "batchee.java").out().strip();
        assertTrue(!batchEe.contains("jberet") && batchEe.contains("batchee-jbatch"), batchEe);
        return new Program(directory, Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
            String.join(File.pathSeparator, resources.toString(), classes.toString(), batchEe),
            OnBatchEe.class.getName(),
            directory.toString()).with(Stream.of(locks).map(Path::toString).toArray(String[]::new)).with(task.mark())
            .run().exitedWith(0);
    }

    /** The child process: no class of JBeret or Weld is on its class path. */
    static final class OnBatchEe {
        public static void main(String[] args) throws Exception {
            Path directory = Path.of(args[0]);
            JobOperator operator = BatchRuntime.getJobOperator();
            if (!operator.getClass().getName().startsWith("org.apache.batchee.")) {
                throw new IllegalStateException("not BatchEE: " + operator.getClass());
            }
            Repository repository = Repository.open(Database.parse("jdbc:sqlite:" + directory + "/executions.db",
                Map.of("XDG_STATE_HOME", args[0])), true);
            tell(operator, operator.start("taskrunner", run(repository, directory, args[1], args[3])));
            long failed = operator.start("taskrunner", run(repository, directory, args[1], "exit 3"));
            tell(operator, failed);
            tell(operator, operator.restart(failed, run(repository, directory, args[1], args[3])));
            tell(operator, operator.start("taskrunner", run(repository, directory, args[2], args[3])));
            long again = operator.start("taskrunner", run(repository, directory, args[1], "exit 3"));
            ended(operator, again);
            tell(operator, operator.restart(again, run(repository, directory, args[2], args[3], again)));
            tell(operator, operator.start("taskrunner", run(repository, directory, args[2], args[3])));
            tell(operator, operator.start("taskrunner", run(repository, directory, args[2], args[3])));
            tell(operator, operator.start("taskrunner", run(repository, directory, args[1], "kill -KILL $$")));
            tell(operator, operator.start("taskrunner",
                run(repository, directory, directory + "/missing/task.lock", args[3])));
            Path other = Files.createDirectories(directory.resolve("other")).resolve("task.lock");
            Files.writeString(other.resolveSibling("task.count"), "no number");
            tell(operator, operator.start("taskrunner", run(repository, directory, other.toString(), args[3])));
            Properties stopped = run(repository, directory, args[1], "touch " + directory + "/runs; sleep 60");
            long id = operator.start("taskrunner", stopped);
            Program.await("it runs", () -> Files.exists(directory.resolve("runs")));
            AuditedRun.of(stopped.getProperty("run")).execution.stop(Execution.StopSignal.TERM);
            tell(operator, id);
            System.exit(0);
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
