package interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import interop.Letters.Posted;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;

/** All ways to send, and all kinds of messages. */
final class Producers {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();
    private static final int SYSTEM_ERROR = 1;
    private static final int MESSAGE_ILLEGAL = 13;
    private static final int BODY_MAX = 4 * 1024 * 1024;
    private static final int LARGE = 3 * 1024 * 1024;

    static {
        SCENARIOS.put("send_sync", Producers::sync);
        SCENARIOS.put("send_async", Producers::async);
        SCENARIOS.put("send_oneway", Producers::oneway);
        SCENARIOS.put("send_batch", Producers::batch);
        SCENARIOS.put("send_concurrent", Producers::concurrent);
        SCENARIOS.put("send_to_queue", Producers::toQueue);
        SCENARIOS.put("send_selected", Producers::selected);
        SCENARIOS.put("send_vip", Producers::vip);
        SCENARIOS.put("send_sizes", Producers::sizes);
        SCENARIOS.put("send_compressed", Producers::compressed);
        SCENARIOS.put("send_unicode", Producers::unicode);
        SCENARIOS.put("send_over_limit", Producers::overLimit);
    }

    private Producers() { }

    private static void sync(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        List<Posted> posted = new ArrayList<>();
        for (Message message : Letters.numbered(topic, 0, 40)) {
            posted.add(Letters.posted(message, stage.producer().send(message)));
        }
        Map<Integer, List<MessageExt>> queues = stage.readAll(topic, posted.size());
        Letters.compare(posted, queues);
        queues.forEach((id, messages) -> Check.same("messages of queue " + id, 10, messages.size()));
        checkPhysicalOrder(posted);
    }

    /** One after the other acknowledged, one after the other in the log. */
    private static void checkPhysicalOrder(List<Posted> posted) throws Exception {
        long last = -1;
        for (Posted one : posted) {
            long offset = Letters.checkOffsetId(one.result().getOffsetMsgId()).getOffset();
            Check.that(last < offset, "physical offset %d was acknowledged after %d", offset, last);
            last = offset;
        }
    }

    private static void async(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        int count = 300;
        ConcurrentLinkedQueue<Posted> posted = new ConcurrentLinkedQueue<>();
        ConcurrentLinkedQueue<Throwable> failures = new ConcurrentLinkedQueue<>();
        CountDownLatch answers = new CountDownLatch(count);
        for (Message message : Letters.numbered(topic, 0, count)) {
            stage.producer().send(message, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    try {
                        posted.add(Letters.posted(message, result));
                    } catch (Exception failure) {
                        failures.add(failure);
                    }
                    answers.countDown();
                }

                @Override
                public void onException(Throwable failure) {
                    failures.add(failure);
                    answers.countDown();
                }
            });
        }
        Check.that(answers.await(new Deadline().leftMs(), TimeUnit.MILLISECONDS), "%d unanswered", answers.getCount());
        Check.that(failures.isEmpty(), "%d sends failed, such as: %s", failures.size(), failures.peek());
        Letters.compare(List.copyOf(posted), stage.readAll(topic, count));
    }

    private static void oneway(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        List<Message> messages = Letters.numbered(topic, 0, 50);
        for (Message message : messages) {
            stage.producer().sendOneway(message);
        }
        List<MessageExt> found = new ArrayList<>();
        stage.readAll(topic, messages.size()).values().forEach(found::addAll);
        Letters.sameNumbers("one-way messages", messages, found);
        found.sort((a, b) -> Letters.numberOf(a) - Letters.numberOf(b));
        for (int number = 0; number < found.size(); number++) {
            Letters.same(messages.get(number), found.get(number));
        }
    }

    private static void batch(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = stage.producer();
        List<List<Posted>> batches = new ArrayList<>();
        for (int first = 0; first < 128; first += 32) {
            List<Message> messages = Letters.numbered(topic, first, 32);
            batches.add(unpacked(messages, producer.send(messages)));
        }
        MessageQueue queue = producer.fetchPublishMessageQueues(topic).get(0);
        List<Message> alone = Letters.numbered(topic, 128, 1);
        batches.add(unpacked(alone, producer.send(alone, queue)));
        Map<Integer, List<MessageExt>> queues = stage.readAll(topic, 129);
        batches.forEach(batch -> adoptBatchId(batch, queues));
        Letters.compare(batches.stream().flatMap(List::stream).toList(), queues);
    }

    /**
     * Apache 5.3.3 appends the properties of the batch to those of each message, so that clients see the
     * batch's unique id on all of them; later brokers do not. Either will do, but not a mixture.
     */
    private static void adoptBatchId(List<Posted> batch, Map<Integer, List<MessageExt>> queues) {
        SendResult first = batch.get(0).result();
        MessageExt found = queues.get(first.getMessageQueue().getQueueId()).get((int) first.getQueueOffset());
        if (!found.getMsgId().equals(first.getMsgId())) {
            Letters.checkUniqueId(found.getMsgId());
            for (Posted one : batch) {
                one.result().setMsgId(found.getMsgId());
                one.message().getProperties().put(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, found.getMsgId());
            }
        }
    }

    /** The one answer to a batch, taken apart: comma lists of ids, consecutive offsets. */
    private static List<Posted> unpacked(List<Message> messages, SendResult answer) throws Exception {
        String[] uniqueIds = answer.getMsgId().split(",");
        String[] offsetIds = answer.getOffsetMsgId().split(",");
        Check.same("unique ids", messages.size(), uniqueIds.length);
        Check.same("offset ids", messages.size(), offsetIds.length);
        List<Posted> posted = new ArrayList<>();
        for (int i = 0; i < messages.size(); i++) {
            SendResult one = new SendResult(answer.getSendStatus(), uniqueIds[i], offsetIds[i],
                answer.getMessageQueue(), answer.getQueueOffset() + i);
            one.setRegionId(answer.getRegionId());
            one.setTraceOn(answer.isTraceOn());
            posted.add(Letters.posted(messages.get(i), one));
        }
        return posted;
    }

    private static void concurrent(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = stage.producer();
        ExecutorService threads = Executors.newFixedThreadPool(4);
        stage.atEnd(threads::shutdownNow);
        List<Future<List<Posted>>> parts = new ArrayList<>();
        for (int first = 0; first < 400; first += 100) {
            List<Message> messages = Letters.numbered(topic, first, 100);
            parts.add(threads.submit(() -> {
                List<Posted> part = new ArrayList<>();
                for (Message message : messages) {
                    part.add(Letters.posted(message, producer.send(message)));
                }
                return part;
            }));
        }
        List<Posted> posted = new ArrayList<>();
        for (Future<List<Posted>> part : parts) {
            posted.addAll(part.get());
        }
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    private static void toQueue(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = stage.producer();
        List<Posted> posted = new ArrayList<>();
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            for (int offset = 0; offset < 5 + queue.getQueueId(); offset++) {
                Message message = Letters.numbered(topic, 100 * queue.getQueueId() + offset);
                SendResult result = producer.send(message, queue);
                Check.same("queue", queue, result.getMessageQueue());
                Check.same("queue offset in " + queue, (long) offset, result.getQueueOffset());
                posted.add(Letters.posted(message, result));
            }
        }
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    /** All steps of one order in one queue, in their order. */
    private static void selected(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        int orderCount = 7;
        List<Posted> posted = new ArrayList<>();
        for (int number = 0; number < 10 * orderCount; number++) {
            Message message = Letters.numbered(topic, number);
            posted.add(Letters.posted(message,
                stage.producer().send(message, new SelectMessageQueueByHash(), "order-" + number % orderCount)));
        }
        Map<Integer, List<MessageExt>> queues = stage.readAll(topic, posted.size());
        Letters.compare(posted, queues);
        Map<Integer, Integer> queueOfOrder = new HashMap<>();
        Map<Integer, Integer> lastOfOrder = new HashMap<>();
        queues.forEach((id, messages) -> messages.forEach(message -> {
            int number = Letters.numberOf(message);
            int order = number % orderCount;
            Check.same("queue of order " + order, id, queueOfOrder.computeIfAbsent(order, unseen -> id));
            int last = lastOfOrder.getOrDefault(order, order - orderCount);
            Check.same("step of order " + order, last + orderCount, number);
            lastOfOrder.put(order, number);
        }));
        Check.same("orders", orderCount, queueOfOrder.size());
    }

    /** Through the port two below, which older clients use for all but pulls. */
    private static void vip(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = stage.newProducer("vip");
        producer.setVipChannelEnabled(true);
        producer.setSendMessageWithVIPChannel(true);
        producer.start();
        List<Posted> posted = new ArrayList<>();
        for (Message message : Letters.numbered(topic, 0, 20)) {
            posted.add(Letters.posted(message, producer.send(message)));
        }
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    private static void sizes(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = uncompressing(stage);
        List<Posted> posted = new ArrayList<>();
        for (int size : List.of(1, 2, 127, 4095, 4096, 65_535, 65_536, 1 << 20, LARGE, BODY_MAX)) {
            Message message = new Message(topic, Letters.noise(size, size));
            posted.add(Letters.posted(message, producer.send(message)));
        }
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    private static DefaultMQProducer uncompressing(Stage stage) throws Exception {
        DefaultMQProducer producer = stage.newProducer("uncompressing");
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.setMaxMessageSize(2 * BODY_MAX);
        producer.start();
        return producer;
    }

    /** The client compresses above 4 KiB and says how in the system flag, which must come back. */
    private static void compressed(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        byte[] text = "every good thing comes in threes. ".repeat(LARGE / 34).getBytes(StandardCharsets.UTF_8);
        List<Posted> posted = new ArrayList<>();
        for (CompressionType type : CompressionType.values()) {
            DefaultMQProducer producer = stage.newProducer("p" + type);
            producer.setCompressType(type);
            producer.start();
            for (byte[] body : List.of(text, Letters.noise(LARGE, type.getValue()))) {
                Message message = new Message(topic, type.name(), body);
                posted.add(Letters.posted(message, producer.send(message)));
            }
        }
        Map<Integer, List<MessageExt>> queues = stage.readAll(topic, posted.size());
        Letters.compare(posted, queues);
        queues.values().stream().flatMap(List::stream).forEach(message -> {
            int type = message.getSysFlag() & MessageSysFlag.COMPRESSION_TYPE_COMPARATOR;
            Check.same("compression", CompressionType.valueOf(message.getTags()).getCompressionFlag(), type);
        });
    }

    private static void unicode(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        Message message = new Message(topic, "Größe", "Größe 大きさ 🗝".getBytes(StandardCharsets.UTF_8));
        message.setKeys(List.of("Schlüssel", "键", "🗝"));
        message.putUserProperty("Straße", "東京 \"quoted\" \\ back, {json: [1]}\t'");
        message.putUserProperty("long", "ß".repeat(10_000));
        Message plain = new Message(topic, new byte[] {0, -1, 1, 2, 0});
        List<Posted> posted = new ArrayList<>();
        for (Message one : List.of(message, plain)) {
            posted.add(Letters.posted(one, stage.producer().send(one)));
        }
        Letters.compare(posted, stage.readAll(topic, posted.size()));
    }

    /** Refused with the right code, nothing stored, and the connection is as good as before. */
    private static void overLimit(Stage stage) throws Exception {
        String topic = stage.createTopic("t", Stage.QUEUES);
        DefaultMQProducer producer = uncompressing(stage);
        Message body = new Message(topic, Letters.noise(BODY_MAX + 1, 1));
        Check.refused("body over the limit", Set.of(MESSAGE_ILLEGAL), () -> producer.send(body));
        Message properties = Letters.numbered(topic, 0);
        properties.putUserProperty("long", "x".repeat(Short.MAX_VALUE));
        Check.refused("properties over the limit", Set.of(MESSAGE_ILLEGAL), () -> producer.send(properties));
        List<Message> batch = Collections.nCopies(5, new Message(topic, Letters.noise(1 << 20, 1)));
        // Apache lets an exception through here, so that its client tries three times.
        Check.refused("batch over the limit", Set.of(MESSAGE_ILLEGAL, SYSTEM_ERROR), () -> producer.send(batch));
        Message small = Letters.numbered(topic, 1);
        Letters.compare(List.of(Letters.posted(small, producer.send(small))), stage.readAll(topic, 1));
    }
}
