package interop;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.topic.TopicValidator;

/**
 * Sends without pause, with the client's own retries, and keeps the books: what was sent, what became of it,
 * and what a reader beside it was shown.
 *
 * <pre>Ledger --namesrv HOST:PORT --topic TOPIC --sent FILE --seen FILE
 *        [--queues 4] [--lanes 4] [--window 64] [--rate 2000]</pre>
 *
 * Half of the load is synchronous, one message at a time in each of the lanes; the other half is asynchronous,
 * at most so many in flight as the window says. RATE is messages a second, all together. Lines of the first file:
 *
 * <pre>sent    MSGID NS SEQUENCE SHA256                              before the first attempt
 * acked   MSGID NS ATTEMPTS TOPIC QUEUE QUEUEOFFSET OFFSETMSGID  acknowledged with SEND_OK
 * unknown MSGID NS ATTEMPTS REASON                              not acknowledged: stored or not</pre>
 *
 * NS is a monotonic time of this process. The second file has the lines of {@link Drain}. Prints <code>acked N
 * unknown M</code> about ten times a second. Ends when its input ends, once each send has its line.
 */
public final class Ledger {
    private static final long PROGRESS_MS = 100;
    private static final long DRAIN_SECONDS = 60;
    /** How long all senders hold back after a failure: a broker that starts needs the processor. */
    private static final long FAILURE_PAUSE_NS = TimeUnit.MILLISECONDS.toNanos(10);
    private static final int BODY_MAX = 2_000;

    private final LineFile lines;
    private final DefaultMQProducer producer;
    private final Attempts attempts = new Attempts();
    private final String topic;
    private final int window;
    private final long intervalNs;
    private final Semaphore inFlight;
    private final AtomicLong sequence = new AtomicLong();
    private final AtomicLong nextSlotNs = new AtomicLong(System.nanoTime());
    private final AtomicLong acked = new AtomicLong();
    private final AtomicLong unknown = new AtomicLong();
    private final AtomicBoolean ending = new AtomicBoolean();

    private Ledger(Options options, LineFile lines) {
        this.lines = lines;
        topic = options.get("topic");
        window = options.number("window", 64);
        inFlight = new Semaphore(window);
        intervalNs = TimeUnit.SECONDS.toNanos(1) / options.number("rate", 2_000);
        producer = new DefaultMQProducer("ledger", attempts);
        producer.setNamesrvAddr(options.get("namesrv"));
    }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args);
        try (LineFile sent = new LineFile(options.get("sent")); LineFile seen = new LineFile(options.get("seen"))) {
            Ledger ledger = new Ledger(options, sent);
            ledger.prepare(options.number("queues", 4));
            QueueReader reader = new QueueReader(options.get("namesrv"), "ledger_reader", seen);
            for (MessageQueue queue : reader.queues(ledger.topic)) {
                inBackground("watch-" + queue.getQueueId(), () -> reader.watch(queue));
            }
            ledger.run(options.number("lanes", 4));
        }
        System.exit(0);
    }

    private static Thread inBackground(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void prepare(int queueCount) throws Exception {
        producer.start();
        producer.createTopic(TopicValidator.AUTO_CREATE_TOPIC_KEY_TOPIC, topic, queueCount, Map.of());
        Deadline.until("route of " + topic, () -> publishQueues() == queueCount, () -> topic);
    }

    private int publishQueues() {
        try {
            return producer.fetchPublishMessageQueues(topic).size();
        } catch (MQClientException noRoute) {
            return 0;
        }
    }

    private void run(int laneCount) throws Exception {
        List<Thread> lanes = new ArrayList<>();
        lanes.add(inBackground("async", this::sendAsynchronously));
        for (int i = 0; i < laneCount; i++) {
            lanes.add(inBackground("sync-" + i, this::sendSynchronously));
        }
        inBackground("progress", this::report);
        while (System.in.read() >= 0) {
            continue; // only the end of the input says anything
        }
        ending.set(true);
        for (Thread lane : lanes) {
            lane.join(TimeUnit.SECONDS.toMillis(DRAIN_SECONDS));
            Check.that(!lane.isAlive(), "%s has not ended", lane.getName());
        }
        Check.that(inFlight.tryAcquire(window, DRAIN_SECONDS, TimeUnit.SECONDS), "sends without an outcome");
        System.out.printf("acked %d unknown %d%n", acked.get(), unknown.get());
    }

    private void report() {
        while (!ending.get()) {
            System.out.printf("acked %d unknown %d%n", acked.get(), unknown.get());
            try {
                lines.force();
            } catch (IOException closed) {
                return;
            }
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(PROGRESS_MS));
        }
    }

    /** Wait for this sender's turn, so that all together keep to the rate. */
    private void pace() {
        long turnNs = nextSlotNs.updateAndGet(lastNs -> Math.max(lastNs + intervalNs, System.nanoTime()));
        for (long leftNs = turnNs - System.nanoTime(); leftNs > 0; leftNs = turnNs - System.nanoTime()) {
            LockSupport.parkNanos(leftNs);
        }
    }

    /** A message that no other is equal to, with its line in the books. */
    private Message nextMessage() {
        long number = sequence.getAndIncrement();
        Random random = new Random(number);
        byte[] body = new byte[Long.BYTES + random.nextInt(BODY_MAX)];
        random.nextBytes(body);
        ByteBuffer.wrap(body).putLong(number);
        Message message = new Message(topic, "ledger", Long.toString(number), body);
        MessageClientIDSetter.setUniqID(message);
        lines.append("sent", MessageClientIDSetter.getUniqID(message), System.nanoTime(), number, Digest.of(body));
        return message;
    }

    private void sendSynchronously() {
        while (!ending.get()) {
            pace();
            Message message = nextMessage();
            try {
                record(message, producer.send(message));
            } catch (Exception failure) {
                record(message, failure);
            }
        }
    }

    private void sendAsynchronously() {
        while (!ending.get()) {
            pace();
            inFlight.acquireUninterruptibly();
            Message message = nextMessage();
            try {
                producer.send(message, new Booking(message));
            } catch (Exception failure) {
                record(message, failure);
                inFlight.release();
            }
        }
    }

    /** Enters the outcome of an asynchronous send. */
    private final class Booking implements SendCallback {
        private final Message message;

        Booking(Message message) {
            this.message = message;
        }

        @Override
        public void onSuccess(SendResult result) {
            record(message, result);
            inFlight.release();
        }

        @Override
        public void onException(Throwable failure) {
            record(message, failure);
            inFlight.release();
        }
    }

    private void record(Message message, SendResult result) {
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            record(message, new IllegalStateException(result.getSendStatus().name()));
            return;
        }
        long nowNs = System.nanoTime();
        String id = MessageClientIDSetter.getUniqID(message);
        lines.append("acked", id, nowNs, attempts.take(id), topic, result.getMessageQueue().getQueueId(),
            result.getQueueOffset(), result.getOffsetMsgId());
        acked.incrementAndGet();
    }

    private void record(Message message, Throwable failure) {
        long nowNs = System.nanoTime();
        String id = MessageClientIDSetter.getUniqID(message);
        lines.append("unknown", id, nowNs, attempts.take(id), failure);
        nextSlotNs.accumulateAndGet(nowNs + FAILURE_PAUSE_NS, Math::max);
        unknown.incrementAndGet();
    }
}
