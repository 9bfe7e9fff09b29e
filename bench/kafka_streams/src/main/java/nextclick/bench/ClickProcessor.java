package nextclick.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/** A click becomes a state and an update. */
final class ClickProcessor implements Processor<byte[], byte[], byte[], byte[]> {
    private static final int MAX_VALUE_BYTES = 256 * 1024;
    private static final int MAX_ID_BYTES = 256;
    private static final long FUTURE_TOLERANCE_MS = 24L * 3600 * 1000;

    private final ObjectMapper json = new ObjectMapper();
    private final Popularity popularity = new Popularity();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> states;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.states = context.getStateStore(Main.STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        JsonNode click = validated(record);
        if (click == null) {
            return;
        }
        String itemId = click.get("item_id").asText();
        long timestampMs = click.path("timestamp_ms").asLong(record.timestamp());
        RecordMetadata source = context.recordMetadata().orElseThrow();
        popularity.add(itemId, timestampMs);
        UserState state = UserState.decode(states.get(record.key()));
        state.click(itemId, timestampMs);
        states.put(record.key(), state.encode(source.partition(), source.offset(), popularity.shown));
        ObjectNode update = json.createObjectNode();
        update.put("user_id", click.get("user_id").asText());
        update.set("items", popularity.items);
        update.put("strategy", "popular").put("bundle_id", "").put("sequence", state.sequence);
        update.putObject("source").put("partition", source.partition()).put("offset", source.offset());
        update.put("clicked_at_ms", record.timestamp()).put("produced_at_ms", System.currentTimeMillis());
        try {
            context.forward(record.withValue(json.writeValueAsBytes(update)));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
    }

    private JsonNode validated(Record<byte[], byte[]> record) {
        if (record.key() == null || record.value() == null || record.value().length > MAX_VALUE_BYTES) {
            return null;
        }
        JsonNode click;
        try {
            click = json.readTree(record.value());
        } catch (IOException error) {
            return null;
        }
        JsonNode user = click.path("user_id");
        JsonNode item = click.path("item_id");
        boolean isValid = user.isTextual() && item.isTextual() && isId(record.key().length)
            && isId(item.asText().length()) && user.asText().equals(new String(record.key(), StandardCharsets.UTF_8))
            && click.path("timestamp_ms").asLong() <= System.currentTimeMillis() + FUTURE_TOLERANCE_MS;
        return isValid ? click : null;
    }

    private static boolean isId(int length) {
        return 0 < length && length <= MAX_ID_BYTES;
    }
}
