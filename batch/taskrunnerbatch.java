///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//SOURCES ../taskrunner.java
//SOURCES Database.java
//SOURCES Repository.java
//SOURCES JobRuntime.java
//SOURCES Workflow.java
//FILES META-INF/batch-jobs/taskrunner.xml=META-INF/batch-jobs/taskrunner.xml
//DEPS org.jberet:jberet-core:3.1.0.Final
//DEPS org.jberet:jberet-se:3.1.0.Final
//DEPS jakarta.batch:jakarta.batch-api:2.1.1
//DEPS jakarta.transaction:jakarta.transaction-api:2.0.1
//DEPS jakarta.annotation:jakarta.annotation-api:3.0.0
//DEPS jakarta.inject:jakarta.inject-api:2.0.1
//DEPS jakarta.enterprise:jakarta.enterprise.cdi-api:4.1.0
//DEPS org.jboss.weld.se:weld-se-core:6.0.4.Final
//DEPS org.jboss.weld:weld-core-impl:6.0.4.Final
//DEPS org.jboss.logging:jboss-logging:3.6.3.Final
//DEPS org.wildfly.security:wildfly-elytron-security-manager:2.9.2.Final
//DEPS org.wildfly.security:wildfly-elytron-security-manager-action:2.9.2.Final
//DEPS org.wildfly.security:wildfly-elytron-permission:2.9.2.Final
//DEPS org.xerial:sqlite-jdbc:3.53.4.0
//DEPS org.postgresql:postgresql:42.7.13
//RUNTIME_OPTIONS -XX:+IgnoreUnrecognizedVMOptions --enable-native-access=ALL-UNNAMED

import java.time.Duration;
import java.util.Map;

import jakarta.batch.operations.BatchRuntimeException;

/** The workflow of {@link taskrunner} as a Jakarta Batch job, so that every execution request leaves a row in the audit repository. */
public class taskrunnerbatch {
    public static void main(String[] args) {
        System.exit(run(args));
    }

    static int run(String... args) {
        try {
            Arguments arguments = Arguments.parse(Options.COMMANDS, args);
            if (arguments == null) {
                return ExitStatus.OK;
            }
            Execution execution = new Execution(Options.request(arguments));
            execution.stopOnSignals();
            JobRuntime runtime = new JobRuntime();
            try (Database database = Database.open(null)) {
                Repository repository = new Repository(database);
                repository.prepare();
                runtime.connect(database);
                long id = database.transaction(() -> {
                    long started = runtime.start(execution);
                    repository.insert(started, new Repository.Asked(execution.owner, execution.request, Map.of(), false, null, null));
                    return started;
                });
                try {
                    runtime.run();
                } catch (BatchRuntimeException e) {
                    if (execution.outcome() == null) {
                        throw new TaskException(Database.UNAVAILABLE, "repository " + database.name() + " went away before the command ran");
                    }
                    database.patience(Duration.ofSeconds(30));
                }
                int exitStatus = execution.finish();
                repository.finish(id, Repository.Ending.of(execution, exitStatus));
                return exitStatus;
            }
        } catch (UsageException e) {
            return e.show(Options.COMMANDS);
        } catch (TaskException e) {
            System.err.println("taskrunner: " + e.getMessage());
            return e.exitStatus;
        } catch (java.sql.SQLException e) {
            System.err.println("taskrunner: " + e.getMessage());
            return 69;
        }
    }
}
