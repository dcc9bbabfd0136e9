package interop;

/** One conversation with a broker that checks everything it sees, and throws at the first surprise. */
@FunctionalInterface
interface Scenario {
    void play(Stage stage) throws Exception;
}
