package checks;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Random;
import javax.jms.BytesMessage;
import javax.jms.JMSException;
import javax.jms.MapMessage;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageEOFException;
import javax.jms.ObjectMessage;
import javax.jms.Session;
import javax.jms.StreamMessage;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;

/** The five kinds of message and the one without a body come as they were sent, compressed or not. */
public final class Bodies extends Fixture {
    private static final int MEBIBYTE = 1 << 20;

    private Session session;

    private Message there(Message message) throws JMSException {
        session.createProducer(queue()).send(message);
        ActiveMQConnection reader = connect();
        MessageConsumer consumer = session(reader, Session.AUTO_ACKNOWLEDGE).createConsumer(queue());
        Message got = next(consumer);
        reader.close();
        return got;
    }

    private void text(String text) throws JMSException {
        session = session();
        equal("text", text, ((TextMessage) there(session.createTextMessage(text))).getText());
    }

    @Check
    public void text() throws JMSException {
        text("hello");
    }

    @Check
    public void text_that_is_empty() throws JMSException {
        text("");
    }

    @Check
    public void text_that_is_null() throws JMSException {
        text(null);
    }

    @Check
    public void text_with_nul_and_emoji() throws JMSException {
        text("a\0b \u00e4\u20ac \ud83d\ude80\ud83d\udc69\u200d\ud83d\udcbb \uffff end");
    }

    @Check
    public void text_of_one_mebibyte() throws JMSException {
        char[] chars = new char[MEBIBYTE];
        for (int i = 0; i < chars.length; i++) {
            chars[i] = (char) ('a' + i % 26);
        }
        text(new String(chars));
    }

    @Check
    public void no_body() throws JMSException {
        session = session();
        Message sent = session.createMessage();
        sent.setStringProperty("k", "v");
        equal("property", "v", there(sent).getStringProperty("k"));
    }

    @Check
    public void bytes() throws JMSException {
        session = session();
        BytesMessage sent = session.createBytesMessage();
        sent.writeBoolean(true);
        sent.writeByte((byte) -7);
        sent.writeShort((short) -300);
        sent.writeChar('\u20ac');
        sent.writeInt(Integer.MIN_VALUE);
        sent.writeLong(Long.MAX_VALUE);
        sent.writeFloat(1.5f);
        sent.writeDouble(-2.25);
        sent.writeUTF("utf \ud83d\ude80");
        sent.writeBytes(new byte[] {0, -1, 127});
        BytesMessage got = (BytesMessage) there(sent);
        equal("boolean", true, got.readBoolean());
        equal("byte", (byte) -7, got.readByte());
        equal("short", (short) -300, got.readShort());
        equal("char", '\u20ac', got.readChar());
        equal("int", Integer.MIN_VALUE, got.readInt());
        equal("long", Long.MAX_VALUE, got.readLong());
        equal("float", 1.5f, got.readFloat());
        equal("double", -2.25, got.readDouble());
        equal("utf", "utf \ud83d\ude80", got.readUTF());
        byte[] rest = new byte[3];
        equal("length read", 3, got.readBytes(rest));
        equal("bytes", new byte[] {0, -1, 127}, rest);
    }

    @Check
    public void bytes_of_one_mebibyte() throws JMSException {
        session = session();
        byte[] body = new byte[MEBIBYTE];
        new Random(1).nextBytes(body);
        BytesMessage sent = session.createBytesMessage();
        sent.writeBytes(body);
        BytesMessage got = (BytesMessage) there(sent);
        equal("length", (long) MEBIBYTE, got.getBodyLength());
        byte[] read = new byte[MEBIBYTE];
        got.readBytes(read);
        demand(Arrays.equals(body, read), "the bytes differ");
    }

    @Check
    public void map() throws JMSException {
        session = session();
        MapMessage sent = session.createMapMessage();
        sent.setBoolean("boolean", true);
        sent.setByte("byte", (byte) 1);
        sent.setShort("short", (short) 2);
        sent.setChar("char", 'c');
        sent.setInt("int", 3);
        sent.setLong("long", 4L);
        sent.setFloat("float", 5.5f);
        sent.setDouble("double", 6.5);
        sent.setString("string", "s\u00e4\u20ac");
        sent.setString("null", null);
        sent.setBytes("bytes", new byte[] {1, 2});
        MapMessage got = (MapMessage) there(sent);
        equal("keys", 11, list(got.getMapNames()).size());
        for (String key : Arrays.asList("boolean", "byte", "short", "char", "int", "long", "float", "double", "string",
                "null", "bytes")) {
            equal(key, sent.getObject(key), got.getObject(key));
        }
    }

    @Check
    public void stream() throws Exception {
        session = session();
        StreamMessage sent = session.createStreamMessage();
        Object[] values = {true, (byte) 1, (short) 2, 'c', 3, 4L, 5.5f, 6.5, "s\ud83d\ude80", new byte[] {7, 8}};
        for (Object value : values) {
            sent.writeObject(value);
        }
        StreamMessage got = (StreamMessage) there(sent);
        for (Object value : values) {
            equal("value", value, got.readObject());
        }
        refused(MessageEOFException.class, got::readObject);
    }

    @Check
    public void object() throws JMSException {
        session = session();
        ArrayList<String> value = new ArrayList<>(Arrays.asList("one", "two"));
        equal("object", value, ((ObjectMessage) there(session.createObjectMessage(value))).getObject());
    }

    @Check
    public void compressed_bodies() throws JMSException {
        ActiveMQConnectionFactory compressing = factory();
        compressing.setUseCompression(true);
        session = session(connect(compressing), Session.AUTO_ACKNOWLEDGE);
        char[] chars = new char[100_000];
        Arrays.fill(chars, '\u20ac');
        String text = new String(chars);
        equal("text", text, ((TextMessage) there(session.createTextMessage(text))).getText());
        byte[] body = text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
        BytesMessage bytes = session.createBytesMessage();
        bytes.writeBytes(body);
        byte[] read = new byte[body.length];
        BytesMessage got = (BytesMessage) there(bytes);
        equal("body length", (long) body.length, got.getBodyLength());
        got.readBytes(read);
        demand(Arrays.equals(body, read), "the bytes differ");
        MapMessage map = session.createMapMessage();
        map.setString("k", text);
        equal("map", text, ((MapMessage) there(map)).getString("k"));
        StreamMessage stream = session.createStreamMessage();
        stream.writeString(text.substring(0, 10_000));
        equal("stream", text.substring(0, 10_000), ((StreamMessage) there(stream)).readString());
        equal("object", text, ((ObjectMessage) there(session.createObjectMessage(text))).getObject());
    }
}
