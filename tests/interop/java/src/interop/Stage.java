package interop;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.exception.OffsetNotFoundException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.topic.TopicValidator;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;

/** The clients that one scenario starts, closed in reverse order, and names that only this run uses. */
final class Stage implements AutoCloseable {
    static final int QUEUES = 4;
    /**
     * Between two heartbeats. After a rebalance the client may skip the one that should announce its new
     * subscription version, and is then refused (SUBSCRIPTION_NOT_LATEST) until the next: 30 s by default.
     */
    private static final int HEARTBEAT_MS = 1_000;

    private final String nameservers;
    private final String tag;
    private final Deque<Runnable> closing = new ArrayDeque<>();
    private DefaultMQProducer producer;
    private DefaultMQPullConsumer reader;

    Stage(String nameservers, String tag) {
        this.nameservers = nameservers;
        this.tag = tag;
    }

    /** A name that no other run and no other scenario uses. */
    String name(String subject) {
        return subject + "_" + tag;
    }

    /** Hand over something to close at the end of the scenario. */
    void atEnd(Runnable close) {
        closing.push(close);
    }

    @Override
    public void close() {
        closing.forEach(Runnable::run);
    }

    private <C extends ClientConfig> C configured(C client) {
        client.setNamesrvAddr(nameservers);
        client.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        return client;
    }

    /** The producer of this scenario, started at its first use. */
    DefaultMQProducer producer() throws MQClientException {
        if (producer == null) {
            producer = newProducer("producer");
            producer.start();
        }
        return producer;
    }

    /** Another producer, for the scenario to set up and start. */
    DefaultMQProducer newProducer(String group) {
        DefaultMQProducer made = configured(new DefaultMQProducer(name(group)));
        made.setSendMsgTimeout(10_000);
        atEnd(made::shutdown);
        return made;
    }

    DefaultMQPushConsumer newPushConsumer(String group) {
        DefaultMQPushConsumer made = configured(new DefaultMQPushConsumer(group));
        made.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        made.setConsumeThreadMin(2);
        made.setConsumeThreadMax(2);
        atEnd(made::shutdown);
        return made;
    }

    DefaultLitePullConsumer newLitePullConsumer(String group) {
        DefaultLitePullConsumer made = configured(new DefaultLitePullConsumer(group));
        made.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        made.setPullThreadNums(QUEUES); // each waits in the broker for a queue of its own
        atEnd(made::shutdown);
        return made;
    }

    DefaultMQPullConsumer newPullConsumer(String group) {
        DefaultMQPullConsumer made = configured(new DefaultMQPullConsumer(group));
        atEnd(made::shutdown);
        return made;
    }

    /** A fresh topic, made by the client's admin call, whose route is known when this returns. */
    String createTopic(String subject, int queueCount) throws Exception {
        String topic = name(subject);
        producer().createTopic(TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC, topic, queueCount, Map.of());
        Deadline.until("route of " + topic, () -> queueCountOf(topic) == queueCount, () -> queueCountOf(topic) + " queues");
        return topic;
    }

    private int queueCountOf(String topic) {
        try {
            return producer().fetchPublishMessageQueues(topic).size();
        } catch (MQClientException noRoute) {
            return 0;
        }
    }

    /** A pull consumer that looks at topics from outside; no scenario subscribes its group. */
    DefaultMQPullConsumer reader() throws MQClientException {
        if (reader == null) {
            reader = newPullConsumer(name("reader"));
            reader.start();
        }
        return reader;
    }

    /** Every message of a topic, by queue id, each queue complete and without a gap, once it holds so many. */
    Map<Integer, List<MessageExt>> readAll(String topic, int count) throws Exception {
        Set<MessageQueue> topicQueues = subscribeQueues(topic);
        // A broker may acknowledge a message a moment before it shows it.
        Deadline.until(count + " messages in " + topic, () -> countOf(topicQueues) >= count, () -> topicQueues);
        Map<Integer, List<MessageExt>> queues = new TreeMap<>();
        for (MessageQueue queue : topicQueues) {
            queues.put(queue.getQueueId(), readQueue(queue));
        }
        return queues;
    }

    /** What the broker has as a group's consume offset; asked past the group's members, who must not notice. */
    long committed(String group, MessageQueue queue) throws Exception {
        MQClientInstance client = producer().getDefaultMQProducerImpl().getMqClientFactory();
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setTopic(queue.getTopic());
        header.setConsumerGroup(group);
        header.setQueueId(queue.getQueueId());
        header.setBrokerName(queue.getBrokerName());
        String address = client.findBrokerAddressInPublish(queue.getBrokerName());
        try {
            return client.getMQClientAPIImpl().queryConsumerOffset(address, header, 10_000);
        } catch (OffsetNotFoundException nothingCommitted) {
            return 0;
        }
    }

    /** Wait until the group's consume offset is this. */
    void awaitCommitted(String group, MessageQueue queue, long offset) throws Exception {
        Deadline.until(offset + " committed by " + group + " for " + queue,
            () -> committed(group, queue) == offset, () -> queue);
    }

    private long countOf(Set<MessageQueue> queues) throws MQClientException {
        long count = 0;
        for (MessageQueue queue : queues) {
            count += reader().maxOffset(queue);
        }
        return count;
    }

    Set<MessageQueue> subscribeQueues(String topic) throws MQClientException {
        return reader().fetchSubscribeMessageQueues(topic);
    }

    /** Every message of one queue, without a gap from offset 0 to the queue's maximum. */
    List<MessageExt> readQueue(MessageQueue queue) throws Exception {
        Check.same("minimum of " + queue, 0L, reader().minOffset(queue));
        long end = reader().maxOffset(queue);
        List<MessageExt> messages = new ArrayList<>();
        while (messages.size() < end) {
            PullResult pulled = reader().pull(queue, "*", messages.size(), 32);
            Check.same("status at offset " + messages.size() + " of " + queue, PullStatus.FOUND, pulled.getPullStatus());
            for (MessageExt message : pulled.getMsgFoundList()) {
                Check.same("queue offset in " + queue, (long) messages.size(), message.getQueueOffset());
                Check.same("queue id", queue.getQueueId(), message.getQueueId());
                messages.add(message);
            }
            Check.same("next offset of " + queue, (long) messages.size(), pulled.getNextBeginOffset());
        }
        return messages;
    }
}
