"""What a worker serves when a bundle that was announced cannot be loaded, and when it can be at last."""

import asyncio
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from nextclick.bundle import MODEL_FILE
from nextclick.experiment import encode_experiment
from nextclick.manifest import Manifest, encode_manifest
from nextclick.settings import Settings
from stream.metrics import WorkerMetrics
from stream.served_bundle import ServedBundle
from tests.experiments import experiment_of
from tests.trainers import small_bundle


class Worker:
    """The part of a worker that loads bundles, and the folder where they are published."""

    def __init__(self, folder: Path) -> None:
        self.store, self.registry = folder / "bundles", CollectorRegistry()
        self.store.mkdir(exist_ok=True)
        self.settings = Settings(data_dir=folder / "worker", served_dir=folder / "served", bundle_dir=self.store)
        self.served = ServedBundle(self.settings, WorkerMetrics(self.registry), lambda popularity: None)

    def away(self, manifest: Manifest) -> None:
        """Let a bundle be where the worker does not find it."""
        shutil.move(self.store / manifest.bundle_id, self.store / "away")

    def back(self, manifest: Manifest) -> None:
        """Let it be there again."""
        shutil.move(self.store / "away", self.store / manifest.bundle_id)

    def tries_again(self) -> None:
        """Wait until it is due, and try."""

        async def try_again() -> None:
            await asyncio.sleep(self.served.again_in_s())
            await self.served.try_again()

        asyncio.run(asyncio.wait_for(try_again(), 30))

    def announces(self, manifest: Manifest) -> None:
        asyncio.run(self.served.announced(encode_manifest(manifest)))

    @property
    def n_refused(self) -> float:
        value = self.registry.get_sample_value("nextclick_bundle_swaps_total", {"result": "refused"})
        return value or 0.0

    @property
    def refused(self) -> tuple[bool, bool]:
        """Whether the champion and the bundle on trial are refused now."""
        name = "nextclick_bundle_refused"
        champion, experiment = (
            self.registry.get_sample_value(name, {"announced": announced}) for announced in ("champion", "experiment")
        )
        return bool(champion), bool(experiment)

    @property
    def champion(self) -> str:
        return self.served.current.bundle_id if self.served.current is not None else ""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Tries again at once, instead of after a second."""
    monkeypatch.setattr("stream.served_bundle.FIRST_AGAIN_S", 0.01)
    return Worker(tmp_path)


def test_a_bundle_on_trial_that_comes_late_is_tried_from_then_on(worker: Worker) -> None:
    """It is refused and said once, however often it is tried, and nobody gets it until it is there."""
    champion, other = small_bundle(worker.store, 1), small_bundle(worker.store, 2)
    worker.announces(champion)
    worker.away(other)
    experiment = experiment_of(other)
    asyncio.run(worker.served.experiment_announced(encode_experiment(experiment)))
    worker.tries_again()
    before, n_refused, refused = worker.served.trial, worker.n_refused, worker.refused
    worker.back(other)
    worker.tries_again()
    after = worker.served.trial

    assert before is not None
    assert after is not None
    assert (before.serves, n_refused, refused) == (False, 1, (False, True))
    assert worker.refused == (False, False)
    assert after.serves
    assert after.experiment == experiment
    assert worker.champion == champion.bundle_id
    assert worker.served.again_in_s() == float("inf")


def test_a_champion_that_comes_late_is_served_from_then_on(worker: Worker) -> None:
    """Until then users get the one before."""
    champion, other = small_bundle(worker.store, 1), small_bundle(worker.store, 2)
    worker.announces(champion)
    worker.away(other)
    worker.announces(other)
    worker.tries_again()
    before, n_refused, refused = worker.champion, worker.n_refused, worker.refused
    worker.back(other)
    worker.tries_again()

    assert (before, n_refused, refused) == (champion.bundle_id, 1, (True, False))
    assert worker.refused == (False, False)
    assert worker.champion == other.bundle_id
    assert worker.served.again_in_s() == float("inf")


def test_a_champion_that_was_refused_is_not_tried_once_another_is_announced(worker: Worker) -> None:
    """A rollback to the one that is served must stay one."""
    champion, other = small_bundle(worker.store, 1), small_bundle(worker.store, 2)
    worker.announces(champion)
    worker.away(other)
    worker.announces(other)
    worker.announces(champion)
    worker.back(other)

    assert worker.refused == (False, False)
    assert worker.served.again_in_s() == float("inf")
    assert worker.champion == champion.bundle_id


def test_a_trial_that_has_ended_is_not_tried_again(worker: Worker) -> None:
    """Nor is a bundle tried for ever as often as at first."""
    other = small_bundle(worker.store, 1)
    worker.away(other)
    asyncio.run(worker.served.experiment_announced(encode_experiment(experiment_of(other))))
    worker.tries_again()
    worker.tries_again()
    later_s, refused = worker.served.again_in_s(), worker.refused
    asyncio.run(worker.served.experiment_announced(None))

    assert later_s > 0.02
    assert (refused, worker.refused) == ((False, True), (False, False))
    assert worker.served.again_in_s() == float("inf")
    assert worker.served.trial is None


def test_a_copy_that_is_damaged_at_the_start_is_refused_until_another_bundle_is_served(worker: Worker) -> None:
    """Also where nobody counts it: the first scrape comes afterwards."""
    manifest = small_bundle(worker.store, 1)
    worker.announces(manifest)
    again = Worker(worker.store.parent)
    for form in again.settings.served_dir.iterdir():
        form.unlink()
    (again.settings.data_dir / "bundles" / manifest.bundle_id / MODEL_FILE).write_bytes(b"damaged")
    again.served.start_with()
    refused = again.refused
    again.announces(small_bundle(again.store, 2))

    assert refused == (True, False)
    assert again.refused == (False, False)


def test_what_cannot_be_read_as_an_announcement_is_refused_until_one_can(worker: Worker) -> None:
    """It is not known what ought to be served."""
    asyncio.run(worker.served.announced(b"{"))
    asyncio.run(worker.served.experiment_announced(b"{"))
    refused = worker.refused
    worker.announces(small_bundle(worker.store, 1))
    asyncio.run(worker.served.experiment_announced(None))

    assert refused == (True, True)
    assert worker.refused == (False, False)


def test_metrics_name_what_is_served_and_how_many_items_it_has(worker: Worker) -> None:
    manifest = small_bundle(worker.store, 1)
    before = worker.registry.get_sample_value("nextclick_bundle_items")
    worker.announces(manifest)
    named = {"bundle": manifest.bundle_id, "cell": str(manifest.network["cell"])}

    assert before == 0
    assert worker.served.current is not None
    assert worker.registry.get_sample_value("nextclick_bundle_items") == len(worker.served.current.item_ids) > 0
    assert worker.registry.get_sample_value("nextclick_bundle_info", named) == 1
