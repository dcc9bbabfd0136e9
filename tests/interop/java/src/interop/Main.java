package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Plays scenarios against a broker, in one JVM, with one line of result each.
 *
 * <pre>Main --namesrv HOST:PORT --tag TAG [SCENARIO ... | -]</pre>
 *
 * Without names it plays all; with <code>-</code> it reads a name a line from its input, until that ends.
 * Results: <code>ok NAME MILLISECONDS</code> or <code>FAILED NAME REASON</code>; any failure makes the exit code 1.
 */
public final class Main {
    static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        SCENARIOS.putAll(Producers.SCENARIOS);
        SCENARIOS.putAll(Topics.SCENARIOS);
        SCENARIOS.putAll(PushConsumers.SCENARIOS);
        SCENARIOS.putAll(PullConsumers.SCENARIOS);
        SCENARIOS.putAll(Offsets.SCENARIOS);
    }

    private final Options options;
    private boolean failed;

    private Main(Options options) {
        this.options = options;
    }

    public static void main(String[] args) throws Exception {
        Main main = new Main(new Options(args));
        List<String> names = main.options.rest();
        if (names.equals(List.of("-"))) {
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String name = input.readLine(); name != null; name = input.readLine()) {
                main.play(name);
            }
        } else {
            (names.isEmpty() ? SCENARIOS.keySet() : names).forEach(main::play);
        }
        System.exit(main.failed ? 1 : 0);
    }

    private void play(String name) {
        long beganNs = System.nanoTime();
        try (Stage stage = new Stage(options.get("namesrv"), name + "_" + options.get("tag"))) {
            Scenario scenario = SCENARIOS.get(name);
            Check.that(scenario != null, "no such scenario; there are %s", SCENARIOS.keySet());
            scenario.play(stage);
            System.out.printf("ok %s %d%n", name, (System.nanoTime() - beganNs) / 1_000_000);
        } catch (Throwable failure) {
            failed = true;
            failure.printStackTrace();
            System.out.printf("FAILED %s %s%n", name, failure.toString().replace('\n', ' '));
        }
    }
}
