package nextclick.integrate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Follows recommendations: java -cp 'target/*:target/lib/*' nextclick.integrate.Consumer HOST:PORT TOPIC. */
public final class Consumer {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", arguments[0], "group.id", "shop-feed-java", "auto.offset.reset", "earliest");
        Map<String, Long> shown = new HashMap<>(); // user to the sequence that is shown; keep it with the lists
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(arguments[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.value() == null) continue; // a user whose list was deleted
                    JsonNode update = json.readTree(record.value());
                    String user = update.get("user_id").asText();
                    long sequence = update.get("sequence").asLong();
                    if (sequence <= shown.getOrDefault(user, 0L)) continue; // after a crash it can come again
                    shown.put(user, sequence);
                    System.out.println(user + " " + sequence + " " + String.join(" ", update.findValuesAsText("item_id")));
                }
            }
        }
    }
}
