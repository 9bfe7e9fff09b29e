"""A Prometheus of a test's own: Debian's package (`apt-get install prometheus`), one process, its data in one folder.

The process ends with its parent, however the parent ends.
"""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from demo.kafka_process import HOST, free_port
from tools.processes import dying_with_parent

START_S = 30.0
ANSWER_S = 10.0
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
MISSING = "Prometheus is not installed (apt-get install prometheus)"

Sample = dict[str, Any]


class LocalPrometheus:
    """Scrapes programs of this machine and evaluates rules, as a context manager.

    Attributes:
        address: of its HTTP API.
    """

    def __init__(
        self, folder: Path, targets: Mapping[str, Sequence[int]], rules: Sequence[Path] = (), *, interval_s: int = 1
    ) -> None:
        """Choose what is scraped; nothing starts yet.

        Args:
            folder: gets its configuration, its data and its log.
            targets: job to the ports, on this machine, of its programs.
            rules: files of rules.
            interval_s: between two scrapes, and between two evaluations.
        """
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"http://{HOST}:{self._port}"
        config = {
            "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"{HOST}:{port}" for port in ports]}]}
                for job, ports in targets.items()
            ],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        assert PROMETHEUS is not None, MISSING
        command = [
            PROMETHEUS,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={HOST}:{self._port}",
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                dying_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end_s = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end_s:
                self.stop()
                raise RuntimeError(f"Prometheus does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What it printed."""
        return self._folder / "prometheus.log"

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def query(self, expression: str, at_s: float | None = None) -> list[Sample]:
        """Give an expression's value now, or at a time: for each series its labels (`metric`) and `value`."""
        return list(self._ask("query", query=expression, **({} if at_s is None else {"time": at_s}))["result"])

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[Sample]:
        """Give an expression over time: for each series its labels (`metric`) and `values`."""
        found: list[Sample] = self._ask("query_range", query=expression, start=start_s, end=end_s, step=step_s)[
            "result"
        ]
        return found

    def firing(self) -> set[str]:
        """Give the names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Give every rule, with its health and its last error."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=ANSWER_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _ask(self, path: str, **parameters: Any) -> Any:
        address = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.read().decode()}: {parameters}") from None
