package checks;

import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;

/** Local transactions: sends and receipts apply together or not at all. */
public final class Transactions extends Fixture {
    private Session transacted() throws JMSException {
        ActiveMQConnectionFactory factory = factory();
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        return session(connect(factory), Session.SESSION_TRANSACTED);
    }

    @Check
    public void sends_are_seen_after_the_commit() throws JMSException {
        Session session = transacted();
        MessageConsumer consumer = session().createConsumer(queue());
        send(session, queue(), "a", "b");
        nothing(consumer);
        session.commit();
        receive(consumer, "a", "b");
    }

    @Check
    public void sends_that_are_rolled_back_are_not() throws JMSException {
        Session session = transacted();
        send(session, queue(), "a");
        session.rollback();
        send(session, queue(), "b");
        session.commit();
        holds(queue(), "b");
    }

    @Check
    public void rollback_redelivers() throws JMSException {
        send(queue(), "a", "b");
        Session session = transacted();
        MessageConsumer consumer = session.createConsumer(queue());
        equal("first", false, next(consumer, "a").getJMSRedelivered());
        next(consumer, "b");
        session.rollback();
        Message again = next(consumer, "a");
        equal("JMSRedelivered", true, again.getJMSRedelivered());
        equal("JMSXDeliveryCount", 2, again.getIntProperty("JMSXDeliveryCount"));
        next(consumer, "b");
        session.commit();
        nothing(consumer);
        session.close();
        holds(queue());
    }

    @Check
    public void closing_rolls_back() throws JMSException {
        send(queue(), "a");
        ActiveMQConnection connection = connect();
        Session session = session(connection, Session.SESSION_TRANSACTED);
        next(session.createConsumer(queue()), "a");
        send(session, queue(".out"), "lost");
        connection.close();
        Message again = next(session().createConsumer(queue()), "a");
        equal("JMSRedelivered", true, again.getJMSRedelivered());
        equal("JMSXDeliveryCount", 2, again.getIntProperty("JMSXDeliveryCount"));
        holds(queue(".out"));
    }

    @Check
    public void from_queue_to_queue() throws JMSException {
        send(queue(), "a", "b");
        Session session = transacted();
        MessageConsumer consumer = session.createConsumer(queue());
        next(consumer, "a");
        send(session, queue(".out"), "of a");
        session.rollback();
        next(consumer, "a");
        send(session, queue(".out"), "of a again");
        session.commit();
        session.close();
        holds(queue(".out"), "of a again");
        holds(queue(), "b");
    }

    @Check
    public void sends_to_many_queues() throws JMSException {
        Session session = transacted();
        for (int i = 0; i < 8; i++) {
            send(session, queue("." + i), "to " + i);
        }
        session.commit();
        for (int i = 0; i < 8; i++) {
            holds(queue("." + i), "to " + i);
        }
    }

    @Check
    public void consumers_of_two_queues() throws JMSException {
        send(queue(".1"), "a", "b");
        send(queue(".2"), "c", "d");
        Session session = transacted();
        MessageConsumer first = session.createConsumer(queue(".1"));
        MessageConsumer second = session.createConsumer(queue(".2"));
        next(first, "a");
        next(second, "c");
        session.rollback();
        next(first, "a");
        next(second, "c");
        session.commit();
        session.close();
        holds(queue(".1"), "b");
        holds(queue(".2"), "d");
    }

    @Check
    public void a_thousand_sends() throws JMSException {
        send(queue(), 1000);
        holds(queue(), numbered(1000));
    }

    @Check
    public void a_thousand_receipts_with_prefetch_10() throws JMSException {
        send(queue(), 1000);
        Session session = transacted();
        MessageConsumer consumer = session.createConsumer(with(queue(), "consumer.prefetchSize=10"));
        receive(consumer, numbered(1000));
        session.commit();
        session.close();
        holds(queue());
    }

    @Check
    public void many_commits_in_a_row() throws JMSException {
        Session session = transacted();
        MessageConsumer consumer = session.createConsumer(queue());
        for (int i = 0; i < 100; i++) {
            send(session, queue(), "m" + i);
            session.commit();
            next(consumer, "m" + i);
        }
        session.commit();
        session.close();
        holds(queue());
    }

    @Check
    public void publishes_to_a_topic() throws JMSException {
        Session session = transacted();
        MessageConsumer consumer = session().createConsumer(topic());
        send(session, topic(), "a");
        nothing(consumer);
        session.rollback();
        send(session, topic(), "b");
        session.commit();
        next(consumer, "b");
        nothing(consumer);
    }
}
