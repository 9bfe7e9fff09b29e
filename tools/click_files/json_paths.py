"""Where the fields of JSON lines are: where the user says, or in the first of the usual places that the file has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from nextclick.schema.paths import FieldPath, parsed_text
from tools.click_files.choices import ClickFile
from tools.click_files.heads import first_lines
from tools.click_files.layouts import ADRESSA, USUAL_EVENT, USUAL_ITEM, USUAL_TIME, USUAL_USER, Layout

_LOOKED_AT = 100  # lines; which of the usual fields a file has shows in fewer


def _in_json(usual: str, *more: str) -> str:
    """Give the names of columns as documents have them: `user_id`, `userId`, `userid` and `user.id`."""
    names: list[str] = []
    for name in usual.split("|"):
        first, *others = name.split("_")
        names += [name, first + "".join(map(str.capitalize, others)), first + "".join(others)]
        names += [f"{first}.id"] if others == ["id"] else []
    return "|".join(dict.fromkeys((*names, *more)))


JSON_LAYOUT = Layout(
    user=_in_json(USUAL_USER, "reviewerID"),
    item=_in_json(USUAL_ITEM, "parent_asin"),
    time=_in_json(f"{USUAL_TIME}|occurred_at", "unixReviewTime"),
    event=_in_json(USUAL_EVENT),
)
ADRESSA_LAYOUT = Layout(user="userId", item="id", time="time")  # what has no `id` is a page that is no article


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonPaths:
    """Where the fields are in each document."""

    user: FieldPath
    item: FieldPath
    time: FieldPath | None
    no_time: FieldPath | None  # where no time may be, as the beginning has none; None: times are not wanted, or read
    event: FieldPath | None
    event_is_usual: bool  # nobody named it: an object there is something else
    conditions: tuple[FieldPath, ...]
    marks: tuple[FieldPath, ...]
    item_is_optional: bool

    def described(self) -> str:
        """Say which paths are taken."""
        kinds = {"user": self.user, "item": self.item, "time": self.time, "event type": self.event}
        return ", ".join(
            f"{kind} from {path.text.replace('|', ' or '):.60}"
            for kind, path in kinds.items()
            if path is not None and not (kind == "event type" and self.event_is_usual and len(path.alternatives) > 1)
        )


def json_paths(file: ClickFile, mark: Mapping[str, str]) -> JsonPaths:
    """Find the paths. Of the usual ones each kind has one, for all documents: the first that the beginning has.

    Raises:
        PermanentError: a path that is none.
    """
    layout = ADRESSA_LAYOUT if file.file_format == ADRESSA else JSON_LAYOUT
    choices, documents = file.choices, list(_first_documents(file))
    usual_time = _usual(layout.time, documents)
    time = _path(choices.time, usual_time or layout.time)
    is_timeless = choices.time is None and usual_time is None and bool(documents)
    return JsonPaths(
        user=FieldPath.parse(choices.user or _usual(layout.user, documents) or layout.user),
        item=FieldPath.parse(choices.item or _usual(layout.item, documents) or layout.item),
        time=None if is_timeless else time,
        no_time=time if is_timeless else None,
        event=_path(choices.event, _usual(layout.event, documents) or layout.event),
        event_is_usual=choices.event is None,
        conditions=tuple(FieldPath.parse(name) for name in choices.where),
        marks=tuple(FieldPath.parse(name) for name in mark),
        item_is_optional=file.file_format == ADRESSA and choices.item is None,
    )


def _path(chosen: str | None, usual: str) -> FieldPath | None:
    text = usual if chosen is None else chosen
    return FieldPath.parse(text) if text else None


def _usual(names: str, documents: list[Any]) -> str | None:
    """Give the first of the usual names that one of the documents has; an object there is something else."""
    for name in names.split("|") if names else ():
        path = FieldPath.parse(name)
        if any(not isinstance(path.read((each,), None), dict | list | None) for each in documents):
            return name
    return None


def _first_documents(file: ClickFile) -> Iterator[Any]:
    """Give the documents of the first lines, of which the last may be cut."""
    for line in first_lines(file.path, _LOOKED_AT):
        try:
            document = parsed_text(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        yield from map(parsed_text, document) if isinstance(document, list) else [document]
