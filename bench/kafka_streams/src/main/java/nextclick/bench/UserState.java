package nextclick.bench;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** What is kept per user, in the same fields and bytes as the worker's state without a model. */
final class UserState {
    private static final int HEADER_BYTES = 38;
    private static final int RECENT_BYTES = 13;
    private static final int KEEP = 20;

    long sequence;
    long lastClickMs;
    private byte[] recent = new byte[0];

    static UserState decode(byte[] data) {
        UserState state = new UserState();
        if (data == null) {
            return state;
        }
        ByteBuffer in = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN);
        in.position(10);
        state.sequence = Integer.toUnsignedLong(in.getInt());
        in.position(26);
        state.lastClickMs = in.getLong();
        in.position(36);
        int nRecent = Byte.toUnsignedInt(in.get());
        in.position(HEADER_BYTES);
        state.recent = new byte[nRecent * RECENT_BYTES];
        in.get(state.recent);
        return state;
    }

    void click(String itemId, long timestampMs) {
        long nowMs = Math.max(timestampMs, lastClickMs);
        int gapS = sequence == 0 ? 0 : (int) ((nowMs - lastClickMs) / 1000);
        int kept = Math.min(recent.length, (KEEP - 1) * RECENT_BYTES);
        ByteBuffer next = ByteBuffer.allocate(kept + RECENT_BYTES).order(ByteOrder.LITTLE_ENDIAN);
        next.put(recent, recent.length - kept, kept);
        next.putLong(hash(itemId)).putInt(gapS).put((byte) 0);
        recent = next.array();
        lastClickMs = nowMs;
        sequence++;
    }

    byte[] encode(int partition, long offset, byte[] shown) {
        ByteBuffer out = ByteBuffer.allocate(HEADER_BYTES + recent.length + shown.length)
            .order(ByteOrder.LITTLE_ENDIAN);
        out.put((byte) 1).put((byte) 0).putLong(0).putInt((int) sequence).putInt(partition).putLong(offset);
        out.putLong(lastClickMs).putShort((short) 0);
        out.put((byte) (recent.length / RECENT_BYTES)).put((byte) (shown.length / 4));
        return out.put(recent).put(shown).array();
    }

    /** FNV-1a of 64 bits: as cheap as the worker's xxh3 for ids of this length. */
    static long hash(String itemId) {
        long hash = 0xcbf29ce484222325L;
        for (byte each : itemId.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ each) * 0x100000001b3L;
        }
        return hash;
    }
}
