import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/**
 * A statement with its values, which are text, numbers or null: times are text as well, so that no driver shifts them.
 *
 * @param text with a question mark for each value
 */
record Sql(String text, Object... values) {
    private static final int FETCHED_AT_ONCE = 500;

    /** Inserts a row of named columns; {@code extra} columns come first. */
    static Sql insert(String table, Map<String, Object> columns) {
        return new Sql("INSERT INTO " + table + " (" + String.join(", ", columns.keySet()) + ") VALUES ("
            + String.join(", ", Collections.nCopies(columns.size(), "?")) + ")", columns.values().toArray());
    }

    /** Updates named columns of the rows that the condition selects. @param condition with the values that follow */
    static Sql update(String table, Map<String, Object> columns, String condition, Object... more) {
        List<Object> values = new ArrayList<>(columns.values());
        Collections.addAll(values, more);
        return new Sql("UPDATE " + table + " SET " + String.join(" = ?, ", columns.keySet()) + " = ? WHERE "
            + condition,
            values.toArray());
    }

    /**
     * One statement that does what all of them do, as PostgreSQL's data-modifying WITH clauses; each sees what was
     * before. When the first changes no row, it divides by zero and so does nothing.
     */
    static Sql all(List<Sql> statements) {
        List<String> clauses = new ArrayList<>();
        List<Object> values = new ArrayList<>();
        for (Sql each : statements) {
            clauses.add("s" + clauses.size() + " AS (" + each.text + (clauses.isEmpty() ? " RETURNING 1)" : ")"));
            values.addAll(Arrays.asList(each.values));
        }
        return new Sql("WITH " + String.join(", ", clauses) + " SELECT 1 / count(*) FROM s0", values.toArray());
    }

    /** Runs a statement that changes rows; returns how many. */
    int update(Connection connection) throws SQLException {
        try (PreparedStatement statement = prepare(connection)) {
            return statement.executeUpdate();
        }
    }

    /** The rows of a query. */
    List<Row> rows(Connection connection) throws SQLException {
        try (PreparedStatement statement = prepare(connection); ResultSet found = statement.executeQuery()) {
            List<Row> rows = new ArrayList<>();
            while (found.next()) {
                rows.add(Row.of(found));
            }
            return rows;
        }
    }

    /** Hands over the rows of a query one by one, so that they need not be in memory at once. */
    void each(Connection connection, Consumer<Row> consumer) throws SQLException {
        try (PreparedStatement statement = prepare(connection)) {
            statement.setFetchSize(FETCHED_AT_ONCE);
            try (ResultSet found = statement.executeQuery()) {
                while (found.next()) {
                    consumer.accept(Row.of(found));
                }
            }
        }
    }

    private PreparedStatement prepare(Connection connection) throws SQLException {
        PreparedStatement statement = connection.prepareStatement(text);
        for (int i = 0; i < values.length; i++) {
            if (values[i] instanceof String string) {
                statement.setString(i + 1, string);
            } else {
                statement.setObject(i + 1, values[i]);
            }
        }
        return statement;
    }
}
