package checks;

/** The brokers under test, as given on the command line. */
final class Target {
    String url = "tcp://127.0.0.1:61616";
    /** Another address of the same cluster, or null. */
    String second;
    /** A user that the broker knows, or null when it asks for none. */
    String user;
    String password;
}
