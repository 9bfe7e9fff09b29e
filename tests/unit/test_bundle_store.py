"""The folder of bundles: drafts of several trainers, and what is removed."""

import os
import time
from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from tools.stored_bundles import KEPT_BUNDLES
from training.service.bundle_store import BundleStore


def bundle(folder: Path, number: int) -> str:
    """Make a folder that is named as a bundle is, so many seconds after 1970."""
    bundle_id = f"{number:016x}"
    (folder / bundle_id).mkdir()
    (folder / bundle_id / "manifest.json").write_text("{}")
    os.utime(folder / bundle_id, (number, number))
    return bundle_id


def test_a_bundle_is_in_the_store_when_it_is_kept_and_its_draft_is_gone(tmp_path: Path) -> None:
    """What is not kept goes with the draft."""
    store = BundleStore(tmp_path / "bundles", "shop")
    with store.draft() as draft:
        kept, _ = bundle(draft, 1), bundle(draft, 2)
        assert not (store.folder / kept).exists()

        store.keep(draft, kept)

    assert [path.name for path in store.folder.iterdir()] == [kept]


def test_what_another_trainer_writes_now_is_not_removed_and_old_drafts_are(tmp_path: Path) -> None:
    """A trainer that woke up too late would else take the work of its successor for a leftover."""
    store, long_ago = BundleStore(tmp_path, "shop"), (time.time() - 2 * 3600,) * 2
    for name in (".draft-new", ".draft-begun-long-ago", ".draft-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").touch()
    for path in (".draft-begun-long-ago", ".draft-old/model", ".draft-old"):
        os.utime(tmp_path / path, long_ago)

    with store.draft():
        pass

    assert sorted(path.name for path in tmp_path.iterdir()) == [".draft-begun-long-ago", ".draft-new"]


def test_two_drafts_at_once_do_not_meet(tmp_path: Path) -> None:
    """Two trainers, each of which believes to be the only one."""
    with BundleStore(tmp_path, "shop").draft() as first, BundleStore(tmp_path, "shop").draft() as second:
        assert first != second
        assert first.is_dir()


def test_old_bundles_go_but_never_one_in_use_nor_other_folders(tmp_path: Path) -> None:
    """The newest few stay, and what any application uses, wherever it runs."""
    ids = [bundle(tmp_path, number) for number in range(1, KEPT_BUNDLES + 6)]
    (tmp_path / "mine").mkdir()
    mine, other = BundleStore(tmp_path, "shop"), BundleStore(tmp_path, "../another shop")
    mine.note_in_use({ids[0], ids[1]})
    other.note_in_use({ids[2]})
    mine.note_in_use({ids[0], ids[-1]})

    mine.remove_old()

    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {ids[0], ids[2], *ids[-KEPT_BUNDLES:], "mine"}


def test_nothing_is_removed_while_a_note_cannot_be_read(tmp_path: Path) -> None:
    """It may name the oldest."""
    ids = [bundle(tmp_path, number) for number in range(1, KEPT_BUNDLES + 3)]
    store = BundleStore(tmp_path, "shop")
    store.note_in_use({ids[-1]})
    (tmp_path / "in-use-another.json").write_bytes(b'["')

    store.remove_old()

    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == set(ids)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """With the setting that says where else."""
    (tmp_path / "file").touch()

    with (
        pytest.raises(PermanentError, match="--set bundle_dir=PATH") as error,
        BundleStore(tmp_path / "file", "shop").draft(),
    ):
        pass

    assert "\n" not in str(error.value)
