package interop;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Lines of tab-separated words, given to the operating system one by one, in the order of the calls. */
final class LineFile implements AutoCloseable {
    private final FileChannel channel;

    LineFile(String path) throws IOException {
        channel = FileChannel.open(Path.of(path),
            StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE);
    }

    synchronized void append(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.length() == 0 ? "" : "\t").append(String.valueOf(word).replaceAll("[\t\r\n]", " "));
        }
        ByteBuffer bytes = ByteBuffer.wrap(line.append('\n').toString().getBytes(StandardCharsets.UTF_8));
        try {
            while (bytes.hasRemaining()) {
                channel.write(bytes);
            }
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    /** To the disk, all that was appended. */
    void force() throws IOException {
        channel.force(false);
    }

    @Override
    public void close() throws IOException {
        force();
        channel.close();
    }
}
