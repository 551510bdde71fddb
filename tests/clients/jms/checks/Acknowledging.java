package checks;

import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.ActiveMQSession;

/** What was acknowledged is gone, what was not comes again. */
public final class Acknowledging extends Fixture {
    private void take(ActiveMQConnection connection, int mode, int count) throws JMSException {
        MessageConsumer consumer = session(connection, mode).createConsumer(queue());
        receive(consumer, numbered(count));
        connection.close();
        holds(queue());
    }

    @Check
    public void auto() throws JMSException {
        send(queue(), "a", "b", "c");
        ActiveMQConnection connection = connect();
        MessageConsumer consumer = session(connection, Session.AUTO_ACKNOWLEDGE).createConsumer(queue());
        receive(consumer, "a", "b");
        connection.close();
        holds(queue(), "c");
    }

    @Check
    public void dups_ok() throws JMSException {
        send(queue(), 50);
        take(connect(), Session.DUPS_OK_ACKNOWLEDGE, 50);
    }

    @Check
    public void optimized() throws JMSException {
        send(queue(), 200);
        ActiveMQConnectionFactory factory = factory();
        factory.setOptimizeAcknowledge(true);
        take(connect(factory), Session.AUTO_ACKNOWLEDGE, 200);
    }

    @Check
    public void optimized_with_small_prefetch() throws JMSException {
        send(queue(), 100);
        ActiveMQConnectionFactory factory = factory();
        factory.setOptimizeAcknowledge(true);
        factory.getPrefetchPolicy().setQueuePrefetch(7);
        take(connect(factory), Session.AUTO_ACKNOWLEDGE, 100);
    }

    @Check
    public void client_acknowledges_all_before() throws JMSException {
        send(queue(), "a", "b", "c");
        ActiveMQConnection connection = connect();
        MessageConsumer consumer = session(connection, Session.CLIENT_ACKNOWLEDGE).createConsumer(queue());
        next(consumer, "a");
        next(consumer, "b").acknowledge();
        next(consumer, "c");
        connection.close();
        Message again = next(session().createConsumer(queue()), "c");
        equal("JMSRedelivered", true, again.getJMSRedelivered());
        equal("JMSXDeliveryCount", 2, again.getIntProperty("JMSXDeliveryCount"));
    }

    @Check
    public void client_acknowledges_more_than_the_prefetch() throws JMSException {
        send(queue(), 100);
        MessageConsumer consumer = session(Session.CLIENT_ACKNOWLEDGE)
            .createConsumer(with(queue(), "consumer.prefetchSize=10"));
        receive(consumer, numbered(99));
        next(consumer, "m99").acknowledge();
        consumer.close();
        holds(queue());
    }

    @Check
    public void individual() throws JMSException {
        send(queue(), "a", "b", "c");
        ActiveMQConnection connection = connect();
        MessageConsumer consumer = session(connection, ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE).createConsumer(queue());
        next(consumer, "a");
        next(consumer, "b").acknowledge();
        next(consumer, "c");
        connection.close();
        holds(queue(), "a", "c");
    }

    @Check
    public void session_recovers() throws JMSException {
        send(queue(), "a", "b");
        ActiveMQConnectionFactory factory = factory();
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        Session session = session(connect(factory), Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(queue());
        equal("first", false, next(consumer, "a").getJMSRedelivered());
        next(consumer, "b");
        session.recover();
        Message again = next(consumer, "a");
        equal("JMSRedelivered", true, again.getJMSRedelivered());
        equal("JMSXDeliveryCount", 2, again.getIntProperty("JMSXDeliveryCount"));
        next(consumer, "b").acknowledge();
        session.close();
        holds(queue());
    }

    @Check
    public void closed_connection_gives_back_in_order() throws JMSException {
        send(queue(), "a", "b", "c");
        ActiveMQConnection connection = connect();
        MessageConsumer consumer = session(connection, Session.CLIENT_ACKNOWLEDGE).createConsumer(queue());
        receive(consumer, "a", "b");
        connection.close();
        MessageConsumer second = session().createConsumer(queue());
        equal("a", true, next(second, "a").getJMSRedelivered());
        equal("b", true, next(second, "b").getJMSRedelivered());
        equal("c, that was never looked at", false, next(second, "c").getJMSRedelivered());
    }

    @Check
    public void closed_consumer_gives_back() throws JMSException {
        send(queue(), "a", "b");
        Session session = session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer idle = session.createConsumer(queue());
        next(idle, "a");
        idle.close();
        Message message = next(session.createConsumer(queue()), "b");
        equal("JMSRedelivered", false, message.getJMSRedelivered());
    }

    @Check
    public void broken_connection_gives_back() throws Exception {
        send(queue(), "a", "b");
        ActiveMQConnection connection = connect(factory(target.url));
        MessageConsumer consumer = session(connection, Session.CLIENT_ACKNOWLEDGE).createConsumer(queue());
        receive(consumer, "a");
        // The socket goes without a word of good-bye.
        connection.getTransport().stop();
        MessageConsumer second = session().createConsumer(queue());
        equal("a", true, next(second, "a").getJMSRedelivered());
        next(second, "b");
    }
}
