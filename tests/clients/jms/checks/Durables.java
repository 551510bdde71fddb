package checks;

import javax.jms.InvalidDestinationException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;

/** Durable subscriptions. Each check ends the one that it makes. */
public final class Durables extends Fixture {
    private static final String SUBSCRIPTION = "sub";
    private ActiveMQConnection connection;
    private Session session;

    private MessageConsumer attach(String selector) throws JMSException {
        return attach(selector, false);
    }

    private MessageConsumer attach(String selector, boolean noLocal) throws JMSException {
        connection = connectAs(name);
        session = session(connection, Session.AUTO_ACKNOWLEDGE);
        return session.createDurableSubscriber(topic(), SUBSCRIPTION, selector, noLocal);
    }

    private void detach() throws JMSException {
        connection.close();
    }

    private void end(MessageConsumer consumer) throws JMSException {
        consumer.close();
        session.unsubscribe(SUBSCRIPTION);
        connection.close();
    }

    private void sendColoured(String... colours) throws JMSException {
        Session sender = session();
        MessageProducer producer = sender.createProducer(topic());
        for (String colour : colours) {
            Message message = sender.createTextMessage(colour);
            message.setStringProperty("colour", colour);
            producer.send(message);
        }
    }

    @Check
    public void keeps_what_comes_while_away() throws JMSException {
        MessageConsumer consumer = attach(null);
        send(topic(), "here");
        next(consumer, "here");
        detach();
        send(topic(), 300);
        consumer = attach(null);
        receive(consumer, numbered(300));
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void gives_again_what_was_not_acknowledged() throws JMSException {
        attach(null);
        send(topic(), "a", "b");
        detach();
        connection = connectAs(name);
        session = session(connection, Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createDurableSubscriber(topic(), SUBSCRIPTION);
        next(consumer, "a");
        detach();
        consumer = attach(null);
        receive(consumer, "a", "b");
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void ends_when_unsubscribed() throws JMSException {
        MessageConsumer consumer = attach(null);
        end(consumer);
        send(topic(), "nobody's");
        consumer = attach(null);
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void unknown_is_refused() throws Exception {
        Session other = session(connectAs(name), Session.AUTO_ACKNOWLEDGE);
        refused(InvalidDestinationException.class, () -> other.unsubscribe("no such"));
    }

    @Check
    public void is_not_ended_while_it_is_used() throws Exception {
        MessageConsumer consumer = attach(null);
        refused(JMSException.class, () -> session.unsubscribe(SUBSCRIPTION));
        end(consumer);
    }

    @Check
    public void is_used_once_at_a_time() throws Exception {
        MessageConsumer consumer = attach(null);
        Session second = session(connection, Session.AUTO_ACKNOWLEDGE);
        refused(JMSException.class, () -> second.createDurableSubscriber(topic(), SUBSCRIPTION));
        end(consumer);
    }

    @Check
    public void needs_a_client_id() throws Exception {
        Session nameless = session();
        refused(JMSException.class, () -> nameless.createDurableSubscriber(topic(), SUBSCRIPTION));
    }

    @Check
    public void selects() throws JMSException {
        attach("colour = 'red'");
        detach();
        sendColoured("red", "blue", "red");
        MessageConsumer consumer = attach("colour = 'red'");
        receive(consumer, "red", "red");
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void begins_anew_with_another_selector() throws JMSException {
        attach("colour = 'red'");
        detach();
        sendColoured("red", "blue");
        MessageConsumer consumer = attach("colour = 'blue'");
        nothing(consumer);
        sendColoured("red", "blue");
        next(consumer, "blue");
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void durable_no_local() throws JMSException {
        MessageConsumer consumer = attach(null, true);
        send(session, topic(), "own");
        send(topic(), "of another");
        next(consumer, "of another");
        nothing(consumer);
        end(consumer);
    }

    @Check
    public void two_names_are_two_subscriptions() throws JMSException {
        MessageConsumer first = attach(null);
        MessageConsumer second = session.createDurableSubscriber(topic(), "other");
        send(topic(), "x");
        next(first, "x");
        next(second, "x");
        second.close();
        session.unsubscribe("other");
        end(first);
    }
}
