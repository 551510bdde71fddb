package checks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.QueueBrowser;
import javax.jms.Session;
import javax.jms.TextMessage;

/** A browser sees what is in a queue and takes nothing. */
public final class Browsing extends Fixture {
    private List<String> seen(String selector) throws JMSException {
        Session session = session();
        QueueBrowser browser = session.createBrowser(queue(), selector);
        List<String> texts = new ArrayList<>();
        for (Object message : list(browser.getEnumeration())) {
            texts.add(((TextMessage) message).getText());
        }
        browser.close();
        return texts;
    }

    @Check
    public void sees_all_in_order() throws JMSException {
        send(queue(), 100);
        equal("seen", Arrays.asList(numbered(100)), seen(null));
        equal("seen again", Arrays.asList(numbered(100)), seen(null));
        holds(queue(), numbered(100));
    }

    @Check
    public void an_empty_queue() throws JMSException {
        send(queue(), "a");
        holds(queue(), "a");
        equal("seen", Collections.emptyList(), seen(null));
    }

    @Check
    public void with_a_selector() throws JMSException {
        Session session = session();
        for (int i = 0; i < 4; i++) {
            Message message = session.createTextMessage("m" + i);
            message.setIntProperty("n", i);
            session.createProducer(queue()).send(message);
        }
        equal("seen", Arrays.asList("m2", "m3"), seen("n >= 2"));
    }

    @Check
    public void what_a_consumer_has_in_hand_too() throws JMSException {
        send(queue(), "a", "b");
        MessageConsumer consumer = session(Session.CLIENT_ACKNOWLEDGE).createConsumer(queue());
        next(consumer, "a");
        equal("seen", Arrays.asList("a", "b"), seen(null));
    }
}
