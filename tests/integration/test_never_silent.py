"""A topic that does not fit is said at once, with the setting that helps, by worker and trainer alike."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.simulated_clicks import NOW_MS, simulated
from tests.trainers import QUICK, free_port, metric
from tools.client_config import producer_config

N_RECORDS = 1_200


def start_both(playground: Any, *arguments: str) -> tuple[int, int]:
    """Start a worker and a trainer; gives their ports."""
    ports = free_port(), free_port()
    playground.worker("worker", "--set", f"worker_port={ports[0]}", *arguments)
    playground.start("trainer", "train", "--set", f"trainer_port={ports[1]}", *QUICK, *arguments)
    return ports


def readiness(port: int) -> tuple[int, str]:
    """The status of /readyz, and what it says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return response.status, json.loads(response.read())["status"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["status"]
    except OSError:
        return 0, "does not answer yet"


def rejected(ports: tuple[int, int], reason: str) -> tuple[float, float]:
    """What worker and trainer have counted."""
    name = f'rejected_total{{reason="{reason}"}}'
    return metric(ports[0], f"nextclick_clicks_{name}"), metric(ports[1], f"nextclick_trainer_clicks_{name}")


def warnings(playground: Any, name: str) -> list[str]:
    """The warnings in a program's log."""
    lines = [json.loads(line) for line in playground.log(name).read_text().splitlines()]
    return [line["message"] for line in lines if line["level"] == "warn" and "records of" in line["message"]]


@pytest.mark.parametrize("theirs", ["consistent_random", pytest.param("fnv1a_random", marks=pytest.mark.release)])
def test_another_partitioner_is_noticed_and_named(playground: Any, theirs: str) -> None:
    """Worker and trainer reject the same clicks, and name the setting that helps."""
    settings = playground.settings
    producer = Producer(producer_config(settings) | {"partitioner": theirs})
    for user, item, time_ms in simulated(N_RECORDS):
        value = json.dumps({"user_id": user, "item_id": item, "timestamp_ms": time_ms}).encode()
        producer.produce(settings.clicks_topic, value, user.encode())
    assert producer.flush(30) == 0
    ports = start_both(playground)

    def by_worker() -> float:
        return rejected(ports, "wrong_partition")[0]

    def by_trainer() -> float:
        return rejected(ports, "wrong_partition")[1]

    playground.wait_for_log("worker", f"set partitioner={theirs}")
    playground.wait_for_log("trainer", f"set partitioner={theirs}")

    def read_by_both() -> bool:
        taken = metric(ports[0], 'nextclick_clicks_total{outcome="applied"}')
        logged = metric(ports[1], "nextclick_trainer_clicks_logged_total")
        return [taken + by_worker(), logged + by_trainer()] == [N_RECORDS, N_RECORDS]

    playground.wait_for(read_by_both, "all records read by both")

    assert by_worker() == by_trainer() > N_RECORDS / 2


def test_a_topic_without_keys_is_not_served_in_silence(playground: Any) -> None:
    """One warning each, /readyz closed with the reason and the remedy; the first good click opens it."""
    playground.send_raw((None, b'{"user_id": "u1", "item_id": "i1"}') for _ in range(N_RECORDS))
    ports = start_both(playground)

    for port, name in zip(ports, ("worker", "trainer"), strict=True):
        playground.wait_for(
            lambda port=port: "none of the first" in readiness(port)[1], f"{name} says that nothing fits"
        )
        status, text = readiness(port)
        assert status == 503
        assert "no_key" in text
        assert "nextclick rekey" in text
        playground.wait_for_log(name, "records of")
        assert len(warnings(playground, name)) == 1
    assert rejected(ports, "no_key") == (N_RECORDS, N_RECORDS)
    assert rejected(ports, "bad_json") == (0, 0)

    playground.send([("u1", "i1", NOW_MS)])
    for port, name in zip(ports, ("worker", "trainer"), strict=True):
        playground.wait_for(lambda port=port: readiness(port)[0] == 200, f"{name} is ready")
