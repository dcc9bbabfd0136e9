package interop;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Queue offsets by minimum, maximum and time; consume offsets by group. */
final class Offsets {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        SCENARIOS.put("offset_min_max", Offsets::minMax);
        SCENARIOS.put("offset_search", Offsets::search);
        SCENARIOS.put("offset_commit", Offsets::commit);
    }

    private Offsets() { }

    private static void minMax(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 2);
        for (MessageQueue queue : stage.subscribeQueues(topic)) {
            for (int count = 0; count < 5; count++) {
                Check.same("minimum", 0L, stage.reader().minOffset(queue));
                awaitMaximum(stage, queue, count);
                stage.producer().send(Letters.numbered(topic, count), queue);
            }
        }
    }

    private static void awaitMaximum(Stage stage, MessageQueue queue, long maximum) throws Exception {
        Deadline.until("maximum " + maximum, () -> stage.reader().maxOffset(queue) == maximum, () -> queue);
    }

    /** The first message stored at or after a time. */
    private static void search(Stage stage) throws Exception {
        String topic = stage.createTopic("t", 1);
        MessageQueue queue = stage.subscribeQueues(topic).iterator().next();
        DefaultMQPullConsumer reader = stage.reader();
        for (int number = 0; number < 20; number++) {
            stage.producer().send(Letters.numbered(topic, number), queue);
            untilLater(System.currentTimeMillis());
        }
        List<MessageExt> messages = stage.readAll(topic, 20).get(0);
        for (MessageExt message : messages) {
            Check.same("offset at its own time", message.getQueueOffset(), reader.searchOffset(queue, message.getStoreTimestamp()));
        }
        long first = messages.get(0).getStoreTimestamp();
        Check.same("offset before all", 0L, reader.searchOffset(queue, first - 3_600_000));
        Check.same("offset after all", 20L, reader.searchOffset(queue, System.currentTimeMillis() + 3_600_000));
        Check.between("time of the earliest", 1, reader.earliestMsgStoreTime(queue), first);
    }

    /** Two messages in the same millisecond would leave open which of them a search finds. */
    private static void untilLater(long nowMs) {
        while (System.currentTimeMillis() <= nowMs + 1) {
            LockSupport.parkNanos(200_000);
        }
    }

    /** What one member of a group commits, the next one reads; other groups do not. */
    private static void commit(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        for (int number = 0; number < 40; number++) {
            stage.producer().send(Letters.numbered(topic, number));
        }
        for (long round = 1; round <= 3; round++) {
            DefaultMQPullConsumer member = started(stage, "g");
            for (MessageQueue queue : member.fetchSubscribeMessageQueues(topic)) {
                Check.same("offset of the round before", expected(queue, round - 1), Math.max(0, member.fetchConsumeOffset(queue, true)));
                long now = expected(queue, round);
                member.getOffsetStore().updateConsumeOffsetToBroker(queue, now, false);
                Check.same("committed offset", now, member.fetchConsumeOffset(queue, true));
            }
            member.shutdown();
        }
        DefaultMQPullConsumer stranger = started(stage, "stranger");
        for (MessageQueue queue : stranger.fetchSubscribeMessageQueues(topic)) {
            Check.same("offset of another group", 0L, Math.max(0, stranger.fetchConsumeOffset(queue, true)));
        }
    }

    private static long expected(MessageQueue queue, long round) {
        return round == 0 ? 0 : 2 * round + queue.getQueueId();
    }

    private static DefaultMQPullConsumer started(Stage stage, String group) throws Exception {
        DefaultMQPullConsumer consumer = stage.newPullConsumer(stage.name(group));
        consumer.start();
        return consumer;
    }
}
