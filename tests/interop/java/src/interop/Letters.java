package interop;

import java.io.UnsupportedEncodingException;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageId;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;

/** Messages as they were sent, and how to tell that they came back the same. */
final class Letters {
    static final String USER_PROPERTY = "number";
    private static final Set<String> ADDED = Set.of(
        MessageConst.PROPERTY_CLUSTER, MessageConst.PROPERTY_MSG_REGION, MessageConst.PROPERTY_TRACE_SWITCH,
        MessageConst.PROPERTY_MIN_OFFSET, MessageConst.PROPERTY_MAX_OFFSET, MessageConst.PROPERTY_CONSUME_START_TIMESTAMP);

    private Letters() { }

    /** What was sent and what the broker answered. */
    record Posted(Message message, SendResult result) { }

    static Message numbered(String topic, int number) {
        return tagged(topic, "TagA", number);
    }

    /** A small message whose body, key and user property all tell its number. */
    static Message tagged(String topic, String tag, int number) {
        byte[] body = ("message " + number).getBytes(StandardCharsets.UTF_8);
        Message message = new Message(topic, tag, "key-" + number, number, body, true);
        message.putUserProperty(USER_PROPERTY, Integer.toString(number));
        return message;
    }

    static List<Message> numbered(String topic, int first, int count) {
        List<Message> messages = new ArrayList<>();
        for (int number = first; number < first + count; number++) {
            messages.add(numbered(topic, number));
        }
        return messages;
    }

    static int numberOf(Message message) {
        return Integer.parseInt(message.getUserProperty(USER_PROPERTY));
    }

    /** Bytes that no compressor makes smaller, the same for the same seed. */
    static byte[] noise(int size, long seed) {
        byte[] bytes = new byte[size];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    /** The answer to a send: stored, where, and under which ids. */
    static Posted posted(Message message, SendResult result) throws UnknownHostException {
        Check.same("send status", SendStatus.SEND_OK, result.getSendStatus());
        Check.same("topic of the answer", message.getTopic(), result.getMessageQueue().getTopic());
        Check.that(!result.getMessageQueue().getBrokerName().isEmpty(), "answer without a broker name");
        checkUniqueId(result.getMsgId());
        Check.same("msgId", message.getProperty(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX), result.getMsgId());
        checkOffsetId(result.getOffsetMsgId());
        Check.same("region", "DefaultRegion", result.getRegionId());
        Check.that(result.isTraceOn(), "TRACE_ON is not set in the answer");
        return new Posted(message, result);
    }

    /** 16 bytes in capital hexadecimal: address, pid, loader, time and counter of the client. */
    static void checkUniqueId(String id) {
        Check.that(id != null && id.matches("[0-9A-F]{32}|[0-9A-F]{56}"), "msgId has not the form of a unique id: %s", id);
    }

    /** Address and port of the broker and the physical offset in its log, in capital hexadecimal. */
    static MessageId checkOffsetId(String id) throws UnknownHostException {
        Check.that(id != null && id.matches("[0-9A-F]{32}"), "offsetMsgId has not the form of an offset id: %s", id);
        MessageId decoded = MessageDecoder.decodeMessageId(id);
        Check.that(((InetSocketAddress) decoded.getAddress()).getPort() > 0, "offsetMsgId without a port: %s", id);
        Check.that(decoded.getOffset() >= 0, "offsetMsgId with a negative offset: %s", id);
        return decoded;
    }

    /** Each answer must lead to its message, which must be what was sent; and nothing else may be there. */
    static void compare(List<Posted> posted, Map<Integer, List<MessageExt>> queues) throws Exception {
        for (Posted one : posted) {
            List<MessageExt> queue = queues.get(one.result.getMessageQueue().getQueueId());
            long offset = one.result.getQueueOffset();
            Check.that(offset < queue.size(), "acknowledged at offset %d, but the queue ends at %d", offset, queue.size());
            MessageExt found = queue.get((int) offset);
            Check.same("msgId at the acknowledged offset", one.result.getMsgId(), found.getMsgId());
            same(one.message, found);
            samePlace(one.result, found);
        }
        Check.same("messages in the topic", posted.size(), queues.values().stream().mapToInt(List::size).sum());
    }

    /** What the user gave must come back to the last byte. */
    static void same(Message sent, MessageExt found) throws UnsupportedEncodingException {
        String name = found.getMsgId();
        Check.that(Arrays.equals(sent.getBody(), found.getBody()), "%s: another body (%d bytes for %d)",
            name, found.getBody().length, sent.getBody().length);
        Check.same(name + " topic", sent.getTopic(), found.getTopic());
        Check.same(name + " tags", sent.getTags(), found.getTags());
        Check.same(name + " keys", sent.getKeys(), found.getKeys());
        Check.same(name + " flag", sent.getFlag(), found.getFlag());
        Check.same(name + " properties", userProperties(sent), userProperties(found));
        Check.same(name + " reconsumeTimes", 0, found.getReconsumeTimes());
        Check.same(name + " preparedTransactionOffset", 0L, found.getPreparedTransactionOffset());
        Check.between(name + " bornTimestamp", 1, found.getBornTimestamp(), System.currentTimeMillis());
        Check.between(name + " storeTimestamp", 1, found.getStoreTimestamp(), System.currentTimeMillis());
        // The client clears COMPRESSED_FLAG when it has decompressed; the bits for how remain.
        boolean compressed = (found.getSysFlag() & MessageSysFlag.COMPRESSION_TYPE_COMPARATOR) != 0;
        Check.that(compressed || found.getBodyCRC() == UtilAll.crc32(sent.getBody()), "%s: wrong body CRC", name);
    }

    /** Where the broker said it is and where it was found. */
    private static void samePlace(SendResult result, MessageExt found) throws UnknownHostException {
        MessageId place = checkOffsetId(result.getOffsetMsgId().split(",")[0]);
        Check.same("physical offset", place.getOffset(), found.getCommitLogOffset());
        Check.same("store host", place.getAddress(), found.getStoreHost());
        Check.that(found.getStoreSize() > found.getTopic().length(), "store size %d", found.getStoreSize());
        Check.same("broker name", result.getMessageQueue().getBrokerName(), found.getBrokerName());
    }

    /** All but what broker and client add on the way. */
    private static Map<String, String> userProperties(Message message) {
        Map<String, String> properties = new HashMap<>(message.getProperties());
        properties.keySet().removeAll(ADDED);
        return properties;
    }

    /** Each of these messages exactly once. */
    static void sameNumbers(String what, List<Message> expected, List<? extends Message> found) {
        List<Integer> wanted = expected.stream().map(Letters::numberOf).sorted().toList();
        List<Integer> got = found.stream().map(Letters::numberOf).sorted().toList();
        Check.same(what, wanted, got);
    }
}
