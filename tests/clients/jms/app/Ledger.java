package app;

import java.util.BitSet;
import java.util.Map;
import java.util.TreeMap;

/** What was confirmed and what was received, by number. All of it is counted here and judged here. */
final class Ledger {
    private final String run = Long.toString(System.nanoTime(), 36);
    private final BitSet confirmed = new BitSet();
    private final BitSet received = new BitSet();
    private final Map<String, Integer> exceptions = new TreeMap<>();
    private int failed;
    private int deliveries;
    private int foreign;
    private int outOfOrder;
    private int interruptions;
    private int highest = -1;
    private long lastConfirm;
    private long lastReceipt;
    private long longestGap;
    private long progress = System.nanoTime();

    String body(int number) {
        return "{\"run\": \"" + run + "\", \"number\": " + number + "}";
    }

    synchronized void confirmed(int number) {
        confirmed.set(number);
        lastConfirm = progressed(lastConfirm);
    }

    synchronized void failed() {
        failed++;
    }

    synchronized void received(String body) {
        if (!body.contains(run)) {
            foreign++;
            return;
        }
        int number = Integer.parseInt(body.substring(body.lastIndexOf(' ') + 1, body.length() - 1));
        deliveries++;
        if (!received.get(number)) {
            outOfOrder += number < highest ? 1 : 0;
            highest = Math.max(highest, number);
            received.set(number);
        }
        lastReceipt = progressed(lastReceipt);
    }

    synchronized void thrown(Throwable exception) {
        Throwable cause = exception;
        // Spring's own says nothing; the client's first says what happened.
        while (cause.getClass().getName().startsWith("org.springframework") && cause.getCause() != null) {
            cause = cause.getCause();
        }
        exceptions.merge(cause.getClass().getName(), 1, Integer::sum);
    }

    synchronized void interrupted() {
        interruptions++;
    }

    private long progressed(long last) {
        progress = System.nanoTime();
        longestGap = last == 0 ? longestGap : Math.max(longestGap, progress - last);
        return progress;
    }

    private BitSet missing() {
        BitSet missing = (BitSet) confirmed.clone();
        missing.andNot(received);
        return missing;
    }

    synchronized int lost() {
        return missing().cardinality();
    }

    synchronized long stillSeconds() {
        return (System.nanoTime() - progress) / 1_000_000_000;
    }

    synchronized boolean isClean() {
        return !confirmed.isEmpty() && missing().isEmpty();
    }

    synchronized String line() {
        return "confirmed " + confirmed.cardinality() + " received " + received.cardinality() + " interruptions "
            + interruptions + " exceptions " + exceptions.values().stream().mapToInt(Integer::intValue).sum();
    }

    synchronized String json() {
        StringBuilder thrown = new StringBuilder();
        exceptions.forEach((name, count) -> thrown.append(thrown.length() == 0 ? "" : ", ")
            .append('"').append(name).append("\": ").append(count));
        BitSet unconfirmed = (BitSet) received.clone();
        unconfirmed.andNot(confirmed);
        return "{\"confirmed\": " + confirmed.cardinality() + ", \"failed\": " + failed + ", \"received\": " + deliveries
            + ", \"distinct\": " + received.cardinality() + ", \"lost\": " + missing().cardinality()
            + ", \"duplicated\": " + (deliveries - received.cardinality())
            + ", \"received_unconfirmed\": " + unconfirmed.cardinality() + ", \"out_of_order\": " + outOfOrder
            + ", \"foreign\": " + foreign + ", \"longest_gap_ms\": " + longestGap / 1_000_000
            + ", \"interruptions\": " + interruptions + ", \"exceptions\": {" + thrown + "}, \"missing\": ["
            + missing().stream().limit(10).mapToObj(Integer::toString).reduce((a, b) -> a + ", " + b).orElse("") + "]}";
    }
}
