"""What the name of a field says of its meaning: the words that shops, trackers and databases use."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum

_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# The higher, the surer. Session and device are users where there is nothing better.
USERS: Mapping[str, float] = {
    **dict.fromkeys(("user", "usr", "uid", "visitor", "customer", "cust", "distinct"), 10),
    **dict.fromkeys(("member", "shopper", "buyer", "subscriber", "viewer", "listener", "reader", "player"), 9),
    **dict.fromkeys(("account", "client", "person", "profile", "consumer", "guest", "contact", "actor", "fan"), 8),
    **dict.fromkeys(("anonymous", "anon", "subject"), 7),
    **dict.fromkeys(("kunde", "kunden", "nutzer", "benutzer", "utilisateur", "usuario", "cliente", "utente"), 9),
    **dict.fromkeys(("cookie", "device", "browser", "session", "visit"), 4),
}
ITEMS: Mapping[str, float] = {
    **dict.fromkeys(("item", "product", "prod", "sku", "article", "asin"), 10),
    **dict.fromkeys(("content", "movie", "film", "track", "song", "video", "book", "game", "recipe", "listing"), 9),
    **dict.fromkeys(("iid", "pid", "episode", "show", "course", "job", "news", "story", "podcast", "media"), 9),
    **dict.fromkeys(("offer", "property", "hotel", "place", "venue", "restaurant", "app", "photo", "image"), 7),
    **dict.fromkeys(("variant", "ean", "gtin", "isbn", "style", "good", "goods", "document", "doc", "post"), 7),
    **dict.fromkeys(("artikel", "produkt", "produit", "producto", "articulo", "prodotto"), 9),
    **dict.fromkeys(("merchandise", "object", "entity", "target", "resource", "artist", "stock"), 6),
}
# What has ids, too, and is neither.
_OTHERS = frozenset(
    {"event", "message", "msg", "request", "trace", "span", "insert", "hit", "record", "row", "log", "correlation"}
    | {"idempotency", "batch", "dedup", "order", "transaction", "cart", "basket", "campaign", "ad", "page", "query"}
    | {"category", "brand", "seller", "merchant", "shop", "store", "tenant", "warehouse", "list", "search"}
)
_KINDS = frozenset(
    {"event", "events", "type", "action", "kind", "verb", "behavior", "behaviour", "activity", "interaction"}
)
_KIND_TAILS = frozenset({"name", "category", "label"})
NAME_ALONE = 1.0  # how surely `name` is an event's: it can be a product's or a person's as well
_TIMES: Mapping[str, float] = {
    **dict.fromkeys(("timestamp", "occurred", "happened"), 10),
    **dict.fromkeys(("time", "ts", "datetime", "when", "tstamp", "stamp", "moment", "clicked"), 9),
    **dict.fromkeys(("at", "epoch", "on", "created", "date", "instant", "dt", "zeit", "datum", "fecha", "heure"), 7),
}
_OTHER_TIMES: Mapping[str, float] = {
    **dict.fromkeys(
        ("received", "sent", "processed", "ingest", "ingested", "ingestion", "server", "load", "loaded"), 3
    ),
    **dict.fromkeys(("collector", "kafka", "etl", "write", "written", "commit", "session", "start", "end"), 3),
    **dict.fromkeys(("updated", "modified", "expires", "expiry", "expired", "birth", "born", "birthday", "dob"), 9),
    **dict.fromkeys(("signup", "registered", "release", "released", "published", "delivery", "first", "last"), 9),
    **dict.fromkeys(("previous", "prev", "zone", "timezone", "duration", "elapsed", "joined", "since", "due"), 9),
}
_IDS = frozenset({"id", "ids", "key", "uuid", "guid", "no", "nr", "num", "number", "code", "hash", "ref", "identifier"})
_UNITS = frozenset(
    {"ms", "s", "us", "ns", "sec", "secs", "seconds", "millis", "milliseconds", "micros", "nanos", "utc"}
)
_KNOWN = frozenset({*USERS, *ITEMS, *_OTHERS, *_KINDS, *_TIMES, *_IDS, *_KIND_TAILS, "ms", "millis"})
_ATTRIBUTES = frozenset({"name", "email", "mail", "slug", "title", "url", "link", "uri", "login"})


class Role(Enum):
    """What an id is of."""

    USER = "user"
    ITEM = "item"
    OTHER = "other"


def tokens(path: str) -> list[str]:
    """Give the words of a path, in lower case: `event.productId` is event, product, id; `itemid` is item, id."""
    words: list[str] = []
    for word in _SPLIT.split(path):
        if word and not word.isdigit():
            words += _compound(word.lower())
    return words


def _compound(word: str) -> Sequence[str]:
    if word in _KNOWN:
        return (word,)
    for place in range(2, len(word) - 1):
        if word[:place] in _KNOWN and word[place:] in _KNOWN:
            return (word[:place], word[place:])
    return (word,)


def id_role(path: str) -> tuple[Role, float]:
    """Say of what a field is the id, by its name, and how surely (0: its name says nothing of the kind)."""
    words = tokens(path)
    if not words:
        return Role.OTHER, 0.0
    sureness = 1.0
    if words[-1] in _IDS and len(words) > 1:
        words = words[:-1]
    elif words[-1] in _ATTRIBUTES and len(words) > 1:
        words, sureness = words[:-1], 0.3
    elif words[-1] not in USERS and words[-1] not in ITEMS:
        return Role.OTHER, 0.0  # `id` alone, or what is no id at all: a price, a category
    for distance, word in enumerate(reversed(words)):
        if word in USERS:
            return Role.USER, sureness * (USERS[word] - distance / 2)
        if word in ITEMS:
            return Role.ITEM, sureness * (ITEMS[word] - distance / 2)
        if word in _OTHERS and distance == 0:
            return Role.OTHER, 0.0
    return Role.OTHER, 0.0


def is_event_id(path: str) -> bool:
    """Tell whether a name is that of an event's own id."""
    words = tokens(path)
    return bool(words) and words[-1] in _IDS and (len(words) == 1 or words[-2] in {"event", "message", "msg", "insert"})


def kind_score(path: str) -> float:
    """Say how surely a field names the kind of an event, by its name; 0 where it is the kind of something else."""
    words = tokens(path)
    leaf = len(words)
    while leaf and words[leaf - 1] in _KINDS | _KIND_TAILS:
        leaf -= 1
    own = words[leaf:]
    if words == ["name"]:
        return NAME_ALONE
    if not own or not _KINDS & set(own):
        return 0.0
    of = words[leaf - 1] if leaf else ""
    is_of_other = of in USERS or of in ITEMS or of in _OTHERS or len(tokens(path.rpartition(".")[2])) > len(own)
    return 0.0 if is_of_other else 8.0 + min(len(own), 2) - min(leaf, 4) / 2


def time_score(path: str) -> float:
    """Say how surely a field is the time of its event, by its name."""
    words = [word for word in tokens(path) if word not in _UNITS]
    named = [_TIMES[word] for word in words[-3:] if word in _TIMES]
    if not named:
        return 0.0
    penalty = sum(_OTHER_TIMES.get(word, 0.0) for word in words)
    # When a user or an item began is not when it was clicked; a client's clock is the event's.
    penalty += sum(4.0 for word in words[:-1] if word in ITEMS or (word in USERS and word != "client"))
    return max(0.5, max(named) - penalty - len(words) / 4)
