package interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.store.OffsetStore;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** A push consumer, what it received and which queues it holds, with waits for both. */
final class Inbox {
    final DefaultMQPushConsumer consumer;
    private final String topic;
    private final List<MessageExt> received = new ArrayList<>();
    private Set<MessageQueue> assigned = Set.of();

    private Inbox(DefaultMQPushConsumer consumer, String topic) {
        this.consumer = consumer;
        this.topic = topic;
    }

    /** Start a consumer of one topic. */
    static Inbox open(DefaultMQPushConsumer consumer, String topic, String expression) throws MQClientException {
        Inbox inbox = new Inbox(consumer, topic);
        consumer.subscribe(topic, expression);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> inbox.take(messages));
        consumer.setMessageQueueListener((changed, all, mine) -> inbox.assign(changed, mine));
        consumer.start();
        return inbox;
    }

    private synchronized ConsumeConcurrentlyStatus take(List<MessageExt> messages) {
        received.addAll(messages);
        notifyAll();
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    private synchronized void assign(String changed, Set<MessageQueue> mine) {
        if (changed.equals(topic)) {
            assigned = Set.copyOf(mine);
            notifyAll();
        }
    }

    synchronized List<MessageExt> received() {
        return List.copyOf(received);
    }

    synchronized Set<MessageQueue> assigned() {
        return assigned;
    }

    /** Wait for at least this many messages since the start, and fail on more. */
    List<MessageExt> awaitCount(int count) throws InterruptedException {
        await(count + " messages", inbox -> inbox.received.size() >= count);
        Check.same("messages received", count, received().size());
        return received();
    }

    /** Wait until this consumer holds so many queues. */
    Set<MessageQueue> awaitQueues(int count) throws InterruptedException {
        await(count + " queues", inbox -> inbox.assigned.size() == count);
        return assigned();
    }

    /** Wait until a condition on the messages received holds. */
    synchronized void await(String what, Predicate<Inbox> reached) throws InterruptedException {
        Deadline deadline = new Deadline();
        while (!reached.test(this)) {
            Check.that(!deadline.passed(), "waited for %s of %s, have %d messages and the queues %s",
                what, topic, received.size(), assigned);
            wait(Math.max(1, deadline.leftMs()));
        }
    }

    /** Wait until this consumer itself counts its queues as consumed to their ends, a moment after its listener. */
    void awaitConsumed(Stage stage) throws Exception {
        OffsetStore offsets = consumer.getDefaultMQPushConsumerImpl().getOffsetStore();
        for (MessageQueue queue : assigned()) {
            long end = stage.reader().maxOffset(queue);
            Deadline.until(queue + " consumed to " + end,
                () -> Math.max(0, offsets.readOffset(queue, ReadOffsetType.READ_FROM_MEMORY)) == end, this::received);
        }
    }

    /** Wait until the broker knows that the queues now held are consumed to their ends. */
    void awaitCommitted(Stage stage) throws Exception {
        for (MessageQueue queue : assigned()) {
            long end = stage.reader().maxOffset(queue);
            Deadline.until(end + " committed for " + queue, () -> {
                consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset(); // by itself only after 10 s
                return stage.committed(consumer.getConsumerGroup(), queue) == end;
            }, this::received);
        }
    }
}
