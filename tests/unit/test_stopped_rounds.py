"""A round that ends anywhere, whatever ends it, leaves all as it was; the next one is made as if it had never been."""

import shutil
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from nextclick.bundle import load_network
from nextclick.clicks import Click
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.service.checkpoint_files import checkpoints_of, remove_checkpoints
from training.service.click_log import ClickLog, LogRow
from training.service.publication import Decision
from training.service.round_child import run_task
from training.service.round_process import RoundTask, Trained, settings_for_round

NEVER = Cancellation(Event())
N_ITEMS = 60


class StopAt(Cancellation):
    """Ends the work when it asks for the n-th time."""

    def __init__(self, number: int) -> None:
        super().__init__(Event())
        self._left = number

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise TrainingCancelled


class Shop:
    """A click log, and the folder of bundles, as a trainer has them."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.settings = Settings(
            hidden_size=8, epochs=1, device="cpu", bundle_dir=folder / "bundles", log_dir=folder / "log"
        )
        self.settings.bundle_dir.mkdir()
        self.log = ClickLog(self.settings.log_dir)
        self._rng = np.random.default_rng(0)
        self._place = self._rng.integers(N_ITEMS, size=100)

    def append(self, count: int) -> None:
        """Write clicks of users who mostly go one item on."""
        first, rows = self.log.ends.get(0, 0), []
        for n in range(first, first + count):
            user = int(self._rng.integers(len(self._place)))
            goes_on = self._rng.random() < 0.9
            self._place[user] = (self._place[user] + 1) % N_ITEMS if goes_on else self._rng.integers(N_ITEMS)
            rows.append(LogRow(n, Click(f"user-{user}", f"item-{self._place[user]}", 1_000 * n, 0)))
        self.log.append(0, first, first + count - 1, rows)

    def run(self, champion: str, cancellation: Cancellation) -> Trained:
        """Run a round in a draft of its own, which goes if it is stopped."""
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        task = RoundTask(settings_for_round(self.settings), self.log.files, champion, draft, False)
        try:
            verdict = run_task(task, cancellation)
        except BaseException:
            shutil.rmtree(draft)
            raise
        assert isinstance(verdict, Trained)
        return verdict

    def publish(self, verdict: Trained) -> str:
        bundle_id = verdict.manifest.bundle_id
        (self.folder / "draft" / bundle_id).rename(self.settings.bundle_dir / bundle_id)
        return bundle_id

    def files(self) -> dict[Path, bytes]:
        return {
            path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file() and "draft" not in str(path)
        }


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_round_that_is_stopped_anywhere_leaves_all_as_it_was(shop: Shop) -> None:
    """No file is changed, none is added; the round that comes to its end goes on from the champion, as ever."""
    shop.append(1_200)
    champion = shop.publish(shop.run("", NEVER))
    shop.append(200)
    before = shop.files()
    undisturbed = shop.run(champion, NEVER)
    remove_checkpoints(shop.settings.log_dir, {champion})
    assert shop.files() == before

    number, n_stops = 1, 0
    while True:
        try:
            verdict = shop.run(champion, StopAt(number))
        except TrainingCancelled:
            n_stops, number = n_stops + 1, number + 1
            assert shop.files() == before
        else:
            break

    assert n_stops > 5
    assert verdict.manifest.parent == undisturbed.manifest.parent == champion
    assert verdict.judgement.new == undisturbed.judgement.new
    for one, other in zip(verdict.manifest.files, undisturbed.manifest.files, strict=True):
        assert one == other


def test_a_checkpoint_that_is_half_written_is_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in between leaves a hidden file, which the next round removes; the champion's is there as ever."""
    shop.append(1_200)
    champion = shop.publish(shop.run("", NEVER))
    shop.append(200)
    before = shop.files()
    monkeypatch.setattr("training.service.round_child.judge", lambda judgement: Decision(True, ""))
    monkeypatch.setattr("tools.files.move_whole", lambda source, path: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)

    with pytest.raises(KeyboardInterrupt):
        shop.run(champion, NEVER)

    monkeypatch.undo()
    left = shop.files().keys() - before.keys()
    assert [path.name.startswith(".writing-") for path in left] == [True]
    remove_checkpoints(shop.settings.log_dir, {champion})
    assert shop.files() == before
    assert shop.run(champion, NEVER).manifest.parent == champion


def test_a_bundle_is_published_without_a_checkpoint_where_none_can_be_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the click log is full, say: the next round begins anew."""
    shop.append(1_200)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.service.checkpoints.write_whole", full)
    champion = shop.publish(shop.run("", NEVER))
    monkeypatch.undo()

    assert list(checkpoints_of(shop.settings.log_dir, champion)) == []
    assert load_network(shop.settings.bundle_dir / champion)[0].bundle_id == champion
    shop.append(100)
    assert shop.run(champion, NEVER).manifest.parent == ""
