package checks;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;

/** Windows of any size, pulls, and listeners. */
public final class Prefetching extends Fixture {
    @Check
    public void zero() throws JMSException {
        MessageConsumer consumer = session().createConsumer(with(queue(), "consumer.prefetchSize=0"));
        equal("receiveNoWait of nothing", null, consumer.receiveNoWait());
        equal("receive of nothing", null, consumer.receive(100));
        send(queue(), "a", "b", "c");
        next(consumer, "a");
        equal("receiveNoWait", "b", ((TextMessage) consumer.receiveNoWait()).getText());
        next(consumer, "c");
        equal("receiveNoWait of nothing", null, consumer.receiveNoWait());
    }

    @Check
    public void zero_waits_for_what_comes_later() throws Exception {
        MessageConsumer consumer = session().createConsumer(with(queue(), "consumer.prefetchSize=0"));
        List<Message> got = Collections.synchronizedList(new ArrayList<>());
        Thread waiting = new Thread(() -> {
            try {
                got.add(consumer.receive());
            } catch (JMSException e) {
                got.add(null);
            }
        });
        waiting.start();
        Thread.sleep(100);
        send(queue(), "late");
        waiting.join(COMES_MS);
        equal("messages", 1, got.size());
        equal("text", "late", ((TextMessage) got.get(0)).getText());
    }

    @Check
    public void zero_leaves_the_rest_to_others() throws JMSException {
        send(queue(), "a", "b");
        MessageConsumer pulling = session().createConsumer(with(queue(), "consumer.prefetchSize=0"));
        next(pulling, "a");
        next(session().createConsumer(queue()), "b");
    }

    @Check
    public void zero_in_a_transaction() throws JMSException {
        send(queue(), "a", "b");
        Session session = session(Session.SESSION_TRANSACTED);
        MessageConsumer consumer = session.createConsumer(with(queue(), "consumer.prefetchSize=0"));
        receive(consumer, "a", "b");
        equal("message", null, consumer.receiveNoWait());
        session.commit();
        session.close();
        holds(queue());
    }

    @Check
    public void one_is_shared_between_two() throws JMSException {
        MessageConsumer first = session().createConsumer(with(queue(), "consumer.prefetchSize=1"));
        MessageConsumer second = session().createConsumer(with(queue(), "consumer.prefetchSize=1"));
        send(queue(), "a", "b", "c", "d");
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            texts.add(((TextMessage) next(first)).getText());
            texts.add(((TextMessage) next(second)).getText());
        }
        Collections.sort(texts);
        equal("texts", "[a, b, c, d]", texts.toString());
    }

    @Check
    public void big() throws JMSException {
        send(queue(), 3000);
        MessageConsumer consumer = session().createConsumer(with(queue(), "consumer.prefetchSize=30000"));
        receive(consumer, numbered(3000));
        nothing(consumer);
    }

    @Check
    public void receive_times_out() throws JMSException {
        MessageConsumer consumer = session().createConsumer(queue());
        long begin = System.nanoTime();
        equal("message", null, consumer.receive(200));
        long ms = (System.nanoTime() - begin) / 1_000_000;
        demand(ms >= 190 && ms < 3000, "receive(200) took " + ms + " ms");
    }

    @Check
    public void a_connection_that_is_stopped_delivers_nothing() throws JMSException {
        ActiveMQConnection connection = unstarted(factory());
        MessageConsumer consumer = session(connection, Session.AUTO_ACKNOWLEDGE).createConsumer(queue());
        send(queue(), "a", "b");
        nothing(consumer);
        connection.start();
        next(consumer, "a");
        connection.stop();
        nothing(consumer);
        connection.start();
        next(consumer, "b");
    }

    @Check
    public void listeners_of_four_sessions() throws Exception {
        int count = 400;
        CountDownLatch left = new CountDownLatch(count);
        List<String> texts = Collections.synchronizedList(new ArrayList<>());
        ActiveMQConnectionFactory factory = factory();
        factory.getPrefetchPolicy().setQueuePrefetch(10);
        ActiveMQConnection connection = connect(factory);
        int[] calls = new int[4];
        for (int i = 0; i < calls.length; i++) {
            int own = i;
            session(connection, Session.AUTO_ACKNOWLEDGE).createConsumer(queue()).setMessageListener(message -> {
                try {
                    texts.add(((TextMessage) message).getText());
                    calls[own]++;
                    Thread.sleep(1);
                } catch (JMSException | InterruptedException e) {
                    throw new IllegalStateException(e);
                }
                left.countDown();
            });
        }
        send(queue(), count);
        demand(left.await(COMES_MS, TimeUnit.MILLISECONDS), left.getCount() + " did not come");
        connection.close();
        equal("distinct", (long) count, texts.stream().distinct().count());
        equal("all", count, texts.size());
        for (int own : calls) {
            demand(own > 0, "a listener got nothing");
        }
        holds(queue());
    }
}
