package checks;

import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ActiveMQQueue;

/** Names that stand for several destinations. */
public final class Destinations extends Fixture {
    @Check
    public void wildcard_for_one_element_of_a_topic() throws JMSException {
        MessageConsumer consumer = session().createConsumer(topicNamed(name + ".*.x"));
        send(topicNamed(name + ".a.x"), "a");
        send(topicNamed(name + ".a.y"), "wrong end");
        send(topicNamed(name + ".a.b.x"), "too deep");
        send(topicNamed(name + ".b.x"), "b");
        equal("JMSDestination", topicNamed(name + ".a.x"), next(consumer, "a").getJMSDestination());
        next(consumer, "b");
        nothing(consumer);
    }

    @Check
    public void wildcard_for_the_rest_of_a_topic() throws JMSException {
        MessageConsumer consumer = session().createConsumer(topicNamed(name + ".>"));
        send(topicNamed(name + ".a"), "a");
        send(topicNamed(name + ".a.b.c"), "c");
        send(topicNamed(name + "x.a"), "another");
        receive(consumer, "a", "c");
        nothing(consumer);
    }

    @Check
    public void wildcard_of_queues_that_exist() throws JMSException {
        send(queue(".a"), "a");
        MessageConsumer consumer = session().createConsumer(new ActiveMQQueue(name + ".*"));
        Message message = next(consumer, "a");
        equal("JMSDestination", queue(".a"), message.getJMSDestination());
        nothing(consumer);
    }

    @Check
    public void wildcard_of_queues_that_come_later() throws JMSException {
        MessageConsumer consumer = session().createConsumer(new ActiveMQQueue(name + ".>"));
        send(queue(".b.c"), "later");
        next(consumer, "later");
    }

    @Check
    public void acknowledgements_through_a_wildcard() throws JMSException {
        send(queue(".a"), "a");
        send(queue(".b"), "b");
        ActiveMQConnection connection = connect();
        Session session = session(connection, Session.CLIENT_ACKNOWLEDGE);
        MessageConsumer consumer = session.createConsumer(new ActiveMQQueue(name + ".*"));
        next(consumer);
        next(consumer).acknowledge();
        connection.close();
        holds(queue(".a"));
        holds(queue(".b"));
    }

    @Check
    public void composite_of_two_queues_and_a_topic() throws JMSException {
        MessageConsumer news = session().createConsumer(topic());
        String names = queue(".1").getPhysicalName() + "," + queue(".2").getPhysicalName() + ",topic://" + name;
        send(new ActiveMQQueue(names), "x");
        next(news, "x");
        Message message = next(session().createConsumer(queue(".1")), "x");
        equal("JMSDestination", queue(".1"), message.getJMSDestination());
        holds(queue(".2"), "x");
    }

    @Check
    public void composite_in_a_transaction() throws JMSException {
        Session session = session(Session.SESSION_TRANSACTED);
        ActiveMQQueue both = new ActiveMQQueue(
            queue(".1").getPhysicalName() + "," + queue(".2").getPhysicalName());
        send(session, both, "no");
        session.rollback();
        send(session, both, "yes");
        session.commit();
        holds(queue(".1"), "yes");
        holds(queue(".2"), "yes");
    }

    @Check
    public void composite_consumer() throws JMSException {
        MessageConsumer consumer = session().createConsumer(new ActiveMQQueue(
            queue(".1").getPhysicalName() + "," + queue(".2").getPhysicalName()));
        send(queue(".1"), "one");
        next(consumer, "one");
        send(queue(".2"), "two");
        next(consumer, "two");
    }

    @Check
    public void virtual_topic() throws JMSException {
        String topic = "VirtualTopic." + name;
        ActiveMQQueue a = queueNamed("Consumer.a." + topic);
        ActiveMQQueue b = queueNamed("Consumer.b." + topic);
        MessageConsumer first = session().createConsumer(with(a, "consumer.prefetchSize=1"));
        MessageConsumer second = session().createConsumer(with(a, "consumer.prefetchSize=1"));
        ActiveMQConnection other = connect();
        MessageConsumer third = session(other, Session.AUTO_ACKNOWLEDGE).createConsumer(b);
        send(topicNamed(topic), "m0", "m1");
        Message one = next(first);
        Message two = next(second);
        demand(!one.getJMSMessageID().equals(two.getJMSMessageID()), "both got the same");
        equal("JMSDestination", a, one.getJMSDestination());
        equal("original destination", topicNamed(topic), ((ActiveMQMessage) one).getOriginalDestination());
        nothing(first);
        receive(third, "m0", "m1");
        // The queue stays when its consumers go.
        other.close();
        send(topicNamed(topic), "m2");
        holds(b, "m2");
    }

    @Check
    public void a_queue_and_a_topic_of_one_name_are_two() throws JMSException {
        MessageConsumer ofQueue = session().createConsumer(queue());
        MessageConsumer ofTopic = session().createConsumer(topic());
        send(queue(), "q");
        send(topic(), "t");
        next(ofQueue, "q");
        next(ofTopic, "t");
        nothing(ofQueue);
        nothing(ofTopic);
    }

    @Check
    public void name_with_odd_characters() throws JMSException {
        ActiveMQQueue odd = queueNamed(name + ".a b/c:d-\u00e4\u20ac_%25#");
        send(odd, "x");
        equal("JMSDestination", odd, next(session().createConsumer(odd), "x").getJMSDestination());
    }
}
