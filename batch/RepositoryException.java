/** The audit repository cannot do what was asked; the message is for the user and says what to do. */
final class RepositoryException extends TaskException {
    private static final long serialVersionUID = 1;

    /** EX_USAGE of sysexits(3): the repository was named wrongly. */
    static final int USAGE = 64;
    /** EX_UNAVAILABLE of sysexits(3): the repository cannot be reached. */
    static final int UNAVAILABLE = 69;

    RepositoryException(int exitStatus, String message, Throwable cause) {
        super(exitStatus, message, cause);
    }

    RepositoryException(int exitStatus, String message) {
        this(exitStatus, message, null);
    }

    static RepositoryException unavailable(Location location, String what, Throwable cause) {
        return new RepositoryException(UNAVAILABLE, "audit repository " + location + ": " + what + reason(cause) + "; " + location.remedy(),
            cause);
    }

    private static String reason(Throwable cause) {
        Throwable root = cause;
        while (root.getCause() != null) {
            root = root.getCause();
        }
        String message = root.getMessage() == null ? root.getClass().getSimpleName() : root.getMessage();
        return ": " + message.strip().replaceAll("\\s*\\R\\s*", " ");
    }
}
