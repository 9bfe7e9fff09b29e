"""The pages of the documentation site (`make docs`), as hooks of mkdocs: which there are, in which order.

Most pages are the files of `docs/` as they are. Some are made here: those that stand at the top of the repository, so
that they are also the first thing that a reader of the repository sees, and those that the code can tell better.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from cli.settings_command import TITLES
from nextclick.settings_in_force import SettingInForce, settings_in_force

_TOP = Path(__file__).parent.parent
# By section; a name with * stands for all pages of a folder, in the order of their names.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Start": ("index.md", "fruit-example.md", "faq.md"),
    "Concepts": ("architecture.md", "model.md", "reliability.md"),
    "Integrate": (
        "integrate/README.md",
        "integrate/browser.md",
        "integrate/kafka-connect.md",
        "integrate/trackers.md",
        "feeding.md",
        "rules.md",
    ),
    "Operate": ("operating.md", "monitoring.md", "deploying.md", "upgrading.md", "capacity.md", "runbooks/*"),
    "Tune": ("evaluation.md", "benchmarks.md"),
    "Reference": (
        "reference/settings.md",
        "reference/metrics.md",
        "reference/topics.md",
        "reference/http.md",
        "reference/python.md",
        "contracts/README.md",
    ),
    "Project": ("contributing.md", "changelog.md", "decisions/*"),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for path, text in _made_pages():
        files.append(File.generated(config, path, content=text))
    config.nav = [{section: list(_pages(names, files))} for section, names in _SECTIONS.items()]
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Correct the links to files of the top folder, which are pages here."""
    moved = re.sub(r"\]\(((?:\.\./)*)\.\./([A-Z]+)\.md", lambda found: f"]({found[1]}{found[2].lower()}.md", markdown)
    return moved.replace("](readme.md", "](index.md")


def _pages(names: tuple[str, ...], files: Files) -> Iterator[Any]:
    """Give a section's pages.

    Raises:
        PluginError: there is no page of a name.
    """
    there = sorted(page.src_uri for page in files.documentation_pages())
    for name in names:
        found = [page for page in there if fnmatchcase(page, name)]
        if not found:
            raise PluginError(f"the section has no page {name}; correct it in {__name__}")
        yield {name.removesuffix("/*").capitalize(): found} if name.endswith("/*") else name


def _made_pages() -> Iterator[tuple[str, str]]:
    for name, page in (
        ("README.md", "index.md"),
        ("ARCHITECTURE.md", "architecture.md"),
        ("CONTRIBUTING.md", "contributing.md"),
        ("CHANGELOG.md", "changelog.md"),
    ):
        yield page, _moved_into_docs((_TOP / name).read_text())
    makers: Mapping[str, Callable[[], str]] = {
        "settings": _settings,
        "topics": _topics,
        "http": _http,
        "python": lambda: _PYTHON,
    }
    for name, make in makers.items():
        yield f"reference/{name}.md", make()


def _moved_into_docs(text: str) -> str:
    """Correct the links of a file of the top folder, for a place in `docs/`."""
    text = re.sub(r"\]\(docs/decisions\)", "](decisions/0001-chunks-through-faust.md)", text)
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(([A-Z]+)\.md", lambda found: f"]({found[1].lower()}.md", text)


def _settings() -> str:
    lines = ["# Settings", "", "`nextclick settings` prints these with the values in force, and where they come from."]
    program = ""
    in_force, _ = settings_in_force({})
    for setting in in_force:
        if setting.program != program:
            program = setting.program
            lines += ["", f"## {TITLES[program]}", "", "| setting | default | what it does |", "|---|---|---|"]
        lines.append(f"| `{setting.name}` | {_default(setting)} | {_cell(setting.reason)} |")
    return "\n".join(lines) + "\n"


def _default(setting: SettingInForce) -> str:
    value = "" if setting.default == "" else f"`{setting.default}`"
    return _cell(f"{value} {setting.takes}".strip())


def _topics() -> str:
    """Describe the topics, from their AsyncAPI document."""
    document = _contract("asyncapi.json")
    lines = ["# Topics", "", f"{document['info']['description']}", ""]
    for name, channel in document["channels"].items():
        lines += [f"## {name}", "", f"Topic `{channel['address']}`. {channel.get('description', '')}", ""]
        lines += [f"- `{key}`: `{value}`" for key, value in _of_kafka(channel).items()]
        lines.append("")
    lines.append("Messages, field by field: [contracts](../contracts/README.md).")
    return "\n".join(lines) + "\n"


def _of_kafka(channel: Mapping[str, Any]) -> Mapping[str, Any]:
    binding: Mapping[str, Any] = channel.get("bindings", {}).get("kafka", {})
    return {key: value for key, value in binding.items() if key not in ("topic", "bindingVersion")}


def _http() -> str:
    """Describe the feed's routes, from its OpenAPI document."""
    document = _contract("openapi.json")
    lines = ["# HTTP", "", document["info"].get("description", ""), ""]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            if method not in ("get", "post", "put", "delete"):
                continue
            lines += [f"## {method.upper()} {path}", "", route.get("summary", ""), "", route.get("description", ""), ""]
            lines += _parameters(route, document)
            lines += ["| status | what it says |", "|---|---|"]
            lines += [
                f"| {status} | {_cell(_resolved(answer, document).get('description', ''))} |"
                for status, answer in route["responses"].items()
            ]
            lines.append("")
    return "\n".join(lines) + "\n"


def _parameters(route: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    parameters = [_resolved(parameter, document) for parameter in route.get("parameters", ())]
    if not parameters:
        return []
    rows = [f"| `{each['name']}` | {each['in']} | {_cell(each.get('description', ''))} |" for each in parameters]
    return ["| parameter | where | what it does |", "|---|---|---|", *rows, ""]


def _resolved(node: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference within a document."""
    while "$ref" in node:
        target: Mapping[str, Any] = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def _contract(name: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = msgspec.json.decode((_TOP / "docs/contracts" / name).read_bytes())
    return document


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_PYTHON = """# Python

The client of the feed, for threads and for event loops: `pip install 'nextclick[client]'`.

::: nextclick.client
    options:
      members: [Feed, AsyncFeed, FeedError]

::: nextclick.feed_types
"""
