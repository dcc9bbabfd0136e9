package interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A command line of <code>--key value</code> pairs, and the words after them. */
final class Options {
    private final Map<String, String> values = new HashMap<>();
    private final List<String> rest = new ArrayList<>();

    Options(String[] args) {
        for (int i = 0; i < args.length; i++) {
            if (args[i].startsWith("--") && i + 1 < args.length) {
                values.put(args[i].substring(2), args[++i]);
            } else {
                rest.add(args[i]);
            }
        }
    }

    String get(String key) {
        String value = values.get(key);
        if (value == null) {
            throw new IllegalArgumentException("--" + key + " is missing");
        }
        return value;
    }

    int number(String key, int fallback) {
        return values.containsKey(key) ? Integer.parseInt(get(key)) : fallback;
    }

    List<String> rest() {
        return rest;
    }
}
