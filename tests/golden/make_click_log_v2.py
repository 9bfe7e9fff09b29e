"""Made tests/golden/click-log-v2, once: `python -m tests.golden.make_click_log_v2`. Never run it again.

As make_click_log_v1.py, for what came since: the note of the owner, seals, the time of writing, and the hashes of
events' ids. Of partition 0 no click has one, and its file is as the version before wrote it.
"""

from pathlib import Path

from nextclick.clicks import Click
from tools.kafka import TopicIdentity
from training.service.click_log import ClickLog, LogRow
from training.service.log_owner import LogOwner

FOLDER = Path(__file__).parent / "click-log-v2"
WRITTEN_S = 1_700_000_000.25


def main() -> None:
    """Write clicks of two partitions: of records with several clicks, with and without an id."""
    log = ClickLog(FOLDER, lambda: WRITTEN_S)
    log.claim(LogOwner("shop", TopicIdentity("clicks", "id", 2)))
    log.append(0, 0, 1, [LogRow(offset, Click("Zoë", f"item-{offset}", 1_000 + offset, 0)) for offset in range(2)])
    log.append(0, 2, 4, [])
    clicks = [
        (5, Click("user-1", "élan", 2_000, 1, 1)),
        (5, Click("user-1", "élan", 2_001, 1, 2**32 - 1)),
        (7, Click("user-2", "élan", 1_500, 255)),
    ]
    log.append(1, 5, 7, [LogRow(*click) for click in clicks])


if __name__ == "__main__":
    main()
