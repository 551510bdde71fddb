// Writes every structure that clients and brokers exchange, all fields set, as ActiveMQ's own marshallers of each version
// write it: a line for each structure and range of versions that have the same bytes. See README.md.

import java.lang.reflect.*;
import java.nio.file.*;
import java.util.*;
import org.apache.activemq.ActiveMQConnectionMetaData;
import org.apache.activemq.command.*;
import org.apache.activemq.openwire.*;
import org.apache.activemq.util.ByteSequence;

public class Structures {
    static final Class<?>[] KINDS = {
        BrokerInfo.class, ConnectionInfo.class, SessionInfo.class, ConsumerInfo.class, ProducerInfo.class,
        TransactionInfo.class, DestinationInfo.class, RemoveSubscriptionInfo.class, KeepAliveInfo.class,
        ShutdownInfo.class, RemoveInfo.class, ControlCommand.class, FlushCommand.class, ConnectionError.class,
        ConsumerControl.class, ConnectionControl.class, ProducerAck.class, MessagePull.class, MessageDispatch.class,
        MessageAck.class, ActiveMQMessage.class, ActiveMQBytesMessage.class, ActiveMQMapMessage.class,
        ActiveMQObjectMessage.class, ActiveMQStreamMessage.class, ActiveMQTextMessage.class, ActiveMQBlobMessage.class,
        Response.class, ExceptionResponse.class, DataResponse.class, DataArrayResponse.class, IntegerResponse.class,
        SubscriptionInfo.class, ActiveMQQueue.class, ActiveMQTopic.class, ActiveMQTempQueue.class,
        ActiveMQTempTopic.class, MessageId.class, LocalTransactionId.class, XATransactionId.class, ConnectionId.class,
        SessionId.class, ConsumerId.class, ProducerId.class, BrokerId.class,
    };
    /** Setters that are no fields, or fields of another structure's meaning. */
    static final Set<String> LEFT_OUT = Set.of("setProperties", "setMarshalledProperties", "setContent", "setFrom",
        "setNetworkSubscription", "setAdditionalPredicate", "setPeerBrokerInfos", "setCompressed", "setSize",
        "setMessageBody", "setPassiveSlave");

    public static void main(String[] arguments) throws Exception {
        List<String> text = new ArrayList<>();
        text.add("# structures: ActiveMQ " + ActiveMQConnectionMetaData.PROVIDER_VERSION
            + ", made by tests/capture/Structures.java.");
        text.add("# A line for each structure with all fields set, bare ones inside a DataResponse; before it the first");
        text.add("# and the last version that have these bytes.");
        for (Class<?> kind : KINDS) {
            String previous = "";
            int first = 12;
            // All messages but blobs have the same fields.
            boolean like = ActiveMQMessage.class.isAssignableFrom(kind) && kind != ActiveMQTextMessage.class
                && kind != ActiveMQBlobMessage.class;
            for (int version = like ? 12 : 1; version <= 13; version++) {
                String hex = version <= 12 ? marshal(kind, version) : "end";
                if (!hex.equals(previous)) {
                    if (!previous.isEmpty()) {
                        text.add("# " + kind.getSimpleName() + " " + first + " " + (version - 1));
                        text.add(previous);
                    }
                    first = version;
                    previous = hex;
                }
            }
        }
        Files.write(Path.of(arguments[0]), text);
    }

    /** Nothing where the version does not have the structure. */
    static String marshal(Class<?> kind, int version) throws Exception {
        OpenWireFormat format = (OpenWireFormat) new OpenWireFormatFactory().createWireFormat();
        format.setVersion(version);
        format.setTightEncodingEnabled(false);
        format.setCacheEnabled(false);
        format.setStackTraceEnabled(false);
        format.setSizePrefixDisabled(true);
        Object structure = filled(kind, 0);
        if (!(structure instanceof Command)) {
            DataResponse response = new DataResponse();
            response.setData((DataStructure) structure);
            structure = response;
        }
        try {
            ByteSequence bytes = format.marshal(structure);
            return HexFormat.of().formatHex(bytes.data, bytes.offset, bytes.offset + bytes.length);
        } catch (java.io.IOException unknown) {
            return "";
        }
    }

    static Object filled(Class<?> kind, int depth) throws Exception {
        Object structure = kind.getDeclaredConstructor().newInstance();
        Method[] methods = kind.getMethods();
        Arrays.sort(methods, Comparator.comparing(Method::toGenericString));
        for (Method method : methods) {
            if (!isField(kind, method)) continue;
            Object value = value(method.getParameterTypes()[0], method.getName(), depth);
            if (value == null) continue;
            try {
                method.invoke(structure, value);
            } catch (InvocationTargetException refused) {
                System.err.println(method + ": " + refused.getCause());
            }
        }
        if (structure instanceof Message message) {
            message.setContent(new ByteSequence(new byte[] {0, 0, 0, 1, 'x'}));
            message.setMarshalledProperties(new ByteSequence(new byte[] {0, 0, 0, 0}));
            message.setCompressed(true);
        }
        return structure;
    }

    static boolean isField(Class<?> kind, Method method) {
        String name = method.getName();
        if (!name.startsWith("set") || method.getParameterCount() != 1 || Modifier.isStatic(method.getModifiers())) {
            return false;
        }
        boolean again = name.startsWith("setJMS") && !name.equals("setJMSXGroupFirstForConsumer")
            || kind == MessageId.class && name.equals("setValue");
        return !again && !LEFT_OUT.contains(name);
    }

    static Object value(Class<?> type, String setter, int depth) throws Exception {
        if (type == boolean.class) return true;
        if (type == byte.class) return (byte) 1;
        if (type == int.class) return 70000 + setter.length();
        if (type == long.class) return (1L << 40) + setter.length();
        if (type == String.class) return setter.substring(3);
        if (type == byte[].class) return new byte[] {1, 2, 3};
        if (type == Throwable.class) return new javax.jms.JMSException("reason");
        if (type == ActiveMQDestination.class) return new ActiveMQQueue(setter.substring(3));
        if (type == TransactionId.class) return new LocalTransactionId(new ConnectionId("c"), 5);
        if (type == BrokerId[].class) return new BrokerId[] {new BrokerId("b1"), new BrokerId("b2")};
        if (type == ConsumerId[].class) return new ConsumerId[] {new ConsumerId("c:1:2")};
        if (type == DataStructure[].class) return new DataStructure[] {new BrokerId("b"), new ConnectionId("c")};
        if (type == DataStructure.class) return setter.equals("setObjectId") ? new ConsumerId("c:1:2") : new SessionId(new ConnectionId("c"), 3);
        if (type == Message.class) return depth == 0 ? filled(ActiveMQTextMessage.class, depth + 1) : null;
        if (type == ConnectionId.class) return new ConnectionId("connection");
        if (type == SessionId.class) return new SessionId(new ConnectionId("connection"), 4);
        if (type == ConsumerId.class) return new ConsumerId("connection:5:6");
        if (type == ProducerId.class) return new ProducerId("connection:7:8");
        if (type == BrokerId.class) return new BrokerId("broker");
        if (type == MessageId.class) {
            MessageId id = new MessageId("connection:7:8:9");
            id.setTextView("ID:text");
            id.setBrokerSequenceId(10);
            return id;
        }
        return null;
    }
}
