"""What the topic `models` says: the champion, a bundle on trial beside it, a pin, and what came before.

Each is the newest record under a key of its own; whoever does not know a key passes over it.
"""

from typing import Annotated, NamedTuple, TypeVar

import msgspec

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.errors import BundleError
from nextclick.experiment import EXPERIMENT, Experiment, decode_experiment
from nextclick.manifest import CHAMPION, Manifest, decode_manifest

PIN, HISTORY = "pin", "history"
KEPT_CHANGES = 50  # in the history; a rollback reaches as far back
WAYS_BACK = 3  # former champions whose bundles are kept for a rollback
_T = TypeVar("_T")
_TimeMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
Records = dict[str, bytes | None]  # by key; None: a tombstone

ROLLED_BACK = "rolled back"  # a change after which the bundles above the champion are no way back any more


class Pin(msgspec.Struct, frozen=True):
    """The champion stays what it is, until a person says otherwise."""

    bundle_id: str
    at_ms: _TimeMs


class Change(msgspec.Struct, frozen=True):
    """Something that was done to the models.

    Attributes:
        at_ms: when.
        what: was done, in a few words.
        bundle_id: to which bundle.
        champion: the champion afterwards; empty when there was none.
        reason: why, in a line; empty where a person wanted it.
    """

    at_ms: _TimeMs
    what: str
    bundle_id: str
    champion: str
    reason: str = ""


class ModelsState(NamedTuple):
    """What holds now.

    Attributes:
        champion: the bundle that was announced last; None: none was, or a tombstone took it away.
        experiment: a bundle on trial.
        pin: keeps the champion.
        history: what was done, the newest last.
    """

    champion: Manifest | None = None
    experiment: Experiment | None = None
    pin: Pin | None = None
    history: tuple[Change, ...] = ()

    @property
    def champion_id(self) -> str:
        """The champion's id; empty when there is none."""
        return self.champion.bundle_id if self.champion is not None else ""

    def former_champions(self) -> list[str]:
        """Give the champions that a rollback can go back to, the newest first."""
        stack: list[str] = []
        for change in self.history:
            if change.what == ROLLED_BACK and change.champion in stack:
                del stack[stack.index(change.champion) + 1 :]
            elif change.champion and stack[-1:] != [change.champion]:
                stack.append(change.champion)
        return [bundle for bundle in dict.fromkeys(reversed(stack)) if bundle != self.champion_id]

    def in_use(self) -> set[str]:
        """Give the bundles that must not be removed: those that are served, pinned, or a way back."""
        used = {self.champion_id, *self.former_champions()[:WAYS_BACK]}
        if self.experiment is not None:
            used.add(self.experiment.bundle_id)
        return used - {""}

    def after(self, key: str, value: bytes | None) -> "ModelsState":
        """Give the state after a record of the topic.

        Raises:
            BundleError: the record is none of ours; the state stays what it is.
        """
        if key == CHAMPION:
            return self._replace(champion=decode_manifest(value) if value is not None else None)
        if key == EXPERIMENT:
            return self._replace(experiment=decode_experiment(value) if value is not None else None)
        if key == PIN:
            return self._replace(pin=_decode(value, Pin, "a pin") if value is not None else None)
        if key == HISTORY:
            changes = _decode(value, tuple[Change, ...], "a history") if value is not None else ()
            return self._replace(history=changes)
        return self

    def contains(self, records: Records) -> bool:
        """Tell whether the change that records were to make was made."""
        value = records.get(HISTORY)
        return value is not None and _decode(value, tuple[Change, ...], "a history")[-1] in self.history

    def with_change(self, change: Change) -> bytes:
        """Give the history with one more change, as a record."""
        return msgspec.json.encode((*self.history, change)[-KEPT_CHANGES:])


def _decode(value: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"expected {what}, found something else: {error!s:.300}") from error
