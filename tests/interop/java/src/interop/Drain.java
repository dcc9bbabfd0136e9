package interop;

import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Writes down every record of a topic, as a reader finds it that has never seen the broker before.
 *
 * <pre>Drain --namesrv HOST:PORT --topic TOPIC --out FILE</pre>
 *
 * Lines of FILE: <code>stored MSGID TOPIC QUEUE QUEUEOFFSET SHA256 OFFSETMSGID</code>, each queue in its order.
 * Prints <code>drained COUNT</code>.
 */
public final class Drain {
    private Drain() { }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args);
        long count = 0;
        try (LineFile lines = new LineFile(options.get("out"));
             QueueReader reader = new QueueReader(options.get("namesrv"), "drain", lines)) {
            for (MessageQueue queue : reader.queues(options.get("topic"))) {
                count += reader.drain(queue);
            }
        }
        System.out.println("drained " + count);
        System.exit(0);
    }
}
