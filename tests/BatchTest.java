//SOURCES BatchTask.java
//SOURCES BatchLoop.java

import org.junit.jupiter.api.BeforeEach;

/** A test of the batch variant, with an audit repository in its directory. */
abstract class BatchTest extends TaskTest {
    BatchTask batch;

    @BeforeEach
    final void makeRepository() {
        batch = new BatchTask(task);
    }
}
