package checks;

import javax.jms.DeliveryMode;
import javax.jms.InvalidSelectorException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;

/** Selectors on queues and topics. */
public final class Selecting extends Fixture {
    /** Sends one message that has properties of several types, and asks for it by the selector. */
    private void selects(Session session, String selector) throws JMSException {
        Message message = session.createTextMessage("wanted");
        message.setIntProperty("number", 7);
        message.setDoubleProperty("price", 1.5);
        message.setStringProperty("colour", "red");
        message.setBooleanProperty("fresh", true);
        message.setJMSType("fruit");
        message.setJMSCorrelationID("c1");
        session.createProducer(queue()).send(message);
        MessageConsumer consumer = session.createConsumer(queue(), selector);
        demand(consumer.receive(COMES_MS) != null, "not selected: " + selector);
        consumer.close();
    }

    @Check
    public void expressions() throws JMSException {
        Session session = session();
        selects(session, "number = 7");
        selects(session, "number BETWEEN 5 AND 9 AND price < 2");
        selects(session, "colour IN ('blue', 'red')");
        selects(session, "colour LIKE 'r_d' AND fresh");
        selects(session, "colour LIKE 're%' AND NOT (number > 7)");
        selects(session, "missing IS NULL AND colour IS NOT NULL");
        selects(session, "JMSType = 'fruit' AND JMSCorrelationID = 'c1'");
        selects(session, "JMSDeliveryMode = 'PERSISTENT' AND JMSPriority = 4");
        selects(session, "number * 2 + 1 = 15 OR colour = 'blue'");
        selects(session, "price + number >= 8.5");
        selects(session, "JMSMessageID LIKE 'ID:%'");
    }

    @Check
    public void destination_as_a_property() throws JMSException {
        selects(session(), "JMSDestination LIKE '%'");
    }

    @Check
    public void on_a_queue() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        for (int i = 0; i < 10; i++) {
            Message message = session.createTextMessage("m" + i);
            message.setBooleanProperty("even", i % 2 == 0);
            producer.send(message);
        }
        MessageConsumer even = session.createConsumer(queue(), "even = TRUE");
        receive(even, "m0", "m2", "m4", "m6", "m8");
        nothing(even);
        even.close();
        receive(session.createConsumer(queue(), "even = FALSE"), "m1", "m3", "m5", "m7", "m9");
    }

    @Check
    public void on_a_topic() throws JMSException {
        Session session = session();
        MessageConsumer some = session.createConsumer(topic(), "n > 1");
        MessageConsumer all = session.createConsumer(topic());
        MessageProducer producer = session.createProducer(topic());
        for (int i = 0; i < 4; i++) {
            Message message = session.createTextMessage("m" + i);
            message.setIntProperty("n", i);
            producer.send(message);
        }
        receive(some, "m2", "m3");
        nothing(some);
        receive(all, "m0", "m1", "m2", "m3");
    }

    @Check
    public void what_nobody_selects_waits() throws JMSException {
        send(queue(), "plain");
        Session session = session();
        MessageConsumer picky = session.createConsumer(queue(), "colour = 'green'");
        nothing(picky);
        next(session.createConsumer(queue()), "plain");
    }

    @Check
    public void bad_one_is_refused() throws Exception {
        Session session = session();
        refused(InvalidSelectorException.class, () -> session.createConsumer(queue(), "colour = = 'x'"));
    }

    @Check
    public void priorities_are_kept() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        for (int priority : new int[] {1, 9, 4}) {
            producer.send(session.createTextMessage("p" + priority), DeliveryMode.PERSISTENT, priority, 0);
        }
        MessageConsumer consumer = session.createConsumer(queue());
        StringBuilder order = new StringBuilder();
        for (int i = 0; i < 3; i++) {
            order.append(next(consumer).getJMSPriority());
        }
        // ActiveMQ sorts only where its policy says so.
        demand(order.toString().equals("194") || order.toString().equals("941"), "priorities came as " + order);
    }
}
