package bench;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnectionFactory;

/**
 * Times three things that applications do, one after the other on a queue of its own, and prints one line of JSON in messages
 * a second: persistent sends each of which waits for its confirmation, receipts, and sends and receipts in transactions.
 *
 * usage: Bench [--url U] [--threads N] [--seconds S] [--size BYTES] [--transaction N]
 */
public final class Bench {
    private static final int GIVEN_UP_MS = 30_000;

    private String url = "tcp://127.0.0.1:61616";
    private int threads = 4;
    private double seconds = 5;
    private int size = 1024;
    private int transaction = 64;
    private final String queue = "bench-" + Long.toString(System.nanoTime(), 36);
    private final ActiveMQConnectionFactory factory;
    /** What was sent and not yet received: no receipt waits for what does not come. */
    private final AtomicLong queued = new AtomicLong();

    private interface Work {
        /** Does something again and again until the moment, and tells with how many messages. */
        long until(Session session, long end) throws JMSException;
    }

    private Bench(String[] args) {
        for (int i = 0; i < args.length; i++) {
            switch (args[i]) {
                case "--url": url = args[++i]; break;
                case "--threads": threads = Integer.parseInt(args[++i]); break;
                case "--seconds": seconds = Double.parseDouble(args[++i]); break;
                case "--size": size = Integer.parseInt(args[++i]); break;
                case "--transaction": transaction = Integer.parseInt(args[++i]); break;
                default: throw new IllegalArgumentException("unknown option " + args[i]);
            }
        }
        factory = new ActiveMQConnectionFactory(url);
    }

    public static void main(String[] args) throws Exception {
        System.out.println(new Bench(args).run());
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private String run() throws Exception {
        // What the just-in-time compilers of both sides do at first is not what is compared.
        timed(1, false, this::send, 1);
        double sends = timed(threads, false, this::send, seconds);
        double receipts = timed(1, false, this::receive, seconds);
        timed(1, false, this::receive, Double.MAX_VALUE);
        double transactedSends = timed(1, true, this::sendTransacted, seconds);
        double transactedReceipts = timed(1, true, this::receiveTransacted, seconds);
        timed(1, false, this::receive, Double.MAX_VALUE);
        return String.format(Locale.ROOT, "{\"threads\": %d, \"size\": %d, \"transaction\": %d, \"sends\": %.0f, "
            + "\"receipts\": %.0f, \"transacted_sends\": %.0f, \"transacted_receipts\": %.0f}",
            threads, size, transaction, sends, receipts, transactedSends, transactedReceipts);
    }

    /** Messages a second of so many threads, each with a connection of its own. */
    private double timed(int count, boolean transacted, Work work, double limit) throws Exception {
        List<Connection> connections = new ArrayList<>();
        List<Callable<Long>> tasks = new ArrayList<>();
        int mode = transacted ? Session.SESSION_TRANSACTED : Session.AUTO_ACKNOWLEDGE;
        for (int i = 0; i < count; i++) {
            Connection connection = factory.createConnection();
            connection.start();
            connections.add(connection);
            Session session = connection.createSession(transacted, mode);
            tasks.add(() -> work.until(session, end(limit)));
        }
        ExecutorService pool = Executors.newFixedThreadPool(count);
        long begin = System.nanoTime();
        long messages = 0;
        for (Future<Long> task : pool.invokeAll(tasks)) {
            messages += task.get();
        }
        double took = (System.nanoTime() - begin) / 1e9;
        pool.shutdown();
        for (Connection connection : connections) {
            connection.close();
        }
        return messages / took;
    }

    private static long end(double limit) {
        return System.nanoTime() + (long) Math.min(limit * 1e9, 1e15);
    }

    private TextMessage message(Session session) throws JMSException {
        char[] body = new char[size];
        Arrays.fill(body, 'x');
        return session.createTextMessage(new String(body));
    }

    private long send(Session session, long end) throws JMSException {
        MessageProducer producer = session.createProducer(session.createQueue(queue));
        TextMessage message = message(session);
        long sent = 0;
        for (; System.nanoTime() < end; sent++) {
            producer.send(message);
        }
        queued.addAndGet(sent);
        return sent;
    }

    private long receive(Session session, long end) throws JMSException {
        MessageConsumer consumer = session.createConsumer(session.createQueue(queue));
        long received = 0;
        while (System.nanoTime() < end && queued.get() > 0) {
            take(consumer);
            received++;
        }
        return received;
    }

    private long sendTransacted(Session session, long end) throws JMSException {
        MessageProducer producer = session.createProducer(session.createQueue(queue));
        TextMessage message = message(session);
        long sent = 0;
        while (System.nanoTime() < end) {
            for (int i = 0; i < transaction; i++) {
                producer.send(message);
            }
            session.commit();
            sent += transaction;
        }
        queued.addAndGet(sent);
        return sent;
    }

    private long receiveTransacted(Session session, long end) throws JMSException {
        MessageConsumer consumer = session.createConsumer(session.createQueue(queue));
        long received = 0;
        while (System.nanoTime() < end && queued.get() > 0) {
            // All was sent in transactions of this size.
            for (int i = 0; i < transaction; i++) {
                take(consumer);
            }
            session.commit();
            received += transaction;
        }
        return received;
    }

    private void take(MessageConsumer consumer) throws JMSException {
        if (consumer.receive(GIVEN_UP_MS) == null) {
            throw new IllegalStateException(queued + " messages do not come");
        }
        queued.decrementAndGet();
    }
}
