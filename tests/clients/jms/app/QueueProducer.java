package app;

import javax.jms.Destination;
import org.springframework.jms.core.JmsMessagingTemplate;

/** Sends as applications do. */
public class QueueProducer {
    private final JmsMessagingTemplate template;

    QueueProducer(JmsMessagingTemplate template) {
        this.template = template;
    }

    /** Returns once the message is confirmed. */
    void send(Destination destination, String body) {
        template.convertAndSend(destination, body);
    }
}
