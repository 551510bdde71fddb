package app;

import org.springframework.jms.annotation.JmsListener;

/** Receives as applications do. */
public class QueueConsumer {
    static final String QUEUE = "my_queue";
    private final Ledger ledger;

    QueueConsumer(Ledger ledger) {
        this.ledger = ledger;
    }

    /** Takes one message. */
    @JmsListener(destination = QUEUE)
    public void receive(String body) {
        ledger.received(body);
    }
}
