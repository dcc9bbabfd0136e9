package interop;

import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Reads queues from their beginnings and writes a line for each record, whatever the broker goes through. */
final class QueueReader implements AutoCloseable {
    private static final int BATCH = 32;
    private static final long WAIT_MS = 500;
    private static final long PAUSE_MS = 50;

    private final DefaultMQPullConsumer consumer;
    private final LineFile lines;

    QueueReader(String nameservers, String group, LineFile lines) throws MQClientException {
        this.lines = lines;
        consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(nameservers);
        consumer.setBrokerSuspendMaxTimeMillis(WAIT_MS);
        consumer.start();
    }

    @Override
    public void close() {
        consumer.shutdown();
    }

    /** A record as it lies in the log: where, by which ids, and the hash of its body. */
    static void write(LineFile lines, MessageExt record) {
        String offsetId = MessageDecoder.createMessageId(
            record.getStoreHost(), record.getCommitLogOffset());
        lines.append("stored", record.getMsgId(), record.getTopic(), record.getQueueId(), record.getQueueOffset(),
            Digest.of(record.getBody()), offsetId);
    }

    List<MessageQueue> queues(String topic) throws MQClientException {
        return consumer.fetchSubscribeMessageQueues(topic).stream().sorted().toList();
    }

    /** Everything that a queue holds now. */
    long drain(MessageQueue queue) throws Exception {
        long begin = consumer.minOffset(queue);
        long end = consumer.maxOffset(queue);
        Check.same("minimum of " + queue, 0L, begin);
        for (long next = begin; next < end;) {
            PullResult pulled = consumer.pull(queue, "*", next, BATCH);
            Check.that(pulled.getPullStatus() == PullStatus.FOUND,
                "%s holds %d..%d, but at %d: %s", queue, begin, end, next, pulled.getPullStatus());
            next = written(pulled);
        }
        return end - begin;
    }

    /** Everything that is ever shown, until the thread is interrupted; never goes back. */
    void watch(MessageQueue queue) {
        long next = 0;
        while (!Thread.interrupted()) {
            try {
                PullResult pulled = consumer.pullBlockIfNotFound(queue, "*", next, BATCH);
                if (pulled.getPullStatus() == PullStatus.FOUND) {
                    next = written(pulled);
                } else if (pulled.getPullStatus() == PullStatus.OFFSET_ILLEGAL) {
                    pause(); // what was shown is gone: the checker will say so
                }
            } catch (InterruptedException end) {
                return;
            } catch (Exception brokerIsAway) {
                pause();
            }
        }
    }

    private static void pause() {
        LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(PAUSE_MS));
    }

    private long written(PullResult pulled) {
        for (MessageExt record : pulled.getMsgFoundList()) {
            write(lines, record);
        }
        return pulled.getNextBeginOffset();
    }
}
