"""docker-compose.yml: its services' commands, with its environment, as plain processes (no Docker engine needed)."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
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
RUN_FOR_EVER = [name for name in SERVICES if name not in ("topics", "simulator")]  # health says nothing of these two


def environment_of(service: str) -> dict[str, str]:
    """The service's variables, as the composition gives them."""
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


def mounts_of(service: str) -> dict[str, str]:
    """The volumes of a service: where each is, and its name; empty for one that is the container's own."""
    volumes = [volume.removesuffix(":ro").rpartition(":") for volume in SERVICES[service].get("volumes", [])]
    return {path: name for name, _, path in volumes}


def read(port: int, page: str) -> str:
    """What a process of this machine says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5) as answer:
        return str(answer.read().decode())


def answers(port: int, page: str) -> bool:
    """Whether it says so with status 200."""
    try:
        read(port, page)
    except OSError:
        return False
    return True


@pytest.fixture
def start_service(playground: Any, tmp_path: Path) -> Iterator[Any]:
    """Start a container of a service; what it would have at /data and at kafka:19092 is this test's own.

    Ports are free ones: containers have addresses of their own, processes of this machine share one.
    """

    def start(service: str, container: str = "", **environment: str) -> Child:
        container = container or service
        mine = playground.settings.as_environment()
        given = environment_of(service)
        for path, volume in mounts_of(service).items():
            folder = tmp_path / (f"volume-{volume}" if volume else f"volume-of-{container}")
            given = {name: str(folder) if value == path else value for name, value in given.items()}
        own = {k: v for k, v in mine.items() if k.endswith(("_TOPIC", "_APP", "_BROKER", "_PORT"))}
        child: Child = playground.start(container, *SERVICES[service]["command"], **(given | own | environment))
        return child

    yield start
    playground.stop()


def test_the_composition_is_one_by_the_schema_of_compose() -> None:
    """A wrong name of a field would be said only by an engine."""
    schema = json.loads((ROOT / "tests" / "deployment_schemas" / "compose-spec.json").read_text())

    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(COMPOSITION)] == []


def test_profiles_start_what_they_say() -> None:
    """What a service waits for is in each of its profiles, or it would not start there."""
    by_profile = {
        profile: {name for name, service in SERVICES.items() if profile in service["profiles"]}
        for profile in ("core", "monitoring", "demo")
    }
    core = {"kafka", "topics", "worker", "trainer", "feed"}

    assert by_profile == {"core": core, "monitoring": {"prometheus", "grafana"}, "demo": core | {"simulator"}}
    assert (ROOT / ".env").read_text().splitlines()[-1] == "COMPOSE_PROFILES=core,monitoring"
    for name, service in SERVICES.items():
        for needed in service.get("depends_on", ()):
            assert set(service["profiles"]) <= set(SERVICES[needed]["profiles"]), f"{name} waits for {needed}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_no_rights_and_a_first_process(name: str) -> None:
    """One that leaks, or is taken over, harms itself."""
    service = SERVICES[name]

    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service
    assert ("healthcheck" in service) == (name in RUN_FOR_EVER)


def test_ports_are_published_on_loopback_alone() -> None:
    """Nothing here asks who is there: neither Kafka nor the feed nor the dashboards."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_nothing_has_a_password_that_everyone_knows() -> None:
    """Grafana's would be admin, admin: it has no login at all, and who looks at it can change nothing."""
    variables = {name: value for service in SERVICES.values() for name, value in service.get("environment", {}).items()}

    assert [name for name in variables if "PASSWORD" in name or "SECRET" in name] == []
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert variables["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert variables["GF_AUTH_BASIC_ENABLED"] == "false"
    assert variables["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_each_container_of_workers_has_a_folder_of_its_own_and_all_else_is_shared() -> None:
    """A volume with a name would be one folder for all of them, which the second worker refuses."""
    data_dir = environment_of("worker")["NEXTCLICK_DATA_DIR"]
    writers = {"worker": ["DATA_DIR", "SERVED_DIR"], "trainer": ["LOG_DIR", "BUNDLE_DIR"], "feed": ["FEED_DIR"]}

    assert mounts_of("worker")[data_dir] == ""
    assert [path for name in OURS for path, volume in mounts_of(name).items() if not volume] == [data_dir]
    for service, settings in writers.items():  # its root is read-only
        writable = {volume.rpartition(":")[2] for volume in SERVICES[service]["volumes"] if not volume.endswith(":ro")}
        folders = {environment_of(service)[f"NEXTCLICK_{setting}"] for setting in settings}
        assert SERVICES[service]["read_only"] is True
        assert folders | {"/data/compiled"} <= writable
    named = {volume for name in SERVICES for volume in mounts_of(name).values() if volume and "/" not in volume}
    assert named == COMPOSITION["volumes"].keys()


def test_every_service_of_ours_has_settings_that_are_known() -> None:
    """A typing error in the composition would otherwise show only in a container."""
    for service in OURS:
        settings = Settings.load(environment_of(service))

        assert settings.broker == "kafka:19092"


def test_services_start_in_the_order_of_the_composition_and_answer_a_click(start_service: Any, playground: Any) -> None:
    """topics, then two workers and the trainer: clicks of all partitions are answered, by each worker its own."""
    topics = start_service("topics")
    topics.wait(30)
    ports = {"worker-1": free_port(), "worker-2": free_port()}
    workers = [start_service("worker", name, NEXTCLICK_WORKER_PORT=str(port)) for name, port in ports.items()]
    trainer = start_service("trainer")
    playground.wait_for(lambda: all(answers(port, "readyz") for port in ports.values()), "both workers serve")
    playground.send([(f"user-{n}", "item-1", 1_700_000_000_000) for n in range(100)])
    updates = playground.wait_until_answered()
    nothing = 'nextclick_updates_total{strategy="popular"} 0.0'

    assert topics.exit_status == 0
    assert [child.exit_status for child in (*workers, trainer)] == [None] * 3, trainer.log_tail
    assert {update.user_id for update in updates} == {f"user-{n}" for n in range(100)}
    assert all(update.items[0].item_id == "item-1" for update in updates)
    assert [name for name, port in ports.items() if nothing in read(port, "metrics")] == []


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


def test_prometheus_finds_every_container_of_a_service() -> None:
    """By the service's name, which compose answers with all addresses, and at the port of its settings.

    A rekey that somebody adds is found, too.
    """
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    found = {
        job["job_name"]: (job["dns_sd_configs"][0]["names"], job["dns_sd_configs"][0]["type"], port)
        for job in jobs
        for port in [job["dns_sd_configs"][0]["port"]]
    }
    worker, trainer, feed = (Settings.load(environment_of(service)) for service in ("worker", "trainer", "feed"))

    assert found == {
        "worker": (["worker"], "A", worker.worker_port),
        "trainer": (["trainer"], "A", trainer.trainer_port),
        "feed": (["feed"], "A", feed.feed_port),
        "rekey": (["rekey"], "A", Settings().rekey_port),
    }


def test_files_that_the_composition_mounts_exist() -> None:
    """A missing file would become an empty folder in the container."""
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith("./")]

    assert files
    assert all((ROOT / file).exists() for file in files)
