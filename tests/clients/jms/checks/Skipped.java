package checks;

/** Thrown by a check that what was given on the command line does not allow. */
final class Skipped extends RuntimeException {
    private static final long serialVersionUID = 1;

    Skipped(String why) {
        super(why);
    }
}
