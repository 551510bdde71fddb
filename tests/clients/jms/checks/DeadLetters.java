package checks;

import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;

/** What cannot be delivered goes to ActiveMQ.DLQ. */
public final class DeadLetters extends Fixture {
    private void sendMarked(int mode, long ttl) throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        Message message = session.createTextMessage("x");
        message.setStringProperty("check", name);
        producer.send(message, mode, 4, ttl);
    }

    private MessageConsumer deadLetters() throws JMSException {
        // Other checks' and other runs' letters lie there too.
        return session().createConsumer(new ActiveMQQueue("ActiveMQ.DLQ"), "check = '" + name + "'");
    }

    private ActiveMQConnectionFactory hasty() {
        ActiveMQConnectionFactory factory = factory();
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        factory.getRedeliveryPolicy().setRedeliveryDelay(0);
        return factory;
    }

    @Check
    public void after_six_redeliveries() throws JMSException {
        sendMarked(DeliveryMode.PERSISTENT, 0);
        Session session = session(connect(hasty()), Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(queue());
        for (int count = 1; count <= 7; count++) {
            Message message = next(consumer);
            equal("JMSXDeliveryCount", count, message.getIntProperty("JMSXDeliveryCount"));
            equal("JMSRedelivered", count > 1, message.getJMSRedelivered());
            session.rollback();
        }
        nothing(consumer);
        ActiveMQMessage letter = (ActiveMQMessage) next(deadLetters());
        demand(letter.getStringProperty("dlqDeliveryFailureCause") != null, "no dlqDeliveryFailureCause");
        equal("original destination", queue(), letter.getOriginalDestination());
        equal("JMSDestination", new ActiveMQQueue("ActiveMQ.DLQ"), letter.getJMSDestination());
    }

    @Check
    public void after_two_recoveries() throws JMSException {
        sendMarked(DeliveryMode.PERSISTENT, 0);
        ActiveMQConnectionFactory factory = hasty();
        factory.getRedeliveryPolicy().setMaximumRedeliveries(1);
        Session session = session(connect(factory), Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(queue());
        next(consumer);
        session.recover();
        next(consumer);
        session.recover();
        nothing(consumer);
        next(deadLetters());
    }

    @Check
    public void of_a_listener_that_throws() throws Exception {
        sendMarked(DeliveryMode.PERSISTENT, 0);
        ActiveMQConnectionFactory factory = hasty();
        factory.getRedeliveryPolicy().setMaximumRedeliveries(2);
        int[] calls = new int[1];
        session(connect(factory), Session.AUTO_ACKNOWLEDGE).createConsumer(queue()).setMessageListener(message -> {
            calls[0]++;
            throw new IllegalStateException("on purpose");
        });
        next(deadLetters());
        equal("calls of the listener", 3, calls[0]);
    }

    @Check
    public void expired() throws Exception {
        sendMarked(DeliveryMode.PERSISTENT, 100);
        Thread.sleep(200);
        nothing(session().createConsumer(queue()));
        ActiveMQMessage letter = (ActiveMQMessage) next(deadLetters());
        equal("JMSExpiration", 0L, letter.getJMSExpiration());
        equal("original destination", queue(), letter.getOriginalDestination());
    }

    @Check
    public void expired_in_the_hands_of_a_consumer() throws Exception {
        MessageConsumer consumer = session().createConsumer(queue());
        nothing(consumer);
        sendMarked(DeliveryMode.PERSISTENT, 150);
        Thread.sleep(300);
        equal("message", null, consumer.receiveNoWait());
        next(deadLetters());
    }

    @Check
    public void not_of_expired_non_persistent_messages() throws Exception {
        sendMarked(DeliveryMode.NON_PERSISTENT, 100);
        Thread.sleep(200);
        nothing(session().createConsumer(queue()));
        nothing(deadLetters());
    }

    @Check
    public void not_of_messages_that_live_long_enough() throws Exception {
        sendMarked(DeliveryMode.PERSISTENT, 60_000);
        Thread.sleep(100);
        next(session().createConsumer(queue()));
        nothing(deadLetters());
    }
}
