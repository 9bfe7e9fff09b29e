"""The work per click that all Python programs here do, as the worker does it: in one place, so that it is the same.

Validation, the user's state decoded, advanced and encoded, the list of popular items or of a model, and the update.
Where clicks come from and where results go to is each program's own.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nextclick.advance import Limits, LoggedClick, Model, Outcome, UserKey, advance
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity, prepare_seed
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from nextclick.updates import AnsweredClick, ServedBy, encode_update
from nextclick.user_state import UserState, decode_state, encode_state
from stream.agent import inference_threads

Headers = Sequence[tuple[str, bytes | None]]


class Work:
    """What a program does with clicks."""

    def __init__(self, settings: Settings) -> None:
        """Load the bundle that the settings name, if any, as a worker does."""
        self._decode = click_decoder(ClickSchema.of(settings))
        self._limits = Limits(settings.recent_clicks, settings.list_length, settings.explain)
        self._popularity = Popularity(settings.popularity_half_life_s)
        self._model: Model | None = None
        self._bundle_id = ""
        if settings.bundle:
            from nextclick.bundle import load_bundle  # torch takes seconds to load

            manifest, model = load_bundle(Path(settings.bundle))
            model.warm_up(settings.explain)
            self._popularity.seed(prepare_seed(model.item_ids, model.popularity))
            self._model, self._bundle_id = model, manifest.bundle_id
        n_threads = inference_threads(settings.inference_threads)
        self._each = ThreadPoolExecutor(n_threads).map if n_threads > 1 else map

    def read(
        self, user: UserKey, offset: int, timestamp_ms: int, value: bytes, headers: Headers = ()
    ) -> LoggedClick | None:
        """Validate a record; None if it is no click."""
        clicks = self._decode(user[1], value, headers, timestamp_ms, int(time.time() * 1000))
        if not isinstance(clicks, tuple):
            return None
        (click,) = clicks
        self._popularity.add(click.user_id, click.item_id, click.timestamp_ms)
        return LoggedClick(user, offset, timestamp_ms, click, item_hash(click.item_id))

    def advance(self, states: Mapping[UserKey, UserState], clicks: Sequence[LoggedClick]) -> list[Outcome]:
        """Apply clicks to states, and rank."""
        popular = self._popularity.ranked(self._limits.list_length)
        return advance(self._model, popular, states, clicks, self._limits, self._each)

    def update(self, logged: LoggedClick, outcome: Outcome, now_ms: int) -> bytes:
        """Give the update of a click."""
        answered = AnsweredClick(logged.user[0], logged.offset, logged.record_timestamp_ms)
        user_id = logged.click.user_id
        return encode_update(user_id, outcome.ranked, ServedBy(self._bundle_id), outcome.sequence, answered, now_ms)

    def answer(self, logged: LoggedClick, before: bytes | None) -> tuple[bytes, bytes]:
        """Give a user's state after one click, and the update."""
        states = {logged.user: decode_state(before)} if before is not None else {}
        [outcome] = self.advance(states, [logged])
        return encode_state(outcome.state), self.update(logged, outcome, int(time.time() * 1000))
