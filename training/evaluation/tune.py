"""Searches hyper-parameters with Optuna, on a validation part of the training clicks only."""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.evaluation.figures import METRICS, gains
from training.evaluation.models import MODELS, Parameters, Value
from training.evaluation.offline_data import OfflineData
from training.evaluation.runs import run

if TYPE_CHECKING:
    from optuna import Trial


class Between(NamedTuple):
    """A number of a range, whole if both ends are; on a logarithmic scale if that is wanted."""

    low: float
    high: float
    log: bool = False


class OneOf(NamedTuple):
    """One of a few values."""

    values: tuple[Value, ...]


# What is searched. The defaults of each model lie in it: they are the first trial. It grows to hold another start.
SEARCH: dict[str, dict[str, Between | OneOf]] = {
    "network": {
        "hidden_size": OneOf((64, 128, 192, 256)),
        "learning_rate": Between(0.005, 0.08, log=True),
        "dropout": Between(0.0, 0.7),
        "feature_dropout": Between(0.0, 0.5),
        "epochs": Between(1, 8),
        "batch_windows": OneOf((16, 32, 48, 96, 192)),
        "negatives": OneOf((2_048, 4_096, 8_192, 16_384)),
        "negatives_power": Between(0.0, 1.0),
        "loss": OneOf(("cross_entropy", "binary")),
    },
    "recent-popularity": {"half_life": Between(0.001, 1.0, log=True)},
    "session-knn": {
        "k": Between(50, 2_000, log=True),
        "sample_size": Between(500, 10_000, log=True),
        "place_power": Between(0.0, 3.0),
        "match_power": Between(0.0, 3.0),
        "idf_weight": Between(0.0, 10.0),
    },
    "stan": {
        "k": Between(50, 2_000, log=True),
        "sample_size": Between(500, 10_000, log=True),
        "place_decay": Between(0.3, 10.0, log=True),
        "age_decay": Between(0.02, 5.0, log=True),
        "distance_decay": Between(0.3, 20.0, log=True),
    },
}


class Tried(NamedTuple):
    """A trial: its parameters, and recall@20 and MRR@20 with them on the validation part."""

    parameters: Parameters
    recall: float
    mrr: float


class Tuned(NamedTuple):
    """Where a search stands.

    Attributes:
        n_trials: how many were made.
        first: the values from which the search began.
        last: the newest trial.
        best: the one with the highest sum of recall and MRR.
    """

    n_trials: int
    first: Tried
    last: Tried
    best: Tried


def require_search(names: list[str], presets: Mapping[str, Parameters], settings: Settings) -> None:
    """See that models can be tuned, before any work.

    Raises:
        PermanentError: one of them has nothing to tune or no place to begin, or Optuna is not installed.
    """
    for name in names:
        if name not in SEARCH:
            raise PermanentError(
                f"--tune: {name!r} has no parameters to tune; choose --models among {', '.join(SEARCH)}"
            )
        search_space(name, {**MODELS[name].parameters(settings), **presets.get(name, {})})
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise PermanentError(
            "--tune needs Optuna, which is not installed; run pip install 'nextclick[evaluate]'"
        ) from None


def search_space(name: str, start: Parameters) -> dict[str, Between | OneOf]:
    """Give what is searched of a model, with the values from which the search begins in it.

    Raises:
        PermanentError: it would begin at 0 on a logarithmic scale.
    """
    return {parameter: _holding(parameter, among, start[parameter]) for parameter, among in SEARCH[name].items()}


def _holding(parameter: str, among: Between | OneOf, start: Value) -> Between | OneOf:
    if isinstance(among, OneOf):
        return among if start in among.values else OneOf((*among.values, start))
    if not isinstance(start, int | float):
        raise TypeError(f"{parameter} is {start!r}, which is not a number")
    if among.log and start <= 0:
        raise PermanentError(
            f"--tune: the search cannot begin with {parameter}={start}; give more than 0 with --set or in the preset"
        )
    return among._replace(low=min(among.low, start), high=max(among.high, start))


def _kept(name: str, settings: Settings) -> dict[str, Value]:
    """Give the settings that a preset must hold to give a trial's figures again: where it computes is none of them."""
    usual = MODELS[name].parameters(Settings())
    found = MODELS[name].parameters(settings).items()
    return {parameter: value for parameter, value in found if value != usual[parameter] and parameter != "device"}


def tune(
    name: str,
    given: Parameters,
    settings: Settings,
    validation: OfflineData,
    limits: "Limits",
) -> Iterator[Tuned]:
    """Search the parameters of one model; what is best is the sum of recall@20 and MRR@20.

    Args:
        name: of the model.
        given: parameters with which the search begins, and which it keeps where it does not search them.
        settings: of everything else, and the seed; a trial's parameters name those that are not the defaults.
        validation: whose `test` judges: a part of the training clicks.
        limits: when to end.

    Yields:
        After every trial, where the search stands; at least once.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began_s = time.monotonic()
    model, kept = MODELS[name], {**_kept(name, settings), **given}
    start = {**model.parameters(settings), **given}
    space = search_space(name, start)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=settings.seed % 2**32))
    study.enqueue_trial({parameter: start[parameter] for parameter in space})
    tried: list[Tried] = []
    while not tried or (len(tried) < limits.trials and time.monotonic() - began_s < limits.minutes * 60):
        trial = study.ask()
        parameters = {**kept, **{parameter: _suggest(trial, parameter, space[parameter]) for parameter in space}}
        title = f"{name}, trial {len(tried) + 1} of at most {limits.trials}"
        means = gains(run(model.make(settings, parameters), validation, title).rank).mean(axis=0)
        tried.append(Tried(parameters, float(means[METRICS.index("recall@20")]), float(means[METRICS.index("mrr@20")])))
        study.tell(trial, _quality(tried[-1]))
        yield Tuned(len(tried), tried[0], tried[-1], max(tried, key=_quality))


def _quality(trial: Tried) -> float:
    return trial.recall + trial.mrr


class Limits(NamedTuple):
    """When a search ends, whichever comes first; the trial that is under way is finished."""

    trials: int
    minutes: float


def _suggest(trial: "Trial", name: str, among: Between | OneOf) -> Value:
    if isinstance(among, OneOf):
        value: Value = trial.suggest_categorical(name, among.values)
        return value
    if isinstance(among.low, int) and isinstance(among.high, int):
        return trial.suggest_int(name, among.low, among.high, log=among.log)
    return trial.suggest_float(name, among.low, among.high, log=among.log)
