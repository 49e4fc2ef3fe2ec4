//JAVA 17+
//FILES META-INF/batch-jobs/stock.xml=META-INF/batch-jobs/stock.xml
//FILES META-INF/beans.xml=META-INF/beans.xml
//FILES jberet.properties=jberet.properties
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
//DEPS com.h2database:h2:2.4.240

import java.util.Properties;
import java.util.concurrent.TimeUnit;

import jakarta.batch.api.AbstractBatchlet;
import jakarta.batch.operations.JobOperator;
import jakarta.batch.runtime.BatchRuntime;
import jakarta.batch.runtime.BatchStatus;
import jakarta.enterprise.context.Dependent;
import jakarta.inject.Named;
import org.jberet.runtime.JobExecutionImpl;

/**
 * What {@code bench.java} compares taskrunner-batch with: JBeret SE as its user guide sets it up, with an H2 file and
 * Weld's discovery.
 */
public class stock {
    public static void main(String[] args) throws Exception {
        JobOperator operator = BatchRuntime.getJobOperator();
        long id = operator.start("stock", new Properties());
        JobExecutionImpl execution = (JobExecutionImpl) operator.getJobExecution(id);
        execution.awaitTermination(60, TimeUnit.SECONDS);
        System.exit(execution.getBatchStatus() == BatchStatus.COMPLETED ? 0 : 1);
    }

    @Named("stockStep")
    @Dependent
    public static class Step extends AbstractBatchlet {
        @Override
        public String process() {
            return "OK";
        }
    }

    @Named("stockCommand")
    @Dependent
    public static class Command extends AbstractBatchlet {
        @Override
        public String process() throws Exception {
            return Integer.toString(new ProcessBuilder("/bin/sh", "-c", "true").inheritIO().start().waitFor());
        }
    }
}
