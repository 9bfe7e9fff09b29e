"""The rules of deploy/prometheus with all their durations divided: an hour of them passes in minutes.

Divided are `for`, windows (`[5m]`), `offset`, and how far `predict_linear` looks. Thresholds stay, those in seconds as
well: a click that waits for 30 s does so in reality.
"""

import re
from pathlib import Path

RULES = sorted((Path(__file__).parents[2] / "deploy" / "prometheus" / "rules").glob("*.yml"))
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\[|\bfor: |\boffset )(\d+)([smhdw])")
_HORIZON = re.compile(r"(predict_linear\([^)]*, )([\d *]+)\)")


def faster(rules: str, factor: float) -> str:
    """Divide the durations of a file of rules.

    Args:
        rules: its text.
        factor: by which; each duration becomes at least 2 s, so that a window holds two scrapes.
    """

    def divide(found: re.Match[str]) -> str:
        return f"{found[1]}{max(2, round(int(found[2]) * _UNITS_S[found[3]] / factor))}s"

    return _HORIZON.sub(rf"\1\2 / {factor:g})", _DURATION.sub(divide, rules))


def write_faster(folder: Path, factor: float) -> list[Path]:
    """Write all rules so into a folder; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in RULES:
        (folder / path.name).write_text(faster(path.read_text(), factor))
    return [folder / path.name for path in RULES]
