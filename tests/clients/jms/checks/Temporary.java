package checks;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.jms.Destination;
import javax.jms.InvalidDestinationException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.jms.TemporaryTopic;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnection;
import org.springframework.jms.core.JmsTemplate;

/** Temporary destinations and what they are for: requests and replies. */
public final class Temporary extends Fixture {
    /** Replies to every request on the queue of the check, through the given address. */
    private void reply(String url) throws JMSException {
        Session session = session(connect(factory(url)), Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(null);
        session.createConsumer(queue()).setMessageListener(request -> {
            try {
                Message reply = session.createTextMessage("re: " + ((TextMessage) request).getText());
                reply.setJMSCorrelationID(request.getJMSMessageID());
                producer.send(request.getJMSReplyTo(), reply);
            } catch (JMSException e) {
                throw new IllegalStateException(e);
            }
        });
    }

    private void ask(String url) throws JMSException {
        Session session = session(connect(factory(url)), Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue replies = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(replies);
        MessageProducer producer = session.createProducer(queue());
        for (int i = 0; i < 20; i++) {
            Message request = session.createTextMessage("ask " + i);
            request.setJMSReplyTo(replies);
            producer.send(request);
            Message reply = next(consumer, "re: ask " + i);
            equal("JMSCorrelationID", request.getJMSMessageID(), reply.getJMSCorrelationID());
            equal("JMSDestination", replies, reply.getJMSDestination());
        }
    }

    private String second() {
        if (target.second == null) {
            throw new Skipped("needs --second");
        }
        return target.second;
    }

    @Check
    public void request_and_reply() throws JMSException {
        reply(target.url);
        ask(target.url);
    }

    @Check
    public void request_here_and_reply_there() throws JMSException {
        reply(second());
        ask(target.url);
    }

    @Check
    public void request_there_and_reply_here() throws JMSException {
        reply(target.url);
        ask(second());
    }

    @Check
    public void a_new_queue_for_each_request() throws JMSException {
        reply(target.second == null ? target.url : target.second);
        for (int i = 0; i < 10; i++) {
            ActiveMQConnection connection = connect();
            Session session = session(connection, Session.AUTO_ACKNOWLEDGE);
            TemporaryQueue replies = session.createTemporaryQueue();
            Message request = session.createTextMessage("" + i);
            request.setJMSReplyTo(replies);
            session.createProducer(queue()).send(request);
            next(session.createConsumer(replies), "re: " + i);
            connection.close();
        }
    }

    @Check
    public void spring_sends_and_receives() throws JMSException {
        reply(target.url);
        JmsTemplate template = new JmsTemplate(factory());
        template.setReceiveTimeout(COMES_MS);
        for (int i = 0; i < 5; i++) {
            String text = "spring " + i;
            Message reply = template.sendAndReceive(queue(), session -> session.createTextMessage(text));
            demand(reply != null, "no reply");
            equal("reply", "re: " + text, ((TextMessage) reply).getText());
        }
    }

    /** Sends as soon as the producer's connection has been told of the destination. */
    private static void sendOnceKnown(MessageProducer producer, Message message) throws Exception {
        eventually("the destination is known", () -> {
            try {
                producer.send(message);
                return true;
            } catch (InvalidDestinationException e) {
                return false;
            }
        });
    }

    /** Demands that a producer may send there before the action, and not for long after it. */
    private void ends(Destination destination, Action action) throws Exception {
        Session session = session();
        MessageProducer producer = session.createProducer(destination);
        sendOnceKnown(producer, session.createTextMessage("while it is there"));
        action.run();
        eventually("the destination is gone", () -> {
            try {
                producer.send(session.createTextMessage("x"));
                return false;
            } catch (JMSException e) {
                return true;
            }
        });
    }

    /** Told of by the broker, not by a message: the one that sends there is at the other address. */
    private Session elsewhere() throws JMSException {
        return session(connect(factory(second())), Session.AUTO_ACKNOWLEDGE);
    }

    @Check
    public void known_at_another_address() throws Exception {
        Session session = session();
        TemporaryQueue queue = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(queue);
        Session other = elsewhere();
        MessageProducer producer = other.createProducer(queue);
        sendOnceKnown(producer, other.createTextMessage("here"));
        next(consumer, "here");
        consumer.close();
        queue.delete();
        eventually("the destination is gone", () -> {
            try {
                producer.send(other.createTextMessage("x"));
                return false;
            } catch (JMSException e) {
                return true;
            }
        });
    }

    @Check
    public void known_to_whoever_connects_to_another_address_later() throws Exception {
        Session session = session();
        TemporaryTopic topic = session.createTemporaryTopic();
        MessageConsumer consumer = session.createConsumer(topic);
        // The first one has made the other address hear of it, whenever that came up.
        Session first = elsewhere();
        sendOnceKnown(first.createProducer(topic), first.createTextMessage("first"));
        next(consumer, "first");
        Session second = elsewhere();
        sendOnceKnown(second.createProducer(topic), second.createTextMessage("second"));
        next(consumer, "second");
    }

    @Check
    public void gone_with_its_connection() throws Exception {
        ActiveMQConnection connection = connect();
        TemporaryQueue queue = session(connection, Session.AUTO_ACKNOWLEDGE).createTemporaryQueue();
        ends(queue, connection::close);
    }

    @Check
    public void gone_with_its_socket() throws Exception {
        ActiveMQConnection connection = connect();
        TemporaryQueue queue = session(connection, Session.AUTO_ACKNOWLEDGE).createTemporaryQueue();
        ends(queue, () -> connection.getTransport().stop());
    }

    @Check
    public void gone_when_deleted() throws Exception {
        TemporaryQueue queue = session().createTemporaryQueue();
        ends(queue, queue::delete);
    }

    @Check
    public void not_deleted_while_consumed() throws Exception {
        Session session = session();
        TemporaryQueue queue = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(queue);
        refused(JMSException.class, queue::delete);
        consumer.close();
        queue.delete();
    }

    @Check
    public void consumed_by_its_own_connection_only() throws Exception {
        TemporaryQueue queue = session().createTemporaryQueue();
        Session other = session();
        refused(InvalidDestinationException.class, () -> other.createConsumer(queue));
    }

    @Check
    public void topic_reaches_all() throws Exception {
        Session session = session();
        TemporaryTopic topic = session.createTemporaryTopic();
        CountDownLatch left = new CountDownLatch(2);
        session.createConsumer(topic).setMessageListener(message -> left.countDown());
        session.createConsumer(topic).setMessageListener(message -> left.countDown());
        Session sender = session();
        sendOnceKnown(sender.createProducer(topic), sender.createTextMessage("news"));
        demand(left.await(COMES_MS, TimeUnit.MILLISECONDS), left.getCount() + " got nothing");
    }
}
