package interop;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

import interop.Letters.Posted;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics that are made on purpose, topics that come of themselves, and those that do not exist. */
final class Topics {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();
    private static final int INVALID_PARAMETER = 29;
    private static final int TOPIC_NOT_EXIST = 17;

    static {
        SCENARIOS.put("topic_created", Topics::created);
        SCENARIOS.put("topic_grown", Topics::grown);
        SCENARIOS.put("topic_auto_created", Topics::autoCreated);
        SCENARIOS.put("topic_unknown", Topics::unknown);
        SCENARIOS.put("queue_unknown", Topics::unknownQueue);
    }

    private Topics() { }

    private static void created(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 6);
        Check.same("publish queues", idsTo(6), ids(stage.producer().fetchPublishMessageQueues(topic)));
        Check.same("subscribe queues", idsTo(6), ids(stage.subscribeQueues(topic)));
        for (MessageQueue queue : stage.subscribeQueues(topic)) {
            Check.same("minimum of a fresh queue", 0L, stage.reader().minOffset(queue));
            Check.same("maximum of a fresh queue", 0L, stage.reader().maxOffset(queue));
        }
        Message message = Letters.numbered(topic, 1);
        Letters.compare(List.of(Letters.posted(message, stage.producer().send(message))), stage.readAll(topic, 1));
    }

    private static void grown(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 2);
        Message message = Letters.numbered(topic, 1);
        List<Posted> posted = List.of(Letters.posted(message, stage.producer().send(message)));
        Check.same("name of the topic", topic, stage.createTopic("t", 5));
        Check.same("queues after growing", idsTo(5), ids(stage.subscribeQueues(topic)));
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    /** The first send to a name makes the topic, with as many queues as the producer asks for. */
    private static void autoCreated(Stage stage) throws Exception {
        for (int queueCount : List.of(4, 2)) {
            String topic = stage.name("auto" + queueCount);
            DefaultMQProducer producer = stage.newProducer("p" + queueCount);
            producer.setDefaultTopicQueueNums(queueCount);
            producer.start();
            List<Message> messages = Letters.numbered(topic, 0, 3 * queueCount);
            List<Posted> posted = new ArrayList<>();
            for (Message message : messages) {
                posted.add(Letters.posted(message, producer.send(message)));
            }
            Deadline.until("route of " + topic, () -> knownQueues(stage, topic).equals(idsTo(queueCount)),
                () -> knownQueues(stage, topic));
            Letters.compare(posted, stage.readAll(topic, posted.size()));
            List<MessageExt> consumed =
                Inbox.open(stage.newPushConsumer(stage.name("g" + queueCount)), topic, "*").awaitCount(messages.size());
            Letters.sameNumbers("messages of " + topic, messages, consumed);
        }
    }

    private static Set<Integer> knownQueues(Stage stage, String topic) {
        try {
            return ids(stage.subscribeQueues(topic));
        } catch (MQClientException noRoute) {
            return Set.of();
        }
    }

    private static void unknown(Stage stage) throws Exception {
        String topic = stage.name("never_made");
        try {
            Check.that(false, "unknown topic has the queues %s", stage.subscribeQueues(topic));
        } catch (MQClientException expected) {
            Check.that(expected.getMessage().contains(topic), "unclear failure: %s", expected.getMessage());
        }
        MessageQueue known = stage.subscribeQueues(stage.createTopic("known", 1)).iterator().next();
        stage.reader().maxOffset(known); // from now on the reader knows the broker's address
        MessageQueue queue = new MessageQueue(topic, known.getBrokerName(), 0);
        Check.refused("pull from an unknown topic", Set.of(TOPIC_NOT_EXIST), () -> stage.reader().pull(queue, "*", 0, 32));
    }

    private static void unknownQueue(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 2);
        MessageQueue known = stage.producer().fetchPublishMessageQueues(topic).get(0);
        MessageQueue beyond = new MessageQueue(topic, known.getBrokerName(), 2);
        Check.refused("send to queue 2 of 2", Set.of(INVALID_PARAMETER),
            () -> stage.producer().send(Letters.numbered(topic, 1), beyond));
        stage.subscribeQueues(topic);
        Check.refused("pull from queue 2 of 2", Set.of(INVALID_PARAMETER), () -> stage.reader().pull(beyond, "*", 0, 32));
        Message message = Letters.numbered(topic, 2);
        Letters.compare(List.of(Letters.posted(message, stage.producer().send(message))), stage.readAll(topic, 1));
    }

    private static Set<Integer> ids(Collection<MessageQueue> queues) {
        return queues.stream().map(MessageQueue::getQueueId).collect(Collectors.toCollection(TreeSet::new));
    }

    private static Set<Integer> idsTo(int count) {
        Set<Integer> ids = new TreeSet<>();
        for (int id = 0; id < count; id++) {
            ids.add(id);
        }
        return ids;
    }
}
