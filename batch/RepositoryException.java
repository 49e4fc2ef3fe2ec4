import java.sql.SQLException;

/** The audit repository cannot do what was asked; the message is for the user and says what to do. */
final class RepositoryException extends TaskException {
    private static final long serialVersionUID = 1;

    /** EX_USAGE of sysexits(3): the repository was named wrongly. */
    static final int USAGE = 64;
    /** EX_UNAVAILABLE of sysexits(3): the repository cannot be reached. */
    static final int UNAVAILABLE = 69;

    /** Whether the repository will never take what was to be written. */
    final boolean isRefusal;

    private RepositoryException(int exitStatus, String message, boolean isRefusal, Throwable cause) {
        super(exitStatus, message, cause);
        this.isRefusal = isRefusal;
    }

    RepositoryException(int exitStatus, String message, Throwable cause) {
        this(exitStatus, message, false, cause);
    }

    RepositoryException(int exitStatus, String message) {
        this(exitStatus, message, null);
    }

    static RepositoryException unavailable(Database database, String what, Throwable cause) {
        return new RepositoryException(UNAVAILABLE, "audit repository " + database + ": " + what + ": " + reason(cause)
            + "; "
            + database.remedy(cause), cause instanceof SQLException e && database.isRefusal(e), cause);
    }

    /** What the driver says, and the root of it where that says more. */
    private static String reason(Throwable cause) {
        Throwable root = cause;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        if (root instanceof java.net.ConnectException) {
            return Text.reason(root);
        }
        // PostgreSQL's goes on with the place in our statement
        String reason = Text.reason(cause).split("\\\\n")[0];
        String rootReason = root instanceof java.net.UnknownHostException ? "unknown host " + root.getMessage()
            : Text.reason(root);
        return reason.contains(rootReason) ? reason : reason + " (" + rootReason + ")";
    }
}
