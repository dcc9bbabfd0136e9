package interop;

import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;

import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;

/** Checks that say what was expected and what was found. */
final class Check {
    private Check() { }

    static void that(boolean holds, String text, Object... values) {
        if (!holds) {
            throw new Surprise(String.format(text, values));
        }
    }

    static void same(String what, Object expected, Object found) {
        that(Objects.equals(expected, found), "%s: expected <%s>, found <%s>", what, expected, found);
    }

    static void between(String what, long low, long found, long high) {
        that(low <= found && found <= high, "%s: expected %d..%d, found %d", what, low, high, found);
    }

    /** The call must be refused by the broker, with one of these response codes. */
    static void refused(String what, Set<Integer> codes, Callable<?> call) throws Exception {
        Object result;
        try {
            result = call.call();
        } catch (MQBrokerException | MQClientException failure) {
            // After retries the client wraps the last refusal.
            MQBrokerException refusal = (MQBrokerException) (failure instanceof MQBrokerException ? failure : failure.getCause());
            that(codes.contains(refusal.getResponseCode()), "%s: expected a code of %s, found %s", what, codes, refusal);
            that(!refusal.getErrorMessage().isBlank(), "%s: refused without a remark", what);
            return;
        }
        throw new Surprise(what + ": expected a refusal, found " + result);
    }

    /** What a scenario throws when the broker did not do what it should. */
    static final class Surprise extends RuntimeException {
        private static final long serialVersionUID = 1;

        Surprise(String text) {
            super(text);
        }
    }
}
