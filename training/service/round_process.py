"""The process in which a round of training runs, as its parent sees it: what goes in, what comes out, how it ends.

The trainer logs clicks, and whatever a training does, it does to a process of its own. That process gets one JSON
document on its standard input and gives one on its standard output: a verdict. Empty lines before it are signs of
life. It knows no broker and gets no password. Torch is loaded there (`training.service.round_child`), never here.
"""

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import msgspec

from nextclick.errors import NextclickError
from nextclick.manifest import Manifest
from nextclick.setting_sources import ENVIRONMENT_PREFIX
from nextclick.settings import Settings
from tools.processes import dying_with_parent
from training.learning.cancellation import Cancellation
from training.learning.judgement import Judgement
from training.service.log_files import LogFile

_POLL_S = 0.2  # so that a stop is seen soon
_TURN_S = 1.0  # a turn of the loop that takes longer was no waiting: this process was paused, and so was the round
_MAX_REASON = 1_000  # characters: one line of a log
_END_S = 5.0  # a process that was killed is gone in milliseconds, unless the kernel waits for a disk


class RoundTask(msgspec.Struct, frozen=True):
    """What a round is to do.

    Attributes:
        settings: as variables, without the login.
        files: the click log, as it stood when the round began.
        champion: id of the bundle in use, a folder in `bundle_dir`; empty if there is none.
        draft: an empty folder for the new bundle.
        is_verbose: whether debug lines are logged.
    """

    settings: dict[str, str]
    files: list[LogFile]
    champion: str
    draft: Path
    is_verbose: bool


class Trained(msgspec.Struct, frozen=True, tag=True):
    """The verdict of a round that came to its end. Nothing is decided yet.

    Attributes:
        manifest: of the new bundle, which is in the draft's folder, in one that is named by its id.
        n_clicks: that it was trained on.
        n_items: in its vocabulary.
        epochs: passes over the clicks.
        clicks_per_s: that were learnt.
        judgement: how good the new network is, by the newest clicks.
        device: where it was computed, as torch names it.
        device_name: what that is.
    """

    manifest: Manifest
    n_clicks: int
    n_items: int
    epochs: int
    clicks_per_s: float
    judgement: Judgement
    device: str
    device_name: str


class ChampionUnusable(msgspec.Struct, frozen=True, tag=True):
    """The verdict of a round that found the champion's bundle missing or damaged: nothing was trained."""

    reason: str


class RoundFailed(msgspec.Struct, frozen=True, tag=True):
    """The verdict of a round that did not come to its end, and why, in one line."""

    reason: str


Verdict = Trained | ChampionUnusable | RoundFailed


def settings_for_round(settings: Settings) -> dict[str, str]:
    """Give the settings as variables, without what a round does not need: the login, and addresses of object stores."""
    without_login = dataclasses.replace(
        settings,
        security_protocol="PLAINTEXT",
        sasl_username="",
        sasl_password="",
        key_format="text",
        schema_registry_username="",
        schema_registry_password="",
        click_log="",
        bundle_store="",
    )
    return without_login.as_environment()


def encode_task(task: RoundTask) -> bytes:
    """Give the task as JSON."""
    return msgspec.json.encode(task, enc_hook=str)


def decode_task(document: bytes) -> RoundTask:
    """Read a task."""
    return msgspec.json.decode(document, type=RoundTask, dec_hook=lambda kind, value: kind(value))


def one_line(error: Exception) -> str:
    """Say what an error is about, whoever raised it."""
    text = " ".join(str(error).split()) or "no reason given"
    return (text if isinstance(error, NextclickError) else f"{type(error).__name__}: {text}")[:_MAX_REASON]


def run_in_process(task: RoundTask, stall_s: float, cancellation: Cancellation) -> Verdict:
    """Run a round in a process of its own. Blocks until that process is gone, whatever becomes of it.

    Args:
        task: what to do.
        stall_s: a process that gives no sign of life for so long is killed.
        cancellation: asked all the time; the process is killed then.

    Raises:
        TrainingCancelled: the end was requested.
        OSError: no process can be started.
    """
    process = _start(encode_task(task))
    assert process.stdout is not None
    with process.stdout as output:
        try:
            answer = _read_to_end(output, stall_s, cancellation)
            if answer is None:
                return RoundFailed(f"it gave no sign of life for {stall_s:g} s (training_stall_s) and was killed")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        finally:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
    cancellation.check()  # a supervisor may have sent its signal to both
    return read_verdict(answer, process.returncode)


def _start(document: bytes) -> "subprocess.Popen[bytes]":
    """Start the process with a document on its standard input.

    It lies in a file in memory: who writes to a pipe waits for the reader, and that one may hang from the beginning.
    """
    with os.fdopen(os.memfd_create("round"), "w+b") as file:
        file.write(document)
        file.seek(0)
        process = subprocess.Popen(
            # -P: a folder `training` where the trainer was started is not this package.
            dying_with_parent([sys.executable, "-P", "-m", "training.service.round_child"]),
            stdin=file,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)},
            start_new_session=True,  # Ctrl-C on the terminal is the trainer's to answer
        )
    with contextlib.suppress(OSError):  # it has ended already
        # When memory is short, the kernel takes this process first, not the one that logs.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    return process


def _read_to_end(output: IO[bytes], stall_s: float, cancellation: Cancellation) -> bytes | None:
    """Give all that a process writes; None when it was silent for too long."""
    text = bytearray()
    poller = select.poll()
    poller.register(output, select.POLLIN)
    silent_s = 0.0
    while silent_s < stall_s:
        cancellation.check()
        began_s = time.monotonic()
        if poller.poll(_POLL_S * 1000):
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                return bytes(text)
            text += piece
            silent_s = 0.0
        else:
            silent_s += min(time.monotonic() - began_s, _TURN_S)
    return None


def read_verdict(text: bytes, status: int | None) -> Verdict:
    """Read the verdict of a process that has ended; without one, say how it ended."""
    try:
        verdict: Verdict = msgspec.json.decode(text, type=Verdict)
        return verdict
    except msgspec.DecodeError:
        pass
    if status == -signal.SIGKILL:
        return RoundFailed("its process was killed by SIGKILL, as the kernel does when memory is short")
    if status is not None and status < 0:
        return RoundFailed(f"its process was killed by {signal.Signals(-status).name}")
    return RoundFailed(f"its process ended with status {status} and gave no verdict; its last lines say why")
