// Runs ActiveMQ's broker, a proxy in front of it and ActiveMQ's JMS client, and writes what they say to each other:
// a file for each dialogue, a line for each frame. See README.md.

import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.atomic.AtomicInteger;
import javax.jms.*;
import javax.jms.Queue;
import javax.transaction.xa.*;
import org.apache.activemq.*;
import org.apache.activemq.blob.*;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.command.*;

public class Capture {
    interface Dialogue { void run(Setting setting) throws Exception; }

    static final String DECLINED = "wireFormat.tightEncodingEnabled=false&wireFormat.cacheEnabled=false"
        + "&wireFormat.stackTraceEnabled=false";

    /** Dialogues whose negotiation is noted; that of the others is the same as that of the first. */
    static final Set<String> NEGOTIATES = Set.of("connect", "idle", "version_1");

    /** What a dialogue is played on. */
    static class Setting {
        final Tap tap;
        final String name;
        Setting(Tap tap, String name) { this.tap = tap; this.name = name; }

        ActiveMQConnectionFactory factory(String options) {
            ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory(
                "tcp://127.0.0.1:" + tap.port() + "?" + DECLINED + options);
            factory.setConnectionIDPrefix("ID:c");
            factory.setClientIDPrefix("ID:c");
            return factory;
        }

        /** Without the subscription to advisories, which every dialogue would repeat. */
        ActiveMQConnection connect(String options) throws JMSException {
            return (ActiveMQConnection) factory("&jms.watchTopicAdvisories=false" + options).createConnection();
        }
    }

    /** A proxy that notes every frame. */
    static class Tap implements AutoCloseable {
        final ServerSocket server;
        final int brokerPort;
        final List<String> lines = new ArrayList<>();
        final AtomicInteger connections = new AtomicInteger();

        Tap(int brokerPort) throws IOException {
            this.brokerPort = brokerPort;
            server = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
            start(this::accept);
        }

        int port() { return server.getLocalPort(); }

        void accept() throws IOException {
            while (true) {
                Socket client = server.accept();
                Socket broker = new Socket("127.0.0.1", brokerPort);
                int number = connections.incrementAndGet();
                start(() -> pump(client, broker, number + " client"));
                start(() -> pump(broker, client, number + " broker"));
            }
        }

        void pump(Socket from, Socket to, String who) throws IOException {
            try (to) {
                DataInputStream in = new DataInputStream(from.getInputStream());
                while (true) {
                    byte[] frame = new byte[in.readInt()];
                    in.readFully(frame);
                    synchronized (lines) {
                        lines.add("# " + who + ", data type " + (frame[0] & 255));
                        lines.add(HexFormat.of().formatHex(frame));
                    }
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    DataOutputStream data = new DataOutputStream(out);
                    data.writeInt(frame.length);
                    data.write(frame);
                    to.getOutputStream().write(out.toByteArray());
                }
            } catch (EOFException | SocketException ended) {
                return;
            }
        }

        public void close() throws IOException { server.close(); }
    }

    interface Work { void run() throws IOException; }

    static void start(Work work) {
        Thread thread = new Thread(() -> {
            try { work.run(); } catch (IOException ended) { return; }
        });
        thread.setDaemon(true);
        thread.start();
    }

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        BrokerService broker = new BrokerService();
        broker.setBrokerName("capture");
        broker.setBrokerId("ID:broker");
        broker.setPersistent(Boolean.getBoolean("capture.persistent"));
        broker.setUseJmx(false);
        broker.setSchedulerSupport(false);
        broker.setUseShutdownHook(false);
        int port = broker.addConnector("tcp://127.0.0.1:0?" + DECLINED).getConnectUri().getPort();
        broker.start();
        broker.waitUntilStarted();
        for (Map.Entry<String, Dialogue> entry : dialogues().entrySet()) {
            if (arguments.length > 1 && !Arrays.asList(arguments).contains(entry.getKey())) continue;
            try (Tap tap = new Tap(port)) {
                entry.getValue().run(new Setting(tap, entry.getKey()));
                Thread.sleep(300);
                write(folder.resolve(entry.getKey() + ".txt"), entry.getKey(), tap);
            }
        }
        broker.stop();
        System.exit(0);
    }

    static void write(Path file, String name, Tap tap) throws IOException {
        List<String> text = new ArrayList<>();
        text.add("# " + name + ": ActiveMQ client and broker "
            + ActiveMQConnectionMetaData.PROVIDER_VERSION + ", made by tests/capture/Capture.java.");
        text.add("# A line for each frame, without its length; before it the connection, who sent it, its data type.");
        synchronized (tap.lines) {
            boolean negotiates = NEGOTIATES.contains(name);
            if (!negotiates) text.add("# The negotiation is left out: it is that of connect.txt.");
            for (int i = 0; i < tap.lines.size(); i += 2) {
                if (negotiates || !tap.lines.get(i).endsWith(" 1")) text.addAll(tap.lines.subList(i, i + 2));
            }
        }
        Files.write(file, text, StandardCharsets.UTF_8);
    }

    static Map<String, Dialogue> dialogues() {
        Map<String, Dialogue> all = new LinkedHashMap<>();
        all.put("connect", Capture::connect);
        all.put("bodies", Capture::bodies);
        all.put("compressed", Capture::compressed);
        all.put("acknowledge", Capture::acknowledge);
        all.put("transaction", Capture::transaction);
        all.put("dead_letter", Capture::deadLetter);
        all.put("redelivery", Capture::redelivery);
        all.put("expiry", Capture::expiry);
        all.put("durable", Capture::durable);
        all.put("request_reply", Capture::requestReply);
        all.put("browser", Capture::browser);
        all.put("pull", Capture::pull);
        all.put("xa", Capture::xa);
        all.put("errors", Capture::errors);
        all.put("window", Capture::window);
        all.put("options", Capture::options);
        all.put("idle", Capture::idle);
        all.put("failover", Capture::failover);
        all.put("version_1", s -> version(s, 1));
        return all;
    }

    static void connect(Setting setting) throws Exception {
        ActiveMQConnection connection = (ActiveMQConnection) setting.factory("").createConnection("user", "secret");
        connection.start();
        connection.getBrokerName();
        connection.createSession(false, Session.AUTO_ACKNOWLEDGE).close();
        connection.close();
    }

    static void bodies(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        ActiveMQSession session = (ActiveMQSession) connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture." + setting.name);
        MessageProducer producer = session.createProducer(queue);
        List<javax.jms.Message> messages = new ArrayList<>();
        javax.jms.Message plain = session.createMessage();
        properties(plain);
        messages.add(plain);
        messages.add(session.createTextMessage("text: \0 \u00e9 \u20ac \ud83d\ude00"));
        messages.add(session.createTextMessage());
        messages.add(session.createTextMessage("half a pair: \ud83d"));
        BytesMessage bytes = session.createBytesMessage();
        bytes.writeUTF("bytes");
        bytes.writeDouble(1.5);
        messages.add(bytes);
        MapMessage map = session.createMapMessage();
        values(map);
        messages.add(map);
        messages.add(session.createMapMessage());
        StreamMessage stream = session.createStreamMessage();
        values(stream);
        messages.add(stream);
        messages.add(session.createObjectMessage("an object"));
        messages.add(session.createBlobMessage(new URL("http://127.0.0.1/blob")));
        messages.add(session.createTextMessage(""));
        for (javax.jms.Message message : messages) producer.send(message);
        connection.close();
    }

    static void compressed(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("&jms.useCompression=true");
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue("capture.compressed"));
        producer.send(session.createTextMessage("compressed"));
        producer.send(session.createTextMessage());
        BytesMessage bytes = session.createBytesMessage();
        bytes.writeBytes(new byte[100]);
        producer.send(bytes);
        MapMessage map = session.createMapMessage();
        map.setInt("n", 1);
        producer.send(map);
        StreamMessage stream = session.createStreamMessage();
        stream.writeInt(1);
        producer.send(stream);
        connection.close();
    }

    static void properties(javax.jms.Message message) throws JMSException {
        message.setBooleanProperty("boolean", true);
        message.setByteProperty("byte", (byte) -2);
        message.setShortProperty("short", (short) 300);
        message.setIntProperty("int", -70000);
        message.setLongProperty("long", 1L << 40);
        message.setFloatProperty("float", 1.25f);
        message.setDoubleProperty("double", -2.5);
        message.setStringProperty("text", "\u00e9\0\ud83d\ude00");
        message.setObjectProperty("null", null);
        message.setJMSCorrelationID("correlation");
        message.setJMSType("type");
        message.setStringProperty("JMSXGroupID", "group");
        message.setIntProperty("JMSXGroupSeq", 3);
    }

    static void values(MapMessage map) throws JMSException {
        map.setBoolean("boolean", false);
        map.setByte("byte", (byte) 7);
        map.setChar("char", '\u20ac');
        map.setShort("short", (short) -1);
        map.setInt("int", 42);
        map.setLong("long", -42L);
        map.setFloat("float", 0.5f);
        map.setDouble("double", 1e300);
        map.setString("text", "value");
        map.setBytes("bytes", new byte[] {1, 2, 3});
        map.setObject("null", null);
        map.setObject("list", List.of(1, "two", List.of(3L)));
        map.setObject("map", new TreeMap<>(Map.of("a", 1, "b", Map.of("c", true))));
    }

    static void values(StreamMessage stream) throws JMSException {
        stream.writeBoolean(true);
        stream.writeByte((byte) 7);
        stream.writeChar('x');
        stream.writeShort((short) -1);
        stream.writeInt(42);
        stream.writeLong(-42L);
        stream.writeFloat(0.5f);
        stream.writeDouble(1e300);
        stream.writeString("value");
        stream.writeBytes(new byte[] {1, 2, 3});
        stream.writeObject(null);
    }

    static void send(Session session, Destination destination, int count) throws JMSException {
        MessageProducer producer = session.createProducer(destination);
        for (int i = 0; i < count; i++) producer.send(session.createTextMessage("" + i));
        producer.close();
    }

    static void acknowledge(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("&jms.prefetchPolicy.queuePrefetch=2");
        connection.start();
        int[] modes = {Session.CLIENT_ACKNOWLEDGE, ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE};
        for (int mode : modes) {
            Session session = connection.createSession(false, mode);
            Queue queue = session.createQueue("capture.acknowledge." + mode);
            send(session, queue, 2);
            MessageConsumer consumer = session.createConsumer(queue);
            for (int i = 0; i < 2; i++) {
                javax.jms.Message message = consumer.receive(5000);
                if (mode == ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE || i == 1) message.acknowledge();
            }
            session.close();
        }
        connection.close();
    }

    static void transaction(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.start();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Queue queue = session.createQueue("capture.transaction");
        send(session, queue, 2);
        session.commit();
        MessageConsumer consumer = session.createConsumer(queue);
        consumer.receive(5000);
        send(session, queue, 1);
        session.rollback();
        consumer.receive(5000);
        consumer.receive(5000);
        session.commit();
        connection.close();
    }

    static void deadLetter(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.getRedeliveryPolicy().setMaximumRedeliveries(1);
        connection.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        connection.start();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Queue queue = session.createQueue("capture.dead");
        send(session, queue, 1);
        session.commit();
        MessageConsumer consumer = session.createConsumer(queue);
        consumer.receive(5000);
        session.rollback();
        consumer.receive(5000);
        session.rollback();
        consumer.receive(500);
        consumer.close();
        MessageConsumer dead = session.createConsumer(session.createQueue("ActiveMQ.DLQ"));
        dead.receive(5000);
        session.commit();
        connection.close();
    }

    static void redelivery(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        connection.getRedeliveryPolicy().setRedeliveryDelay(0);
        connection.start();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Queue queue = session.createQueue("capture.redelivery");
        send(session, queue, 2);
        session.commit();
        MessageConsumer consumer = session.createConsumer(queue);
        for (int i = 0; i < 3; i++) {
            consumer.receive(5000);
            session.rollback();
        }
        session.close();
        Session second = connection.createSession(false, Session.CLIENT_ACKNOWLEDGE);
        consumer = second.createConsumer(queue);
        consumer.receive(5000);
        second.recover();
        consumer.receive(5000);
        consumer.receive(5000).acknowledge();
        connection.close();
    }

    static void expiry(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture.expiry");
        MessageConsumer consumer = session.createConsumer(queue);
        MessageProducer producer = session.createProducer(queue);
        producer.setTimeToLive(100);
        producer.send(session.createTextMessage("expires"));
        Thread.sleep(300);
        consumer.receive(200);
        connection.close();
    }

    static void durable(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.setClientID("capture");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Topic topic = session.createTopic("capture.durable");
        MessageConsumer consumer = session.createDurableSubscriber(topic, "name", "colour = 'red'", true);
        consumer.close();
        consumer = session.createDurableSubscriber(topic, "name", "colour = 'red'", false);
        MessageProducer producer = session.createProducer(topic);
        TextMessage message = session.createTextMessage("red");
        message.setStringProperty("colour", "red");
        producer.send(message);
        consumer.receive(5000);
        consumer.close();
        session.unsubscribe("name");
        connection.close();
    }

    static void requestReply(Setting setting) throws Exception {
        ActiveMQConnection connection = (ActiveMQConnection) setting.factory("").createConnection();
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture.request");
        MessageConsumer server = session.createConsumer(queue);
        TemporaryQueue replies = session.createTemporaryQueue();
        MessageConsumer consumer = session.createConsumer(replies);
        TextMessage request = session.createTextMessage("request");
        request.setJMSReplyTo(replies);
        MessageProducer producer = session.createProducer(null);
        producer.send(queue, request);
        javax.jms.Message received = server.receive(5000);
        TextMessage reply = session.createTextMessage("reply");
        reply.setJMSCorrelationID(received.getJMSMessageID());
        producer.send(received.getJMSReplyTo(), reply);
        consumer.receive(5000);
        consumer.close();
        replies.delete();
        session.createTemporaryTopic().delete();
        connection.close();
    }

    static void browser(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture.browser");
        send(session, queue, 2);
        QueueBrowser browser = session.createBrowser(queue);
        Enumeration<?> messages = browser.getEnumeration();
        while (messages.hasMoreElements()) messages.nextElement();
        browser.close();
        connection.close();
    }

    static void pull(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("&jms.prefetchPolicy.all=0");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture.pull");
        MessageConsumer consumer = session.createConsumer(queue);
        consumer.receiveNoWait();
        consumer.receive(200);
        send(session, queue, 2);
        consumer.receive(5000);
        consumer.receive();
        connection.close();
    }

    static class Branch implements Xid {
        final byte number;
        Branch(int number) { this.number = (byte) number; }
        public int getFormatId() { return 7; }
        public byte[] getGlobalTransactionId() { return new byte[] {1, number}; }
        public byte[] getBranchQualifier() { return new byte[] {2, number}; }
    }

    static void xa(Setting setting) throws Exception {
        ActiveMQXAConnectionFactory factory = new ActiveMQXAConnectionFactory(
            "tcp://127.0.0.1:" + setting.tap.port() + "?" + DECLINED + "&jms.watchTopicAdvisories=false");
        factory.setConnectionIDPrefix("ID:c");
        factory.setClientIDPrefix("ID:c");
        XAConnection connection = factory.createXAConnection();
        connection.start();
        XASession session = connection.createXASession();
        XAResource resource = session.getXAResource();
        Queue queue = session.createQueue("capture.xa");
        resource.recover(XAResource.TMSTARTRSCAN);
        resource.start(new Branch(1), XAResource.TMNOFLAGS);
        send(session, queue, 1);
        resource.end(new Branch(1), XAResource.TMSUCCESS);
        resource.prepare(new Branch(1));
        resource.recover(XAResource.TMSTARTRSCAN);
        resource.commit(new Branch(1), false);
        resource.start(new Branch(2), XAResource.TMNOFLAGS);
        MessageConsumer consumer = session.createConsumer(queue);
        consumer.receive(5000);
        resource.end(new Branch(2), XAResource.TMSUCCESS);
        resource.rollback(new Branch(2));
        try { resource.commit(new Branch(9), true); } catch (XAException expected) { print(expected); }
        connection.close();
    }

    static void print(Exception expected) {
        System.out.println(expected + " " + (expected instanceof XAException xa ? xa.errorCode : ""));
    }

    static void errors(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.setClientID("taken");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        try { session.unsubscribe("unknown"); } catch (JMSException expected) { print(expected); }
        try {
            ActiveMQConnection second = setting.connect("");
            second.setClientID("taken");
            second.start();
        } catch (JMSException expected) { print(expected); }
        ActiveMQConnection third = setting.connect("&jms.useAsyncSend=true");
        third.start();
        Session sender = third.createSession(false, Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue temporary = session.createTemporaryQueue();
        try {
            sender.createConsumer(new ActiveMQTempQueue(temporary.getQueueName()));
        } catch (JMSException expected) { print(expected); }
        third.close();
        connection.close();
    }

    static void window(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("&jms.producerWindowSize=2000&jms.useAsyncSend=true");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(session.createQueue("capture.window"));
        for (int i = 0; i < 2; i++) {
            TextMessage message = session.createTextMessage("hello");
            message.setIntProperty("n", i);
            producer.send(message);
        }
        connection.close();
    }

    static void options(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("");
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        MessageConsumer exclusive = session.createConsumer(
            session.createQueue("capture.options.*?consumer.exclusive=true&consumer.priority=10&consumer.prefetchSize=7"));
        MessageConsumer advisories = session.createConsumer(
            session.createTopic("ActiveMQ.Advisory.Consumer.Queue.capture.options.>,ActiveMQ.Advisory.Connection"));
        MessageConsumer all = session.createConsumer(
            session.createTopic("capture.options.>?consumer.retroactive=true&consumer.maximumPendingMessageLimit=9"));
        MessageProducer producer = session.createProducer(null);
        producer.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
        producer.setPriority(9);
        producer.setTimeToLive(60000);
        producer.send(session.createQueue("capture.options.a,topic://capture.options.b"), session.createMessage());
        exclusive.receive(5000);
        all.receive(5000);
        MessageConsumer late = session.createConsumer(session.createQueue("capture.options.a"), "n > 1");
        while (advisories.receive(500) != null) continue;
        connection.close();
    }

    static void idle(Setting setting) throws Exception {
        ActiveMQConnection connection = setting.connect("&wireFormat.maxInactivityDuration=600&wireFormat.maxInactivityDurationInitalDelay=100");
        connection.start();
        Thread.sleep(900);
        connection.close();
    }

    static void version(Setting setting, int version) throws Exception {
        ActiveMQConnection connection = setting.connect("&wireFormat.version=" + version);
        connection.start();
        Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
        Queue queue = session.createQueue("capture." + setting.name);
        send(session, queue, 1);
        session.commit();
        session.createConsumer(queue).receive(5000);
        session.commit();
        connection.close();
    }

    static void failover(Setting setting) throws Exception {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory("failover:(tcp://127.0.0.1:"
            + setting.tap.port() + "?" + DECLINED + ")?jms.watchTopicAdvisories=false");
        factory.setConnectionIDPrefix("ID:c");
        factory.setClientIDPrefix("ID:c");
        ActiveMQConnection connection = (ActiveMQConnection) factory.createConnection();
        connection.start();
        Session session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
        Queue queue = session.createQueue("capture.failover");
        MessageConsumer consumer = session.createConsumer(queue);
        connection.getTransport().narrow(org.apache.activemq.transport.failover.FailoverTransport.class)
            .handleTransportFailure(new IOException("cut by the capture"));
        send(session, queue, 1);
        consumer.receive(5000);
        connection.close();
    }
}
