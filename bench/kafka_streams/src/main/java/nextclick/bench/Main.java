package nextclick.bench;

import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Arguments: broker, application, topic of clicks, topic of updates, folder, and `default`, `tuned` or `tuned-cache`.
 *
 * <p>`default` is what Kafka Streams does by itself, with the record cache that its DSL gives every table. With a cache
 * the changelog gets a user's state once per commit; without it, once per click.
 */
public final class Main {
    static final String STORE = "user-state";

    private Main() { }

    /** Run until the process is ended. */
    public static void main(String[] arguments) throws InterruptedException {
        String variant = arguments[5];
        StoreBuilder<KeyValueStore<byte[], byte[]>> store = Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray());
        store = variant.equals("tuned") ? store.withCachingDisabled() : store.withCachingEnabled();
        Topology topology = new Topology()
            .addSource("clicks", arguments[2])
            .addProcessor("answer", ClickProcessor::new, "clicks")
            .addStateStore(store, "answer")
            .addSink("updates", arguments[3], "answer");
        KafkaStreams streams = new KafkaStreams(topology, properties(arguments, variant));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);  // a program that is measured dies, and does not limp on
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        new CountDownLatch(1).await();
    }

    private static Properties properties(String[] arguments, String variant) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        properties.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        properties.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        if (!variant.equals("default")) {
            properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Runtime.getRuntime().availableProcessors());
            properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 5_000);
            properties.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L * 1024 * 1024);
            properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
            properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
            properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 2_000);
        }
        return properties;
    }
}
