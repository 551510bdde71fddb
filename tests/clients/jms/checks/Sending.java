package checks;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQMessageProducer;
import org.apache.activemq.AsyncCallback;
import org.apache.activemq.ScheduledMessage;

/** Ways to send: unconfirmed, with a window, with a callback, later. */
public final class Sending extends Fixture {
    @Check
    public void asynchronously() throws JMSException {
        ActiveMQConnectionFactory factory = factory();
        factory.setUseAsyncSend(true);
        send(session(connect(factory), Session.AUTO_ACKNOWLEDGE), queue(), numbered(500));
        holds(queue(), numbered(500));
    }

    @Check
    public void non_persistently() throws JMSException {
        MessageConsumer consumer = session().createConsumer(queue());
        sendNonPersistent(session(), queue(), numbered(500));
        receive(consumer, numbered(500));
    }

    @Check
    public void non_persistently_and_confirmed() throws JMSException {
        ActiveMQConnectionFactory factory = factory();
        factory.setAlwaysSyncSend(true);
        sendNonPersistent(session(connect(factory), Session.AUTO_ACKNOWLEDGE), queue(), numbered(50));
        holds(queue(), numbered(50));
    }

    private void throughWindow(int mode) throws JMSException {
        ActiveMQConnectionFactory factory = factory();
        factory.setUseAsyncSend(true);
        factory.setProducerWindowSize(8192);
        Session session = session(connect(factory), Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(queue());
        producer.setDeliveryMode(mode);
        StringBuilder filling = new StringBuilder();
        for (int i = 0; i < 500; i++) {
            filling.append('x');
        }
        for (int i = 0; i < 100; i++) {
            Message message = session.createTextMessage("m" + i);
            // What the broker acknowledges counts the properties too.
            message.setStringProperty("filling", filling.toString());
            producer.send(message);
        }
        holds(queue(), numbered(100));
    }

    @Check
    public void within_a_window() throws JMSException {
        throughWindow(DeliveryMode.PERSISTENT);
    }

    @Check
    public void within_a_window_and_non_persistently() throws JMSException {
        throughWindow(DeliveryMode.NON_PERSISTENT);
    }

    @Check
    public void with_a_callback() throws Exception {
        Session session = session();
        ActiveMQMessageProducer producer = (ActiveMQMessageProducer) session.createProducer(queue());
        CountDownLatch left = new CountDownLatch(100);
        AtomicReference<JMSException> failed = new AtomicReference<>();
        for (String text : numbered(100)) {
            producer.send(session.createTextMessage(text), new AsyncCallback() {
                @Override
                public void onSuccess() {
                    left.countDown();
                }

                @Override
                public void onException(JMSException exception) {
                    failed.set(exception);
                }
            });
        }
        demand(left.await(COMES_MS, TimeUnit.MILLISECONDS), left.getCount() + " not confirmed: " + failed.get());
        holds(queue(), numbered(100));
    }

    private Message delayed(Session session, long ms) throws JMSException {
        Message message = session.createTextMessage("delayed");
        message.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_DELAY, ms);
        return message;
    }

    @Check
    public void later() throws JMSException {
        Session session = session();
        MessageConsumer consumer = session().createConsumer(queue());
        long begin = System.nanoTime();
        session.createProducer(queue()).send(delayed(session, 1500));
        send(queue(), "at once");
        next(consumer, "at once");
        Message message = next(consumer, "delayed");
        long ms = (System.nanoTime() - begin) / 1_000_000;
        demand(ms >= 1000, "came after " + ms + " ms");
        demand(!message.propertyExists(ScheduledMessage.AMQ_SCHEDULED_DELAY), "still has its delay");
        demand(message.getStringProperty("scheduledJobId") != null, "has no scheduledJobId");
    }

    @Check
    public void later_to_a_topic() throws JMSException {
        Session session = session();
        MessageConsumer consumer = session().createConsumer(topic());
        session.createProducer(topic()).send(delayed(session, 1000));
        nothing(consumer);
        next(consumer, "delayed");
    }

    @Check
    public void repeatedly() throws JMSException {
        Session session = session();
        MessageConsumer consumer = session().createConsumer(queue());
        Message message = delayed(session, 100);
        message.setLongProperty(ScheduledMessage.AMQ_SCHEDULED_PERIOD, 300);
        message.setIntProperty(ScheduledMessage.AMQ_SCHEDULED_REPEAT, 2);
        session.createProducer(queue()).send(message);
        receive(consumer, "delayed", "delayed", "delayed");
        equal("a fourth", null, consumer.receive(1500));
    }

    @Check
    public void the_same_message_twice() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        TextMessage message = session.createTextMessage("x");
        producer.send(message);
        String first = message.getJMSMessageID();
        producer.send(message);
        demand(!first.equals(message.getJMSMessageID()), "both have the same id");
        holds(queue(), "x", "x");
    }

    @Check
    public void forwarding_what_was_received() throws JMSException {
        send(queue(), "x");
        Session session = session();
        Message received = next(session.createConsumer(queue()), "x");
        session.createProducer(queue(".next")).send(received);
        holds(queue(".next"), "x");
    }

    @Check
    public void by_many_producers_of_a_session() throws JMSException {
        Session session = session();
        for (String text : numbered(100)) {
            send(session, queue(), text);
        }
        holds(queue(), numbered(100));
    }

    @Check
    public void to_many_queues_by_one_producer() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(null);
        for (int i = 0; i < 20; i++) {
            producer.send(queue("." + i), session.createTextMessage("to " + i));
        }
        MessageConsumer consumer = session.createConsumer(queue(".19"));
        next(consumer, "to 19");
        for (int i = 0; i < 19; i++) {
            next(session.createConsumer(queue("." + i)), "to " + i);
        }
    }
}
