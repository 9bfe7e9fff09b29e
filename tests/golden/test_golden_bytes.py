"""Yesterday's bytes still load, and today's are the same: what stands in topics and on users' disks.

A change that makes one of these tests fail needs a new layout beside the old one, never another literal here.
"""

from nextclick.clicks import EVENT_TYPES, Click
from nextclick.manifest import BundleFile, Manifest, decode_manifest, encode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.updates import (
    RNN,
    AnsweredClick,
    Recommendation,
    RecommendationUpdate,
    ServedBy,
    Source,
    decode_update,
    encode_update,
    ranked_list,
)
from nextclick.user_state import (
    NEW_USER,
    RecentClick,
    UserState,
    decode_state,
    encode_state,
    has_event,
    recent_clicks,
    was_shown,
)

STATE = bytes.fromhex(
    "01"  # layout
    "01"  # flags: shown by the network
    "08774391b67e0180"  # bundle 80017eb691437708
    "04000000"  # sequence
    "03000000"  # partition
    "2b00000000000000"  # offset
    "f005370000000000"  # last click, ms
    "0800"  # bytes of hidden
    "04"  # recent clicks
    "03"  # shown items
    "4737db365a3bbe38"  # hidden
    "008a1fcf0d437a510000000000"  # apple, gap 0 s, view
    "bfb8ffd2d55bf6b90500000001"  # élan, gap 5 s, cart
    "2e13f6197b6eeddf0100000000"  # kiwi, gap 1 s, view
    "ab9bd3196db62d87100e0000ff"  # cheese, gap 3600 s, other
    "ab9bd319bfb8ffd2008a1fcf"  # shown: cheese, élan, apple
)
STATE_WITH_EVENTS = (
    bytes([2])  # layout
    + STATE[1:]
    + bytes.fromhex(
        "00000000"  # apple's click had no id
        "efbeadde"  # élan's: deadbeef
        "01000000"
        "ffffffff"
    )
)
EMPTY_STATE = bytes.fromhex("01000000000000000000" + "00000000" + "ffffffff" + "ff" * 8 + "00" * 12)
CLICK = b'{"user_id":"u1","item_id":"i1","timestamp_ms":1700000000000,"event_type":"cart"}'
UPDATE = (
    b'{"user_id":"u1","items":[{"item_id":"cheese","score":0.5},{"item_id":"\xc3\xa9lan","score":0.25}],'
    b'"strategy":"rnn","bundle_id":"80017eb691437708","sequence":4,"source":{"partition":3,"offset":43},'
    b'"clicked_at_ms":1700000000000,"produced_at_ms":1700000000007}'
)
MANIFEST = (
    b'{"bundle_id":"80017eb691437708","format_version":1,"created_ms":1700000000000,'
    b'"network":{"n_items":5,"hidden_size":4,"cell":"gru","tied":true},'
    b'"files":[{"name":"model.safetensors","sha256":"e470","size_bytes":1684}],'
    b'"metrics":{"recall_at_20":0.25},"parent":"00000000000000aa","log_range":{"0":[0,99]}}'
)


def test_a_state_of_layout_1_still_loads() -> None:
    """Field by field."""
    state = decode_state(STATE)

    assert state[:5] == (0x80017EB691437708, 4, 3, 43, 3_606_000)
    assert state.hidden == bytes.fromhex("4737db365a3bbe38")
    assert recent_clicks(state) == [
        RecentClick(0x517A430DCF1F8A00, 0, EVENT_TYPES.index("view")),
        RecentClick(0xB9F65BD5D2FFB8BF, 5, EVENT_TYPES.index("cart")),
        RecentClick(0xDFED6E7B19F6132E, 1, EVENT_TYPES.index("view")),
        RecentClick(0x872DB66D19D39BAB, 3_600, 255),
    ]
    assert was_shown(state.shown, 0x872DB66D19D39BAB)
    assert not was_shown(state.shown, 0xDFED6E7B19F6132E)
    assert state.flags == 1


def test_a_state_of_layout_2_still_loads() -> None:
    """Layout 1, and the ids' hashes of the recent clicks; it is still written the same."""
    state = decode_state(STATE_WITH_EVENTS)

    assert state == decode_state(STATE)._replace(events=STATE_WITH_EVENTS[-16:])
    assert [has_event(state.events, event_hash) for event_hash in (0xDEADBEEF, 1, 0xFFFFFFFF)] == [True] * 3
    assert not has_event(state.events, 2)
    assert not has_event(state.events, 0)
    assert encode_state(state) == STATE_WITH_EVENTS


def test_a_state_without_events_is_still_written_as_layout_1() -> None:
    """Two versions of the worker share a changelog while one replaces the other."""
    assert encode_state(decode_state(STATE)) == STATE
    assert encode_state(NEW_USER) == EMPTY_STATE
    assert decode_state(EMPTY_STATE) == UserState(0, 0, -1, -1, 0, b"", b"", b"", 0)


def test_a_click_is_still_read_and_written() -> None:
    """As every backend that sends clicks writes it."""
    schema = ClickSchema()

    clicks = click_decoder(schema)(b"u1", CLICK, None, 1_700_000_000_500, 1_700_000_000_500)

    assert clicks == (Click("u1", "i1", 1_700_000_000_000, 1),)
    assert encode_click(schema, "u1", "i1", 1_700_000_000_000, "cart").value == CLICK


def test_an_update_is_still_read_and_written() -> None:
    """As every consumer of recommendations reads it."""
    items = [Recommendation("cheese", 0.5), Recommendation("élan", 0.25)]

    update = decode_update(UPDATE)

    assert update == RecommendationUpdate(
        "u1", items, "rnn", "80017eb691437708", 4, Source(3, 43), 1_700_000_000_000, 1_700_000_000_007
    )
    answered = AnsweredClick(3, 43, 1_700_000_000_000)
    ranked = ranked_list(RNN, items, [1, 2])
    assert encode_update("u1", ranked, ServedBy("80017eb691437708"), 4, answered, 1_700_000_000_007) == UPDATE


def test_a_manifest_is_still_read_and_written() -> None:
    """Announced by one version of the trainer, read by another of the worker."""
    manifest = decode_manifest(MANIFEST)

    assert manifest == Manifest(
        bundle_id="80017eb691437708",
        created_ms=1_700_000_000_000,
        network={"n_items": 5, "hidden_size": 4, "cell": "gru", "tied": True},
        files=(BundleFile("model.safetensors", "e470", 1684),),
        metrics={"recall_at_20": 0.25},
        parent="00000000000000aa",
        log_range={"0": (0, 99)},
    )
    assert encode_manifest(manifest) == MANIFEST[:-1] + b',"judgement":"","settings":{},"versions":{}}'
