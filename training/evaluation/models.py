"""The models that can be evaluated, by name, and what can be set in each."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.evaluation.baselines.item_pairs import Association, MarkovChain
from training.evaluation.baselines.popularity import Popularity, SessionPopularity
from training.evaluation.baselines.session_neighbours import SessionKnn, Stan
from training.evaluation.recommender import Recommender

Value = float | int | str | bool | None
Parameters = Mapping[str, Value]

# What the network reads of the settings: what a preset can give and what is written beside its figures. The seed is
# none of them: an evaluation may run with several.
NETWORK_SETTINGS = (
    "cell",
    "hidden_size",
    "tied",
    "skip",
    "normalised",
    "neighbours",
    "loss",
    "epochs",
    "batch_windows",
    "learning_rate",
    "dropout",
    "feature_dropout",
    "negatives",
    "negatives_power",
    "recent_clicks",
    "device",
)


class Model(NamedTuple):
    """How to make a recommender.

    Attributes:
        make: from the settings, and from parameters that differ from their defaults.
        parameters: all that can be given, with the values that they have otherwise.
        is_seeded: whether it is a network: the seed makes a difference, and its parameters are settings.
        fixed: those of the parameters that are always as they are.
    """

    make: Callable[[Settings, Parameters], Recommender]
    parameters: Callable[[Settings], dict[str, Value]]
    is_seeded: bool = False
    fixed: tuple[str, ...] = ()


def _counting(kind: Callable[..., Recommender], **given: Value) -> Model:
    """Make the entry of a baseline, whose parameters are the fields of its class."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kind) if field.init} | given  # type: ignore[arg-type]
    return Model(lambda _, parameters: kind(**{**given, **parameters}), lambda _: defaults)


def _network(**given: Value) -> Model:
    """Make the entry of a network, with settings that this entry fixes."""

    def make(settings: Settings, parameters: Parameters) -> Recommender:
        from training.evaluation.network_recommender import NetworkRecommender  # torch takes seconds to load

        changed: dict[str, Any] = {**parameters, **given}
        return NetworkRecommender(dataclasses.replace(settings, **changed))

    def parameters(settings: Settings) -> dict[str, Value]:
        return {name: getattr(settings, name) for name in NETWORK_SETTINGS} | given

    return Model(make, parameters, is_seeded=True, fixed=tuple(given))


# Every cell with every loss, alone: what each is worth. Only compared when they are asked for.
_CELLS_AND_LOSSES = {
    f"{cell}-{loss}": _network(neighbours=0, cell=cell, loss=loss)
    for cell in ("gru", "lstm", "rnn")
    for loss in ("cross_entropy", "bpr_max", "binary")
}
MODELS = {
    "popularity": _counting(Popularity),
    "recent-popularity": _counting(Popularity, half_life=0.02),
    "session-popularity": _counting(SessionPopularity),
    "session-recency": _counting(SessionPopularity, newest_first=True),
    "association": _counting(Association),
    "markov-chain": _counting(MarkovChain),
    "session-knn": _counting(SessionKnn),
    "stan": _counting(Stan),
    "network": _network(),
    "network-alone": _network(neighbours=0),
    **_CELLS_AND_LOSSES,
}


USUAL_MODELS = [name for name in MODELS if name not in _CELLS_AND_LOSSES]


def model_names(text: str, known: Collection[str] = MODELS.keys()) -> list[str]:
    """Read names with commas between them.

    Args:
        text: the names.
        known: which there are.

    Raises:
        PermanentError: one that is not known, or that stands there twice.
    """
    names = [name.strip() for name in text.split(",")]
    for number, name in enumerate(names):
        if name not in known:
            raise PermanentError(f"--models: there is no model {name!r}; choose some of {', '.join(known)}")
        if name in names[:number]:
            raise PermanentError(f"--models names {name!r} twice; remove one of them")
    return names
