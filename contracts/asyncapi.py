"""AsyncAPI 3 for the topics: what is in them, who writes and who reads, and how they are kept."""

from typing import Any

from contracts import examples, schemas
from contracts.schemas import ClickRecord, Message
from nextclick.catalogue import ShopItem
from nextclick.experiment import EXPERIMENT, Experiment
from nextclick.manifest import CHAMPION, Manifest
from nextclick.models_state import HISTORY, PIN, Change, Pin
from nextclick.output import avro, protobuf
from nextclick.output.cloud_events import RecommendationEvent
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate
from stream.topics.topics import topic_plans
from tools.dead_letters import DeadLetterHeaders
from tools.json_schemas import Schema, schemas_of

VERSION = "1.0"
_SPECIFICATION = "3.0.0"
_BINDING = "0.5.0"  # version of AsyncAPI's bindings for Kafka
_JSON, _CLOUD_EVENTS = "application/json", "application/cloudevents+json"
_USER_KEY = {"type": "string", "description": "the user's id"}
_ITEM_KEY = {"type": "string", "description": "the item's id, as in clicks"}


def document() -> dict[str, Any]:
    """Give the document, for the names and numbers of the default settings."""
    settings, components = Settings(), _components()
    channels = _channels(settings)
    return {
        "asyncapi": _SPECIFICATION,
        "id": "urn:nextclick:topics",
        "info": {
            "title": "nextclick: topics",
            "version": VERSION,
            "description": (
                "Clicks in, recommendation updates out. Names of topics are the defaults of the settings, and an "
                "operation is seen from nextclick: it receives clicks and sends updates."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "servers": {"kafka": {"host": settings.broker, "protocol": "kafka", "description": "the setting `broker`"}},
        "channels": channels,
        "operations": _operations(),
        "components": components,
    }


def _channels(settings: Settings) -> dict[str, Any]:
    about = {
        settings.clicks_topic: ("clicks", "Clicks, keyed by user. Settings say what a record is like.", ["click"]),
        settings.recommendations_topic: (
            "recommendations",
            "A user's new list after each click. The setting `output_format` says which of these messages it has. A "
            "consumer drops what is not newer, by `sequence`: after a crash an update can come again.",
            ["updateAsJson", "updateAsCloudEvent", "updateAsAvro", "updateAsProtobuf"],
        ),
        settings.rejected_topic: (
            "rejectedClicks",
            "Records of the clicks topic that cannot be used, as far as 16 KiB hold them; headers say why.",
            ["rejectedClick"],
        ),
        settings.models_topic: (
            "models",
            "Which bundle of weights workers are to serve, and which one is tried on some users. The newest record of "
            "each key counts; a tombstone ends what it says. `nextclick models` writes it, and the trainer.",
            ["bundleAnnounced", "experimentBegun", "championPinned", "modelsChanged"],
        ),
        settings.tallies_topic: (
            "experimentTallies",
            "Private: what each worker has counted of a bundle on trial. Need not be there otherwise.",
            ["tally"],
        ),
        settings.items_topic: (
            "items",
            "What the shop says of its items, the newest record of each counts. A tombstone forgets an item. Need not "
            "be there. One partition: the order of all records is theirs.",
            ["item", "itemForgotten"],
        ),
        settings.changelog_topic: (
            "userStates",
            "Private: the workers' states. Their bytes change without notice; nobody else may write here.",
            ["userState"],
        ),
    }
    return {
        about[plan.name][0]: {
            "address": plan.name,
            "description": about[plan.name][1],
            "messages": {name: _ref("messages", name) for name in about[plan.name][2]},
            "bindings": {
                "kafka": {
                    "topic": plan.name,
                    "partitions": plan.partitions,
                    "topicConfiguration": _topic_configuration(plan.config),
                    "bindingVersion": _BINDING,
                }
            },
        }
        for plan in topic_plans(settings, settings.partitions)
    }


def _topic_configuration(config: dict[str, str]) -> dict[str, Any]:
    """Give what the binding has a name for."""
    found: dict[str, Any] = {"cleanup.policy": config["cleanup.policy"].split(",")}
    if "retention.ms" in config:
        found["retention.ms"] = int(config["retention.ms"])
    return found


def _operations() -> dict[str, Any]:
    def operation(action: str, channel: str, summary: str) -> dict[str, Any]:
        return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}

    return {
        "takeClicks": operation("receive", "clicks", "Workers and the trainer read clicks."),
        "updateRecommendations": operation("send", "recommendations", "A worker answers every click."),
        "rejectClicks": operation("send", "rejectedClicks", "A worker keeps what it cannot use."),
        "announceBundle": operation("send", "models", "The trainer announces a bundle that is better."),
        "countExperiment": operation("send", "experimentTallies", "A worker says what it has counted."),
        "judgeExperiment": operation("receive", "experimentTallies", "The trainer decides of a bundle on trial."),
        "followBundles": operation("receive", "models", "Workers serve the bundle that was announced last."),
        "followItems": operation(
            "receive",
            "items",
            "An item that is withdrawn is in no list that a worker makes more than 1 s later.",
        ),
        "writeStates": operation("send", "userStates", "A worker writes the states that clicks lead to."),
        "restoreStates": operation("receive", "userStates", "A worker that gets partitions reads their states."),
    }


def _components() -> dict[str, Any]:
    types = [
        ClickRecord,
        RecommendationUpdate,
        RecommendationEvent,
        DeadLetterHeaders,
        ShopItem,
        Manifest,
        Experiment,
        Pin,
        Change,
    ]
    found = schemas_of(types, "#/components/schemas/{name}").components
    return {"schemas": {name: _as_draft_07(schema) for name, schema in found.items()}, "messages": _messages()}


def _messages() -> dict[str, Any]:
    content_type = {"type": "object", "properties": {"content-type": {"type": "string"}}}
    return {
        "click": _message("A click", _JSON, _USER_KEY, _ref("schemas", "ClickRecord"), _examples("click")),
        "updateAsJson": _message(
            "An update, with `output_format=json`",
            _JSON,
            _USER_KEY,
            _ref("schemas", "RecommendationUpdate"),
            _examples("recommendation-update"),
        ),
        "updateAsCloudEvent": _message(
            "An update as a CloudEvent, with `output_format=cloudevents`",
            _CLOUD_EVENTS,
            _USER_KEY,
            _ref("schemas", "RecommendationEvent"),
            [
                {"headers": {"content-type": _CLOUD_EVENTS + "; charset=UTF-8"}, **example}
                for example in _examples("recommendation-event")
            ],
        )
        | {"headers": content_type},
        "updateAsAvro": _message(
            "An update in Confluent's wire format, with `output_format=avro`",
            "application/vnd.apache.avro",
            _USER_KEY,
            {"schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": dict(avro.SCHEMA)},
            [],
        ),
        "updateAsProtobuf": _message(
            "An update in Confluent's wire format, with `output_format=protobuf`",
            "application/x-protobuf",
            _USER_KEY,
            {"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": protobuf.SCHEMA},
            [],
        ),
        "rejectedClick": _message(
            "A record that cannot be used",
            "application/octet-stream",
            {"type": "string", "description": "as it was"},
            {"description": "the original value, up to 16 KiB of it"},
            [
                {"headers": headers, "payload": examples.REJECTED_VALUE.decode()}
                for headers in examples.DEAD_LETTER_HEADERS
            ],
        )
        | {"headers": _ref("schemas", "DeadLetterHeaders")},
        "item": _message("An item of the shop", _JSON, _ITEM_KEY, _ref("schemas", "ShopItem"), _examples("item")),
        "itemForgotten": _message("A tombstone: nothing is known of the item", _JSON, _ITEM_KEY, {"type": "null"}, []),
        "bundleAnnounced": _message(
            "A bundle's manifest",
            _JSON,
            {"type": "string", "const": CHAMPION},
            _ref("schemas", "Manifest"),
            _examples("bundle-manifest"),
        ),
        "experimentBegun": _message(
            "A bundle is tried on some users",
            _JSON,
            {"type": "string", "const": EXPERIMENT},
            _ref("schemas", "Experiment"),
            [],
        ),
        "championPinned": _message(
            "The trainer announces nothing", _JSON, {"type": "string", "const": PIN}, _ref("schemas", "Pin"), []
        ),
        "modelsChanged": _message(
            "What was done, the newest last",
            _JSON,
            {"type": "string", "const": HISTORY},
            {"type": "array", "items": _ref("schemas", "Change")},
            [],
        ),
        "tally": _message(
            "What a worker has counted",
            _JSON,
            {"type": "string", "description": "experiment/worker"},
            {"description": "private"},
            [],
        ),
        "userState": _message(
            "A user's state", "application/octet-stream", _USER_KEY, {"description": "private bytes"}, []
        ),
    }


def _message(
    title: str, content_type: str, key: Schema, payload: Schema, shown: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": content_type,
        "payload": payload,
        "bindings": {"kafka": {"key": key, "bindingVersion": _BINDING}},
    } | ({"examples": shown} if shown else {})


def _examples(name: str) -> list[dict[str, Any]]:
    message: Message = next(each for each in schemas.MESSAGES if each.name == name)
    return [{"payload": example} for example in message.examples]


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _as_draft_07(part: Any) -> Any:
    """Give a schema as AsyncAPI has them: an array of fixed places is written in another way."""
    if isinstance(part, list):
        return [_as_draft_07(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: _as_draft_07(each) for name, each in part.items()}
    if "prefixItems" in found:
        found["additionalItems"], found["items"] = found["items"], found.pop("prefixItems")
    return found
