"""Trains and judges several models on the same data, some of them with several seeds."""

from collections.abc import Callable, Mapping, Sequence

from nextclick.settings import Settings
from training.evaluation.data import OfflineData
from training.evaluation.models import MODELS, Parameters
from training.evaluation.outcome import Outcome, run
from training.evaluation.recommender import Recommender
from training.learning.cancellation import Cancellation


def run_models(
    names: Sequence[str],
    presets: Mapping[str, Parameters],
    settings: Settings,
    seeds: Sequence[int],
    data: OfflineData,
    cancellation: Cancellation,
    tell: Callable[[str, Recommender, Outcome], None],
) -> dict[str, list[Outcome]]:
    """Run models one after another.

    Args:
        names: of the models, in `MODELS`.
        presets: parameters by model name, where they differ from the defaults.
        settings: of everything else.
        seeds: a model that depends on the seed runs once with each, others once.
        data: what all of them see.
        cancellation: can end it.
        tell: is called after each run, with what it was, what was trained and how it went.

    Returns:
        The outcomes of each model, by seed.

    Raises:
        TrainingCancelled: the end was requested.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for name in names:
        outcomes[name] = []
        for seed in seeds if MODELS[name].is_seeded else seeds[:1]:
            parameters = {**presets.get(name, {}), **({"seed": seed} if MODELS[name].is_seeded else {})}
            title = f"{name}, seed {seed}" if MODELS[name].is_seeded and len(seeds) > 1 else name
            recommender = MODELS[name].make(settings, parameters)
            outcome = run(recommender, data, title, cancellation)
            tell(title, recommender, outcome)
            outcomes[name].append(outcome)
    return outcomes
