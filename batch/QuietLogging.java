import java.util.Map;

import org.jboss.logging.Logger;
import org.jboss.logging.LoggerProvider;

/**
 * Keeps JBeret's and Weld's log lines and stack traces from users; what matters of them is in the outcome. With the
 * system property {@code taskrunner.verbose} they go to stderr. Without java.util.logging a start is quicker as well.
 */
public final class QuietLogging implements LoggerProvider {
    private static final boolean VERBOSE = Boolean.getBoolean("taskrunner.verbose");

    @Override
    public Logger getLogger(String name) {
        return new Quiet(name);
    }

    private static final class Quiet extends Logger {
        private static final long serialVersionUID = 1;

        Quiet(String name) {
            super(name);
        }

        @Override
        public boolean isEnabled(Level level) {
            return VERBOSE && level.compareTo(Level.INFO) <= 0;
        }

        @Override
        protected void doLog(Level level, String loggerClass, Object message, Object[] parameters, Throwable thrown) {
            if (isEnabled(level)) {
                print(level, parameters == null || parameters.length == 0 ? String.valueOf(message)
                    : java.text.MessageFormat.format(String.valueOf(message), parameters), thrown);
            }
        }

        @Override
        protected void doLogf(Level level, String loggerClass, String format, Object[] parameters, Throwable thrown) {
            if (isEnabled(level)) {
                print(level, parameters == null ? format : String.format(format, parameters), thrown);
            }
        }

        private void print(Level level, String message, Throwable thrown) {
            System.err.println(level + " " + getName() + ": " + message);
            if (thrown != null) {
                thrown.printStackTrace();
            }
        }
    }

    // Diagnostic contexts are not used

    @Override
    public void clearMdc() {
    }

    @Override
    public Object putMdc(String key, Object value) {
        return null;
    }

    @Override
    public Object getMdc(String key) {
        return null;
    }

    @Override
    public void removeMdc(String key) {
    }

    @Override
    public Map<String, Object> getMdcMap() {
        return Map.of();
    }

    @Override
    public void clearNdc() {
    }

    @Override
    public String getNdc() {
        return "";
    }

    @Override
    public int getNdcDepth() {
        return 0;
    }

    @Override
    public String popNdc() {
        return "";
    }

    @Override
    public String peekNdc() {
        return "";
    }

    @Override
    public void pushNdc(String message) {
    }

    @Override
    public void setNdcMaxDepth(int maxDepth) {
    }
}
