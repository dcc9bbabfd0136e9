package interop;

import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;

/** The time by which something must have happened. */
final class Deadline {
    private static final long SECONDS = 30;
    private static final long POLL_MS = 20;

    private final long endNs = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);

    long leftMs() {
        return Math.max(0, TimeUnit.NANOSECONDS.toMillis(endNs - System.nanoTime()));
    }

    boolean passed() {
        return leftMs() == 0;
    }

    /** For what only the broker knows and tells no one: ask again until it answers so. */
    static void until(String what, Callable<Boolean> reached, Supplier<?> state) throws Exception {
        Deadline deadline = new Deadline();
        while (!reached.call()) {
            Check.that(!deadline.passed(), "not within %d s: %s; now: %s", SECONDS, what, state.get());
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(POLL_MS));
        }
    }
}
