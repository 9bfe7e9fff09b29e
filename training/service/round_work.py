"""What a round learns: what is new, from the champion's checkpoint on; or everything anew, where that cannot be."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.checkpoint import Checkpoint
from training.learning.fit import network_config
from training.learning.lead import leads_of
from training.learning.training_data import LogSegment, select_new_clicks, select_training_data
from training.learning.training_round import Champion, Round, continue_round, train_round
from training.service.checkpoints import CheckpointNote, load_checkpoint
from training.service.log_files import LogFile, read_rows
from training.service.round_process import one_line

_MOST_NEW_SHARE = 0.5  # of the clicks that the champion has learnt: more new ones are learnt better from nothing
_log = logging.getLogger("training.service.round_child")


class Work(NamedTuple):
    """A round's outcome.

    Attributes:
        outcome: what came out.
        parent: id of the bundle that it went on from; empty where it began anew.
        note: what its checkpoint says of itself.
    """

    outcome: Round
    parent: str
    note: CheckpointNote


def run_round(
    files: Sequence[LogFile], champion: Champion | None, settings: Settings, now_ms: int, cancellation: Cancellation
) -> Work:
    """Run a round. Takes minutes, or seconds where it goes on from a checkpoint.

    Args:
        files: the click log.
        champion: the bundle in use, if there is one.
        settings: of the trainer.
        now_ms: what the time is.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: a file cannot be read; or the settings ask for a GPU and there is none.
    """
    segments = [LogSegment(file.partition, file.first, file.last, partial(read_rows, file)) for file in files]
    begun = _checkpoint(files, champion, settings, now_ms) if champion is not None else None
    if champion is not None and begun is not None:
        try:
            outcome, log_range = _gone_on(segments, champion, begun, settings, now_ms, cancellation)
            note = _note(outcome, _ends(files), log_range, begun[1].anew_ms)
            return Work(outcome, champion.manifest.bundle_id, note)
        except (TrainingCancelled, MemoryError, PermanentError):  # so would end what begins anew
            raise
        except Exception as error:  # whatever it is, it would end the next round, too
            _log.warning("nothing goes on from the champion, so everything is learnt anew: %s", one_line(error))
            _log.debug("why nothing goes on", exc_info=True)
    rng = _drawing(segments, settings)
    data = select_training_data(
        segments, settings.recent_window_clicks, settings.replay_share, settings.recent_clicks, now_ms, rng
    )
    cancellation.check()
    outcome = train_round(data, champion, settings, cancellation)
    n_learnt = len(data.offset) - (0 if outcome.has_learnt_all else outcome.n_judging)
    return Work(outcome, "", _note(outcome, _ends(files), data.log_range(n_learnt), now_ms))


def _gone_on(
    segments: Sequence[LogSegment],
    champion: Champion,
    begun: tuple[Checkpoint, CheckpointNote],
    settings: Settings,
    now_ms: int,
    cancellation: Cancellation,
) -> tuple[Round, dict[str, tuple[int, int]]]:
    """Go on from the champion; give what came out, and from where to where in the log it has learnt."""
    (checkpoint, note), rng = begun, _drawing(segments, settings)
    new = select_new_clicks(segments, note.seen, settings.recent_window_clicks, settings.recent_clicks, now_ms, rng)
    cancellation.check()
    outcome = continue_round(checkpoint, new.data, champion, settings, cancellation)
    return outcome, _joined(note.log_range, new.log_range)


def _drawing(segments: Sequence[LogSegment], settings: Settings) -> np.random.Generator:
    """Draw another sample of older clicks every time, yet the same for the same log."""
    return np.random.default_rng([settings.seed, *(segment.last_offset for segment in segments)])


def why_anew(
    champion: Champion, note: CheckpointNote, files: Sequence[LogFile], settings: Settings, now_ms: int
) -> str:
    """Say why a round does not go on from a champion with a checkpoint; nothing if it does."""
    ends = _ends(files)
    n_new = round(sum(_n_behind(file, note.seen.get(file.partition, -1)) for file in files))
    window = int(settings.recent_window_clicks * (1.0 + settings.replay_share))
    leads = leads_of(champion.manifest.metrics)
    if network_config(settings, len(champion.vocabulary)) != champion.network.config:
        return "the settings ask for another network"
    if any(ends.get(partition, -1) < last for partition, last in note.seen.items()):
        return "the click log ends before what the champion has learnt"
    if not 0 <= now_ms - note.anew_ms < 1000.0 * settings.train_anew_every_s:
        return f"it was learnt anew more than {settings.train_anew_every_s:g} s ago (train_anew_every_s)"
    if n_new > _MOST_NEW_SHARE * min(note.n_log_clicks, window):
        return f"{n_new} clicks are new, and the champion has learnt {note.n_log_clicks}"
    if leads is not None and leads.decline:
        return "the champion's lead over neighbour counts has shrunk from bundle to bundle"
    return ""


def _checkpoint(
    files: Sequence[LogFile], champion: Champion, settings: Settings, now_ms: int
) -> tuple[Checkpoint, CheckpointNote] | None:
    """Read the champion's checkpoint, if this round goes on from it; else say why it does not."""
    begun = load_checkpoint(settings.log_dir, champion.manifest.bundle_id, champion.network, champion.vocabulary)
    if begun is None:
        reason = "the champion has no checkpoint, or what went on from it was refused"
    else:
        reason = why_anew(champion, begun[1], files, settings, now_ms)
    if reason:
        _log.info("everything is learnt anew: %s", reason)
        return None
    return begun


def _n_behind(file: LogFile, offset: int) -> float:
    """Estimate how many clicks of a file are behind an offset; one that was merged also has older ones."""
    n_records = file.last - file.first + 1
    return file.n_clicks * min(max(file.last - offset, 0), n_records) / n_records


def _ends(files: Sequence[LogFile]) -> dict[int, int]:
    """Give the last offset of each partition."""
    return {file.partition: file.last for file in sorted(files)}


def _joined(older: dict[str, tuple[int, int]], newer: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Join the ranges of offsets of each partition."""
    return {partition: (older.get(partition, found)[0], found[1]) for partition, found in (older | newer).items()}


def _note(outcome: Round, seen: dict[int, int], log_range: dict[str, tuple[int, int]], anew_ms: int) -> CheckpointNote:
    items = outcome.made.checkpoint.items
    return CheckpointNote(seen, log_range, anew_ms, items.n_log_clicks, items.now_ms)
