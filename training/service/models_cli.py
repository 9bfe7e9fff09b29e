"""The command `nextclick models`."""

from typing import Any, Literal

import click

from nextclick.settings import Settings
from tools.options import settings_options
from training.service.models_text import manifest_lines, percent, standing_lines, state_lines, time_text, uses_of


class _Share(click.ParamType):
    """A share of the users: `5%` or `0.05`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"expected a share such as 5% or 0.05, found {text!r}", param, ctx)
        if not 0 < share <= 1:
            self.fail(f"expected more than nothing and at most 100%, found {text}", param, ctx)
        return share


_share = click.option("--share", type=_Share(), help="Of the users, as 5%.  [default: setting canary_share]")
_pin = click.option("--pin", is_flag=True, help="And keep it: the trainer announces nothing until `unpin`.")


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """Look at bundles, and decide which one answers whom.

    \b
    The trainer makes bundles; the one that was announced last is the champion, and answers everybody. Another one can
    be tried beside it:
      nextclick models list                     the bundles that are there, and what they are used for
      nextclick models canary 1f0c --share 5%   5% of the users get it; updates name their `variant`
      nextclick models status                   how it stands: hits and MRR of both, with confidence
      nextclick models promote                  it becomes the champion
      nextclick models stop                     everybody gets the champion again

    A canary that is significantly worse is rolled back by the trainer by itself. A shadow answers nobody and is only
    counted. `rollback` goes back to the champion before; `pin` keeps the champion whatever the trainer learns.

    An id may be cut short, as long as one bundle alone begins so. Without a command: `status`.
    """
    if context.invoked_subcommand is None:
        context.invoke(status)


@models.command()
@settings_options
def status(settings: Settings) -> None:
    """Say what is the champion, and how the experiment stands, if there is one."""
    operator = _operator(settings)
    state = operator.state()
    for line in state_lines(state):
        click.echo(line)
    if state.experiment is not None:
        for line in standing_lines(state.experiment, operator.standing(state.experiment)):
            click.echo(line)


@models.command("list")
@settings_options
def list_bundles(settings: Settings) -> None:
    """List the bundles that are there, the newest first, and what they are used for."""
    operator = _operator(settings)
    state, found = operator.state(), operator.bundles()
    known = found | ({state.champion_id: state.champion} if state.champion is not None else {})
    click.echo(f"{'bundle':16}  {'made':16}  {'recall@20':>9}  {'parent':16}  used as")
    for bundle_id, manifest in known.items():
        uses = uses_of(state, bundle_id) + ([] if bundle_id in found else ["not below bundle_dir!"])
        recall = manifest.metrics.get("recall@20")
        text = f"{recall:.4f}" if recall is not None else ""
        made, used = time_text(manifest.created_ms), ", ".join(uses)
        click.echo(f"{bundle_id:16}  {made}  {text:>9}  {manifest.parent:16}  {used}".rstrip())


@models.command()
@click.argument("bundle", metavar="[ID]", default="")
@settings_options
def show(settings: Settings, bundle: str) -> None:
    """Show all that a bundle's manifest says, and what was done to it. Without an ID: of the champion."""
    operator = _operator(settings)
    state = operator.state()
    manifest = operator.find(bundle or state.champion_id)
    for line in manifest_lines(manifest):
        click.echo(line)
    uses = uses_of(state, manifest.bundle_id)
    click.echo(f"used as    {', '.join(uses) or 'nothing'}")
    for change in state.history:
        if change.bundle_id == manifest.bundle_id:
            reason = f": {change.reason}" if change.reason else ""
            click.echo(f"{time_text(change.at_ms)}  {change.what}{reason}")


@models.command()
@click.argument("bundle", metavar="[ID]", default="")
@_pin
@settings_options
def promote(settings: Settings, bundle: str, pin: bool) -> None:
    """Make a bundle the champion. Without an ID: the one on trial. An experiment ends with it."""
    operator = _operator(settings)
    state = operator.state()
    if not bundle and state.experiment is None:
        raise click.UsageError("no bundle is on trial: name the one that is to be the champion")
    wanted = bundle or (state.experiment.bundle_id if state.experiment is not None else "")
    manifest = operator.find(wanted)
    before = operator.promote(manifest, pin=pin)
    click.echo(f"{manifest.bundle_id} is the champion{' and pinned' if pin else ''}; workers serve it within seconds")
    _say_not_serving(operator, before, manifest)


@models.command()
@_pin
@settings_options
def rollback(settings: Settings, pin: bool) -> None:
    """Go back to the champion before this one. An experiment ends with it.

    The trainer goes on from there, and its next bundle can be like the one that was rolled back: `--pin` keeps it from
    announcing any.
    """
    manifest = _operator(settings).roll_back(pin=pin)
    click.echo(f"{manifest.bundle_id} is the champion again{' and pinned' if pin else ''}")


@models.command()
@click.argument("bundle", metavar="[ID]", default="")
@settings_options
def pin(settings: Settings, bundle: str) -> None:
    """Keep the champion: the trainer announces nothing until `unpin`. With an ID: make that one the champion first."""
    operator = _operator(settings)
    if bundle and operator.state().champion_id != (manifest := operator.find(bundle)).bundle_id:
        before = operator.promote(manifest, pin=True)
        click.echo(f"{manifest.bundle_id} is the champion and pinned")
        _say_not_serving(operator, before, manifest)
        return
    click.echo(f"{operator.pin()} is pinned")


@models.command()
@settings_options
def unpin(settings: Settings) -> None:
    """Let the trainer announce bundles again."""
    click.echo(f"{_operator(settings).unpin()} is not pinned any more")


@models.command()
@click.argument("bundle", metavar="ID")
@_share
@click.option(
    "--promote",
    "promotion",
    type=click.Choice(["never", "better", "not_worse"]),
    help="When it becomes the champion by itself.  [default: setting canary_promote]",
)
@click.option("--clicks", type=click.IntRange(100), help="Judged clicks until then.  [default: setting canary_clicks]")
@settings_options
def canary(
    settings: Settings,
    bundle: str,
    share: float | None,
    promotion: Literal["never", "better", "not_worse"] | None,
    clicks: int | None,
) -> None:
    """Try a bundle on a share of the users, chosen by a hash of their ids.

    It is rolled back by itself as soon as hits or MRR are significantly worse than the champion's: in fewer than 5% of
    trials of a bundle that is as good. That is for a running trainer to do; while none is, `nextclick models status`
    says how it stands.
    """
    from training.service.operator import Trial

    operator = _operator(settings)
    promotion = promotion or settings.canary_promote
    trial = Trial("canary", share or settings.canary_share, promotion, clicks or settings.canary_clicks)
    experiment = operator.try_out(operator.find(bundle), trial)
    then = {
        "never": "it stays one until `nextclick models promote` or `stop`",
        "better": f"it is promoted when it is significantly better, and ended after {trial.max_judged:,} judged clicks",
        "not_worse": f"it is promoted after {trial.max_judged:,} judged clicks, or when it is significantly better",
    }
    click.echo(
        f"{experiment.bundle_id} answers {percent(experiment.share)} of the users, the champion {experiment.champion} "
        f"the others; rolled back when it is significantly worse, else {then[promotion]}"
    )


@models.command()
@click.argument("bundle", metavar="ID")
@_share
@settings_options
def shadow(settings: Settings, bundle: str, share: float | None) -> None:
    """Make a bundle's lists for a share of the users beside the champion's, send none, and count how they would do.

    Both are compared on the same clicks, so a difference is certain after fewer of them than with a canary. It costs
    workers the share of the time that lists take.
    """
    from training.service.operator import Trial

    operator = _operator(settings)
    trial = Trial("shadow", share or settings.canary_share, "never", settings.canary_clicks)
    experiment = operator.try_out(operator.find(bundle), trial)
    share_text = percent(experiment.share)
    click.echo(f"{experiment.bundle_id} shadows {share_text} of the users; `nextclick models status` says how it does")


@models.command()
@settings_options
def stop(settings: Settings) -> None:
    """End the experiment: the champion answers everybody."""
    experiment = _operator(settings).stop()
    click.echo(f"the {experiment.kind} {experiment.bundle_id} has ended; the champion answers everybody")


def _say_not_serving(operator: Any, before: Any, manifest: Any) -> None:
    """Say of a bundle that was on trial, and is the champion now, how many workers could not load it."""
    from nextclick.errors import NextclickError

    if before.experiment is None or before.experiment.manifest != manifest:
        return
    try:
        n_workers = operator.standing(before.experiment).not_serving
    except NextclickError as error:  # it is the champion all the same
        click.echo(f"whether all workers can load it is not known: {error}")
        return
    if n_workers:
        click.echo(
            f"{n_workers} of the workers cannot load it, see their logs: they go on with "
            f"{before.champion_id or 'popularity'}, and try again every minute"
        )


def _operator(settings: Settings) -> Any:
    from training.service.operator import Operator

    return Operator(settings)
