"""Made tests/golden/click-log-v1, once, with the first version's writer. Never run it again.

The log stands for those that users have on their disks: no checksums, no note of its owner, a file of no bytes for a
range without clicks. What matters is that its bytes never change. For a new format write a new script and a new folder
beside this one.
"""

from pathlib import Path

from nextclick.clicks import Click
from training.service.click_log import ClickLog, LogRow

FOLDER = Path(__file__).parent / "click-log-v1"


def main() -> None:
    """Write clicks of two partitions, the first of which begins with records that were rejected."""
    log = ClickLog(FOLDER)
    log.append(0, 0, 9, [])
    log.append(
        0, 10, 19, [LogRow(offset, Click("Zoë", f"item-{offset}", 1_000 + offset, 0)) for offset in range(10, 20)]
    )
    log.append(1, 5, 7, [LogRow(5, Click("user-1", "élan", 2_000, 1)), LogRow(7, Click("user-2", "élan", 1_500, 255))])


if __name__ == "__main__":
    main()
