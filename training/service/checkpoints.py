"""Checkpoints of rounds, beside the click log: what the next round needs to go on from a bundle.

Network and vocabulary are in the bundle; the rest is in one file (`training.service.checkpoint_files` has its name). It
says which offsets of this log the bundle has learnt, so it lies with the log. It is there, whole, before the bundle is
announced, and means nothing while its bundle is not the champion. One that is missing or damaged costs a round that
begins anew, and nothing else.
"""

import logging
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
import torch

from nextclick.network import Network
from nextclick.vocabulary import Vocabulary
from tools.files import write_whole
from training.learning.associations import AssociationCounts
from training.learning.checkpoint import Checkpoint
from training.learning.item_statistics import ItemStatistics
from training.service.checkpoint_files import checkpoint_path, checkpoints_of

_NOTE = "nextclick"
_SQUARES = "squares."
_log = logging.getLogger(__name__)


class CheckpointNote(msgspec.Struct, frozen=True):
    """What a checkpoint says of itself.

    Attributes:
        seen: the last offset of each partition that has been read.
        log_range: first and last offset of each partition that has been learnt, back to the round that began anew.
        anew_ms: when that round was, in ms since 1970.
        n_log_clicks: that were learnt since.
        now_ms: event time to which the popularities are faded.
    """

    seen: dict[int, int]
    log_range: dict[str, tuple[int, int]]
    anew_ms: int
    n_log_clicks: int
    now_ms: int


def save_checkpoint(log_dir: Path, bundle_id: str, checkpoint: Checkpoint, note: CheckpointNote) -> None:
    """Write a checkpoint; durable on return.

    Raises:
        OSError: the folder cannot be written.
    """
    counts, items = checkpoint.counts, checkpoint.items
    arrays = {
        "code": counts.code,
        "count": counts.count,
        "total": counts.total,
        "n_clicks": items.n_clicks,
        "last_click": items.last_click,
        **{f"{_SQUARES}{name}": square.numpy() for name, square in checkpoint.squares.items()},
    }
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    content = safetensors.numpy.save(arrays, {_NOTE: msgspec.json.encode(note).decode()})
    write_whole(checkpoint_path(log_dir, bundle_id, content), content)


def load_checkpoint(
    log_dir: Path, bundle_id: str, network: Network, vocabulary: Vocabulary
) -> tuple[Checkpoint, CheckpointNote] | None:
    """Read the checkpoint of a bundle; None, and a line in the log, where there is none that can be used.

    Args:
        log_dir: of the click log.
        bundle_id: of the bundle.
        network: of the bundle.
        vocabulary: of the bundle.
    """
    for path in checkpoints_of(log_dir, bundle_id):
        try:
            content = path.read_bytes()
            if path != checkpoint_path(log_dir, bundle_id, content):
                raise ValueError("its content is not what its name says")
            return _read(content, network, vocabulary)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be used, so everything is learnt anew: %s", path, error)
    return None


def _read(content: bytes, network: Network, vocabulary: Vocabulary) -> tuple[Checkpoint, CheckpointNote]:
    arrays = safetensors.numpy.load(content)
    note = msgspec.json.decode(_metadata(content)[_NOTE], type=CheckpointNote)
    squares = {
        name.removeprefix(_SQUARES): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(_SQUARES)
    }
    weights = network.state_dict()
    unfit = [name for name, square in squares.items() if name not in weights or square.shape != weights[name].shape]
    if unfit or any(len(arrays[name]) != len(vocabulary) for name in ("total", "n_clicks", "last_click")):
        raise ValueError(f"it does not fit the bundle: {unfit[:3]}")
    counts = AssociationCounts(len(vocabulary), arrays["code"], arrays["count"], arrays["total"])
    items = ItemStatistics(
        arrays["n_clicks"], arrays["last_click"], vocabulary.popularity, note.n_log_clicks, note.now_ms
    )
    return Checkpoint(network, vocabulary, squares, counts, items), note


def _metadata(content: bytes) -> dict[str, str]:
    """Give what stands in the head of a safetensors file beside the arrays."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = msgspec.json.decode(content[8 : 8 + length])["__metadata__"]
    return metadata
