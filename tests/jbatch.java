///usr/bin/env jbang "$0" "$@" ; exit $?
//JAVA 17+
//DEPS com.ibm.jbatch:com.ibm.jbatch.container:2.1.1
//DEPS jakarta.batch:jakarta.batch-api:2.1.1
//DEPS jakarta.inject:jakarta.inject-api:2.0.1
//DEPS jakarta.annotation:jakarta.annotation-api:3.0.0
//DEPS jakarta.enterprise:jakarta.enterprise.cdi-api:4.1.0
//DEPS jakarta.transaction:jakarta.transaction-api:2.0.1
//DEPS jakarta.xml.bind:jakarta.xml.bind-api:4.0.2
//DEPS org.glassfish.jaxb:jaxb-runtime:4.0.5
//DEPS org.apache.derby:derby:10.14.2.0
//DEPS org.xerial:sqlite-jdbc:3.53.4.0
//DEPS info.picocli:picocli:4.7.7

/**
 * Prints the class path of the third Jakarta Batch runtime on which {@link BatchPortabilityTest} runs the job: jbatch,
 * the reference implementation, with its tables in memory.
 */
public class jbatch {
    public static void main(String[] args) {
        System.out.println(System.getProperty("java.class.path"));
    }
}
