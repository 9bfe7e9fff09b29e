"""Wrong inputs of the benchmarks: one line that says what is wrong, before a broker is started."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import __main__ as bench_main
from bench.__main__ import bench


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "steady", "--rate", "0"], "Invalid value for '--rate'"),
        (["--only", "steady", "--rate", "-5"], "Invalid value for '--rate'"),
        (["--against", "HEAD", "--pairs", "0"], "Invalid value for '--pairs'"),
        (
            ["--only", "compare", "--program", "nonsense"],
            "no program has 'nonsense' in its name; there are: naive",
        ),
        (["--quick", "--program", "worker", "--program", "Bytewax"], "no program has 'Bytewax' in its name"),
        (["--write-docs", "--json", "MISSING"], "MISSING is not there"),
        (["--write-docs", "--json", "MISSING", "--only", "memory"], "MISSING is not there"),
    ],
)
def test_a_wrong_input_is_said_in_a_line_before_anything_starts(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker takes seconds to start, and a run may take hours before it comes to what is wrong."""

    class NoBroker:
        def __init__(self) -> None:
            raise AssertionError("a broker was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_main, "LocalKafka", NoBroker)
    result = CliRunner().invoke(bench, options)

    assert isinstance(result.exception, SystemExit)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
