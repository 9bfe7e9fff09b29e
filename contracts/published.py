"""Compares documents as they are made now with what is published, and publishes them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contracts import asyncapi, schemas
from feed.openapi import openapi
from nextclick.output import avro, protobuf

FOLDER = Path(__file__).parents[1] / "docs" / "contracts"
_WORDS = frozenset({"title", "description", "summary", "examples", "doc", "license"})  # which bind nobody
_NAMES = frozenset({"properties", "$defs", "schemas", "messages", "channels"})  # what is inside is named by anyone


class Document(NamedTuple):
    """A file in docs/contracts.

    Attributes:
        file: its name.
        version: of what it describes.
        text: all of it.
        shape: what binds, without the words around it, and without the version.
    """

    file: str
    version: str
    text: str
    shape: Any


def documents() -> list[Document]:
    """Make all documents. Another one is one line here."""
    return [
        *(of_json(f"{each.name}.schema.json", schemas.schema_of(each)) for each in schemas.MESSAGES),
        of_json("recommendation-update.avsc", dict(avro.SCHEMA)),
        of_proto("recommendation-update.proto", protobuf.SCHEMA),
        of_json("asyncapi.json", asyncapi.document()),
        of_json("openapi.json", openapi()),
    ]


def complaints(made: Sequence[Document], folder: Path) -> list[str]:
    """Say what is wrong with what is published; nothing if it is what is made."""
    strangers = {path.name for path in folder.iterdir() if path.suffix != ".md"} - {each.file for each in made}
    found = [f"{name} is published and no longer made; remove it" for name in sorted(strangers)]
    return found + [text for each in made if (text := _complaint(each, folder)) is not None]


def write(made: Sequence[Document], folder: Path) -> list[str]:
    """Publish what has a new version, or other words alone.

    Returns:
        The names of the files that were written.

    Raises:
        ValueError: a document has changed and its version has not; nothing is written.
    """
    unversioned = [text for each in made if (text := _missing_version(each, folder)) is not None]
    if unversioned:
        raise ValueError("\n".join(unversioned))
    written = [each for each in made if _published(each.file, folder) != each]
    for each in written:
        (folder / each.file).write_text(each.text)
    return [each.file for each in written]


def of_json(file: str, content: dict[str, Any]) -> Document:
    """Give a document of JSON; its version is `x-version`, or that of `info`."""
    version = content["x-version"] if "x-version" in content else content["info"]["version"]
    return Document(file, version, json.dumps(content, indent=2, ensure_ascii=False) + "\n", _shape(content))


def of_proto(file: str, text: str) -> Document:
    """Give a document of Protobuf; its version stands in its first line."""
    found = re.search(r"Version (\d+\.\d+)\.", text.partition("\n")[0])
    return Document(file, found[1] if found is not None else "", text, re.sub(r"\s*//.*", "", text))


def _complaint(made: Document, folder: Path) -> str | None:
    published = _published(made.file, folder)
    if published == made:
        return None
    if (missing := _missing_version(made, folder)) is not None:
        return missing
    return f"{made.file} is not published as it is made now; run python -m contracts --write"


def _missing_version(made: Document, folder: Path) -> str | None:
    """Say that a document has changed and its version has not risen."""
    published = _published(made.file, folder)
    if published is None or made.shape == published.shape or _numbers(made.version) > _numbers(published.version):
        return None
    return (
        f"{made.file} has changed, and its version, {made.version}, is not above the published {published.version}: "
        "raise it where it is made (contracts/, nextclick/output/, feed/openapi.py), the first number if readers must "
        "change, and run python -m contracts --write"
    )


def _published(file: str, folder: Path) -> Document | None:
    path = folder / file
    if not path.exists():
        return None
    text = path.read_text()
    if path.suffix == ".proto":
        return of_proto(file, text)
    return of_json(file, json.loads(text))._replace(text=text)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def _shape(part: Any) -> Any:
    """Give what binds in a document of JSON."""
    if isinstance(part, list):
        return [_shape(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: {inner: _shape(each) for inner, each in value.items()} if name in _NAMES else _shape(value)
        for name, value in part.items()
        if name not in _WORDS and not _is_version(name, value)
    }


def _is_version(name: str, value: Any) -> bool:
    return name in ("x-version", "version") or (name == "$id" and str(value).startswith("urn:nextclick:schema:"))
