"""The programs that are compared: how each is started, and why it cannot be where something is missing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.programs import python
from nextclick.settings import Settings

_ROOT = Path(__file__).parents[1]
# Quix Streams needs an older confluent-kafka than the extra `registry`: a virtual environment of its own, which
# `make bench` makes.
_OTHERS_PYTHON = _ROOT / ".venv-bench" / "bin" / "python"
_JAVA_PROJECT = _ROOT / "bench" / "kafka_streams"
_JAVA_BUILD_S = 600.0

WORKER = "worker"
PLAIN_LOOP = "plain confluent-kafka loop"
TUNED_FAUST = "stock Faust, tuned"


class Contestant(NamedTuple):
    """A program that is compared.

    Attributes:
        name: in tables.
        n_clicks: of a backlog that it works off in about ten seconds.
        command: starts it.
        missing: says what it needs and is not here; empty if nothing.
        n_items: of the model that it serves; 0: without one.
        is_main: whether `--quick` runs it.
    """

    name: str
    n_clicks: int
    command: Callable[[Settings], list[str]]
    missing: Callable[[], str] = str
    n_items: int = 0
    is_main: bool = False


def contestants(model_items: int) -> list[Contestant]:
    """Give all of them; the worker and the plain loop also with a model of so many items."""
    worker = _program("-c", "from cli.main import main; main()", "stream")
    plain_loop = _program("-m", "bench.plain_loop")
    return [
        Contestant("naive Faust", 10_000, _program("-m", "bench.naive_faust", "worker", "--without-web")),
        Contestant(
            TUNED_FAUST,
            30_000,
            _program("-m", "bench.tuned_faust", "--loop", "uvloop", "worker", "--without-web"),
            is_main=True,
        ),
        Contestant("Quix Streams", 150_000, _others("bench.quix"), partial(_missing_package, "quixstreams")),
        Contestant("Bytewax", 250_000, _others("bench.bytewax_flow"), partial(_missing_package, "bytewax")),
        Contestant("Kafka Streams, default", 500_000, _java("default"), _missing_java),
        Contestant("Kafka Streams, tuned, without cache", 500_000, _java("tuned"), _missing_java),
        Contestant("Kafka Streams, tuned, with cache", 500_000, _java("tuned-cache"), _missing_java),
        Contestant(PLAIN_LOOP, 300_000, plain_loop, is_main=True),
        Contestant(WORKER, 300_000, worker, is_main=True),
        Contestant(f"{PLAIN_LOOP}, model", 60_000, plain_loop, n_items=model_items),
        Contestant(f"{WORKER}, model", 60_000, worker, n_items=model_items),
    ]


def _program(*arguments: str) -> Callable[[Settings], list[str]]:
    return lambda _: python(*arguments)


def _others(module: str) -> Callable[[Settings], list[str]]:
    return lambda _: [str(_OTHERS_PYTHON), "-m", module]


def _java(variant: str) -> Callable[[Settings], list[str]]:
    def command(settings: Settings) -> list[str]:
        target = _JAVA_PROJECT / "target"
        class_path = f"{target / 'bench-kafka-streams.jar'}{os.pathsep}{target / 'lib' / '*'}"
        topics = [settings.clicks_topic, settings.recommendations_topic]
        return [
            shutil.which("java") or "java",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            class_path,
            "nextclick.bench.Main",
            settings.broker,
            settings.app,
            *topics,
            str(settings.data_dir),
            variant,
        ]

    return command


def _missing_package(name: str) -> str:
    if not _OTHERS_PYTHON.exists():
        return f"there is no {_OTHERS_PYTHON.relative_to(_ROOT)}; `make bench` makes it"
    found = subprocess.run([_OTHERS_PYTHON, "-c", f"import {name}"], capture_output=True, text=True, check=False)
    lines = found.stderr.strip().splitlines()
    return "" if not found.returncode else (lines[-1] if lines else f"{name} cannot be imported")


def _missing_java() -> str:
    """Build the Java program where that is possible and due."""
    if missing := [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]:
        return f"there is no {' and no '.join(missing)} here: it needs a JDK and Maven"
    jar = _JAVA_PROJECT / "target" / "bench-kafka-streams.jar"
    sources = [_JAVA_PROJECT / "pom.xml", *_JAVA_PROJECT.glob("src/**/*.java")]
    if jar.exists() and jar.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return ""
    command = ["mvn", "--quiet", "--batch-mode", "package"]
    built = subprocess.run(
        command, cwd=_JAVA_PROJECT, capture_output=True, text=True, timeout=_JAVA_BUILD_S, check=False
    )
    errors = [line for line in built.stdout.splitlines() if "ERROR" in line]
    return "" if not built.returncode else f"Maven could not build it: {errors[0] if errors else built.stderr:.300}"
