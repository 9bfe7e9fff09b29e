"""docker-compose.yml: its services' commands, with its environment, as plain processes (no Docker engine needed)."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.children import Child
from demo.kafka_process import free_port
from nextclick.settings import Settings
from stream.worker import STOP_S

ROOT = Path(__file__).parents[2]
COMPOSITION = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSITION["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "nextclick"]


def environment_of(service: str) -> dict[str, str]:
    """The service's variables, as the composition gives them."""
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


@pytest.fixture
def start_service(playground: Any, tmp_path: Path) -> Iterator[Any]:
    """Start a service by its name; what a container would have at /data and at kafka:19092 is this test's own."""

    def start(service: str) -> Child:
        mine = playground.settings.as_environment()
        given = environment_of(service)
        for name in ("NEXTCLICK_BUNDLE_DIR", "NEXTCLICK_LOG_DIR", "NEXTCLICK_DATA_DIR", "NEXTCLICK_FEED_DIR"):
            given[name] = given[name].replace("/data", str(tmp_path / "volume"))
        own = {k: v for k, v in mine.items() if k.endswith(("_TOPIC", "_APP", "_BROKER", "_PORT"))}
        child: Child = playground.start(service, *SERVICES[service]["command"], **(given | own))
        return child

    yield start
    playground.stop()


def test_every_service_of_ours_has_settings_that_are_known() -> None:
    """A typing error in the composition would otherwise show only in a container."""
    for service in OURS:
        settings = Settings.load(environment_of(service))

        assert settings.broker == "kafka:19092"


def test_services_start_in_the_order_of_the_composition_and_answer_a_click(start_service: Any, playground: Any) -> None:
    """topics, then worker and trainer: a click is answered."""
    topics = start_service("topics")
    topics.wait(30)
    start_service("worker")
    trainer = start_service("trainer")
    playground.send([("user-1", "item-1", 1_700_000_000_000)])
    [update] = playground.wait_until_answered()

    assert topics.exit_status == 0
    assert trainer.exit_status is None, trainer.log_tail
    assert update.items[0].item_id == "item-1"


@pytest.mark.parametrize(
    ("service", "variable"), [("worker", "WORKER_PORT"), ("trainer", "TRAINER_PORT"), ("feed", "FEED_PORT")]
)
def test_the_health_check_of_a_service_tells_whether_it_runs(
    start_service: Any, playground: Any, service: str, variable: str
) -> None:
    """The command of the composition, with a port of this test's own."""
    port = free_port()
    playground.settings = replace(playground.settings, **{variable.lower(): port})
    _, python, *arguments = SERVICES[service]["healthcheck"]["test"]

    def is_healthy() -> bool:
        command = [sys.executable, *arguments]
        environment = {f"NEXTCLICK_{variable}": str(port)}
        return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode == 0

    before = is_healthy()
    child = start_service(service)
    playground.wait_for(is_healthy, f"the {service} is healthy")
    child.kill()

    assert python == "python"
    assert not before
    assert not is_healthy()


def test_what_runs_for_ever_is_restarted_and_has_time_to_stop() -> None:
    """Also after the machine was started anew, which `on-failure` does not do."""
    for service in ("worker", "trainer", "feed"):
        assert SERVICES[service]["restart"] == "unless-stopped"
        assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > STOP_S


def test_prometheus_scrapes_the_ports_that_the_services_listen_on() -> None:
    """The targets are the services' names and the ports of their settings."""
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    worker, trainer, feed = (Settings.load(environment_of(service)) for service in ("worker", "trainer", "feed"))

    assert targets == {f"worker:{worker.worker_port}", f"trainer:{trainer.trainer_port}", f"feed:{feed.feed_port}"}


def test_files_that_the_composition_mounts_exist() -> None:
    """A missing file would become an empty folder in the container."""
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith("./")]

    assert files
    assert all((ROOT / file).exists() for file in files)
