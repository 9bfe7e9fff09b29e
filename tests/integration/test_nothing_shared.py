"""Trainer and workers on machines that share nothing but Kafka and an S3 API, over a network that goes wrong."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.following import Following
from demo.live_score import LiveScore
from nextclick.errors import PermanentError
from nextclick.manifest import CHAMPION
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from tests.s3_server import BUCKET, FAULTS, FaultyNetwork, environment_of, s3_server, told_to_clients
from tests.trainers import click_offsets, clicks, free_port, logged_offsets, metric
from tools.object_store import ObjectStore
from tools.update_formats import update_decoder

pytestmark = pytest.mark.xdist_group("whole")
DEADLINE_S = 200.0
AWAY_S = 8.0
WORKERS = ("worker-1", "worker-2")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FaultyNetwork]:
    """What lies between all machines and the S3 API: one request in six goes wrong."""
    with s3_server(tmp_path / "s3.log") as port, FaultyNetwork(port) as network:
        network.share = FAULTS | {"hang": 0.005}
        yield network


class Watch:
    """Reads the topics as the demo does, and knows what the demo calls success."""

    def __init__(self, playground: Any) -> None:
        settings = self._settings = playground.settings
        self._following = Following(settings)
        self._decode_click, self._decode_update = click_decoder(ClickSchema.of(settings)), update_decoder(settings)
        self.score = LiveScore(Popularity(settings.popularity_half_life_s), settings.list_length)
        self.champions: list[bytes] = []

    def follow(self) -> None:
        """Read what has come."""
        for message in self._following.read(0.2):
            if message.topic == self._settings.models_topic:
                self.champions += [message.value] if message.key == CHAMPION.encode() else []
            elif message.topic == self._settings.clicks_topic:
                now_ms = int(time.time() * 1000)
                decoded = self._decode_click(message.key, message.value, None, message.timestamp_ms, now_ms)
                if isinstance(decoded, tuple):
                    self.score.click((message.partition, message.offset), *decoded[0][:3])
            else:
                self.score.update(self._decode_update(message.value), time.time() * 1000)

    @property
    def is_success(self) -> bool:
        """Recommendations came, trained bundles were swapped in, and what was sent after it beat popularity."""
        after = self.score.after_swap
        return len(self.score.bundles) > 1 and after.rate > after.popularity_rate > 0


@pytest.mark.release
@pytest.mark.timeout(600)
def test_trainer_and_workers_that_share_no_folder(playground: Any, network: FaultyNetwork, tmp_path: Path) -> None:
    """The demo's success, with a while in which the store is away, and every click in the log once."""
    address = f"s3://{BUCKET}/{playground.settings.app}"
    playground.settings = replace(
        playground.settings,
        click_log=f"{address}/clicks",
        bundle_store=f"{address}/bundles",
        min_clicks=1_500,
        train_every_s=15.0,
        log_flush_s=2.0,
    )
    for name in WORKERS:
        playground.worker(name, **machine(tmp_path, name, network.port))
    trainer = playground.start("trainer", "train", **machine(tmp_path, "trainer", network.port))
    simulator = playground.start("simulator", "simulate", "--rate", "100")
    watch = Watch(playground)

    wait_until(watch, lambda: bool(watch.champions), "a bundle is announced")
    network.is_away, back_s = True, time.monotonic() + AWAY_S
    wait_until(watch, lambda: time.monotonic() > back_s, "a while without the store")
    network.is_away = False
    wait_until(watch, lambda: watch.is_success, "the demo's success")
    simulator.stop(10)
    expected = click_offsets(playground)
    playground.wait_for(lambda: has_logged(tmp_path / "trainer" / "click-log", expected), "all clicks are logged")
    trainer.stop(20)
    with told_to_clients(network.port):
        bundles = ObjectStore(playground.settings.bundle_store).list()
        logged = logged_offsets(tmp_path / "reader", ObjectStore(playground.settings.click_log))

    assert logged == expected
    assert set(network.n_faults) >= {"error", "busy", "reset", "lost", "half", "short"}
    for name in WORKERS:
        own = {path.name for path in (tmp_path / name / "bundles").iterdir() if path.is_dir()}
        assert own
        assert own <= {name.partition("/")[0] for name in bundles}
        assert "serving a new bundle" in playground.log(name).read_text()
    for path in tmp_path.glob("*.log"):
        assert "secret-of-a-test" not in path.read_text()


@pytest.mark.release
def test_what_waits_for_the_store_is_shown(playground: Any, network: FaultyNetwork, tmp_path: Path) -> None:
    """A store that is away leads to lost clicks one day: what is not in the log grows, and so does its age."""
    address, port = f"s3://{BUCKET}/{playground.settings.app}", free_port()
    playground.settings = replace(playground.settings, click_log=address, log_flush_s=0.5, trainer_port=port)
    network.share = {}
    playground.start("trainer", "train", **machine(tmp_path, "trainer", network.port))
    playground.wait_for_log("trainer", "logging clicks")

    def shown(name: str) -> float:
        return metric(port, f"nextclick_trainer_{name}")

    def is_up_to_date(n_clicks: int) -> bool:
        return (shown("log_clicks"), shown("lag_records"), shown("store_reachable")) == (n_clicks, 0, 1)

    playground.send(clicks(0, 50))
    playground.wait_for(lambda: is_up_to_date(50), "all of it is logged", DEADLINE_S)
    network.is_away = True
    playground.send(clicks(50, 70))
    waits = (50, 70, 0)
    playground.wait_for(
        lambda: (shown("log_clicks"), shown("lag_records"), shown("store_reachable")) == waits, "it waits", DEADLINE_S
    )
    assert shown("log_age_seconds") > 5
    network.is_away = False

    playground.wait_for(lambda: is_up_to_date(120), "the rest is logged", DEADLINE_S)
    assert shown("log_age_seconds") < 5


def has_logged(log_dir: Path, expected: list[tuple[int, int]]) -> bool:
    """Whether a trainer at work has logged so many clicks; it may merge files while they are read."""
    try:
        return len(logged_offsets(log_dir)) >= len(expected)
    except PermanentError:
        return False


def machine(folder: Path, name: str, port: int) -> dict[str, str]:
    """Folders of its own, and where it finds the store."""
    folders = {"data_dir": "states", "served_dir": "served", "log_dir": "click-log", "bundle_dir": "bundles"}
    places = {f"NEXTCLICK_{setting.upper()}": str(folder / name / each) for setting, each in folders.items()}
    return places | environment_of(port)


def wait_until(watch: Watch, condition: Any, what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        watch.follow()
        assert time.monotonic() < end_s, f"{what} within {DEADLINE_S:.0f} s"
