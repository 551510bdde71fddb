package checks;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import javax.jms.InvalidClientIDException;
import javax.jms.JMSException;
import javax.jms.JMSSecurityException;
import javax.jms.Session;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.transport.failover.FailoverTransport;

/** Connections: names, passwords, many of them. */
public final class Connections extends Fixture {
    @Check
    public void client_id_is_used_once_at_a_time() throws Exception {
        ActiveMQConnection first = connectAs(name);
        refused(InvalidClientIDException.class, () -> connectAs(name));
        first.close();
        connectAs(name);
    }

    @Check
    public void client_id_of_another_address_too() throws Exception {
        if (target.second == null) {
            throw new Skipped("needs --second");
        }
        ActiveMQConnection first = connectAs(name);
        ActiveMQConnection second = unstarted(factory(target.second));
        refused(InvalidClientIDException.class, () -> second.setClientID(name));
        first.close();
        ActiveMQConnection third = unstarted(factory(target.second));
        third.setClientID(name);
        refused(InvalidClientIDException.class, () -> connectAs(name));
    }

    @Check
    public void client_id_goes_with_its_connection_to_another_address() throws Exception {
        if (target.second == null) {
            throw new Skipped("needs --second");
        }
        for (int i = 0; i < 5; i++) {
            ActiveMQConnection connection = unstarted(factory(failover(target.url, target.second)));
            connection.setClientID(name);
            connection.start();
            Session session = session(connection, Session.AUTO_ACKNOWLEDGE);
            send(session, queue(), "before");
            // As if the network broke: the client tries the other address first.
            FailoverTransport transport = connection.getTransport().narrow(FailoverTransport.class);
            transport.handleTransportFailure(new IOException("broken by the check"));
            send(session, queue(), "after");
            holds(queue(), "before", "after");
            ActiveMQConnection other = unstarted(factory());
            refused(InvalidClientIDException.class, () -> other.setClientID(name));
            quietly(other::close);
            connection.close();
        }
    }

    /** Both addresses behind one `failover:`, in this order. */
    private static String failover(String first, String second) {
        String own = first.startsWith("failover:(") ? first.substring("failover:(".length(), first.indexOf(')')) : first;
        return "failover:(" + own + "," + second + ")?randomize=false";
    }

    @Check
    public void wrong_password() throws Exception {
        if (target.user == null) {
            throw new Skipped("needs --user");
        }
        ActiveMQConnectionFactory factory = factory();
        factory.setPassword("not " + target.password);
        refused(JMSSecurityException.class, () -> connect(factory));
    }

    @Check
    public void unknown_user() throws Exception {
        if (target.user == null) {
            throw new Skipped("needs --user");
        }
        ActiveMQConnectionFactory factory = factory();
        factory.setUserName("nobody");
        refused(JMSSecurityException.class, () -> connect(factory));
    }

    @Check
    public void two_hundred_one_after_the_other() throws JMSException {
        for (int i = 0; i < 200; i++) {
            ActiveMQConnection connection = connect();
            session(connection, Session.AUTO_ACKNOWLEDGE);
            connection.close();
        }
        send(queue(), "after them all");
        holds(queue(), "after them all");
    }

    @Check
    public void fifty_at_once() throws JMSException {
        List<Session> sessions = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            sessions.add(session());
        }
        for (int i = 0; i < 50; i++) {
            send(sessions.get(i), queue(), "m" + i);
        }
        holds(queue(), numbered(50));
    }

    @Check
    public void many_sessions() throws JMSException {
        ActiveMQConnection connection = connect();
        for (int i = 0; i < 100; i++) {
            Session session = session(connection, Session.AUTO_ACKNOWLEDGE);
            session.createConsumer(queue(".other")).close();
            send(session, queue(), "m" + i);
            session.close();
        }
        holds(queue(), numbered(100));
    }

    @Check
    public void says_what_the_broker_is() throws JMSException {
        ActiveMQConnection connection = connect();
        demand(connection.getBrokerInfo() != null, "no BrokerInfo");
        demand(connection.getBrokerName() != null, "no name of the broker");
    }

    @Check
    public void stays_while_nothing_is_sent() throws Exception {
        String glue = target.url.contains("?") ? "&" : "?";
        String nested = "wireFormat.maxInactivityDuration=900";
        // Of several addresses behind `failover:` each has options of its own; `nested.` gives them to all.
        String url = target.url.startsWith("failover:") ? target.url + glue + "nested." + nested : target.url + glue + nested;
        Session session = session(connect(factory(url)), Session.AUTO_ACKNOWLEDGE);
        Thread.sleep(2500);
        send(session, queue(), "still here");
        holds(queue(), "still here");
    }
}
