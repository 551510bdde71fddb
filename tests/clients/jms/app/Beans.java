package app;

import java.io.IOException;
import javax.jms.ConnectionFactory;
import org.apache.activemq.ActiveMQConnectionFactory;
import org.apache.activemq.transport.TransportListener;
import org.springframework.context.annotation.Bean;
import org.springframework.jms.annotation.JmsListenerAnnotationBeanPostProcessor;
import org.springframework.jms.config.DefaultJmsListenerContainerFactory;
import org.springframework.jms.config.JmsListenerEndpointRegistry;
import org.springframework.jms.connection.CachingConnectionFactory;
import org.springframework.jms.core.JmsMessagingTemplate;
import org.springframework.jms.listener.DefaultMessageListenerContainer;

/**
 * The beans that Spring Boot would make. They get each other as parameters and `EnableJms` is spelled out, so that no class
 * of configuration is enhanced: what Debian's Spring does that with does not know the classes of a present Java.
 */
public class Beans {
    @Bean
    public ConnectionFactory connectionFactory(Options options, Ledger ledger) {
        ActiveMQConnectionFactory plain = new ActiveMQConnectionFactory(options.user, options.password, options.url);
        plain.setTransportListener(new Interruptions(ledger));
        if (!options.caching) {
            return plain;
        }
        CachingConnectionFactory caching = new CachingConnectionFactory(plain);
        caching.setCacheConsumers(false);
        return caching;
    }

    @Bean
    public JmsMessagingTemplate jmsMessagingTemplate(ConnectionFactory connectionFactory) {
        return new JmsMessagingTemplate(connectionFactory);
    }

    @Bean
    public DefaultJmsListenerContainerFactory jmsListenerContainerFactory(ConnectionFactory connectionFactory,
            Options options, Ledger ledger) {
        DefaultJmsListenerContainerFactory factory = new DefaultJmsListenerContainerFactory() {
            @Override
            protected void initializeContainer(DefaultMessageListenerContainer container) {
                super.initializeContainer(container);
                container.setExceptionListener(ledger::thrown);
            }
        };
        factory.setConnectionFactory(connectionFactory);
        factory.setSessionTransacted(options.transacted);
        factory.setConcurrency(options.concurrency);
        factory.setErrorHandler(ledger::thrown);
        return factory;
    }

    @Bean("org.springframework.jms.config.internalJmsListenerEndpointRegistry")
    public JmsListenerEndpointRegistry endpointRegistry() {
        return new JmsListenerEndpointRegistry();
    }

    @Bean("org.springframework.jms.config.internalJmsListenerAnnotationProcessor")
    public static JmsListenerAnnotationBeanPostProcessor listenerAnnotations() {
        return new JmsListenerAnnotationBeanPostProcessor();
    }

    @Bean
    public QueueProducer queueProducer(JmsMessagingTemplate template) {
        return new QueueProducer(template);
    }

    @Bean
    public QueueConsumer queueConsumer(Ledger ledger) {
        return new QueueConsumer(ledger);
    }

    /** Counts how often the client looked for another gateway. */
    private static final class Interruptions implements TransportListener {
        private final Ledger ledger;

        Interruptions(Ledger ledger) {
            this.ledger = ledger;
        }

        @Override
        public void onCommand(Object command) {
        }

        @Override
        public void onException(IOException error) {
        }

        @Override
        public void transportInterupted() {
            ledger.interrupted();
        }

        @Override
        public void transportResumed() {
        }
    }
}
