package checks;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.util.Arrays;
import java.util.TreeSet;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.util.MarshallingSupport;
import org.fusesource.hawtbuf.UTF8Buffer;

/** Headers and properties come as they were sent. */
public final class Headers extends Fixture {
    @Check
    public void headers() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        TextMessage sent = session.createTextMessage("x");
        sent.setJMSType("kind");
        sent.setJMSCorrelationID("correlation");
        sent.setJMSReplyTo(queue(".reply"));
        long before = System.currentTimeMillis();
        producer.send(sent, DeliveryMode.PERSISTENT, 7, 60_000);
        Message got = next(session.createConsumer(queue()));
        equal("JMSType", "kind", got.getJMSType());
        equal("JMSCorrelationID", "correlation", got.getJMSCorrelationID());
        equal("JMSReplyTo", queue(".reply"), got.getJMSReplyTo());
        equal("JMSDestination", queue(), got.getJMSDestination());
        equal("JMSMessageID", sent.getJMSMessageID(), got.getJMSMessageID());
        demand(got.getJMSMessageID().startsWith("ID:"), "JMSMessageID is " + got.getJMSMessageID());
        equal("JMSDeliveryMode", DeliveryMode.PERSISTENT, got.getJMSDeliveryMode());
        equal("JMSPriority", 7, got.getJMSPriority());
        equal("JMSRedelivered", false, got.getJMSRedelivered());
        equal("JMSTimestamp", sent.getJMSTimestamp(), got.getJMSTimestamp());
        demand(got.getJMSTimestamp() >= before, "JMSTimestamp lies before the send");
        equal("JMSExpiration", got.getJMSTimestamp() + 60_000, got.getJMSExpiration());
        equal("JMSXDeliveryCount", 1, got.getIntProperty("JMSXDeliveryCount"));
    }

    @Check
    public void headers_that_are_not_set() throws JMSException {
        Session session = session();
        MessageProducer producer = session.createProducer(queue());
        producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
        producer.setDisableMessageTimestamp(true);
        producer.send(session.createMessage());
        Message got = next(session.createConsumer(queue()));
        equal("JMSType", null, got.getJMSType());
        equal("JMSCorrelationID", null, got.getJMSCorrelationID());
        equal("JMSReplyTo", null, got.getJMSReplyTo());
        equal("JMSDeliveryMode", DeliveryMode.NON_PERSISTENT, got.getJMSDeliveryMode());
        equal("JMSPriority", 4, got.getJMSPriority());
        equal("JMSTimestamp", 0L, got.getJMSTimestamp());
        equal("JMSExpiration", 0L, got.getJMSExpiration());
    }

    @Check
    public void correlation_id_as_bytes() throws JMSException {
        Session session = session();
        Message sent = session.createMessage();
        sent.setJMSCorrelationIDAsBytes(new byte[] {65, 66, 67});
        session.createProducer(queue()).send(sent);
        Message got = next(session.createConsumer(queue()));
        equal("bytes", new byte[] {65, 66, 67}, got.getJMSCorrelationIDAsBytes());
    }

    @Check
    public void properties_of_every_type() throws JMSException {
        Session session = session();
        Message sent = session.createMessage();
        sent.setBooleanProperty("boolean", true);
        sent.setByteProperty("byte", (byte) -1);
        sent.setShortProperty("short", (short) -2);
        sent.setIntProperty("int", -3);
        sent.setLongProperty("long", Long.MIN_VALUE);
        sent.setFloatProperty("float", 1.25f);
        sent.setDoubleProperty("double", -2.5);
        sent.setStringProperty("string", "\u00e4\u20ac");
        sent.setStringProperty("empty", "");
        sent.setObjectProperty("null", null);
        sent.setStringProperty("JMSXGroupID", "group");
        sent.setIntProperty("JMSXGroupSeq", 3);
        session.createProducer(queue()).send(sent);
        Message got = next(session.createConsumer(queue()));
        equal("boolean", true, got.getObjectProperty("boolean"));
        equal("byte", (byte) -1, got.getObjectProperty("byte"));
        equal("short", (short) -2, got.getObjectProperty("short"));
        equal("int", -3, got.getObjectProperty("int"));
        equal("long", Long.MIN_VALUE, got.getObjectProperty("long"));
        equal("float", 1.25f, got.getObjectProperty("float"));
        equal("double", -2.5, got.getObjectProperty("double"));
        equal("string", "\u00e4\u20ac", got.getObjectProperty("string"));
        equal("empty", "", got.getObjectProperty("empty"));
        equal("null", null, got.getObjectProperty("null"));
        equal("JMSXGroupID", "group", got.getStringProperty("JMSXGroupID"));
        equal("JMSXGroupSeq", 3, got.getIntProperty("JMSXGroupSeq"));
        demand(got.propertyExists("null"), "a property that is null is gone");
        demand(!got.propertyExists("other"), "a property that was not set is there");
    }

    /** The client itself alters such text in properties; the broker must not alter it further, nor stumble over it. */
    @Check
    public void properties_with_nul_and_emoji() throws Exception {
        String text = "\0\ud83d\ude80";
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        MarshallingSupport.writeUTF8(new DataOutputStream(written), text);
        byte[] bytes = written.toByteArray();
        String altered = new UTF8Buffer(Arrays.copyOfRange(bytes, Integer.BYTES, bytes.length)).toString();
        Session session = session();
        Message sent = session.createMessage();
        sent.setStringProperty("text", text);
        sent.setJMSType(text);
        sent.setJMSCorrelationID(text);
        session.createProducer(queue()).send(sent);
        Message got = next(session.createConsumer(queue()));
        equal("property", altered, got.getStringProperty("text"));
        equal("JMSType", text, got.getJMSType());
        equal("JMSCorrelationID", text, got.getJMSCorrelationID());
    }

    @Check
    public void many_properties() throws JMSException {
        Session session = session();
        Message sent = session.createMessage();
        TreeSet<String> names = new TreeSet<>();
        for (int i = 0; i < 500; i++) {
            names.add("p" + i);
            sent.setStringProperty("p" + i, "value " + i);
        }
        session.createProducer(queue()).send(sent);
        Message got = next(session.createConsumer(queue()));
        TreeSet<Object> seen = new TreeSet<>();
        for (Object key : list(got.getPropertyNames())) {
            seen.add(key);
        }
        seen.removeIf(key -> key.toString().startsWith("JMS"));
        equal("names", names, seen);
    }

    @Check
    public void times_of_the_broker() throws JMSException {
        Session session = session();
        send(session, queue(), "x");
        ActiveMQMessage got = (ActiveMQMessage) next(session.createConsumer(queue()));
        demand(got.getBrokerInTime() > 0, "no BrokerInTime");
        demand(got.getBrokerOutTime() >= got.getBrokerInTime(), "BrokerOutTime before BrokerInTime");
    }
}
