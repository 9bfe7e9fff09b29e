"""What doctor finds in topics as trackers, shops and databases write them; `tests/property` draws others."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from doctor.search.event_names import NO_CLICK, event_type_of
from doctor.search.propose import Proposal, changed, propose
from doctor.search.sample import Sample, SampledRecord, judge
from doctor.search.table import read_table
from doctor.search.words import Role, id_role, tokens
from nextclick.clicks import RejectReason
from nextclick.hashing import PARTITIONERS, partition_of
from nextclick.schema.paths import write_at
from nextclick.settings import Settings

NOW_MS = 1_764_000_000_000
N_RECORDS = 300
N_PARTITIONS = 4
# Of (the record's number, the user, the item, the time in ms, chance): its key, value and headers.
Make = Callable[[int, str, str, int, random.Random], tuple[bytes | None, Any, list[tuple[str, bytes]] | None]]


def look_at(make: Make, *, partitioner: str = "murmur2_random", n_partitions: int = N_PARTITIONS) -> Proposal:
    """Make a topic, and search for settings that suit it."""
    return propose(sample_of(make, partitioner, n_partitions), Settings())


def sample_of(make: Make, partitioner: str = "murmur2_random", n_partitions: int = N_PARTITIONS) -> Sample:
    """Make a topic; without a key a record may be anywhere."""
    chance, records = random.Random(7), []
    for number in range(N_RECORDS):
        user, item = f"u{chance.randrange(60)}", f"sku-{chance.randrange(80)}"
        time_ms = NOW_MS - 1000 * chance.randrange(50_000)
        key, value, headers = make(number, user, item, time_ms, chance)
        partition = chance.randrange(n_partitions) if key is None else partition_of(key, n_partitions, partitioner)
        data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        records.append(SampledRecord(partition, number, time_ms + 200, key, data, headers))
    return Sample(records, n_partitions, NOW_MS + 1000)


def usual(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
    """What nextclick itself sends."""
    event = {"user_id": user, "item_id": item, "timestamp_ms": time_ms, "event_type": "view"}
    return user.encode(), event, None


def test_a_topic_that_fits_is_left_alone() -> None:
    """Whatever else could be read."""
    found = look_at(usual)

    assert found.changes == {}
    assert found.after.used == N_RECORDS


@pytest.mark.parametrize("partitioner", ["consistent_random", "fnv1a_random"])
def test_only_the_partitioner_is_changed_where_only_it_is_wrong(partitioner: str) -> None:
    """A quarter of the users are where they should be by chance."""
    found = look_at(usual, partitioner=partitioner)

    assert 0 < found.before.used < N_RECORDS / 2
    assert found.changes == {"partitioner": partitioner}
    assert found.after.used == N_RECORDS


@pytest.mark.parametrize("n_stray", [1, 2, 3])
@pytest.mark.parametrize("partitioner", ["consistent_random", "murmur2_random"])
def test_a_few_stray_records_change_nothing(partitioner: str, n_stray: int) -> None:
    """Another producer wrote them; no growth of the topic explains them, and nothing has to be copied."""
    sample = sample_of(usual, partitioner)
    stray = [
        record._replace(partition=(record.partition + 1) % N_PARTITIONS, offset=N_RECORDS)
        for record in sample.records[:n_stray]
    ]
    found = propose(sample._replace(records=[*sample.records, *stray]), Settings())

    assert found.changes == ({} if partitioner == "murmur2_random" else {"partitioner": partitioner})
    assert not found.needs_rekey
    assert found.grown_from == 0


def test_stray_records_do_not_hide_that_users_are_together() -> None:
    """Keys that are another function of the user."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return hashlib.sha256(user.encode()).hexdigest().encode(), {"userId": user, "itemId": item}, None

    sample = sample_of(make)
    stray = [record._replace(partition=(record.partition + 1) % 4) for record in sample.records[:2]]
    found = propose(sample._replace(records=[*sample.records, *stray]), Settings())

    assert found.changes["check_key"] == "false"
    assert not found.needs_rekey


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random", "fnv1a_random"])
def test_few_keys_are_read_by_what_fits_them(partitioner: str) -> None:
    """And it is said that they are few."""
    sample = sample_of(usual, partitioner)
    found = propose(sample._replace(records=sample.records[:6]), Settings())

    assert found.after.used == 6
    assert not found.needs_rekey
    assert (found.few_keys == 6) == bool(found.changes)


def test_few_keys_that_nothing_fits_are_too_few_to_tell() -> None:
    """They are no reason to copy a topic."""
    sample = sample_of(usual)
    away = next(
        [record._replace(partition=partition)]
        for record in sample.records
        for partition in range(N_PARTITIONS)
        if all(partition != partition_of(record.key or b"", N_PARTITIONS, each) for each in PARTITIONERS)
    )
    found = propose(sample._replace(records=away), Settings())

    assert found.few_keys == 1
    assert found.changes == {}
    assert not found.needs_rekey


def test_records_from_before_the_topic_grew_are_explained() -> None:
    """The partitioner is right, and nothing has to be copied."""
    now = sample_of(usual, n_partitions=6)
    older = [
        record._replace(partition=partition_of(record.key or b"", 4, "murmur2_random"))
        if record.offset < 100
        else record
        for record in now.records
    ]
    found = propose(now._replace(records=older), Settings())

    assert found.grown_from == 4
    assert found.changes == {}
    assert found.before.used == N_RECORDS
    assert propose(now, Settings()).grown_from == 0


def test_google_analytics_export_is_read() -> None:
    """Items in a list, times in microseconds; the user's first visit is not the event's time."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event = {
            "event_name": chance.choice(("view_item", "add_to_cart", "view_item_list", "purchase")),
            "event_timestamp": time_ms * 1000,
            "user_pseudo_id": user,
            "user_first_touch_timestamp": (time_ms - 10**9) * 1000,
            "items": [{"item_id": item, "item_name": "Lamp", "price": 1.5}, {"item_id": "other"}],
            "geo": {"country": "Germany"},
        }
        return user.encode(), event, None

    found = look_at(make)

    assert found.changes["user_field"] == "user_pseudo_id"
    assert found.changes["list_field"] == "items"
    assert "item_field" not in found.changes
    assert found.after.n_clicks == 2 * found.after.used
    assert found.changes["time_field"] == "event_timestamp"
    assert set(found.changes["events"].split(",")) == {"view_item:view", "add_to_cart:cart", "purchase"}
    assert found.after.rejected == 0


def test_events_without_an_item_are_passed_over_and_not_rejected() -> None:
    """Pages and logins share the topic with clicks."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        name = chance.choice(("page_view", "product_view", "login"))
        event: dict[str, Any] = {"event": name, "user_id": user, "ts": time_ms}
        return user.encode(), event | ({"product": {"id": item}} if name == "product_view" else {}), None

    found = look_at(make)

    assert found.changes["events"] == "product_view:view"
    assert found.after.rejected == 0
    assert 0 < found.after.used < N_RECORDS


@pytest.mark.parametrize("field", ["name", "eventName", "event"])
def test_clicks_that_are_rare_among_other_events_are_found(field: str) -> None:
    """What comes often and has few values is a kind, and no item."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        name = "product_click" if number % 60 == 0 else chance.choice(("page_ping", "scroll", "app_open", "web_vitals"))
        props = {"product": item} if name == "product_click" else {"x": chance.random()}
        return user.encode(), {"uid": user, "ts": time_ms, field: name, "props": props}, None

    found = look_at(make)

    assert found.changes == {
        "user_field": "uid",
        "item_field": "props.product",
        "event_field": field,
        "events": "product_click:view",
        "time_field": "ts",
    }
    assert found.after.used == N_RECORDS // 60
    assert found.after.rejected == 0


def test_names_of_products_are_no_kinds() -> None:
    """Some of them are words for what users do."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {"user_id": user, "sku": item, "name": chance.choice(("Watch", "Lamp", "Star"))}, None

    assert look_at(make).changes == {"item_field": "sku"}


def test_a_field_that_is_the_key_is_no_id_of_an_event() -> None:
    """Though it is called `id`; one that is of each event is no user, though the key is the same."""
    found = look_at(
        lambda number, user, item, time_ms, chance: (user.encode(), {"id": user, "product": {"id": item}}, None)
    )
    events = look_at(
        lambda number, user, item, time_ms, chance: (b"e%d" % number, {"id": f"e{number}", "product": item}, None)
    )

    assert found.changes == {"user_field": "id", "item_field": "product.id"}
    assert found.id_field == ""
    assert events.changes == {}
    assert events.missing == ("user",)


def test_binary_cloudevents_are_known_by_their_headers() -> None:
    """The envelope is kept though every field can be read without it: it has the time."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"com.shop.item.viewed"),
            ("ce_time", b"2025-11-24T15:00:00Z"),
        ]
        return user.encode(), {"visitorId": user, "sku": item}, headers

    found = look_at(make)

    assert found.changes == {"envelope": "cloudevents", "user_field": "visitorId", "item_field": "sku"}


def test_a_table_that_debezium_follows_is_read_with_its_key() -> None:
    """The key is an object with the user in it; deletes are no clicks."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        row = {"id": number, "customer_id": user, "product_id": item}
        change = {"before": None, "after": row, "op": "c", "ts_ms": time_ms, "source": {"table": "clicks"}}
        value = change if number % 5 else {**change, "before": row, "after": None, "op": "d"}
        return json.dumps({"customer_id": user}).encode(), value, None

    found = look_at(make)

    assert found.changes == {
        "envelope": "debezium",
        "user_field": "customer_id",
        "item_field": "product_id",
        "key_format": "json",
    }
    assert found.after.used == N_RECORDS * 4 // 5


def test_users_who_are_anonymous_at_first_are_found_by_the_key() -> None:
    """The key has whichever id there is, in this order."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        known = user if chance.random() < 0.3 else None
        event = {"userId": known, "anonymousId": f"a-{user}", "properties": {"product_id": item}}
        return (known or f"a-{user}").encode(), event, None

    found = look_at(make)

    assert found.changes == {"user_field": "userId|anonymousId", "item_field": "properties.product_id"}


def test_two_schemas_in_one_topic_are_read_by_alternatives() -> None:
    """Fields of the present settings are kept; what the events without a kind are is listed, too."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        if number % 2:
            event = usual(number, user, item, time_ms, chance)[1] | {"event_type": chance.choice(("view", "cart"))}
        else:
            action = chance.choice(("product_view", "add_to_cart"))
            event = {"visitor": {"id": user}, "product": {"sku": item}, "at": time_ms // 1000, "action": action}
        return user.encode(), event, None

    sample = sample_of(make)
    found = propose(sample, Settings())

    assert set(found.changes["user_field"].split("|")) == {"user_id", "visitor.id"}
    assert set(found.changes["item_field"].split("|")) == {"item_id", "product.sku"}
    assert found.changes["time_field"] == "timestamp_ms|at"
    assert found.changes["event_field"] == "event_type|action"
    assert set(found.changes["events"].split(",")) == {"view", "cart", "product_view:view", "add_to_cart:cart"}
    assert found.after.used == N_RECORDS


def test_a_key_that_is_another_function_of_the_user_is_not_checked() -> None:
    """Each user is in one partition all the same."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return hashlib.sha256(user.encode()).hexdigest().encode(), {"userId": user, "itemId": item}, None

    found = look_at(make)

    assert found.changes == {"user_field": "userId", "item_field": "itemId", "check_key": "false"}
    assert found.after.used == N_RECORDS


@pytest.mark.parametrize("tenants", ["x", "xyz"])
def test_a_key_of_several_fields_names_the_user(tenants: str) -> None:
    """With what is the same for all; where it differs for a user, the user is in several partitions."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        key = json.dumps({"user_id": user, "tenant": chance.choice(tenants)}).encode()
        return key, {"user_id": user, "sku": item}, None

    found, alone = look_at(make), look_at(make, n_partitions=1)

    is_alike = len(tenants) == 1
    assert ("in several partitions" in found.needs_rekey) == found.is_after_rekey == (not is_alike)
    assert found.changes == {"item_field": "sku"} | ({"key_format": "json"} if is_alike else {})
    assert found.after.used == N_RECORDS
    assert alone.changes == {"item_field": "sku", "key_format": "json"}


def test_a_key_of_several_fields_names_the_user_by_an_alternative() -> None:
    """As the decoder reads it: by the last name of each."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        name = "userId" if int(user[1:]) % 2 else "anonymousId"
        return json.dumps({name: user, "v": 1}).encode(), {"ids": {name: user}, "sku": item}, None

    found = look_at(make)

    assert set(found.changes["user_field"].split("|")) == {"ids.userId", "ids.anonymousId"}
    assert found.changes["key_format"] == "json"
    assert found.after.used == N_RECORDS


def test_a_key_by_country_is_not_taken_for_the_user() -> None:
    """It equals a field of the event, as a user's key would."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        country = ("DE", "FR", "IT", "ES")[int(user[1:]) % 4]
        return country.encode(), {"country": country, "customer": user, "product": item}, None

    found = look_at(make)

    assert found.changes["user_field"] == "customer"
    assert found.changes["check_key"] == "false"
    assert not found.needs_rekey


def test_a_topic_that_is_keyed_by_item_has_to_be_copied() -> None:
    """No setting brings a user's clicks together; for the copy nothing has to be set."""
    found = look_at(
        lambda number, user, item, time_ms, chance: (item.encode(), usual(number, user, item, 0, chance)[1], None)
    )

    assert "in several partitions" in found.needs_rekey
    assert found.is_after_rekey
    assert found.changes == {}
    assert found.after.used == N_RECORDS


def test_arrays_of_several_users_are_divided_by_the_copy() -> None:
    """As they are, no setting can use them; what is counted is the records of the copy."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        events = [{"user": {"id": each}, "product": {"id": item}} for each in (user, f"v{chance.randrange(60)}")]
        return b"batch-%d" % number, events, None

    found = look_at(make)

    assert found.is_after_rekey
    assert found.changes == {"user_field": "user.id", "item_field": "product.id"}
    assert found.after.used == 2 * N_RECORDS


def test_a_few_records_without_a_key_do_not_hide_what_the_others_need() -> None:
    """The line for the topic as it is, and the copy for all of them."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return (None if number % 10 == 0 else user.encode()), {"user_id": user, "sku": item}, None

    found = look_at(make, partitioner="consistent_random")

    assert found.changes == {"item_field": "sku", "partitioner": "consistent_random"}
    assert found.after.used == N_RECORDS * 9 // 10
    assert found.needs_rekey == "10% of the records have no key"
    assert not found.is_after_rekey


@pytest.mark.parametrize("n_partitions", [1, N_PARTITIONS])
def test_a_key_by_session_does_not_hide_who_the_user_is(n_partitions: int) -> None:
    """Each user has several sessions, so a copy is needed, but in one partition."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        session = f"s-{user}-{chance.randrange(4)}"
        return session.encode(), {"user_id": user, "session_id": session, "sku": item}, None

    found = look_at(make, n_partitions=n_partitions)

    assert "user_field" not in found.changes
    assert found.is_after_rekey == (n_partitions > 1)
    assert found.changes == {"item_field": "sku"} | ({"check_key": "false"} if n_partitions == 1 else {})
    chosen = propose(sample_of(make), Settings(user_field="session_id"))
    assert chosen.changes == {"item_field": "sku"}
    assert not chosen.needs_rekey


def test_views_that_often_have_no_item_stay_views() -> None:
    """Clicks on buttons have the same name."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {"user_id": user, "sku": item if number % 3 == 0 else None, "eventType": "click"}, None

    assert look_at(make).changes == {"item_field": "sku"}


def test_one_partition_needs_no_key() -> None:
    """All clicks of a user are together there."""
    found = look_at(
        lambda number, user, item, time_ms, chance: (None, {"user_id": user, "item_id": item}, None), n_partitions=1
    )

    assert found.changes == {"check_key": "false", "partitioner": "none"}
    assert not found.needs_rekey


def test_records_without_a_key_that_are_together_by_chance_are_copied_all_the_same() -> None:
    """A producer without keys fills one partition after the other: in a short time, only one."""
    sample = sample_of(lambda number, user, item, time_ms, chance: (None, {"user_id": user, "item_id": item}, None))
    together = sample._replace(records=[record._replace(partition=1) for record in sample.records])

    assert propose(together, Settings()).needs_rekey == "100% of the records have no key"


@pytest.mark.parametrize("field", ["category", "title", "page_type", "product.type"])
def test_what_products_are_called_is_no_kind_of_event(field: str) -> None:
    """A watch is watched by nobody, and no name of a product is shown."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event: dict[str, Any] = {"user_id": user, "sku": item}
        write_at(event, field.split("."), chance.choice(("Watch", "Bookmark", "Shoes", "Order of Merit", "Lamp")))
        return user.encode(), event, None

    assert look_at(make).changes == {"item_field": "sku"}


def test_kinds_that_name_the_item_are_not_listed() -> None:
    """No item is shown, and the next one would not be in the list."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        item = f"{item}-{chance.randrange(9)}"[:5]
        return user.encode(), {"user_id": user, "sku": item, "action": f"view:{item}"}, None

    assert look_at(make).changes == {"item_field": "sku"}


def test_names_that_are_data_are_not_proposed() -> None:
    """An object with a name for each user: to list them would show who they are."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {"user_id": user, "carts": {f"u{number % 12}": {"item_id": item}}}, None

    assert look_at(make).changes == {}


@pytest.mark.parametrize("has_key", [True, False])
def test_no_user_is_named_where_there_are_few(has_key: bool) -> None:
    """Each is in a third of the records; names of fields that are in all are no users, whoever is called so."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        user = ("ann", "bob", "item")[number % 3]
        event = {"user": user, "carts": {user: {"user": user, "sku": item}}, "item": {"id": item}}
        return user.encode() if has_key else None, event, None

    sample = sample_of(make, n_partitions=1)

    assert set(read_table(sample, "none", "").paths) == {"user", "item.id"}
    assert propose(sample, Settings()).changes["item_field"] == "item.id"


def test_each_element_of_a_list_is_an_event() -> None:
    """What they lack, the user of an order, is around them; the first alone would lose the others."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        lines = [{"sku": f"{item}-{place}", "price": 1.5} for place in range(1 + number % 3)]
        event = {"customer": {"id": user}, "order": {"number": number, "lines": lines}, "placed_at": time_ms}
        return user.encode(), event, None

    found = look_at(make)

    assert found.changes == {
        "list_field": "order.lines",
        "user_field": "customer.id",
        "item_field": "sku",
        "time_field": "placed_at",
    }
    assert found.after.n_clicks == 2 * N_RECORDS
    assert found.left_out == {}


def test_a_list_that_is_written_as_text_is_seen_as_a_list() -> None:
    """As Debezium gives a column of JSON; the others behind its first element are no less there."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        lines = json.dumps([{"item_id": item}, {"item_id": "x"}])
        return user.encode(), {"op": "c", "after": {"user_id": user, "lines": lines, "ts": time_ms}}, None

    def make_few(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        lines = {"lines": json.dumps([{"item_id": item}, {"item_id": "x"}])} if number % 2 else {"item_id": item}
        return user.encode(), {"user_id": user, **lines}, None

    divided, first = look_at(make), look_at(make_few)

    assert divided.changes["list_field"] == "lines"
    assert divided.after.n_clicks == 2 * N_RECORDS
    assert first.left_out == {"lines": N_RECORDS // 2}


@pytest.mark.parametrize("as_array", [False, True])
def test_an_envelope_is_known_around_an_event_that_is_text(as_array: bool) -> None:
    """As an element of an array, or as the payload of Connect."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        change = {"op": "c", "after": {"user_id": user, "sku": item}, "ts_ms": time_ms}
        if as_array:
            return user.encode(), [json.dumps(change)], None
        return user.encode(), {"schema": None, "payload": f" {json.dumps(change)}"}, None

    assert look_at(make).changes == {"envelope": "debezium", "item_field": "sku"}


def test_batches_of_events_are_divided() -> None:
    """Each event has all fields itself."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event = {"userId": user, "event": "Product Viewed", "properties": {"product_id": item}, "timestamp": time_ms}
        return user.encode(), {"batch": [event] * (1 + number % 2), "sentAt": time_ms + 5}, None

    found = look_at(make)

    assert found.changes["list_field"] == "batch"
    assert found.changes["item_field"] == "properties.product_id"
    assert found.changes["time_field"] == "timestamp"
    assert found.after.used == N_RECORDS


def test_elements_that_cannot_be_events_are_said_to_be_left_out() -> None:
    """Half of the records have no list: with `list_field` these would be lost."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        items = {"products": [{"product_id": item}, {"product_id": "x"}]} if number % 2 else {"product_id": item}
        return user.encode(), {"user_id": user, **items}, None

    found = look_at(make)

    assert found.changes == {"item_field": "products.0.product_id|product_id"}
    assert found.left_out == {"products": N_RECORDS // 2}


def test_a_list_that_other_events_lack_is_left_out_too() -> None:
    """Pages without items are passed over; with `list_field` each of them would be rejected."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event = {"user_id": user, "event_type": "purchase" if number % 2 else "scroll"}
        return user.encode(), event | ({"items": [{"sku": item}, {"sku": "x"}]} if number % 2 else {}), None

    found = look_at(make)

    assert found.changes["item_field"] == "items.0.sku"
    assert found.after.rejected == 0
    assert found.left_out == {"items": N_RECORDS // 2}


def test_what_takes_turns_is_not_looked_at_as_one_kind() -> None:
    """Every other event of a large topic is a click, and every so many are looked at."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event: dict[str, Any] = {"visitor": user, "event": "product_clicked" if number % 2 else "page_viewed"}
        return user.encode(), event | ({"props": {"product_id": item}} if number % 2 else {}), None

    sample = sample_of(make, n_partitions=1)
    many = sample._replace(records=[record for _ in range(12) for record in sample.records])
    found = propose(many, Settings())

    assert found.changes["item_field"] == "props.product_id"
    assert found.changes["events"] == "product_clicked:view"
    assert found.after.used == len(many.records) // 2
    assert found.after.rejected == 0


def test_what_is_searched_is_bounded_in_bytes() -> None:
    """Spread over the whole sample all the same."""
    sample = sample_of(usual)
    size = len(sample.records[0].value or b"")
    few = sample.thinned(100, 40 * size)

    assert 30 <= len(few.records) <= 41
    assert {record.partition for record in few.records} == set(range(N_PARTITIONS))


def test_names_that_could_write_to_a_terminal_are_passed_over() -> None:
    """Whoever can send clicks must not move the cursor of who looks at them."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        kind = chance.choice(("\x1b[2Jview", "cart"))
        return user.encode(), {"user_id": user, "\x1b[2Jsku": item, "article": item, "action": kind}, None

    assert look_at(make).changes == {"item_field": "article"}


def test_names_in_no_language_are_found_by_what_fields_hold() -> None:
    """The key names the user, a number near the record's time is the time, what comes again is the item."""
    found = look_at(
        lambda number, user, item, time_ms, chance: (user.encode(), {"a": user, "b": item, "c": time_ms // 1000}, None)
    )

    assert found.changes == {"user_field": "a", "item_field": "b", "time_field": "c"}


def test_the_field_of_the_events_ids_is_named() -> None:
    """Where nothing else is unique by accident."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {**usual(number, user, item, time_ms, chance)[1], "message_id": f"e{number}"}, None

    def make_as_set(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {**usual(number, user, item, time_ms, chance)[1], "event_id": f"e{number}"}, None

    assert look_at(make).id_field == "message_id"
    assert look_at(make_as_set).id_field == ""
    assert look_at(usual).id_field == ""


def with_id(id_of: Callable[[int, str], Any], **others: Any) -> Make:
    """What nextclick itself sends, with an `event_id`, by the record's number and its user."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event = {**usual(number, user, item, time_ms, chance)[1], "event_id": id_of(number, user)}
        return user.encode(), event | {name: f"{name}{number}" for name in others}, None

    return make


@pytest.mark.parametrize(
    "id_of", [lambda *_: "click", lambda number, _: number % 3 + 1, lambda number, _: f"s{number // 40}"]
)
def test_an_event_id_that_repeats_is_noticed(id_of: Callable[[int, str], Any]) -> None:
    """A name of the event, the number of its kind, a session: workers would take most clicks for retries."""
    found = look_at(with_id(id_of))

    assert found.present_ids.is_repeated
    assert found.id_field == ""
    assert look_at(with_id(id_of, message_id=True)).id_field == "message_id"


def test_an_event_id_that_repeats_is_noticed_though_no_user_comes_again() -> None:
    """The newest records of a large shop are of as many users."""
    sample = sample_of(with_id(lambda *_: "click"))
    records = [record._replace(key=b"%d" % number) for number, record in enumerate(sample.records)]

    assert propose(sample._replace(records=records), Settings(check_key=False)).present_ids.is_repeated


@pytest.mark.parametrize(
    "id_of",
    [
        lambda *_: "",
        lambda *_: 0,
        lambda number, _: "click" if number % 20 == 0 else None,
    ],
)
def test_events_without_ids_are_left_alone(id_of: Callable[[int, str], Any]) -> None:
    """What is empty is no id; and hardly any event has one."""
    found = look_at(with_id(id_of))

    assert not found.present_ids.is_repeated
    assert found.changes == {}


def test_a_few_retries_are_left_alone() -> None:
    """Users of whom nothing else is seen send every twelfth event again."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        number -= number % 12 == 11
        return f"v{number}".encode(), {"user_id": f"v{number}", "item_id": item, "event_id": f"e{number}"}, None

    found = look_at(make)

    assert found.present_ids.known_to_users == N_RECORDS // 12
    assert not found.present_ids.is_repeated


def test_ids_that_count_the_events_of_each_user_are_left_alone() -> None:
    """Other users' events have the same ones; workers compare those of one user."""
    counts = Counter[str]()

    def count(_: int, user: str) -> int:
        counts[user] += 1
        return counts[user]

    assert not look_at(with_id(count)).present_ids.is_repeated


def test_an_id_around_several_events_is_no_repetition() -> None:
    """Workers give each of them a part of it."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        clicks = [usual(number, user, item, time_ms, chance)[1] for _ in range(3)]
        return user.encode(), {"event_id": f"e{number}", "batch": clicks}, None

    found = propose(sample_of(make), Settings(list_field="batch"))

    assert found.present_ids.n_ids == N_RECORDS
    assert not found.present_ids.is_repeated


@pytest.mark.parametrize("value", [{"high": 1, "low": 2}, ["a"], 1.5])
def test_an_event_id_that_is_none_is_given_up(value: Any) -> None:
    """Workers reject every record with it."""
    found = look_at(with_id(lambda *_: value))

    assert found.before.used == 0
    assert (found.changes, found.after.used) == ({"id_field": ""}, N_RECORDS)
    assert look_at(with_id(lambda *_: value, message_id=True)).changes == {"id_field": "message_id"}


def test_one_event_id_that_is_none_is_a_mistake_of_a_client() -> None:
    """The others are ids."""
    found = look_at(with_id(lambda number, _: {"of": number} if number == 7 else f"e{number}"))

    assert found.changes == {}


def test_nothing_is_proposed_for_what_cannot_be_read() -> None:
    """Bytes of a schema registry's."""
    found = look_at(lambda number, user, item, time_ms, chance: (user.encode(), b"\0\0\0\0\x11\x02ab", None))

    assert found.changes == {}
    assert found.before.usage.by_reason == {RejectReason.NEEDS_REGISTRY: N_RECORDS}


def test_settings_that_work_are_not_replaced_by_better_names() -> None:
    """Somebody has chosen them."""
    sample = sample_of(
        lambda number, user, item, time_ms, chance: (
            f"v{user}".encode(),
            {"user_id": user, "visit": f"v{user}", "sku": item, "product_id": 5, "event": "view"},
            None,
        )
    )
    chosen = Settings(user_field="visit", item_field="sku", event_field="event")

    assert propose(sample, chosen).changes == {}


def test_what_is_not_needed_is_not_proposed() -> None:
    """Keys that are JSON, where keys are not looked at."""
    sample = sample_of(
        lambda number, user, item, time_ms, chance: (json.dumps(user).encode(), {"sku": item, "user_id": user}, None)
    )

    assert propose(sample, Settings(check_key=False)).changes == {"item_field": "sku"}
    assert propose(sample, Settings()).changes == {"item_field": "sku", "key_format": "json"}


def test_an_envelope_that_the_fields_name_already_is_left_to_them() -> None:
    """Somebody wrote the paths through it; with the envelope taken off they would all be others."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        return user.encode(), {"schema": None, "payload": {"user": user, "item": item, "ts": time_ms}}, None

    fields = Settings(user_field="payload.user", item_field="payload.item", time_field="payload.ts")

    assert propose(sample_of(make), fields).changes == {}
    assert propose(sample_of(make), Settings()).changes["envelope"] == "connect"


def test_an_event_that_is_written_as_text_is_looked_into() -> None:
    """As log shippers send it; their own time is not the event's."""

    def make(number: int, user: str, item: str, time_ms: int, chance: random.Random) -> Any:
        event = json.dumps({"user": {"id": user}, "product": {"sku": item}, "ts": time_ms})
        return user.encode(), {"message": event, "@timestamp": time_ms + 5_000, "host": "web-1"}, None

    found = look_at(make)

    assert found.changes == {
        "user_field": "message.user.id",
        "item_field": "message.product.sku",
        "time_field": "message.ts",
    }


def test_what_is_proposed_is_what_judges_it() -> None:
    """The figure that is promised is the decoder's own."""
    sample = sample_of(lambda number, user, item, time_ms, chance: (user.encode(), {"uid": user, "sku": item}, None))
    found = propose(sample, Settings())

    assert judge(sample, changed(Settings(), found.changes)).used == found.after.used == N_RECORDS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Product Viewed", "view"),
        ("add_to_cart", "cart"),
        ("Product Added", "cart"),
        ("AddToCart", "cart"),
        ("remove_from_cart", NO_CLICK),
        ("Product Removed", NO_CLICK),
        ("Cart Viewed", NO_CLICK),
        ("Product List Viewed", NO_CLICK),
        ("Order Completed", "purchase"),
        ("Order Cancelled", NO_CLICK),
        ("Product Added to Wishlist", "like"),
        ("com.shop.product.viewed.v2", "view"),
        ("impression", NO_CLICK),
        ("carts", "cart"),
        ("pv", "view"),
        ("quux", None),
    ],
)
def test_what_an_events_name_means(name: str, meant: object) -> None:
    """As trackers and data sets write them."""
    assert event_type_of(name) == meant


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("user_id", Role.USER),
        ("visitorid", Role.USER),
        ("context.customer.id", Role.USER),
        ("user.last_product.id", Role.ITEM),
        ("productSku", Role.ITEM),
        ("items.0.item_id", Role.ITEM),
        ("order_id", Role.OTHER),
        ("product.category_id", Role.OTHER),
        ("product.price", Role.OTHER),
        ("user_agent", Role.OTHER),
        ("id", Role.OTHER),
    ],
)
def test_what_a_fields_name_means(path: str, role: Role) -> None:
    """The nearest word of a user or an item says whose id it is."""
    assert id_role(path)[0] is role


def test_names_are_cut_into_words() -> None:
    """However they are written."""
    assert tokens("event.productId") == ["event", "product", "id"]
    assert tokens("visitorid") == ["visitor", "id"]
    assert tokens("SKUCode") == ["sku", "code"]
