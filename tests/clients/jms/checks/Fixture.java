package checks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Enumeration;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.Destination;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.command.ActiveMQDestination;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;

/** What a check needs: connections that are closed after it, destinations that are its own and go with it, assertions. */
abstract class Fixture implements AutoCloseable {
    /** How long something that must come may take. */
    static final long COMES_MS = 10_000;
    /** How long it is waited for what must not come. */
    static final long STAYS_AWAY_MS = 250;
    private static final String RUN = Long.toString(System.nanoTime() % 2_176_782_336L, 36);

    Target target;
    /** The name of the check, with a part of its own for each run. */
    String name;
    private final List<Connection> connections = new ArrayList<>();
    private final Set<ActiveMQDestination> destinations = new LinkedHashSet<>();

    interface Action {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    final void prepare(Target given, String check) {
        target = given;
        name = check + "-" + RUN;
    }

    // Connections and sessions.

    final ActiveMQConnectionFactory factory() {
        return factory(target.url);
    }

    final ActiveMQConnectionFactory factory(String url) {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(url);
        if (target.user != null) {
            factory.setUserName(target.user);
            factory.setPassword(target.password);
        }
        factory.setTrustAllPackages(true);
        factory.setCloseTimeout(2000);
        return factory;
    }

    final ActiveMQConnection connect() throws JMSException {
        return connect(factory());
    }

    /** A started connection. */
    final ActiveMQConnection connect(ActiveMQConnectionFactory factory) throws JMSException {
        ActiveMQConnection connection = unstarted(factory);
        connection.start();
        return connection;
    }

    final ActiveMQConnection connectAs(String clientId) throws JMSException {
        ActiveMQConnection connection = unstarted(factory());
        connection.setClientID(clientId);
        connection.start();
        return connection;
    }

    final ActiveMQConnection unstarted(ActiveMQConnectionFactory factory) throws JMSException {
        ActiveMQConnection connection = (ActiveMQConnection) factory.createConnection();
        connections.add(connection);
        return connection;
    }

    /** An AUTO_ACKNOWLEDGE session on a connection of its own. */
    final Session session() throws JMSException {
        return session(Session.AUTO_ACKNOWLEDGE);
    }

    final Session session(int mode) throws JMSException {
        return session(connect(), mode);
    }

    static Session session(Connection connection, int mode) throws JMSException {
        return connection.createSession(mode == Session.SESSION_TRANSACTED, mode);
    }

    // Destinations.

    final ActiveMQQueue queue() {
        return queue("");
    }

    final ActiveMQQueue queue(String suffix) {
        return queueNamed(name + suffix);
    }

    final ActiveMQQueue queueNamed(String whole) {
        ActiveMQQueue queue = new ActiveMQQueue(whole);
        destinations.add(queue);
        return queue;
    }

    final ActiveMQTopic topic() {
        return topicNamed(name);
    }

    final ActiveMQTopic topicNamed(String whole) {
        ActiveMQTopic topic = new ActiveMQTopic(whole);
        destinations.add(topic);
        return topic;
    }

    /** The same queue with options of the client, as `consumer.prefetchSize=1`. */
    static ActiveMQQueue with(ActiveMQQueue queue, String options) {
        return new ActiveMQQueue(queue.getPhysicalName() + "?" + options);
    }

    // Sending and receiving.

    final void send(Destination destination, String... texts) throws JMSException {
        Session session = session();
        send(session, destination, texts);
        session.close();
    }

    static void send(Session session, Destination destination, String... texts) throws JMSException {
        MessageProducer producer = session.createProducer(destination);
        for (String text : texts) {
            producer.send(session.createTextMessage(text));
        }
        producer.close();
    }

    final void send(Destination destination, int count) throws JMSException {
        ActiveMQConnection connection = connect();
        Session session = session(connection, Session.SESSION_TRANSACTED);
        send(session, destination, numbered(count));
        session.commit();
        connection.close();
    }

    static void sendNonPersistent(Session session, Destination destination, String... texts) throws JMSException {
        MessageProducer producer = session.createProducer(destination);
        producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
        for (String text : texts) {
            producer.send(session.createTextMessage(text));
        }
        producer.close();
    }

    static String[] numbered(int count) {
        String[] texts = new String[count];
        Arrays.setAll(texts, i -> "m" + i);
        return texts;
    }

    static Message next(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(COMES_MS);
        demand(message != null, "nothing came");
        return message;
    }

    static Message next(MessageConsumer consumer, String text) throws JMSException {
        Message message = next(consumer);
        equal("text", text, ((TextMessage) message).getText());
        return message;
    }

    static void receive(MessageConsumer consumer, String... texts) throws JMSException {
        for (String text : texts) {
            next(consumer, text);
        }
    }

    static void nothing(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(STAYS_AWAY_MS);
        demand(message == null, "came: " + message);
    }

    /** What is in a queue, taken out. */
    final void holds(Destination destination, String... texts) throws JMSException {
        ActiveMQConnection connection = connect();
        MessageConsumer consumer = session(connection, Session.AUTO_ACKNOWLEDGE).createConsumer(destination);
        receive(consumer, texts);
        nothing(consumer);
        connection.close();
    }

    /** What JMS, older than generics, enumerates. */
    static List<Object> list(Enumeration<?> enumeration) {
        return new ArrayList<>(Collections.list(enumeration));
    }

    // Assertions.

    static void demand(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void equal(String what, Object expected, Object actual) {
        demand(Objects.deepEquals(expected, actual), what + " is " + shown(actual) + ", not " + shown(expected));
    }

    private static String shown(Object value) {
        String text = value instanceof byte[] ? Arrays.toString((byte[]) value) : String.valueOf(value);
        StringBuilder plain = new StringBuilder();
        text.chars().limit(200).forEach(c -> plain.append(c >= ' ' && c < 127 ? (char) c : String.format("{%04x}", c)));
        return text.length() > 200 ? plain.append("...").toString() : plain.toString();
    }

    static <T extends Throwable> T refused(Class<T> expected, Action action) throws Exception {
        try {
            action.run();
        } catch (Throwable e) {
            demand(expected.isInstance(e), "refused with " + e + ", not " + expected.getName());
            return expected.cast(e);
        }
        throw new AssertionError("was not refused with " + expected.getName());
    }

    static void eventually(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + COMES_MS * 1_000_000;
        while (!condition.holds()) {
            demand(System.nanoTime() < end, "never so: " + what);
            Thread.sleep(10);
        }
    }

    @Override
    public void close() {
        for (Connection connection : connections) {
            quietly(connection::close);
        }
        quietly(() -> {
            ActiveMQConnection connection = (ActiveMQConnection) factory().createConnection();
            try {
                for (ActiveMQDestination destination : destinations) {
                    quietly(() -> connection.destroyDestination(destination));
                }
            } finally {
                connection.close();
            }
        });
    }

    /** Cleaning up is no part of what a check demands. */
    static void quietly(Action action) {
        try {
            action.run();
        } catch (Exception ignored) {
            // What could not be closed is closed already, or goes with the process.
        }
    }
}
