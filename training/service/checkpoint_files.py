"""The files of checkpoints, which lie beside the click log:

    log_dir/checkpoints/0123456789abcdef-89abcdef01234567.safetensors

Named after the bundle that one belongs to and after its content: what is damaged does not have its name. The content is
the matter of the process of a round (`training.service.checkpoints`); the trainer removes what nobody goes on from.
"""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import xxhash

from tools.files import HIDDEN_PREFIX

_SUFFIX = ".safetensors"


def checkpoint_path(log_dir: Path, bundle_id: str, content: bytes) -> Path:
    """Give the path of a checkpoint with this content."""
    return _folder(log_dir) / f"{bundle_id}-{xxhash.xxh3_64_hexdigest(content)}{_SUFFIX}"


def checkpoints_of(log_dir: Path, bundle_id: str) -> Iterator[Path]:
    """Give the checkpoints of a bundle: one, unless a round was made twice."""
    return _folder(log_dir).glob(f"{bundle_id}-*{_SUFFIX}")


def remove_checkpoints(log_dir: Path, kept: Collection[str]) -> None:
    """Keep the checkpoints of these bundles. What cannot be removed is left for the next time."""
    with contextlib.suppress(OSError):
        for path in _folder(log_dir).iterdir():
            is_old = path.suffix == _SUFFIX and path.name.partition("-")[0] not in kept
            if is_old or path.name.startswith(HIDDEN_PREFIX):
                with contextlib.suppress(OSError):
                    path.unlink()


def _folder(log_dir: Path) -> Path:
    return log_dir / "checkpoints"
