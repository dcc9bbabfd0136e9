package interop;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;

/**
 * A producer and a push consumer of one topic that exists, at work until the input ends. Nothing is sent twice.
 *
 * <pre>Traffic --namesrv HOST:PORT[;HOST:PORT ...] --topic TOPIC</pre>
 *
 * Their groups are <code>traffic_producer</code> and <code>traffic_consumer</code>. Prints <code>sent N failed M
 * consumed K</code> about ten times a second.
 */
public final class Traffic {
    private static final long PROGRESS_MS = 100;
    private static final long INTERVAL_NS = TimeUnit.MILLISECONDS.toNanos(5);

    private final String topic;
    private final DefaultMQProducer producer = new DefaultMQProducer("traffic_producer");
    private final DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("traffic_consumer");
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final AtomicLong consumed = new AtomicLong();

    private Traffic(Options options) throws MQClientException {
        topic = options.get("topic");
        producer.setNamesrvAddr(options.get("namesrv"));
        producer.setRetryTimesWhenSendFailed(0);
        consumer.setNamesrvAddr(options.get("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            consumed.addAndGet(messages.size());
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
    }

    public static void main(String[] args) throws Exception {
        Traffic traffic = new Traffic(new Options(args));
        traffic.producer.start();
        traffic.consumer.start();
        inBackground("send", traffic::send);
        inBackground("progress", traffic::report);
        while (System.in.read() >= 0) {
            continue; // only the end of the input says anything
        }
        System.exit(0);
    }

    private static void inBackground(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
    }

    private void send() {
        for (long number = 0;; number++) {
            try {
                SendStatus status = producer.send(Letters.numbered(topic, (int) number)).getSendStatus();
                Check.same("status", SendStatus.SEND_OK, status);
                sent.incrementAndGet();
            } catch (Exception failure) {
                failure.printStackTrace();
                failed.incrementAndGet();
            }
            LockSupport.parkNanos(INTERVAL_NS);
        }
    }

    private void report() {
        while (true) {
            System.out.printf("sent %d failed %d consumed %d%n", sent.get(), failed.get(), consumed.get());
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(PROGRESS_MS));
        }
    }
}
