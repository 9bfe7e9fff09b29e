"""`python -m tests.game_day`: starts everything with Prometheus, lets six things go wrong, prints what fired when."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from tests.drawn_dashboards import DASHBOARDS, draw
from tests.game_day.application import START_S, Application, wait_for
from tests.game_day.incidents import INCIDENTS, OBJECTIVES, Outcome, play, run_normally, small_disk
from tests.local_prometheus import MISSING, PROMETHEUS

FACTOR, NORMAL_MINUTES = 6.0, 60.0
DRAWN_MINUTES = 15.0


def game_day(
    folder: Path, factor: float, normal_minutes: float, say: Callable[[str], None], pictures: Path | None = None
) -> list[Outcome]:
    """Run it.

    Args:
        folder: gets all data and logs.
        factor: how much faster time passes for the rules.
        normal_minutes: of the rules' time, before anything goes wrong.
        say: gets a line for each outcome.
        pictures: folder that gets the dashboards as they then are.

    Raises:
        TimeoutError: the application does not start, or does not come to rest.
    """
    outcomes: list[Outcome] = []
    with small_disk(folder / "disk") as can_fill, Application(folder, factor, folder / "disk" / "feed") as application:
        took_s = wait_for(
            lambda: application.value("sum(nextclick_bundle_created_timestamp_seconds > 0)"), "a first bundle", START_S
        )
        say(f"a bundle is served after {took_s:.0f} s; the rules' time passes {factor:g} times as fast")
        wait_for(lambda: not application.prometheus.firing() - OBJECTIVES, "quiet after the start", START_S)
        outcomes.append(run_normally(application, normal_minutes))
        say(line(outcomes[-1], factor))
        for incident in INCIDENTS:
            if incident.alert == "NextclickDiskFills" and not can_fill:
                say(f"{incident.name}: left out, a disk of its own takes root")
                continue
            outcomes.append(play(application, incident))
            say(line(outcomes[-1], factor))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for path in DASHBOARDS:
                draw(
                    application.prometheus, path, application.settings.app, DRAWN_MINUTES, pictures / f"{path.stem}.png"
                )
    return outcomes


def line(outcome: Outcome, factor: float) -> str:
    """An outcome in a line: seconds of the machine, and what they are in the rules' own time."""
    fired = [
        f"{alert} after {s:.0f} s (of {s * factor / 60:.1f} min)"
        for alert, s in sorted(outcome.fired.items(), key=lambda item: item[1])
    ]
    return f"{'ok   ' if outcome.is_right else 'WRONG'} {outcome.name}: {', '.join(fired) or 'nothing fired'}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--factor", default=FACTOR, show_default=True, help="How much faster time passes for the rules.")
@click.option(
    "--normal-minutes", default=NORMAL_MINUTES, show_default=True, help="Of the rules' time, before the rest."
)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and data in this folder.")
@click.option(
    "--draw", "pictures", type=click.Path(file_okay=False, path_type=Path), help="Draw the dashboards into this folder."
)
def main(factor: float, normal_minutes: float, keep: Path | None, pictures: Path | None) -> None:
    """Start broker, workers, trainer, feed and Prometheus, let six things go wrong, and say which alert fired when.

    Exit status 1 if an alert did not fire, or another one did.
    """
    if PROMETHEUS is None:
        raise click.ClickException(MISSING)
    with tempfile.TemporaryDirectory(prefix="nextclick-game-day-") as temporary:
        outcomes = game_day(keep or Path(temporary), factor, normal_minutes, click.echo, pictures)
    sys.exit(not all(outcome.is_right for outcome in outcomes))


if __name__ == "__main__":
    main()
