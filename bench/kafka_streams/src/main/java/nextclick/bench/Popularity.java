package nextclick.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Items by recent clicks, ranked every hundred clicks; without the worker's bounds per user, which cost it more. */
final class Popularity {
    private static final double HALF_LIFE_MS = 86_400_000.0;
    private static final int RANK_EVERY_CLICKS = 100;
    private static final int LIST_LENGTH = 20;

    private final ObjectMapper json = new ObjectMapper();
    private final Map<String, Double> weights = new HashMap<>();
    private long beganMs;
    private double total;
    private int sinceRanked = RANK_EVERY_CLICKS;

    ArrayNode items;
    byte[] shown;

    void add(String itemId, long timestampMs) {
        if (beganMs == 0) {
            beganMs = timestampMs;
        }
        double weight = Math.pow(2.0, (timestampMs - beganMs) / HALF_LIFE_MS);
        weights.merge(itemId, weight, Double::sum);
        total += weight;
        if (++sinceRanked >= RANK_EVERY_CLICKS) {
            sinceRanked = 0;
            rank();
        }
    }

    private void rank() {
        List<Map.Entry<String, Double>> best = new ArrayList<>(weights.entrySet());
        best.sort(Map.Entry.<String, Double>comparingByValue().reversed());
        best = best.subList(0, Math.min(LIST_LENGTH, best.size()));
        items = json.createArrayNode();
        ByteBuffer hashes = ByteBuffer.allocate(4 * best.size()).order(ByteOrder.LITTLE_ENDIAN);
        for (Map.Entry<String, Double> each : best) {
            items.addObject().put("item_id", each.getKey()).put("score", each.getValue() / total);
            hashes.putInt((int) UserState.hash(each.getKey()));
        }
        shown = hashes.array();
    }
}
