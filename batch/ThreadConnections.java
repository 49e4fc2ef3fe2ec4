import java.io.PrintWriter;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.time.Duration;
import java.util.Iterator;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.logging.Logger;

import javax.sql.DataSource;

/**
 * One physical connection per thread, kept open: JBeret asks for a connection per statement, and SQLite's must never be shared by
 * two threads. A connection that is lost is opened again, for as long as {@link #patience} allows.
 */
final class ThreadConnections implements DataSource, AutoCloseable {
    private static final int MAX_BACKOFF_MILLIS = 500;

    private final Location location;
    private final Map<Thread, Held> held = new ConcurrentHashMap<>();
    private volatile Duration patience = Duration.ZERO;
    private Object identity;

    /** @param handedOut the connection as its users see it: close() gives it back */
    private record Held(Connection connection, Connection handedOut) {
    }

    ThreadConnections(Location location) {
        this.location = location;
    }

    /** How long {@link #getConnection()} goes on trying when the database is gone; zero: it tries once. */
    void patience(Duration patience) {
        this.patience = patience;
    }

    /** The next connection may lead to another database than the first did. */
    synchronized void acceptAnother() {
        identity = null;
    }

    @Override
    public Connection getConnection() throws SQLException {
        Held mine = held.get(Thread.currentThread());
        if (mine != null) {
            if (!mine.connection.getAutoCommit() || isSame(location.identity()) && location.isUsable(mine.connection)) {
                return mine.handedOut;
            }
            discard();
        }
        closeThoseOfDeadThreads();
        Connection connection = connect();
        mine = new Held(connection, handedOut(connection));
        held.put(Thread.currentThread(), mine);
        return mine.handedOut;
    }

    private Connection connect() throws SQLException {
        long deadline = System.nanoTime() + patience.toNanos();
        for (int pause = 20;; pause = Math.min(pause * 2, MAX_BACKOFF_MILLIS)) {
            try {
                Connection connection = location.connect();
                if (isSame(location.identity())) {
                    return connection;
                }
                connection.close();
                throw new SQLException("another database has taken its place");
            } catch (SQLException e) {
                if (System.nanoTime() - deadline >= 0) {
                    throw e;
                }
            }
            try {
                Thread.sleep(pause);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new SQLException("interrupted while waiting for the database", e);
            }
        }
    }

    /** Ids of one database mean something else in another. */
    private synchronized boolean isSame(Object found) {
        if (identity == null) {
            identity = found;
        }
        return found != null && found.equals(identity);
    }

    private static Connection handedOut(Connection connection) {
        return (Connection) Proxy.newProxyInstance(ThreadConnections.class.getClassLoader(), new Class<?>[] {Connection.class},
            (proxy, method, arguments) -> {
                if (method.getName().equals("close")) {
                    return null;
                }
                try {
                    return method.invoke(connection, arguments);
                } catch (InvocationTargetException e) {
                    throw e.getCause();
                }
            });
    }

    /** Closes the physical connection of this thread: the next one is a new one. */
    void discard() {
        close(held.remove(Thread.currentThread()));
    }

    private void closeThoseOfDeadThreads() {
        for (Iterator<Map.Entry<Thread, Held>> i = held.entrySet().iterator(); i.hasNext();) {
            Map.Entry<Thread, Held> entry = i.next();
            if (!entry.getKey().isAlive()) {
                close(entry.getValue());
                i.remove();
            }
        }
    }

    private static void close(Held held) {
        if (held != null) {
            try {
                held.connection.close();
            } catch (SQLException e) {
                // it is of no use any more
            }
        }
    }

    @Override
    public void close() {
        for (Held each : held.values()) {
            close(each);
        }
        held.clear();
    }

    @Override
    public Connection getConnection(String user, String password) throws SQLException {
        throw new SQLFeatureNotSupportedException();
    }

    @Override
    public PrintWriter getLogWriter() {
        return null;
    }

    @Override
    public void setLogWriter(PrintWriter out) {
        // nothing is logged
    }

    @Override
    public void setLoginTimeout(int seconds) throws SQLException {
        throw new SQLFeatureNotSupportedException();
    }

    @Override
    public int getLoginTimeout() {
        return 0;
    }

    @Override
    public Logger getParentLogger() throws SQLFeatureNotSupportedException {
        throw new SQLFeatureNotSupportedException();
    }

    @Override
    public <T> T unwrap(Class<T> type) throws SQLException {
        throw new SQLFeatureNotSupportedException();
    }

    @Override
    public boolean isWrapperFor(Class<?> type) {
        return false;
    }

    @Override
    public String toString() {
        return location.toString();
    }
}
