package app;

/** What the command line says. */
final class Options {
    String url = "failover:(tcp://localhost:60001,tcp://localhost:60002,tcp://localhost:60003)";
    String user;
    String password;
    /** How many messages to send. */
    int count = Integer.MAX_VALUE;
    /** Messages a second, 0 for as many as go. */
    double rate = 200;
    /** A CachingConnectionFactory, or else a connection for every send. */
    boolean caching;
    boolean transacted = true;
    String concurrency = "1";
    /** How often a send that failed is tried again. */
    int retries;
    /** How long all may stand still before the rest is given up. */
    int patienceSeconds = 60;
    /** Sending ends when standard input does. */
    boolean untilEof;

    static Options parse(String[] args) {
        Options options = new Options();
        for (int i = 0; i < args.length; i++) {
            switch (args[i]) {
                case "--url": options.url = args[++i]; break;
                case "--user": options.user = args[++i]; break;
                case "--password": options.password = args[++i]; break;
                case "--count": options.count = Integer.parseInt(args[++i]); break;
                case "--rate": options.rate = Double.parseDouble(args[++i]); break;
                case "--caching": options.caching = true; break;
                case "--transacted": options.transacted = Boolean.parseBoolean(args[++i]); break;
                case "--concurrency": options.concurrency = args[++i]; break;
                case "--retries": options.retries = Integer.parseInt(args[++i]); break;
                case "--patience": options.patienceSeconds = Integer.parseInt(args[++i]); break;
                case "--until-eof": options.untilEof = true; break;
                default: throw new IllegalArgumentException("unknown option " + args[i]);
            }
        }
        return options;
    }
}
