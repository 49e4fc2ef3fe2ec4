import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/**
 * The tables: JBeret's own four, and {@code taskrunner_execution} with one row per execution request. Times in the
 * latter are text, UTC, ISO-8601 to the millisecond: they sort, they read, and no driver shifts them by a time zone.
 */
final class Schema {
    /** Batch statuses of an execution that has not ended, as SQL. */
    static final String UNFINISHED = "('STARTING', 'STARTED', 'STOPPING')";

    /** What makes each version from the one before. */
    private static final List<List<String>> STEPS = List.of(List.of("""
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
        "CREATE INDEX taskrunner_execution_restarts ON taskrunner_execution (restarted_from)"
            + " WHERE restarted_from IS NOT NULL",
        "CREATE INDEX job_execution_instance ON job_execution (jobinstanceid)",
        "CREATE INDEX job_execution_batchstatus ON job_execution (batchstatus, jobexecutionid)",
        "CREATE INDEX job_execution_exitstatus ON job_execution (exitstatus, jobexecutionid)",
        "CREATE INDEX step_execution_job ON step_execution (jobexecutionid)",
        "CREATE TABLE taskrunner_schema (version INTEGER NOT NULL)",
        "INSERT INTO taskrunner_schema (version) VALUES (1)"), List.of(
        "ALTER TABLE taskrunner_execution RENAME COLUMN started TO create_time",
        "ALTER TABLE taskrunner_execution RENAME COLUMN ended TO end_time",
        "ALTER TABLE taskrunner_execution RENAME COLUMN process_exit TO exit_code",
        "ALTER TABLE taskrunner_execution RENAME COLUMN counter TO contentions",
        "ALTER TABLE taskrunner_execution ADD COLUMN uid BIGINT",
        "ALTER TABLE taskrunner_execution ADD COLUMN login_name TEXT",
        "ALTER TABLE taskrunner_execution ADD COLUMN machine_id TEXT",
        "ALTER TABLE taskrunner_execution ADD COLUMN start_time TEXT",
        "ALTER TABLE taskrunner_execution ADD COLUMN command_millis BIGINT",
        "ALTER TABLE taskrunner_execution ADD COLUMN output_note TEXT",
        "ALTER TABLE taskrunner_execution ADD COLUMN task TEXT",
        "ALTER TABLE taskrunner_execution ADD COLUMN fence BIGINT",
        "CREATE INDEX taskrunner_execution_fleet ON taskrunner_execution (task, host, job_execution_id)"
            + " WHERE task IS NOT NULL",
        "UPDATE taskrunner_execution SET options = replace(options, 'working-folder=', 'working-directory=')",
        "DROP INDEX taskrunner_execution_unfinished",
        "CREATE INDEX taskrunner_execution_unfinished ON taskrunner_execution (lock_file) WHERE end_time IS NULL",
        // output files that a purge could not delete where it ran
        "CREATE TABLE taskrunner_purged (run_id TEXT NOT NULL PRIMARY KEY, host TEXT NOT NULL, user_name TEXT NOT"
            + " NULL)",
        "CREATE INDEX taskrunner_purged_host ON taskrunner_purged (host, user_name)",
        "ALTER TABLE taskrunner_schema ADD COLUMN id TEXT",
        "UPDATE taskrunner_schema SET version = 2"));

    static final int VERSION = STEPS.size();

    /**
     * The tasks of a fleet, since version 2 and on a server alone. The beats are apart from the tasks, so that
     * requests, which lock the task's row, never hold up a beat. The timeline is empty until the first request looks;
     * {@code since}, when the server was first seen as it is, is 1970 until there was another: infinity cannot be
     * subtracted before PostgreSQL 17.
     */
    private static final List<String> FLEET = List.of("""
        CREATE TABLE taskrunner_fleet (
          one boolean PRIMARY KEY DEFAULT true CHECK (one),
          grace interval NOT NULL DEFAULT '60 s' CONSTRAINT taskrunner_fleet_grace CHECK (grace >= '30 s'),
          system bigint NOT NULL,
          timeline text NOT NULL,
          since timestamptz NOT NULL)""",
        "INSERT INTO taskrunner_fleet (system, timeline, since)"
            + " SELECT system_identifier, '', '1970-01-01 00:00Z' FROM pg_control_system()", """
        CREATE TABLE taskrunner_task (
          task text PRIMARY KEY,
          counter bigint NOT NULL DEFAULT 0,
          fence bigint NOT NULL DEFAULT 0,
          run_id text,
          job_execution_id bigint,
          host text,
          boot_id text,
          backend int,
          grace interval NOT NULL DEFAULT '60 s',
          acquired timestamptz,
          released timestamptz)""", """
        CREATE TABLE taskrunner_beat (
          task text PRIMARY KEY REFERENCES taskrunner_task,
          run_id text,
          seen timestamptz NOT NULL,
          stop text) WITH (fillfactor = 50)""");

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

    /**
     * Creates or migrates the tables unless they are as they should be; safe when many processes do it at once.
     *
     * @param create false: a repository without tables, or with those of an older version, is an error
     * @return the repository's {@code id}, which no other one has, and how many output files of this user on this host
     *     were
     *     {@code purged} elsewhere
     */
    static Row ensure(Database database, Connection connection, boolean create) throws SQLException,
        RepositoryException {
        try {
            return schema(database, connection);
        } catch (SQLException e) {
            if (!database.isMissing(e)) {
                throw e;
            }
        }
        if (!create) {
            throw new RepositoryException(RepositoryException.UNAVAILABLE, "audit repository " + database
                + ": it has no tables of version " + VERSION + "; the next run makes them");
        }
        connection.setAutoCommit(false);
        try {
            database.lockSchema(connection);
            migrate(database, connection);
            Row schema = schema(database, connection);
            connection.commit();
            return schema;
        } finally {
            connection.rollback();
            connection.setAutoCommit(true);
        }
    }

    /** One round trip. In a version that has no id, or without tables, it fails. */
    private static Row schema(Database database, Connection connection) throws SQLException, RepositoryException {
        Row schema = new Sql("SELECT version, id, (SELECT count(*) FROM taskrunner_purged WHERE host = ? AND user_name"
            + " = ?)"
            + " AS purged FROM taskrunner_schema", Host.name(), Requester.user()).rows(connection).get(0);
        long version = schema.requiredNumber("version");
        if (version > VERSION) {
            throw new RepositoryException(RepositoryException.UNAVAILABLE, "audit repository " + database
                + ": its schema version " + version + " is of a newer taskrunner-batch, this one knows " + VERSION
                + "; update taskrunner-batch");
        }
        return schema;
    }

    private static void migrate(Database database, Connection connection) throws SQLException {
        long version = 0;
        if (database.hasTable(connection, "taskrunner_schema")) {
            version = new Sql("SELECT version FROM taskrunner_schema").rows(connection).get(0)
                .requiredNumber("version");
        }
        List<String> statements = new ArrayList<>();
        if (version == 0 && !database.hasTable(connection, "partition_execution")) {
            statements.addAll(database.isServer() ? List.of(jberetForPostgres()) : List.of(JBERET_FOR_SQLITE));
        }
        STEPS.subList((int) version, VERSION).forEach(statements::addAll);
        if (database.isServer() && version < 2) {
            statements.addAll(FLEET);
        }
        try (Statement statement = connection.createStatement()) {
            for (String sql : statements) {
                statement.executeUpdate(sql);
            }
        }
        new Sql("UPDATE taskrunner_schema SET id = ? WHERE id IS NULL", UUID.randomUUID().toString())
            .update(connection);
    }

    /** For the DBA of a PostgreSQL server: the tables, and roles that need no more than they are granted. */
    static int print(PrintStream out) throws TaskException {
        try {
            for (String table : jberetForPostgres()) {
                out.println(table.strip() + ";");
            }
        } catch (SQLException e) {
            throw TaskException.io(e.getMessage(), e);
        }
        STEPS.forEach(step -> step.forEach(sql -> out.println(sql.strip() + ";")));
        FLEET.forEach(sql -> out.println(sql.strip() + ";"));
        out.println("UPDATE taskrunner_schema SET id = gen_random_uuid()::text WHERE id IS NULL;");
        out.print(ROLES);
        return ExitStatus.OK;
    }

    private static final String ROLES = """

        -- Run all of the above as the owner of the database, who also migrates it to later versions.
        -- Hosts that run commands: GRANT taskrunner_runner TO ...; who reads: GRANT taskrunner_auditor TO ...;
        -- who purges: GRANT taskrunner_purger TO ...;
        -- For --fleet all hosts that share tasks log in as one role, and nobody else may connect to the database, since
        -- keys of advisory locks are a database's own:
        -- REVOKE CONNECT ON DATABASE ... FROM PUBLIC; GRANT CONNECT ON DATABASE ... TO ...;
        CREATE ROLE taskrunner_runner NOLOGIN;
        GRANT SELECT, INSERT, UPDATE ON job_instance, job_execution, step_execution, taskrunner_execution
          TO taskrunner_runner;
        GRANT SELECT ON partition_execution, taskrunner_schema TO taskrunner_runner;
        GRANT SELECT, DELETE ON taskrunner_purged TO taskrunner_runner;
        GRANT SELECT, INSERT, UPDATE ON taskrunner_task, taskrunner_beat TO taskrunner_runner;
        GRANT SELECT, UPDATE ON taskrunner_fleet TO taskrunner_runner;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO taskrunner_runner;
        CREATE ROLE taskrunner_auditor NOLOGIN;
        GRANT SELECT ON job_instance, job_execution, step_execution, partition_execution, taskrunner_execution,
          taskrunner_schema, taskrunner_purged, taskrunner_fleet, taskrunner_task, taskrunner_beat
          TO taskrunner_auditor;
        CREATE ROLE taskrunner_purger NOLOGIN;
        GRANT taskrunner_runner TO taskrunner_purger;
        GRANT DELETE ON job_instance, job_execution, step_execution, partition_execution, taskrunner_execution
          TO taskrunner_purger;
        GRANT INSERT ON taskrunner_purged TO taskrunner_purger;
        """;

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
