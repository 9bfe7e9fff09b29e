"""Files in which clicks could be lost, invented or altered without a word: each is read as meant, or refused."""

from pathlib import Path

import pytest

from tools.click_files.choices import AUTO, Choices
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
from tools.click_files.recorded import RecordedClicks

USUAL = Choices()
T1, T2 = 1_764_000_000_000, 1_764_000_060_000


@pytest.mark.parametrize(
    "content",
    [
        "user_id,item_id,timestamp\rann,lamp,1764000000\rbob,desk,1764000060\n",
        "user_id,item_id,timestamp\rann,lamp,1764000000\nbob,desk,1764000060\n",
        "user_id,item_id,timestamp\rann,lamp,1764000000\r\nbob,desk,1764000060\r\n",
        "\n\nuser_id,item_id,timestamp\rann,lamp,1764000000\rbob,desk,1764000060\r\n",
    ],
)
def test_ends_of_lines_may_be_mixed(tmp_path: Path, content: str) -> None:
    """A carriage return that ends the header ends the lines after it, whatever else ends lines."""
    clicks, _ = _read(_file(tmp_path, content))

    assert _rows(clicks) == [("ann", "lamp", T1), ("bob", "desk", T2)]


def _file(folder: Path, content: str, name: str = "clicks.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def _read(path: Path, choices: Choices = USUAL) -> tuple[RecordedClicks, list[str]]:
    """Read a file whose format is told by its beginning; gives also what is said."""
    said: list[str] = []
    return read_clicks(recognise(path, AUTO, choices), say=said.append), said


def _rows(clicks: RecordedClicks) -> list[tuple[str, str, int | None]]:
    return [(user, item, timestamp_ms) for user, item, timestamp_ms, _ in clicks.between(0, len(clicks))]


def _events(clicks: RecordedClicks) -> list[str]:
    return [event_type for _, _, _, event_type in clicks.between(0, len(clicks))]
