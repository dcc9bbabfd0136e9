package interop;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumers that ask for messages: the lite one, subscribed and assigned, and the old one. */
final class PullConsumers {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();
    private static final long POLL_MS = 200;

    static {
        SCENARIOS.put("lite_pull_subscribed", PullConsumers::subscribed);
        SCENARIOS.put("lite_pull_rebalanced", PullConsumers::rebalanced);
        SCENARIOS.put("lite_pull_assigned", PullConsumers::assigned);
        SCENARIOS.put("lite_pull_resumed", PullConsumers::resumed);
        SCENARIOS.put("pull", PullConsumers::pull);
        SCENARIOS.put("pull_long_poll", PullConsumers::longPoll);
        SCENARIOS.put("pull_tags", PullConsumers::pullTags);
    }

    private PullConsumers() { }

    private static List<Message> send(Stage stage, String topic, int first, int count) throws Exception {
        List<Message> messages = Letters.numbered(topic, first, count);
        for (Message message : messages) {
            Letters.posted(message, stage.producer().send(message));
        }
        return messages;
    }

    /** Poll until so many have come. */
    private static List<MessageExt> poll(DefaultLitePullConsumer consumer, int count) {
        Deadline deadline = new Deadline();
        List<MessageExt> messages = new ArrayList<>();
        while (messages.size() < count) {
            Check.that(!deadline.passed(), "polled %d of %d messages", messages.size(), count);
            messages.addAll(consumer.poll(POLL_MS));
        }
        return messages;
    }

    private static void subscribed(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultLitePullConsumer all = stage.newLitePullConsumer(stage.name("all"));
        all.subscribe(topic, "*");
        all.start();
        DefaultLitePullConsumer some = stage.newLitePullConsumer(stage.name("some"));
        some.subscribe(topic, "TagB || TagC");
        some.start();
        List<Message> messages = send(stage, topic, 0, 60);
        Message match = Letters.tagged(topic, "TagC", 60);
        stage.producer().send(match);
        Letters.sameNumbers("messages polled", concat(messages, match), poll(all, 61));
        Letters.sameNumbers("messages with the tag", List.of(match), poll(some, 1));
    }

    private static List<Message> concat(List<Message> messages, Message last) {
        List<Message> all = new ArrayList<>(messages);
        all.add(last);
        return all;
    }

    private static void rebalanced(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        List<DefaultLitePullConsumer> pair = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            DefaultLitePullConsumer consumer = stage.newLitePullConsumer(stage.name("g"));
            consumer.subscribe(topic, "*");
            consumer.start();
            pair.add(consumer);
        }
        for (DefaultLitePullConsumer consumer : pair) {
            Deadline.until("half of the queues", () -> consumer.assignment().size() == Stage.QUEUES / 2, () -> pair);
        }
        List<Message> messages = send(stage, topic, 0, 40);
        List<MessageExt> received = poll(pair.get(0), 20);
        received.addAll(poll(pair.get(1), 20));
        Letters.sameNumbers("messages polled by both", messages, received);
    }

    private static void assigned(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        send(stage, topic, 0, 40);
        DefaultLitePullConsumer consumer = stage.newLitePullConsumer(stage.name("g"));
        consumer.setAutoCommit(false);
        List<MessageQueue> queues = stage.subscribeQueues(topic).stream().sorted().toList();
        consumer.assign(queues);
        consumer.pause(queues); // or it reads from the beginning before it can be told where to start
        consumer.start();
        Check.same("queues", Set.copyOf(queues), Set.copyOf(consumer.fetchMessageQueues(topic)));
        for (MessageQueue queue : queues) {
            consumer.seek(queue, queue.getQueueId());
        }
        consumer.resume(queues);
        List<MessageExt> tail = poll(consumer, 40 - 0 - 1 - 2 - 3);
        tail.forEach(message -> Check.that(message.getQueueOffset() >= message.getQueueId(), "before the seek"));

        MessageQueue last = queues.get(3);
        consumer.seekToBegin(last);
        List<MessageExt> again = poll(consumer, 10);
        for (int offset = 0; offset < 10; offset++) {
            Check.same("queue offset after seekToBegin", (long) offset, again.get(offset).getQueueOffset());
        }
        consumer.seekToEnd(last);
        SendResult result = stage.producer().send(Letters.numbered(topic, 40), last);
        MessageExt next = poll(consumer, 1).get(0);
        Check.same("message after seekToEnd", 40, Letters.numberOf(next));
        Check.same("queue offset after seekToEnd", result.getQueueOffset(), next.getQueueOffset());
        Check.same("offset for its time", next.getQueueOffset(), consumer.offsetForTimestamp(last, next.getStoreTimestamp()));
    }

    /** Stopped in the middle of the backlog, another goes on from the offsets that were committed. */
    private static void resumed(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        String group = stage.name("g");
        List<Message> messages = send(stage, topic, 0, 100);
        List<MessageExt> received = new ArrayList<>();
        while (received.size() < messages.size()) {
            DefaultLitePullConsumer consumer = stage.newLitePullConsumer(group);
            consumer.setAutoCommit(false);
            consumer.setPullBatchSize(7);
            consumer.subscribe(topic, "*");
            consumer.start();
            received.addAll(poll(consumer, Math.min(30, messages.size() - received.size())));
            consumer.commit();
            consumer.shutdown();
            awaitCommitted(stage, group, topic, received);
        }
        Letters.sameNumbers("messages of all sessions", messages, received);
    }

    /** Wait until the broker has the offsets of exactly these messages, as one-way commits may be under way. */
    private static void awaitCommitted(Stage stage, String group, String topic, List<MessageExt> received)
        throws Exception {
        for (MessageQueue queue : stage.subscribeQueues(topic)) {
            long consumed = received.stream().filter(message -> message.getQueueId() == queue.getQueueId()).count();
            stage.awaitCommitted(group, queue, consumed);
        }
    }

    private static void pull(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 2);
        MessageQueue queue = queueOf(stage, topic, 0);
        List<Message> sent = Letters.numbered(topic, 0, 40);
        for (Message message : sent) {
            stage.producer().send(message, queue);
        }
        DefaultMQPullConsumer consumer = started(stage);
        Collection<MessageQueue> queues = consumer.fetchSubscribeMessageQueues(topic);
        Check.same("queues", 2, queues.size());
        PullResult some = consumer.pull(queue, "*", 5, 10);
        Check.same("status", PullStatus.FOUND, some.getPullStatus());
        Check.same("messages", 10, some.getMsgFoundList().size());
        Check.same("next", 15L, some.getNextBeginOffset());
        Check.same("minimum", 0L, some.getMinOffset());
        Check.same("maximum", 40L, some.getMaxOffset());
        for (int i = 0; i < 10; i++) {
            Check.same("queue offset", 5L + i, some.getMsgFoundList().get(i).getQueueOffset());
            Letters.same(sent.get(5 + i), some.getMsgFoundList().get(i));
        }
        checkNothing(PullStatus.NO_NEW_MSG, 40, consumer.pull(queue, "*", 40, 32));
        checkNothing(PullStatus.OFFSET_ILLEGAL, 40, consumer.pull(queue, "*", 1_000, 32));
        checkNothing(PullStatus.NO_NEW_MSG, 0, consumer.pull(queueOf(stage, topic, 1), "*", 0, 32));
        checkNothing(PullStatus.OFFSET_ILLEGAL, 0, consumer.pull(queueOf(stage, topic, 1), "*", 7, 32));
    }

    private static void checkNothing(PullStatus status, long next, PullResult pulled) {
        Check.same("status", status, pulled.getPullStatus());
        Check.same("next offset of " + status, next, pulled.getNextBeginOffset());
        Check.that(pulled.getMsgFoundList() == null || pulled.getMsgFoundList().isEmpty(), "messages with %s", status);
    }

    private static DefaultMQPullConsumer started(Stage stage) throws Exception {
        DefaultMQPullConsumer consumer = stage.newPullConsumer(stage.name("g"));
        consumer.start();
        return consumer;
    }

    private static MessageQueue queueOf(Stage stage, String topic, int id) throws Exception {
        return stage.subscribeQueues(topic).stream().filter(queue -> queue.getQueueId() == id).findFirst().orElseThrow();
    }

    /** A pull at the end waits in the broker, and is answered by the next message or, in time, by nothing. */
    private static void longPoll(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 1);
        MessageQueue queue = queueOf(stage, topic, 0);
        DefaultMQPullConsumer consumer = stage.newPullConsumer(stage.name("g"));
        consumer.setBrokerSuspendMaxTimeMillis(20_000);
        consumer.start();
        consumer.fetchSubscribeMessageQueues(topic);
        ExecutorService thread = Executors.newSingleThreadExecutor();
        stage.atEnd(thread::shutdownNow);
        for (int offset = 0; offset < 20; offset++) {
            long from = offset;
            Future<PullResult> waiting = thread.submit(() -> consumer.pullBlockIfNotFound(queue, "*", from, 32));
            stage.producer().send(Letters.numbered(topic, offset), queue);
            // Far below the 20 s of the suspension and the 5 s of Apache's scan: arrival must wake it.
            PullResult pulled = waiting.get(4, TimeUnit.SECONDS);
            Check.same("status", PullStatus.FOUND, pulled.getPullStatus());
            Check.same("number", offset, Letters.numberOf(pulled.getMsgFoundList().get(0)));
        }
    }

    /** What does not match is passed over, and the answer says how far. */
    private static void pullTags(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 1);
        MessageQueue queue = queueOf(stage, topic, 0);
        for (int number = 0; number < 30; number++) {
            stage.producer().send(Letters.tagged(topic, number % 3 == 0 ? "TagA" : "TagB", number), queue);
        }
        DefaultMQPullConsumer consumer = started(stage);
        consumer.fetchSubscribeMessageQueues(topic);
        PullResult matching = consumer.pull(queue, "TagA", 0, 32);
        Check.same("status", PullStatus.FOUND, matching.getPullStatus());
        List<Integer> numbers = matching.getMsgFoundList().stream().map(Letters::numberOf).toList();
        Check.same("numbers", List.of(0, 3, 6, 9, 12, 15, 18, 21, 24, 27), numbers);
        Check.between("next", 28, matching.getNextBeginOffset(), 30);
        checkNothing(PullStatus.NO_MATCHED_MSG, 30, consumer.pull(queue, "TagC", 0, 32));
    }
}
