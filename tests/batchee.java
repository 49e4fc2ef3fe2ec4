///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS org.apache.batchee:batchee-jbatch:2.0.0
//DEPS jakarta.batch:jakarta.batch-api:2.1.1
//DEPS jakarta.inject:jakarta.inject-api:2.0.1
//DEPS jakarta.annotation:jakarta.annotation-api:3.0.0
//DEPS jakarta.enterprise:jakarta.enterprise.cdi-api:4.1.0
//DEPS jakarta.transaction:jakarta.transaction-api:2.0.1
//DEPS jakarta.xml.bind:jakarta.xml.bind-api:4.0.2
//DEPS org.glassfish.jaxb:jaxb-runtime:4.0.5
//DEPS org.xerial:sqlite-jdbc:3.53.4.0
//DEPS info.picocli:picocli:4.7.7

/**
 * Prints the class path of the second Jakarta Batch runtime on which {@link BatchPortabilityTest} runs the job:
 * Apache BatchEE.
 */
public class batchee {
    public static void main(String[] args) {
        System.out.println(System.getProperty("java.class.path"));
    }
}
