package checks;

import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import javax.jms.TopicSession;
import javax.jms.TopicSubscriber;
import org.apache.activemq.ActiveMQConnection;

/** Topics without durable subscriptions. */
public final class Topics extends Fixture {
    @Check
    public void every_subscriber_gets_all() throws JMSException {
        MessageConsumer first = session().createConsumer(topic());
        MessageConsumer second = session().createConsumer(topic());
        send(topic(), numbered(100));
        receive(first, numbered(100));
        receive(second, numbered(100));
    }

    @Check
    public void nothing_from_before() throws JMSException {
        send(topic(), "early");
        MessageConsumer consumer = session().createConsumer(topic());
        send(topic(), "late");
        next(consumer, "late");
        nothing(consumer);
    }

    @Check
    public void non_persistent() throws JMSException {
        Session session = session();
        MessageConsumer consumer = session().createConsumer(topic());
        sendNonPersistent(session, topic(), numbered(100));
        receive(consumer, numbered(100));
    }

    @Check
    public void more_than_the_prefetch() throws JMSException {
        Session session = session();
        MessageConsumer consumer = session.createConsumer(
            session.createTopic(name + "?consumer.prefetchSize=5"));
        send(topic(), numbered(60));
        receive(consumer, numbered(60));
    }

    @Check
    public void no_local() throws JMSException {
        ActiveMQConnection connection = connect();
        Session session = session(connection, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(topic(), null, true);
        send(session, topic(), "own");
        send(topic(), "of another");
        next(consumer, "of another");
        nothing(consumer);
    }

    @Check
    public void topic_session() throws JMSException {
        TopicSession session = connect().createTopicSession(false, Session.AUTO_ACKNOWLEDGE);
        TopicSubscriber subscriber = session.createSubscriber(topic());
        session.createPublisher(topic()).publish(session.createTextMessage("x"));
        next(subscriber, "x");
    }

    @Check
    public void transacted_subscriber_rolls_back() throws JMSException {
        Session session = session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(topic());
        send(topic(), "a");
        next(consumer, "a");
        session.rollback();
        equal("JMSRedelivered", true, next(consumer, "a").getJMSRedelivered());
        session.commit();
        nothing(consumer);
    }
}
