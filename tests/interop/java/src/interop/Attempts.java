package interop;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.header.SendMessageRequestHeaderV2;

/** Counts how often the client puts each message on the wire: every attempt may have been stored. */
final class Attempts implements RPCHook {
    private final Map<String, Integer> counts = new ConcurrentHashMap<>();

    @Override
    public void doBeforeRequest(String address, RemotingCommand request) {
        if (request.readCustomHeader() instanceof SendMessageRequestHeaderV2 header) {
            String id = MessageDecoder.string2messageProperties(header.getI())
                .get(MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX);
            counts.merge(id, 1, Integer::sum);
        }
    }

    @Override
    public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
        // Nothing to count: an attempt counts whether or not it was answered.
    }

    /** How often the message was sent; it is forgotten with this call. */
    int take(String id) {
        Integer count = counts.remove(id);
        return count == null ? 0 : count;
    }
}
