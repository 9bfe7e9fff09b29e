"""Ctrl-C in the middle of something: what waits ends, what cleans up does not, and no folder stays."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from demo.stop_signals import StopSignals
from demo.temporary_folder import remove_folder, temporary_name

# Writes into a folder as fast as it can, and makes it anew when it is gone.
_WRITER = """
import itertools, pathlib, sys
folder = pathlib.Path(sys.argv[1])
for number in itertools.count():
    folder.mkdir(exist_ok=True)
    try:
        (folder / str(number % 100)).touch()
    except FileNotFoundError:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_what_waits_and_no_other_cuts_the_clean_up_short(number: signal.Signals) -> None:
    """Neither in the part that was waiting nor behind it."""
    cleaned = []

    def wait_and_clean() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append("inside")

    with StopSignals() as signals:
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            wait_and_clean()
        os.kill(os.getpid(), number)
        cleaned.append("outside")

    assert cleaned == ["inside", "outside"]
    assert signals.requested


def test_a_signal_before_the_wait_ends_it_before_it_begins() -> None:
    """Else nobody would ever know of it."""
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), signals.interrupting():
            pytest.fail("this begins")


def test_afterwards_signals_are_what_they_were() -> None:
    """Whoever runs this goes on as before."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before


def test_a_folder_goes_also_when_a_child_still_writes_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose handle was lost by an interrupt; other children are let alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = temporary_name("some-")
    writer, other = (subprocess.Popen([sys.executable, "-c", _WRITER, str(path)]) for path in (folder, tmp_path / "x"))
    try:
        while not folder.exists():
            assert writer.poll() is None

        remove_folder(folder)

        assert writer.wait(10) is not None
        assert not folder.exists()
        assert other.poll() is None
    finally:
        for process in (writer, other):
            process.kill()
            process.wait()


def test_a_folder_that_was_never_made_is_no_error(tmp_path: Path) -> None:
    """An interrupt can come before it is made."""
    remove_folder(tmp_path / "never")

    assert list(tmp_path.iterdir()) == []
