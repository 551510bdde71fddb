package checks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;

/** Several consumers of one queue: equal, exclusive, by group, by priority. */
public final class Sharing extends Fixture {
    private static List<String> all(MessageConsumer consumer) throws JMSException {
        List<String> texts = new ArrayList<>();
        for (Message message = consumer.receive(1000); message != null; message = consumer.receive(STAYS_AWAY_MS)) {
            texts.add(((TextMessage) message).getText());
        }
        return texts;
    }

    @Check
    public void each_message_once() throws JMSException {
        MessageConsumer first = session().createConsumer(queue());
        MessageConsumer second = session().createConsumer(queue());
        send(queue(), 100);
        List<String> one = all(first);
        List<String> two = all(second);
        Set<String> both = new HashSet<>(one);
        both.addAll(two);
        equal("messages", 100, one.size() + two.size());
        equal("distinct", new HashSet<>(Arrays.asList(numbered(100))), both);
        demand(!one.isEmpty() && !two.isEmpty(), one.size() + " and " + two.size());
    }

    @Check
    public void exclusive() throws JMSException {
        MessageConsumer first = session().createConsumer(with(queue(), "consumer.exclusive=true"));
        MessageConsumer second = session().createConsumer(with(queue(), "consumer.exclusive=true"));
        send(queue(), "a", "b", "c");
        receive(first, "a", "b", "c");
        nothing(second);
        first.close();
        send(queue(), "d");
        next(second, "d");
    }

    @Check
    public void higher_priority_of_consumers_first() throws JMSException {
        MessageConsumer low = session().createConsumer(with(queue(), "consumer.priority=1"));
        MessageConsumer high = session().createConsumer(with(queue(), "consumer.priority=10"));
        send(queue(), "a", "b", "c");
        receive(high, "a", "b", "c");
        nothing(low);
    }

    private void sendGroups(String... groups) throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        for (int round = 0; round < 5; round++) {
            for (String group : groups) {
                Message message = session.createTextMessage(group + round);
                message.setStringProperty("JMSXGroupID", group);
                producer.send(message);
            }
        }
    }

    @Check
    public void groups_stay_with_a_consumer() throws JMSException {
        MessageConsumer first = session().createConsumer(queue());
        MessageConsumer second = session().createConsumer(queue());
        sendGroups("x", "y", "z", "u");
        List<String> one = all(first);
        List<String> two = all(second);
        equal("messages", 20, one.size() + two.size());
        for (String group : new String[] {"x", "y", "z", "u"}) {
            List<String> whole = Arrays.asList(group + 0, group + 1, group + 2, group + 3, group + 4);
            List<String> here = new ArrayList<>(one);
            here.retainAll(whole);
            List<String> there = new ArrayList<>(two);
            there.retainAll(whole);
            demand(here.isEmpty() || there.isEmpty(), "group " + group + " is with both");
            equal("order of " + group, whole, here.isEmpty() ? there : here);
        }
        demand(!one.isEmpty() && !two.isEmpty(), "all groups are with one consumer");
    }

    @Check
    public void a_group_moves_when_its_consumer_goes() throws JMSException {
        MessageConsumer first = session().createConsumer(queue());
        sendGroups("x");
        equal("messages", 5, all(first).size());
        MessageConsumer second = session().createConsumer(queue());
        sendGroups("x");
        equal("messages of the owner", 5, all(first).size());
        first.close();
        sendGroups("x");
        equal("messages of the next", 5, all(second).size());
    }

    @Check
    public void the_first_of_a_group_is_marked() throws JMSException {
        MessageConsumer consumer = session().createConsumer(queue());
        sendGroups("x");
        equal("first", true, next(consumer).getBooleanProperty("JMSXGroupFirstForConsumer"));
        equal("second", false, next(consumer).getBooleanProperty("JMSXGroupFirstForConsumer"));
    }
}
