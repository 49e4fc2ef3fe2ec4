import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * The tables: JBeret's own four, and {@code taskrunner_execution} with one row per execution request. Times in the latter are text,
 * UTC, ISO-8601 to the millisecond: they sort, they read, and no driver shifts them by a time zone.
 */
final class Schema {
    static final int VERSION = 1;
    /** Batch statuses of an execution that has not ended, as SQL. */
    static final String UNFINISHED = "('STARTING', 'STARTED', 'STOPPING')";

    private static final String VERSION_TABLE = "CREATE TABLE taskrunner_schema (version INTEGER NOT NULL)";

    private static final String[] AUDIT = {"""
        CREATE TABLE taskrunner_execution (
          job_execution_id BIGINT NOT NULL PRIMARY KEY REFERENCES job_execution (jobexecutionid) ON DELETE CASCADE,
          run_id TEXT NOT NULL UNIQUE,
          restarted_from BIGINT,
          user_name TEXT NOT NULL,
          host TEXT NOT NULL,
          boot_id TEXT NOT NULL,
          pid_namespace TEXT NOT NULL,
          pid BIGINT NOT NULL,
          pid_start BIGINT NOT NULL,
          lock_file TEXT NOT NULL,
          command TEXT NOT NULL,
          threshold INTEGER NOT NULL,
          counter_file TEXT NOT NULL,
          options TEXT NOT NULL,
          output_file TEXT,
          started TEXT NOT NULL,
          acquired TEXT,
          ended TEXT,
          process_exit INTEGER,
          counter BIGINT,
          holder TEXT,
          message TEXT,
          evidence TEXT)""",
        "CREATE INDEX taskrunner_execution_task ON taskrunner_execution (lock_file, job_execution_id)",
        "CREATE INDEX taskrunner_execution_host ON taskrunner_execution (host, job_execution_id)",
        "CREATE INDEX taskrunner_execution_started ON taskrunner_execution (started)",
        "CREATE INDEX taskrunner_execution_unfinished ON taskrunner_execution (host, lock_file) WHERE ended IS NULL",
        "CREATE INDEX taskrunner_execution_restarts ON taskrunner_execution (restarted_from) WHERE restarted_from IS NOT NULL",
        "CREATE INDEX job_execution_instance ON job_execution (jobinstanceid)",
        "CREATE INDEX job_execution_batchstatus ON job_execution (batchstatus, jobexecutionid)",
        "CREATE INDEX job_execution_exitstatus ON job_execution (exitstatus, jobexecutionid)",
        "CREATE INDEX step_execution_job ON step_execution (jobexecutionid)"};

    /** JBeret's tables in SQLite's words; AUTOINCREMENT, so that the id of a purged execution never comes back. */
    private static final String[] JBERET_FOR_SQLITE = {"""
        CREATE TABLE job_instance (
          jobinstanceid INTEGER PRIMARY KEY AUTOINCREMENT,
          version INTEGER,
          jobname VARCHAR(512),
          applicationname VARCHAR(512))""", """
        CREATE TABLE job_execution (
          jobexecutionid INTEGER PRIMARY KEY AUTOINCREMENT,
          jobinstanceid INTEGER NOT NULL REFERENCES job_instance (jobinstanceid) ON DELETE CASCADE,
          version INTEGER,
          createtime TIMESTAMP,
          starttime TIMESTAMP,
          endtime TIMESTAMP,
          lastupdatedtime TIMESTAMP,
          batchstatus VARCHAR(30),
          exitstatus VARCHAR(512),
          jobparameters VARCHAR(3000),
          restartposition VARCHAR(255))""", """
        CREATE TABLE step_execution (
          stepexecutionid INTEGER PRIMARY KEY AUTOINCREMENT,
          jobexecutionid INTEGER NOT NULL REFERENCES job_execution (jobexecutionid) ON DELETE CASCADE,
          version INTEGER,
          stepname VARCHAR(255),
          starttime TIMESTAMP,
          endtime TIMESTAMP,
          batchstatus VARCHAR(30),
          exitstatus VARCHAR(512),
          executionexception VARCHAR(2048),
          persistentuserdata BLOB,
          readcount INTEGER,
          writecount INTEGER,
          commitcount INTEGER,
          rollbackcount INTEGER,
          readskipcount INTEGER,
          processskipcount INTEGER,
          filtercount INTEGER,
          writeskipcount INTEGER,
          readercheckpointinfo BLOB,
          writercheckpointinfo BLOB)""", """
        CREATE TABLE partition_execution (
          partitionexecutionid INTEGER NOT NULL,
          stepexecutionid INTEGER NOT NULL REFERENCES step_execution (stepexecutionid) ON DELETE CASCADE,
          version INTEGER,
          batchstatus VARCHAR(30),
          exitstatus VARCHAR(512),
          executionexception VARCHAR(2048),
          persistentuserdata BLOB,
          readercheckpointinfo BLOB,
          writercheckpointinfo BLOB,
          PRIMARY KEY (partitionexecutionid, stepexecutionid))"""};

    /** Creates or migrates the tables unless they are as they should be; safe when many processes do it at once. */
    static void ensure(Location location, ThreadConnections connections) throws SQLException, RepositoryException {
        Connection connection = connections.getConnection();
        try {
            if (check(location, version(connection))) {
                return;
            }
        } catch (SQLException e) {
            if (!location.isMissingTable(e)) {
                throw e;
            }
        }
        connection.setAutoCommit(false);
        try {
            location.lockSchema(connection);
            if (!location.hasTable(connection, "taskrunner_schema")) {
                create(location, connection);
            } else {
                // another process has created it meanwhile; migrations to a newer version go here
                check(location, version(connection));
            }
            connection.commit();
        } finally {
            connection.rollback();
            connection.setAutoCommit(true);
        }
    }

    /** @return true when it is the current one */
    private static boolean check(Location location, int version) throws RepositoryException {
        if (version > VERSION) {
            throw new RepositoryException(RepositoryException.UNAVAILABLE, "audit repository " + location + ": its schema version " + version
                + " is of a newer taskrunner-batch, this one knows " + VERSION + "; update taskrunner-batch");
        }
        return version == VERSION;
    }

    private static int version(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery("SELECT version FROM taskrunner_schema")) {
            return rows.next() ? rows.getInt(1) : 0;
        }
    }

    private static void create(Location location, Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            if (!location.hasTable(connection, "partition_execution")) {
                for (String sql : location instanceof SqliteFile ? JBERET_FOR_SQLITE : jberetForPostgres()) {
                    statement.executeUpdate(sql);
                }
            }
            for (String sql : AUDIT) {
                statement.executeUpdate(sql);
            }
            statement.executeUpdate(VERSION_TABLE);
            statement.executeUpdate("INSERT INTO taskrunner_schema (version) VALUES (" + VERSION + ")");
        }
    }

    private static String[] jberetForPostgres() throws SQLException {
        String resource = "/sql/jberet-postgresql.ddl";
        try (InputStream in = Schema.class.getResourceAsStream(resource)) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8).strip().replaceAll("!!$", "").split("!!");
        } catch (IOException e) {
            throw new SQLException("cannot read " + resource + " of jberet-core", e);
        }
    }

    private Schema() {
    }
}
