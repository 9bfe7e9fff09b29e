"""Every setting of every program, in one frozen object: its default, its unit, its reason.

A setting is given in a file, as an environment variable `NEXTCLICK_<NAME>`, or as `--set name=value`, which wins
(`nextclick.setting_sources`). A name or a value that is not known is refused before anything starts. This module reads
no environment: the caller hands it in.
"""

import dataclasses
import functools
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec

from nextclick.errors import PermanentError
from nextclick.setting_sources import CONFIG_VARIABLE, ENVIRONMENT_PREFIX, given_settings, unknown_setting
from nextclick.setting_values import Given, Kind, checked_value, choices, read_value

# What the user's state can count (see `nextclick.user_state`).
MAX_STORED_COUNT = 255
MAX_HIDDEN_SIZE = 16_383
MAX_NEIGHBOURS = 1_024
_STORE_ADDRESS = re.compile(r"(s3|gs|az)://[^/\s]+(/\S*)?|file:///\S+")
MAX_LIVE_ITEMS = 100_000  # of a worker; each takes up to 2 kB
RENAMED: Mapping[str, str] = {
    "check_partition": "partitioner=none"
}  # former name to the name of now, for whoever still uses the former one
# What the settings are for, in the order of the fields: each group begins with the field named.
GROUPS: Mapping[str, str] = {
    "broker": "broker",
    "app": "application",
    "user_field": "clicks",
    "data_dir": "worker",
    "log_dir": "trainer",
    "feed_dir": "feed",
}


def _setting(
    default: Any,
    reason: str,
    *,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    secret: bool = False,
) -> Any:
    metadata = {"reason": reason, "unit": unit, "at_least": at_least, "at_most": at_most}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of worker, trainer and tools. `nextclick settings` prints this table."""

    # The broker and how every client speaks to it.
    broker: str = _setting(
        "127.0.0.1:9092", "address of any broker of the cluster; several with commas", unit="host:port"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "PLAINTEXT", "how clients connect"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting(
        "SCRAM-SHA-512", "how clients prove who they are, with SASL_*"
    )
    sasl_username: str = _setting("", "user name, with SASL_*")
    sasl_password: str = _setting("", "password, with SASL_*; never logged", secret=True)
    tls_ca_file: str = _setting(
        "", "authorities to trust, with *SSL and for a schema registry at https; empty: the system's", unit="path"
    )
    tls_certificate_file: str = _setting("", "client certificate, with *SSL", unit="path")
    tls_key_file: str = _setting("", "key of the client certificate, with *SSL", unit="path")

    # The application and its topics.
    app: str = _setting("nextclick", "names the consumer group, the changelog and the data folder")
    clicks_topic: str = _setting("clicks", "the clicks to read")
    recommendations_topic: str = _setting("recommendations", "where updates go")
    rejected_topic: str = _setting("clicks-rejected", "where clicks go that cannot be used, with the reason")
    models_topic: str = _setting("models", "where bundles are announced")
    items_topic: str = _setting(
        "items",
        "what the shop says of its items: withdrawn, published, boosted; need not be there, and empty: there is none",
    )
    output_format: Literal["json", "cloudevents", "avro", "protobuf"] = _setting(
        "json",
        "how updates are written: as JSON, as JSON in a CloudEvent, or as Avro or Protobuf with the schema registry",
    )
    partitions: int = _setting(
        4,
        "partitions of topics that `nextclick topics` creates; all but models, items and tallies have as many",
        at_least=1,
        at_most=10_000,
    )
    partitioner: Literal["murmur2_random", "consistent_random", "fnv1a_random", "none"] = _setting(
        "murmur2_random",
        "how a key picks its partition: what the producers of clicks use (Java's, librdkafka's, Sarama's); none: "
        "another way, which is not checked",
    )
    check_key: bool = _setting(
        True, "the key names the user; false: it is another function of the user, which is not checked"
    )
    key_format: Literal["text", "json", "int", "long", "connect", "registry"] = _setting(
        "text",
        "how the key is written: UTF-8, JSON, a number of 4 or 8 bytes, Kafka Connect's JSON, by the schema registry",
    )
    start: Literal["earliest", "latest"] = _setting("earliest", "where an application without committed offsets begins")

    # What a record of the clicks topic is like, so that one that exists already is read as it is. Fields are paths.
    user_field: str = _setting(
        "user_id", "where the user is: visitor.id, items.0.user, userId|anonymousId (first that is there), header:NAME"
    )
    item_field: str = _setting("item_id", "where the item is")
    time_field: str = _setting("timestamp_ms", "where the event time is (optional there), in any usual form")
    event_field: str = _setting("event_type", "where the event type is (optional there)")
    list_field: str = _setting(
        "",
        "where a record has a list of events, if it holds several: batch, order.items; what one of them lacks is taken "
        "from the record around it; empty: a record is an event",
    )
    id_field: str = _setting(
        "event_id",
        "where the event's own id is (optional there): a client's retry is then applied once, while it is among the "
        "user's last recent_clicks; empty: nowhere",
    )
    events: str = _setting(
        "", "events that are clicks, each with our type if it has another name: view,add_to_cart:cart; empty: all"
    )
    envelope: Literal["none", "cloudevents", "debezium", "connect"] = _setting(
        "none", "what stands around an event: CloudEvents, Debezium's changes, Kafka Connect's schema and payload"
    )
    schema_registry: str = _setting(
        "",
        "address of the schema registry of clicks in Confluent's wire format (Avro, JSON Schema, Protobuf), and of "
        "updates with such an output_format, as https://registry:8081; several with commas; empty: none",
        unit="address",
    )
    schema_registry_username: str = _setting("", "user name at the schema registry, where it asks for one")
    schema_registry_password: str = _setting("", "password at the schema registry; never logged", secret=True)

    # The stream worker.
    data_dir: Path = _setting(Path("data/worker"), "local copy of the user states; one folder per worker", unit="path")
    instance_id: str = _setting(
        "",
        "names the worker, and no other, in the consumer group over its restarts: a pod's name, for example; empty: a "
        "name that data_dir keeps",
    )
    served_dir: Path = _setting(
        Path("data/served"),
        "bundles as they are served, which workers of one machine share in memory: one folder of a disk of the machine",
        unit="path",
    )
    bundle: str = _setting(
        "", "folder of a bundle to serve until a newer one is announced; refused at start if unusable", unit="path"
    )
    list_length: int = _setting(
        20, "items in a recommendation list", unit="items", at_least=1, at_most=MAX_STORED_COUNT
    )
    explain: bool = _setting(
        False,
        "write into updates what each item is listed for (`because`); such an update is several times as large",
    )
    live_items: int = _setting(
        10_000,
        "most items that no bundle knows yet and lists have all the same, found by what is clicked near them; those "
        "that are clicked least leave; 0: a new item waits for the next bundle",
        unit="items",
        at_least=0,
        at_most=MAX_LIVE_ITEMS,
    )
    exclude: Literal["none", "last", "session", "recent", "purchased"] = _setting(
        "none",
        "items that are left out of a user's list: the one clicked last, those of the running session, all that are "
        "remembered (recent_clicks), or those of these that were bought",
    )
    max_per_category: int = _setting(
        0, "most items of a category in a list; 0: no bound", unit="items", at_least=0, at_most=MAX_STORED_COUNT
    )
    pinned: str = _setting(
        "", "items that stand first in every list, in this order: their ids with commas; empty: none", unit="ids"
    )
    explore: float = _setting(
        0.0,
        "share of a list's places that goes to items which were shown little; outcomes are counted apart",
        at_least=0,
        at_most=0.5,
    )
    recent_clicks: int = _setting(
        20,
        "clicks kept per user, to rebuild the hidden state under new weights",
        unit="clicks",
        at_least=1,
        at_most=MAX_STORED_COUNT,
    )
    popularity_half_life_s: float = _setting(
        86_400.0, "after this much event time a click counts half in the popularity", unit="s", at_least=1
    )
    max_reject_share: float = _setting(
        1.0, "stop when more of at least 1,000 records than this are rejected; 1 never stops", at_least=0
    )
    max_chunk_records: int = _setting(
        2_000,
        "most clicks that are applied as one batch; more helps only a backlog",
        unit="records",
        at_least=1,
        at_most=100_000,
    )
    inference_threads: int = _setting(
        0,
        "threads that compute the lists of a large batch; 0: one for each core",
        unit="threads",
        at_least=0,
        at_most=256,
    )
    gather_ms: float = _setting(
        5.0,
        "after clicks were read the broker gathers the next ones for a moment, for so long at most",
        unit="ms",
        at_least=0,
        at_most=10_000,
    )
    commit_interval_s: float = _setting(1.0, "how often offsets are committed", unit="s", at_least=0.1)
    session_timeout_s: float = _setting(
        10.0,
        "a worker that is silent for so long loses its partitions; a broker takes 6 s or more by default",
        unit="s",
        at_least=1,
        at_most=90,  # what Faust waits for an answer of the broker's: it refuses to start with more
    )
    standby_replicas: int = _setting(
        1, "other workers that keep a copy of each partition's states, to take over faster", unit="workers", at_least=0
    )
    stall_s: float = _setting(
        60.0,
        "nothing moves for so long though the broker answers: a recovery begins anew, a worker exits",
        unit="s",
        at_least=1,
    )
    worker_port: int = _setting(
        9464,
        "metrics, /healthz and /readyz of the worker; 0 picks a free port",
        unit="port",
        at_least=0,
        at_most=65_535,
    )

    # `nextclick rekey`.
    rekey_port: int = _setting(
        9466,
        "metrics, /healthz and /readyz of `nextclick rekey`; 0 picks a free port",
        unit="port",
        at_least=0,
        at_most=65_535,
    )

    # The trainer.
    log_dir: Path = _setting(Path("data/click-log"), "the click log (Parquet)", unit="path")
    click_log: str = _setting(
        "",
        "where the click log is, in an object store: s3://bucket/folder, gs://, az://, file://; log_dir has a copy of "
        "it then; empty: in log_dir alone",
        unit="address",
    )
    bundle_dir: Path = _setting(
        Path("data/bundles"),
        "where bundles are published: one folder that trainer and workers share; with bundle_store a folder of each "
        "machine",
        unit="path",
    )
    bundle_store: str = _setting(
        "",
        "where bundles are published, in an object store: s3://bucket/folder, gs://, az://, file://; workers and feeds "
        "fetch them into bundle_dir then, once per machine; empty: in bundle_dir alone",
        unit="address",
    )
    trainer_port: int = _setting(
        9465,
        "metrics, /healthz and /readyz of the trainer; 0 picks a free port",
        unit="port",
        at_least=0,
        at_most=65_535,
    )
    log_flush_s: float = _setting(30.0, "how often clicks are written to the click log", unit="s", at_least=0.1)
    log_keep_days: float = _setting(
        365.0,
        "clicks that were logged longer ago are removed, by whole files: users' histories are not kept for ever",
        unit="days",
        at_least=0.01,
    )
    log_keep_bytes: int = _setting(
        20_000_000_000,
        "the oldest clicks are removed, by whole files, when the click log takes more: the disk must not fill up",
        unit="bytes",
        at_least=10_000_000,
    )
    min_clicks: int = _setting(3_000, "clicks in the log before the first training", unit="clicks", at_least=100)
    train_every_s: float = _setting(
        600.0,
        "train again after this time, when there are new clicks enough (train_least_clicks)",
        unit="s",
        at_least=1,
    )
    train_least_clicks: int = _setting(
        500,
        "new clicks before a training goes on from the last one: of fewer it learns little, and they cannot judge what "
        "it learnt. After train_anew_every_s one is enough",
        unit="clicks",
        at_least=1,
    )
    train_every_clicks: int = _setting(
        1_000_000, "train again after so many new clicks, even before the time is over", unit="clicks", at_least=100
    )
    train_anew_every_s: float = _setting(
        86_400.0,
        "trainings in between learn what is new, in seconds; after this time everything is learnt anew, as always when "
        "settings of the network change, or bundles decline",
        unit="s",
        at_least=0,
    )
    training_stall_s: float = _setting(
        600.0,
        "a training that gives no sign of life for so long is killed, and counts as failed; it gives one a second, and "
        "its longest step without one, reading the clicks, takes a minute at worst",
        unit="s",
        at_least=1,
    )
    publish_as: Literal["champion", "canary"] = _setting(
        "champion",
        "a new bundle that is better on past clicks becomes the champion at once, or first a canary for some users",
    )
    canary_share: float = _setting(0.1, "share of the users that a bundle on trial is for", at_least=0.001, at_most=1)
    canary_promote: Literal["never", "better", "not_worse"] = _setting(
        "never",
        "when a canary becomes the champion by itself: never; when it is significantly better; or also when "
        "canary_clicks did not show that it is worse. One that is significantly worse is rolled back in any case",
    )
    canary_clicks: int = _setting(
        10_000, "judged clicks of a canary after which a decision is due", unit="clicks", at_least=100
    )
    # What shapes a bundle, from here on; see `of_learning`.
    recent_window_clicks: int = _setting(
        500_000, "newest clicks of the log that every training uses", unit="clicks", at_least=100
    )
    replay_share: float = _setting(
        0.2, "older clicks in a training, as a share of the recent ones: keeps what was learnt", at_least=0
    )
    validation_share: float = _setting(
        0.1, "newest part of the clicks that judges a new bundle", at_least=0.01, at_most=0.5
    )
    max_items: int = _setting(
        1_000_000,
        "most items of a bundle, which takes 1.3 kB for each; beyond it the least clicked leave; 0: no bound",
        unit="items",
        at_least=0,
    )
    cell: Literal["gru", "lstm", "rnn"] = _setting("gru", "recurrent cell of a new model")
    hidden_size: int = _setting(
        128, "width of the embeddings and of the hidden state", at_least=1, at_most=MAX_HIDDEN_SIZE
    )
    tied: bool = _setting(True, "score items with the input embedding instead of one of their own")
    loss: Literal["cross_entropy", "bpr_max", "binary"] = _setting(
        "cross_entropy",
        "what training makes small; cross_entropy takes the least time and ranks nearly as well as the best",
    )
    skip: bool = _setting(True, "add the last click's vector to what the cell says (a new model)")
    normalised: bool = _setting(True, "compare item vectors by their direction alone (a new model)")
    neighbours: int = _setting(
        100,
        "length of the neighbour lists that are mixed with the network; 0: the network alone",
        unit="items",
        at_least=0,
        at_most=MAX_NEIGHBOURS,
    )
    epochs: int = _setting(2, "passes over the training sequences; recent ones are then learnt again", at_least=1)
    batch_windows: int = _setting(96, "sequences per training step", unit="sequences", at_least=1)
    learning_rate: float = _setting(0.025, "step of the optimizer (row-wise Adagrad)", at_least=0)
    dropout: float = _setting(
        0.25, "share of the input vectors' elements that training sets to zero", at_least=0, at_most=0.95
    )
    feature_dropout: float = _setting(
        0.0, "share of the elements of what the cell says that training sets to zero", at_least=0, at_most=0.95
    )
    negatives: int = _setting(8_192, "sampled items per batch that a click is told apart from", at_least=1)
    negatives_power: float = _setting(
        0.3, "an item is sampled by its popularity raised to this: 0 is uniform", at_least=0, at_most=1
    )
    device: Literal["auto", "cpu", "cuda"] = _setting("auto", "where training computes; auto: a GPU if there is one")
    seed: int = _setting(0, "seed of the trainer", at_least=0, at_most=2**63 - 1)

    # `nextclick feed`.
    feed_dir: Path = _setting(Path("data/feed"), "local copy of the lists; one folder per feed", unit="path")
    feed_host: str = _setting("0.0.0.0", "where the feed listens: an address of this machine, or all", unit="address")
    feed_port: int = _setting(
        9470,
        "lists over HTTP, metrics, /healthz and /readyz of the feed; 0 picks a free port",
        unit="port",
        at_least=0,
        at_most=65_535,
    )
    feed_tokens_file: str = _setting(
        "",
        "who may ask the feed: a file with a bearer token on each line, read again when it changes; empty: everyone",
        unit="path",
    )
    feed_origins: str = _setting(
        "",
        "web pages that may ask the feed (CORS), as https://shop.example; several with commas; *: all",
        unit="address",
    )
    feed_tls_certificate_file: str = _setting("", "the feed's certificate, for HTTPS; empty: HTTP", unit="path")
    feed_tls_key_file: str = _setting("", "key of the feed's certificate", unit="path")
    feed_max_streams: int = _setting(
        20_000, "most open event streams of a feed; one more is refused", unit="streams", at_least=1
    )
    feed_keep_days: float = _setting(
        30.0,
        "a list that was not renewed for so long is removed, when files are next compacted: users' histories are not "
        "kept for ever",
        unit="days",
        at_least=1,
    )
    feed_cache_bytes: int = _setting(
        128 * 1024**2,
        "memory for lists that are read often; the rest stays on the disk",
        unit="bytes",
        at_least=8 * 1024**2,
    )

    def __post_init__(self) -> None:
        for name, kind in setting_kinds().items():
            checked_value(name, kind, getattr(self, name), f"--set or in {ENVIRONMENT_PREFIX}{name.upper()}")
        topics = (
            self.clicks_topic,
            self.recommendations_topic,
            self.rejected_topic,
            self.models_topic,
            self.items_topic,
        )
        if len(set(topics)) != len(topics):
            raise PermanentError(
                "clicks_topic, recommendations_topic, rejected_topic, models_topic and items_topic must be five "
                f"different topics, and are {', '.join(topics)}; correct one"
            )
        names = (self.user_field, self.item_field, self.time_field, self.event_field)
        if len(set(names)) != len(names):
            raise PermanentError(
                "user_field, item_field, time_field and event_field must be four different places, "
                f"and are {', '.join(names)}; correct one"
            )
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise PermanentError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password, "
                "and one of them is empty; set both"
            )
        self._check_schema_registry()
        self._check_object_stores()

    def _check_object_stores(self) -> None:
        for name in ("click_log", "bundle_store"):
            address = getattr(self, name)
            if set("@?#") & set(address):
                raise PermanentError(
                    f"{name} must not hold a user name, a key or a token, because addresses are logged; the client "
                    "takes them from its own variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                )
            if address and not _STORE_ADDRESS.fullmatch(address):
                raise PermanentError(
                    f"{name} must be an address as s3://bucket/folder, gs://bucket/folder, az://container/folder or "
                    f"file:///folder, and is {address!r:.60}; correct it"
                )
        if self.click_log and self.click_log.rstrip("/") == self.bundle_store.rstrip("/"):
            raise PermanentError("click_log and bundle_store must be two different addresses; correct one")

    def _check_schema_registry(self) -> None:
        for address in self.schema_registry.split(",") if self.schema_registry else ():
            if "@" in address:
                raise PermanentError(
                    "schema_registry must not hold a user name or password, because addresses are logged; give them as "
                    "schema_registry_username and schema_registry_password"
                )
            if not address.strip().startswith(("http://", "https://")):
                raise PermanentError(
                    "schema_registry must be addresses that begin with http:// or https://, and one of them is "
                    f"{address.strip()!r:.60}; correct it"
                )
        if self.key_format == "registry" and not self.schema_registry:
            raise PermanentError(
                "key_format=registry needs schema_registry, and it is empty; set it, or correct key_format"
            )
        if self.output_format in ("avro", "protobuf") and not self.schema_registry:
            raise PermanentError(
                f"output_format={self.output_format} needs schema_registry, and it is empty; set it, or correct "
                "output_format"
            )
        if bool(self.schema_registry_username) != bool(self.schema_registry_password):
            raise PermanentError(
                "schema_registry_username and schema_registry_password belong together, and one of them is empty; "
                "set both or none"
            )

    @classmethod
    def load(cls, environment: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> Self:
        """Read settings from variables, from the file that NEXTCLICK_CONFIG names, and from other text values.

        Args:
            environment: variables, as `given_settings` reads them.
            overrides: setting name to value; they win.

        Raises:
            PermanentError: an unknown name, a value of the wrong type or outside its range, or an unusable file.
        """
        return cls.of(given_settings(environment, overrides or {}))

    @classmethod
    def of(cls, given: Mapping[str, Given]) -> Self:
        """Give the settings that were given, and the defaults of the others.

        Raises:
            PermanentError: an unknown name, or a value of the wrong type or outside its range.
        """
        values, mistakes = read_given(given)
        if mistakes:
            raise mistakes[0]
        return cls(**values)

    @property
    def changelog_topic(self) -> str:
        """Faust's name for the changelog of the table `user-state`."""
        return f"{self.app}-user-state-changelog"

    @property
    def tallies_topic(self) -> str:
        """Where workers write what they have counted of a bundle on trial."""
        return f"{self.app}-experiment-tallies"

    def as_environment(self) -> dict[str, str]:
        """Every setting as a variable, for a child process: whatever it inherits, it reads these and no file."""
        variables = {
            ENVIRONMENT_PREFIX + field.name.upper(): str(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }
        return variables | {CONFIG_VARIABLE: ""}

    def of_learning(self) -> dict[str, str]:
        """Every setting that shapes a bundle, as text by its name: for the bundle's manifest."""
        names = [field.name for field in dataclasses.fields(self)]
        of_trainer = names[names.index("recent_window_clicks") : names.index("feed_dir")]
        return {name: str(getattr(self, name)) for name in ("recent_clicks", "popularity_half_life_s", *of_trainer)}

    @classmethod
    def describe(cls) -> list[tuple[str, str, str, str]]:
        """Rows of (name, default, unit or choices, reason) for help and documentation."""
        return [
            (
                field.name,
                str(field.default),
                field.metadata["unit"] or " | ".join(choices(setting_kinds()[field.name])),
                field.metadata["reason"],
            )
            for field in dataclasses.fields(cls)
        ]


def read_given(given: Mapping[str, Given]) -> tuple[dict[str, Any], list[PermanentError]]:
    """Give the values that settings take, by name, and what is wrong with the others, unknown names first."""
    kinds = setting_kinds()
    mistakes = [
        unknown_setting(name, given[name].where, kinds, RENAMED.get(name)) for name in sorted(given.keys() - kinds)
    ]
    values = {}
    for name in sorted(given.keys() & kinds):
        try:
            values[name] = read_value(name, kinds[name], given[name])
        except PermanentError as mistake:
            mistakes.append(mistake)
    return values, mistakes


@functools.cache
def setting_kinds() -> dict[str, Kind]:
    """Give what each setting takes, in the order of the fields."""
    hints, kinds = typing.get_type_hints(Settings), {}
    for field in dataclasses.fields(Settings):
        at_least, at_most = field.metadata["at_least"], field.metadata["at_most"]
        kind = hints[field.name]
        if at_least is not None:
            kind = Annotated[kind, msgspec.Meta(ge=at_least, le=at_most)]
        kinds[field.name] = Kind(kind, is_secret=not field.repr)
    return kinds
