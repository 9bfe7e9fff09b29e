"""What is published for other teams is what the programs write and read, and changes only with its version."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import pytest

from contracts import asyncapi, examples, published, schemas
from contracts.published import FOLDER, Document, complaints, documents, of_json, of_proto, write
from feed.openapi import OPERATIONS
from nextclick.clicks import Ignored, Rejected
from nextclick.output import protobuf
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from tests.node_packages import node_program

NOW_MS = 1_800_000_000_000
SCHEMAS = {message.name: schemas.schema_of(message) for message in schemas.MESSAGES}
PARSERS = Path(__file__).parents[1] / "contract_parsers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what is published."""
    return Path(shutil.copytree(FOLDER, tmp_path / "contracts"))


def test_what_is_published_is_what_the_types_say() -> None:
    """If this fails, a contract with other teams has changed: the message says what to do."""
    assert complaints(documents(), FOLDER) == []


def changed(file: str, **properties: Any) -> Document:
    """Give a document as it is made, but with a field more."""
    content = json.loads(next(each.text for each in documents() if each.file == file))
    content["properties"] |= properties
    return of_json(file, content)


def test_a_type_that_changes_under_its_old_version_is_refused(folder: Path) -> None:
    """By the comparison, and by the command that would publish it; what is published stays."""
    made, before = changed("problem.schema.json", hint={"type": "string"}), (folder / "problem.schema.json").read_text()

    with pytest.raises(ValueError, match=r"problem.schema.json has changed, and its version, 1.0, is not above"):
        write([made], folder)
    assert any("raise it where it is made" in text for text in complaints([made], folder))
    assert (folder / "problem.schema.json").read_text() == before


def test_a_type_that_changes_with_its_version_is_published(folder: Path) -> None:
    """Until then, the comparison says what to run."""
    made = changed("problem.schema.json", hint={"type": "string"})
    content = json.loads(made.text) | {"x-version": "1.10"}
    made = of_json(made.file, content)
    others = [each for each in documents() if each.file != made.file]

    assert complaints([made, *others], folder) == [
        "problem.schema.json is not published as it is made now; run python -m contracts --write"
    ]
    assert write([made, *others], folder) == ["problem.schema.json"]
    assert complaints([made, *others], folder) == []
    older = of_json(made.file, json.loads(made.text) | {"x-version": "1.9", "properties": {}})
    with pytest.raises(ValueError, match=r"not above the published 1\.10"):
        write([older], folder)


def test_words_change_without_a_version(folder: Path) -> None:
    """They bind nobody; but a field that is called `title` does."""
    content = SCHEMAS["problem"]
    other_words = of_json("problem.schema.json", content | {"description": "Another.", "examples": []})
    without_title = {name: each for name, each in content["properties"].items() if name != "title"}

    assert write([other_words], folder) == ["problem.schema.json"]
    with pytest.raises(ValueError, match="has changed"):
        write([of_json("problem.schema.json", content | {"properties": without_title})], folder)


def test_a_protobuf_schema_has_a_version_too(folder: Path) -> None:
    """In its first line; its comments bind nobody."""
    file = "recommendation-update.proto"
    other = protobuf.SCHEMA.replace("int64 sequence", "int32 sequence")
    words = protobuf.SCHEMA.replace("// best first", "// the best one first")

    with pytest.raises(ValueError, match="has changed"):
        write([of_proto(file, other)], folder)
    assert write([of_proto(file, words)], folder) == [file]
    assert write([of_proto(file, other.replace("Version 1.0", "Version 2.0"))], folder) == [file]


def test_what_is_no_longer_made_is_named(folder: Path) -> None:
    """A contract does not stay behind when its type goes."""
    (folder / "old.schema.json").write_text("{}")

    assert complaints(documents(), folder) == ["old.schema.json is published and no longer made; remove it"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_its_examples_fit(name: str) -> None:
    """By an independent reader of JSON Schema 2020-12."""
    schema = SCHEMAS[name]
    validator = jsonschema.Draft202012Validator(schema)

    validator.check_schema(schema)
    assert schema["examples"]
    for example in schema["examples"]:
        assert [error.message for error in validator.iter_errors(example)] == []


def described(name: str) -> Iterator[str]:
    """Give the fields of a message that nothing is said of."""
    for field, schema in SCHEMAS[name].get("properties", {}).items():
        if "description" not in schema:
            yield field


@pytest.mark.parametrize(
    "name",
    ["click", "recommendation-update", "recommendation-event", "rejected-click-headers", "bundle-manifest", "item"],
)
def test_every_field_of_a_record_is_described(name: str) -> None:
    """From the docstring of its type."""
    assert list(described(name)) == []


@pytest.mark.parametrize(
    "value",
    [
        *examples.CLICKS,
        {"user_id": "u", "item_id": 0},
        {"user_id": -1, "item_id": "i", "timestamp_ms": None, "event_type": None, "more": [1]},
        {"user_id": "u", "item_id": "i", "timestamp_ms": 0},
        {"user_id": "u" * 256, "item_id": "i", "timestamp_ms": 1_764_000_000, "event_type": "anything"},
        {"user_id": "", "item_id": "i"},
        {"user_id": "u"},
        {"user_id": "u", "item_id": None},
        {"user_id": "u", "item_id": ["i"]},
        {"user_id": "u", "item_id": 1.5},
        {"user_id": "u", "item_id": True},
        {"user_id": "u", "item_id": "x" * 257},
        {"user_id": "u", "item_id": "a\0b"},
        {"user_id": "u", "item_id": "i", "timestamp_ms": -1},
        {"user_id": "u", "item_id": "i", "timestamp_ms": [1]},
        {"user_id": "u", "item_id": "i", "event_type": {}},
        {"item_id": "i"},
        "a text",
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_the_schema_of_a_click_agrees_with_what_reads_it(value: Any) -> None:
    """What it allows is taken, and what it forbids is rejected."""
    key = str(value["user_id"]).encode() if isinstance(value, dict) and "user_id" in value else b"u"
    decoded = click_decoder(ClickSchema())(key, json.dumps(value).encode(), None, NOW_MS, NOW_MS)

    assert not isinstance(decoded, Ignored)
    assert jsonschema.Draft202012Validator(SCHEMAS["click"]).is_valid(value) == (not isinstance(decoded, Rejected))


def test_the_schemas_for_a_registry_are_read_by_their_own_tools(tmp_path: Path) -> None:
    """The published files themselves."""
    fastavro.parse_schema(json.loads((FOLDER / "recommendation-update.avsc").read_text()))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--descriptor_set_out={tmp_path / 'set'}"]

    subprocess.run([*command, "recommendation-update.proto"], check=True)


def test_every_message_of_asyncapi_fits_its_schema() -> None:
    """Each reference leads somewhere, and each example is what its payload and headers say."""
    document = asyncapi.document()
    messages = document["components"]["messages"]

    for channel in document["channels"].values():
        for reference in channel["messages"].values():
            assert reference["$ref"].removeprefix("#/components/messages/") in messages
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    n_examples = 0
    for message in messages.values():
        for part in ("payload", "headers"):
            schema = {"components": document["components"], **message.get(part, {})}
            for example in message.get("examples", []):
                if part in example:
                    jsonschema.Draft7Validator(schema).validate(example[part])
                    n_examples += 1
    assert n_examples > 5


@pytest.mark.release
def test_asyncapis_own_parser_takes_the_document() -> None:
    """With Avro's and Protobuf's schemas inside; needs Node."""
    program = node_program(PARSERS)
    command = ["node", program / "asyncapi.mjs", FOLDER / "asyncapi.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)

    assert found["complaints"] == []
    assert found["channels"] == [
        "clicks",
        "recommendations",
        "clicks-rejected",
        "models",
        "nextclick-experiment-tallies",
        "items",
        "nextclick-user-state-changelog",
    ]
    assert len(found["messages"]) == 14


@pytest.mark.release
def test_openapi_is_what_its_specification_says() -> None:
    """By a parser that has the specification's own schema; needs Node."""
    program = node_program(PARSERS)
    done = subprocess.run(
        ["node", program / "openapi.mjs", FOLDER / "openapi.json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {operation.path for operation in OPERATIONS}


def test_the_command_says_what_it_finds() -> None:
    """And exits with 1 if something is not as it should be."""
    command = [sys.executable, "-m", "contracts"]
    done = subprocess.run(command, cwd=published.FOLDER.parents[1], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (
        0,
        f"{len(documents())} documents are published as they are made",
    )
