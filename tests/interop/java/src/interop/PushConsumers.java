package interop;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

import interop.Letters.Posted;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** Consumers that are called with messages: alone, in groups, restarted, with tags. */
final class PushConsumers {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        SCENARIOS.put("push_clustering", PushConsumers::clustering);
        SCENARIOS.put("push_broadcasting", PushConsumers::broadcasting);
        SCENARIOS.put("push_two_groups", PushConsumers::twoGroups);
        SCENARIOS.put("push_tags", PushConsumers::tags);
        SCENARIOS.put("push_resumed", PushConsumers::resumed);
    }

    private PushConsumers() { }

    /** Two share the queues; when the second goes, the first has them all again. Each message once. */
    private static void clustering(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        String group = stage.name("g");
        Inbox first = Inbox.open(stage.newPushConsumer(group), topic, "*");
        Set<MessageQueue> all = first.awaitQueues(Stage.QUEUES);
        List<Posted> posted = post(stage, topic, 0, 40);
        first.awaitCount(40);
        first.awaitCommitted(stage);

        Inbox second = Inbox.open(stage.newPushConsumer(group), topic, "*");
        second.awaitQueues(Stage.QUEUES / 2);
        first.awaitQueues(Stage.QUEUES / 2);
        Check.same("queues of both", all, union(first.assigned(), second.assigned()));
        List<Posted> more = post(stage, topic, 40, 100);
        posted.addAll(more);
        int seconds = (int) more.stream().filter(one -> holds(second, one)).count();
        Check.between("messages for the second", 1, seconds, 99);
        second.awaitCount(seconds);
        first.awaitCount(40 + 100 - seconds);
        for (MessageExt message : second.received()) {
            Check.that(second.assigned().stream().anyMatch(queue -> queue.getQueueId() == message.getQueueId()),
                "received from queue %d, holds %s", message.getQueueId(), second.assigned());
        }
        first.awaitCommitted(stage);
        second.awaitCommitted(stage);

        second.consumer.shutdown();
        Check.same("queues taken over", all, first.awaitQueues(Stage.QUEUES));
        posted.addAll(post(stage, topic, 140, 40));
        first.awaitCount(180 - seconds);
        checkContents(posted, union(first.received(), second.received()));
    }

    private static boolean holds(Inbox inbox, Posted one) {
        return inbox.assigned().contains(one.result().getMessageQueue());
    }

    private static List<Posted> post(Stage stage, String topic, int first, int count) throws Exception {
        List<Posted> posted = new ArrayList<>();
        for (Message message : Letters.numbered(topic, first, count)) {
            posted.add(Letters.posted(message, stage.producer().send(message)));
        }
        return posted;
    }

    private static Set<MessageQueue> union(Set<MessageQueue> left, Set<MessageQueue> right) {
        Set<MessageQueue> both = new TreeSet<>(left);
        both.addAll(right);
        Check.same("queues held", left.size() + right.size(), both.size());
        return Set.copyOf(both);
    }

    private static List<MessageExt> union(List<MessageExt> left, List<MessageExt> right) {
        List<MessageExt> both = new ArrayList<>(left);
        both.addAll(right);
        return both;
    }

    /** Each posted message exactly once, as it was posted. */
    private static void checkContents(List<Posted> posted, List<MessageExt> received) throws Exception {
        List<Message> messages = posted.stream().map(Posted::message).toList();
        Letters.sameNumbers("messages received", messages, received);
        for (MessageExt message : received) {
            Posted one = posted.get(Letters.numberOf(message) - Letters.numberOf(messages.get(0)));
            Letters.same(one.message(), message);
            Check.same("queue offset", one.result().getQueueOffset(), message.getQueueOffset());
            Check.same("msgId", one.result().getMsgId(), message.getMsgId());
        }
    }

    /** Each gets all; one that comes back goes on where it was. */
    private static void broadcasting(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        Inbox first = Inbox.open(broadcast(stage, "first"), topic, "*");
        Inbox second = Inbox.open(broadcast(stage, "second"), topic, "*");
        first.awaitQueues(Stage.QUEUES);
        second.awaitQueues(Stage.QUEUES);
        List<Posted> posted = post(stage, topic, 0, 40);
        checkContents(posted, first.awaitCount(40));
        checkContents(posted, second.awaitCount(40));
        second.awaitConsumed(stage);
        second.consumer.shutdown();
        List<Posted> missed = post(stage, topic, 40, 20);
        first.awaitCount(60);
        checkContents(missed, Inbox.open(broadcast(stage, "second"), topic, "*").awaitCount(20));
    }

    private static DefaultMQPushConsumer broadcast(Stage stage, String instance) {
        DefaultMQPushConsumer consumer = stage.newPushConsumer(stage.name("g"));
        consumer.setMessageModel(MessageModel.BROADCASTING);
        consumer.setInstanceName(stage.name(instance));
        return consumer;
    }

    private static void twoGroups(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        Inbox left = Inbox.open(stage.newPushConsumer(stage.name("left")), topic, "*");
        List<Posted> posted = post(stage, topic, 0, 40);
        Inbox right = Inbox.open(stage.newPushConsumer(stage.name("right")), topic, "*");
        checkContents(posted, left.awaitCount(40));
        checkContents(posted, right.awaitCount(40));
        left.awaitCommitted(stage);
        right.awaitCommitted(stage);
    }

    /** Only what matches is delivered, and the offset passes what does not. */
    private static void tags(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        // "Aa" and "BB" have the same hash, which is all that the broker compares.
        List<String> tags = new ArrayList<>(List.of("TagA", "TagB", "TagC", "Aa", "BB", "Größe"));
        tags.add(null);
        Inbox some = Inbox.open(stage.newPushConsumer(stage.name("some")), topic, "TagA || TagB || Größe");
        Inbox colliding = Inbox.open(stage.newPushConsumer(stage.name("colliding")), topic, "Aa");
        Inbox none = Inbox.open(stage.newPushConsumer(stage.name("none")), topic, "TagD");
        List<Message> messages = new ArrayList<>();
        for (int number = 0; number < 20 * tags.size(); number++) {
            messages.add(Letters.tagged(topic, tags.get(number % tags.size()), number));
        }
        for (Message message : messages) {
            Letters.posted(message, stage.producer().send(message));
        }
        some.awaitCount(60);
        colliding.awaitCount(20);
        for (Inbox inbox : List.of(some, colliding, none)) {
            inbox.awaitQueues(Stage.QUEUES);
        }
        Letters.sameNumbers("some tags", having(messages, Set.of("TagA", "TagB", "Größe")), some.received());
        Letters.sameNumbers("colliding tag", having(messages, Set.of("Aa")), colliding.received());
        // A last match lets the offset of every group pass all before it.
        for (MessageQueue queue : stage.producer().fetchPublishMessageQueues(topic)) {
            for (String tag : List.of("TagA", "Aa", "TagD")) {
                stage.producer().send(Letters.tagged(topic, tag, messages.size()), queue);
            }
        }
        some.awaitCount(60 + Stage.QUEUES);
        colliding.awaitCount(20 + Stage.QUEUES);
        none.awaitCount(Stage.QUEUES);
        none.awaitCommitted(stage);
    }

    private static List<Message> having(List<Message> messages, Set<String> tags) {
        return messages.stream().filter(message -> message.getTags() != null && tags.contains(message.getTags())).toList();
    }

    /** A consumer that comes back finds what it missed, and nothing that it had. */
    private static void resumed(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        String group = stage.name("g");
        for (int first = 0; first < 180; first += 60) {
            List<Posted> posted = post(stage, topic, first, 60);
            Inbox inbox = Inbox.open(stage.newPushConsumer(group), topic, "*");
            checkContents(posted, inbox.awaitCount(60));
            inbox.awaitQueues(Stage.QUEUES);
            inbox.awaitCommitted(stage);
            inbox.consumer.shutdown();
        }
    }
}
