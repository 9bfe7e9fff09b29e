"""Whether a round goes on from the champion or begins anew, and what it reads of the log."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.clicks import Click
from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.learning.cancellation import NEVER_CANCELLED, TrainingCancelled
from training.learning.training_round import Champion
from training.service import round_work
from training.service.checkpoint_files import checkpoints_of
from training.service.checkpoints import CheckpointNote, load_checkpoint, save_checkpoint
from training.service.click_log import ClickLog, LogRow
from training.service.round_work import Work, run_round, why_anew

NOW_MS = 1_700_000_000_000


def settings_of(folder: Path) -> Settings:
    return Settings(hidden_size=8, epochs=1, neighbours=5, device="cpu", log_dir=folder / "log", bundle_dir=folder)


def append(log: ClickLog, count: int, partition: int = 0, n_items: int = 10) -> None:
    """Users who go one item on each time."""
    first = log.ends.get(partition, 0)
    rows = [
        LogRow(n, Click(f"user-{n % 20}-{partition}", f"item-{(n % 20 + n // 20) % n_items}", NOW_MS - 10**6 + n, 0))
        for n in range(first, first + count)
    ]
    log.append(partition, first, first + count - 1, rows)


def published(work: Work, settings: Settings) -> Champion:
    """Store a round's bundle and its checkpoint, as `round_child` does."""
    made = work.outcome.made
    manifest = save_bundle(
        settings.bundle_dir, made.network, made.vocabulary, created_ms=1, metrics=work.outcome.metrics()
    )
    save_checkpoint(settings.log_dir, manifest.bundle_id, made.checkpoint, work.note)
    return Champion(*load_network(settings.bundle_dir / manifest.bundle_id))


def run(log: ClickLog, champion: Champion | None, settings: Settings, now_ms: int = NOW_MS) -> Work:
    torch.set_num_threads(1)
    return run_round(log.files, champion, settings, now_ms, NEVER_CANCELLED)


def test_a_round_learns_what_came_since_the_champion(tmp_path: Path) -> None:
    """In every partition, a new one too; what it has learnt and read is noted, and the next one goes on from there."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 2_000)
    first = run(log, None, settings)
    champion = published(first, settings)
    append(log, 300)
    append(log, 200, partition=1)

    second = run(log, champion, settings, NOW_MS + 1_000)

    assert (first.parent, second.parent) == ("", champion.manifest.bundle_id)
    assert (first.outcome.n_clicks, second.outcome.n_clicks) == (2_000, 2_500)
    assert second.note.seen == {0: 2_299, 1: 199}
    assert second.note.log_range == {"0": (0, 2_299), "1": (0, 199)}
    assert second.note.anew_ms == first.note.anew_ms == NOW_MS
    append(log, 100)
    assert run(log, published(second, settings), settings, NOW_MS + 2_000).outcome.n_clicks == 2_600


def test_a_round_that_is_made_again_is_the_same(tmp_path: Path) -> None:
    """One that was killed left nothing behind; merged files hold the same clicks."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 2_000)
    champion = published(run(log, None, settings), settings)
    for _ in range(40):
        append(log, 10)

    one = run(log, champion, settings)
    again = run(log, Champion(*load_network(tmp_path / champion.manifest.bundle_id)), settings)
    log.merge_small_files()
    merged = run(log, champion, settings)

    assert len(log.files) < 40
    for other in (again, merged):
        assert other.note == one.note
        assert other.outcome.judgement.new == one.outcome.judgement.new
    weights = one.outcome.made.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.outcome.made.network.state_dict().items())


def test_a_damaged_checkpoint_costs_a_round_anew(tmp_path: Path) -> None:
    """The champion is compared with all the same."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 2_000)
    champion = published(run(log, None, settings), settings)
    append(log, 200)
    for path in checkpoints_of(settings.log_dir, champion.manifest.bundle_id):
        path.write_bytes(path.read_bytes()[:-1])

    work = run(log, champion, settings)

    assert work.parent == ""
    assert work.outcome.judgement.champion is not None
    assert work.note.anew_ms == NOW_MS


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("sizes do not fit")])
def test_what_cannot_go_on_from_the_champion_begins_anew(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would end every round; one line says so."""
    settings, log, champion = with_new_clicks(tmp_path)
    fail_to_go_on(error, monkeypatch)

    with caplog.at_level(logging.INFO):
        work = run(log, champion, settings)

    assert [record.getMessage() for record in caplog.records if str(error) in record.getMessage()] == [
        f"nothing goes on from the champion, so everything is learnt anew: {type(error).__name__}: {error}"
    ]
    assert (work.parent, work.note.anew_ms, work.outcome.n_clicks) == ("", NOW_MS, 2_200)


@pytest.mark.parametrize("error", [TrainingCancelled(), MemoryError(), PermanentError("there is no GPU")])
def test_what_would_end_a_round_anew_too_ends_the_round(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop, a machine without memory, settings that cannot be met."""
    settings, log, champion = with_new_clicks(tmp_path)
    fail_to_go_on(error, monkeypatch)

    with pytest.raises(type(error)):
        run(log, champion, settings)


def with_new_clicks(folder: Path) -> tuple[Settings, ClickLog, Champion]:
    settings = settings_of(folder)
    log = ClickLog(settings.log_dir)
    append(log, 2_000)
    champion = published(run(log, None, settings), settings)
    append(log, 200)
    return settings, log, champion


def fail_to_go_on(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever goes on from a checkpoint raise this."""

    def fail(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(round_work, "continue_round", fail)


@pytest.mark.parametrize(
    ("changed", "note", "expected"),
    [
        ({}, {}, ""),
        ({"hidden_size": 16}, {}, "another network"),
        ({}, {"anew_ms": NOW_MS - 86_400_000}, "train_anew_every_s"),
        ({}, {"anew_ms": NOW_MS + 1}, "train_anew_every_s"),
        ({}, {"seen": {0: 99, 1: 5}}, "ends before"),
        ({}, {"seen": {0: 600}}, "ends before"),
        ({}, {"seen": {0: 99}, "n_log_clicks": 500}, "are new"),
    ],
    ids=["goes on", "other settings", "too long ago", "in the future", "a partition is gone", "a restored log", "many"],
)
def test_what_makes_a_round_begin_anew(
    changed: dict[str, Any], note: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    """Each is said in a few words."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 300)
    append(log, 300)
    champion = published(run(log, None, settings), settings)
    given: dict[str, Any] = {
        "seen": {0: 299},
        "log_range": {},
        "anew_ms": NOW_MS - 1_000,
        "n_log_clicks": 10_000,
        "now_ms": 0,
    }

    reason = why_anew(
        champion, CheckpointNote(**(given | note)), log.files, dataclasses.replace(settings, **changed), NOW_MS
    )

    assert bool(reason) == bool(expected)
    assert expected in reason


def test_bundles_that_decline_are_followed_by_one_that_begins_anew(tmp_path: Path) -> None:
    """What leads over neighbour counts by less and less, more than by chance."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 300)
    champion = published(run(log, None, settings), settings)
    leads = {"lead": 0.1, "recent_lead": 0.1, "best_lead": 0.5} | {
        f"{prefix}lead_error": 0.01 for prefix in ("", "recent_", "best_")
    }
    manifest = champion.manifest
    declined = champion._replace(
        manifest=type(manifest)(
            bundle_id=manifest.bundle_id,
            created_ms=0,
            network=manifest.network,
            files=manifest.files,
            metrics=manifest.metrics | leads,
        )
    )
    note = CheckpointNote({0: 299}, {}, NOW_MS, 300, 0)

    assert "shrunk" in why_anew(declined, note, log.files, settings, NOW_MS)


def test_what_is_read_grows_with_the_new_clicks_and_not_with_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log ten times as long, and as many new clicks: the same number of rows, within a third."""
    n_read: list[int] = []
    really_read = round_work.read_rows

    def read_and_count(file: Any) -> Any:
        rows = really_read(file)
        n_read[-1] += len(rows)
        return rows

    for number, n_files in enumerate((8, 80)):
        settings = settings_of(tmp_path / str(number))
        log = ClickLog(settings.log_dir)
        append(log, 2_000)
        champion = published(run(log, None, settings), settings)
        for _ in range(n_files):
            append(log, 1_000)
        seen = {0: log.ends[0] - 1}
        (path,) = checkpoints_of(settings.log_dir, champion.manifest.bundle_id)
        found = load_checkpoint(settings.log_dir, champion.manifest.bundle_id, champion.network, champion.vocabulary)
        assert found is not None
        path.unlink()
        note = CheckpointNote(seen, {}, NOW_MS, 100_000, found[1].now_ms)
        save_checkpoint(settings.log_dir, champion.manifest.bundle_id, found[0], note)
        append(log, 1_000)
        n_read.append(0)
        with monkeypatch.context() as patched:
            patched.setattr(round_work, "read_rows", read_and_count)
            assert run(log, champion, settings).parent == champion.manifest.bundle_id

    assert n_read[1] <= 1.34 * n_read[0]
    assert n_read[1] <= 8 * 1_000


def test_a_crawler_weighs_little_in_a_round_that_goes_on(tmp_path: Path) -> None:
    """However short the round: so much at most as ten users, or 20 clicks."""
    settings = settings_of(tmp_path)
    log = ClickLog(settings.log_dir)
    append(log, 2_000)
    champion = published(run(log, None, settings), settings)
    first = log.ends[0]
    crawled = [LogRow(first + n, Click("crawler", f"item-{n % 10}", NOW_MS, 0)) for n in range(300)]
    log.append(0, first, first + 299, crawled)
    first = log.ends[0]
    others = [LogRow(first + n, Click(f"new-{n % 150}", f"item-{n % 10}", NOW_MS, 0)) for n in range(300)]
    log.append(0, first, first + 299, others)

    work = run(log, champion, settings)

    assert 300 < work.outcome.n_clicks - 2_000 <= 300 + 50
    assert np.isfinite(work.outcome.judgement.new.recall)
