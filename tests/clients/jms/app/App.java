package app;

import java.io.IOException;
import org.apache.activemq.command.ActiveMQQueue;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/**
 * A Spring JMS application on the unchanged ActiveMQ client that sends numbered messages to itself while others break what
 * they go through. Prints a line on what it has done twice a second, and as its last line a JSON object.
 *
 * usage: App [--url U] [--user N --password P] [--count N] [--rate R] [--caching] [--transacted true|false]
 *            [--concurrency "1-3"] [--retries N] [--patience SECONDS] [--until-eof]
 *
 * Exit 0 when something was confirmed and all that was confirmed came.
 */
public final class App {
    private static final int LINE_EVERY_MS = 500;
    /** A repeat may come late. */
    private static final int LINGER_MS = 1500;

    private final Options options;
    private final Ledger ledger = new Ledger();
    private volatile boolean stopping;

    private App(Options options) {
        this.options = options;
    }

    public static void main(String[] args) throws Exception {
        App app = new App(Options.parse(args));
        app.run();
        System.out.println(app.ledger.json());
        System.out.flush();
        // With no gateway left, closing would wait for one.
        Runtime.getRuntime().halt(app.ledger.isClean() ? 0 : 1);
    }

    private void run() throws InterruptedException {
        Thread producer = daemon("producer", this::produce);
        if (options.untilEof) {
            daemon("eof", this::awaitEof);
        }
        while (ledger.stillSeconds() < options.patienceSeconds && (producer.isAlive() || ledger.lost() > 0)) {
            Thread.sleep(LINE_EVERY_MS);
            System.out.println(ledger.line());
            System.out.flush();
        }
        Thread.sleep(LINGER_MS);
    }

    private static Thread daemon(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void awaitEof() {
        try {
            while (System.in.read() >= 0) {
                continue;
            }
        } catch (IOException e) {
            // The other side is gone, which is an end as well.
        }
        stopping = true;
    }

    private void produce() {
        AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext();
        context.getBeanFactory().registerSingleton("options", options);
        context.getBeanFactory().registerSingleton("ledger", ledger);
        context.register(Beans.class);
        context.refresh();
        QueueProducer producer = context.getBean(QueueProducer.class);
        ActiveMQQueue queue = new ActiveMQQueue(QueueConsumer.QUEUE);
        long begin = System.nanoTime();
        for (int number = 0; number < options.count && !stopping; number++) {
            if (options.rate > 0) {
                sleepUntil(begin + (long) (number * 1e9 / options.rate));
            }
            send(producer, queue, number);
        }
    }

    private void send(QueueProducer producer, ActiveMQQueue queue, int number) {
        for (int attempt = 0; attempt <= options.retries; attempt++) {
            try {
                producer.send(queue, ledger.body(number));
                ledger.confirmed(number);
                return;
            } catch (RuntimeException e) {
                ledger.thrown(e);
            }
        }
        ledger.failed();
    }

    private static void sleepUntil(long moment) {
        try {
            long ms = (moment - System.nanoTime()) / 1_000_000;
            if (ms > 0) {
                Thread.sleep(ms);
            }
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
