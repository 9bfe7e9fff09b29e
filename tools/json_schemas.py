"""JSON Schemas (2020-12) of msgspec's types, with what their docstrings say of each field.

The documents that other teams read are made of these: the published schemas, AsyncAPI and OpenAPI.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

Schema = dict[str, Any]

_FIELD = re.compile(r"(\w+(?:, \w+)*): (.*)")
_INDENT = "    "


class Schemas(NamedTuple):
    """The schemas of several types.

    Attributes:
        of_types: of each type that was asked for; of a struct a reference.
        components: every struct and enumeration in them, by name.
    """

    of_types: Sequence[Schema]
    components: Mapping[str, Schema]


class Docstring(NamedTuple):
    """What a docstring says of a type, and of its fields by name."""

    description: str
    fields: Mapping[str, str]


def schemas_of(types: Sequence[Any], ref_template: str) -> Schemas:
    """Make the schemas of types that msgspec knows.

    Args:
        types: structs, and what is made of them.
        ref_template: how a schema is referred to, such as `#/components/schemas/{name}`.

    Raises:
        TypeError: msgspec knows no schema of a type.
        KeyError: a docstring describes a field that is not there, or two types have the same name.
    """
    of_types, components = msgspec.json.schema_components(types, ref_template=ref_template)
    for kind in {kind for each in types for kind in _structs(msgspec.inspect.type_info(each))}:
        _describe(components[kind.__name__], read_docstring(kind))
    return Schemas(list(of_types), components)


def read_docstring(kind: type) -> Docstring:
    """Read a docstring in Google's style: its text is the description, the section Attributes is of the fields."""
    text, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
    fields: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if not line.startswith(_INDENT):
            break
        if (found := _FIELD.fullmatch(line.removeprefix(_INDENT))) is not None:
            names = found[1].split(", ")
            fields |= dict.fromkeys(names, found[2])
        else:  # the line before goes on
            fields |= {name: f"{fields[name]} {line.strip()}" for name in names}
    return Docstring(" ".join(text.split()), fields)


def _describe(schema: Schema, docstring: Docstring) -> None:
    schema["description"] = docstring.description
    properties = schema["properties"]
    for name, text in docstring.fields.items():
        properties[name] = {"description": text, **properties[name]}


def _structs(info: msgspec.inspect.Type) -> Iterator[type]:
    """Give every struct in a type once; those that are inside of others, too."""
    waiting, seen = [info], set[type]()
    while waiting:
        match waiting.pop():
            case msgspec.inspect.StructType(cls=kind, fields=fields) if kind not in seen:
                seen.add(kind)
                yield kind
                waiting += [field.type for field in fields]
            case msgspec.inspect.UnionType(types=types) | msgspec.inspect.TupleType(item_types=types):
                waiting += types
            case msgspec.inspect.CollectionType(item_type=inner):
                waiting.append(inner)
            case msgspec.inspect.DictType(value_type=inner):
                waiting.append(inner)
            case msgspec.inspect.Metadata(type=inner):
                waiting.append(inner)
            case _:
                pass
