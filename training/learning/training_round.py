"""One round of training: learn all but the newest clicks, judge what came of it on these, and learn them, too.

Knows neither broker nor clock nor where bundles are kept: it gets clicks and the champion, and gives a network and
figures. Whether that network is published is for the caller to decide.
"""

from typing import NamedTuple

import numpy as np

from nextclick.manifest import Manifest
from nextclick.network import Network
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.cancellation import Cancellation
from training.learning.checkpoint import Checkpoint
from training.learning.continual import Continued, continue_fit, fit_anew
from training.learning.fit import Fitted
from training.learning.judgement import Judgement
from training.learning.judging import Contender, Judging, item_index_in
from training.learning.lead import Leads, leads_of
from training.learning.round_clicks import RoundClicks, chosen_clicks
from training.learning.sequences import ClickColumns, group_by_user
from training.learning.training_data import TrainingData

_CLICKS_METRIC = "clicks"  # in a manifest: what the bundle was trained on
_LEAST_JUDGING = 500  # new clicks judge a bundle, or half of them: of fewer, chance decides


class Champion(NamedTuple):
    """The bundle in use, the one that `models` announced last, loaded."""

    manifest: Manifest
    network: Network
    vocabulary: Vocabulary

    @property
    def contender(self) -> Contender:
        """What the next network is compared with."""
        return Contender(self.network, self.vocabulary)


class Round(NamedTuple):
    """What came out of a round.

    Attributes:
        made: the new network and its checkpoint. They have learnt all clicks of the round, unless that broke something.
        n_judging: the newest clicks, which judged the network before it learnt them.
        has_learnt_all: whether it has learnt them.
        fitted: how the fit went.
        judgement: how good the new network was, by the clicks that it had not seen.
    """

    made: Continued
    n_judging: int
    has_learnt_all: bool
    fitted: Fitted
    judgement: Judgement

    @property
    def n_clicks(self) -> int:
        """Clicks that were learnt, back to the round that began from nothing."""
        return self.made.checkpoint.items.n_log_clicks

    def metrics(self) -> dict[str, float]:
        """The figures for the bundle's manifest."""
        figures: dict[str, float] = {
            _CLICKS_METRIC: self.n_clicks,
            "clicks_per_s": round(self.fitted.clicks_per_s),
            "epochs": self.fitted.epochs,
        }
        return figures | self.judgement.metrics()


def train_round(data: TrainingData, champion: Champion | None, settings: Settings, cancellation: Cancellation) -> Round:
    """Train a network from nothing. Takes minutes.

    Args:
        data: the clicks.
        champion: is compared with, by clicks that it has not learnt either.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    clicks = data.clicks
    n_all = len(clicks.item_index)
    n_train = n_all - _n_judging(data, champion, settings)
    # Nothing of the newest clicks is seen, not even how popular their items are.
    made = fit_anew(clicks.take(slice(n_train)), settings, cancellation)
    newest = _newest(clicks, n_all - data.n_recent, n_all - n_train, settings)
    return _judged(made, newest, champion, None, settings, cancellation)


def continue_round(
    checkpoint: Checkpoint, data: RoundClicks, champion: Champion, settings: Settings, cancellation: Cancellation
) -> Round:
    """Go on from the champion. Takes seconds, and longer with more new clicks.

    Args:
        checkpoint: of the champion.
        data: the clicks.
        champion: is compared with; it has seen none of the new clicks.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    clicks = data.clicks
    n_judging = min(max(int(data.n_new * settings.validation_share), _LEAST_JUDGING), data.n_new // 2)
    n_train = len(clicks.item_index) - n_judging
    made = continue_fit(
        checkpoint, RoundClicks(clicks.take(slice(n_train)), data.n_new - n_judging), settings, cancellation
    )
    newest, leads = _newest(clicks, 0, n_judging, settings), leads_of(champion.manifest.metrics)
    return _judged(made, newest, champion, leads, settings, cancellation)


def _n_judging(data: TrainingData, champion: Champion | None, settings: Settings) -> int:
    """Say how many of the newest clicks judge: of those that the champion has learnt it would know the answers.

    Where it has learnt all of them, they judge all the same: it is replaced by what is clearly better only.
    """
    n_usual = int(data.n_recent * settings.validation_share)
    n_new = data.n_behind(champion.manifest.log_range) if champion is not None else n_usual
    return min(n_usual, n_new) or n_usual


class _Newest(NamedTuple):
    """The newest clicks of a round.

    Attributes:
        judged_by: behind all other clicks of the round.
        learnt: behind those of their users, and a sample of others that is learnt again.
    """

    judged_by: RoundClicks
    learnt: RoundClicks


def _newest(clicks: ClickColumns, n_older: int, n_newest: int, settings: Settings) -> _Newest:
    rng = np.random.default_rng(settings.seed)
    return _Newest(RoundClicks(clicks, n_newest), chosen_clicks(clicks, n_older, n_newest, settings.recent_clicks, rng))


def _judged(
    made: Continued,
    newest: _Newest,
    champion: Champion | None,
    leads: Leads | None,
    settings: Settings,
    cancellation: Cancellation,
) -> Round:
    """Judge by the newest clicks, and then learn them: what was judged good knows them when it is served.

    What has learnt them is looked at once more: it must know them at least as well as before.

    Args:
        made: has learnt all but the newest clicks.
        newest: these.
        champion: is compared with.
        leads: of the champion, where the new network goes on from it.
        settings: of the trainer.
        cancellation: asked after every batch.
    """
    judging = _judging(made, newest.judged_by, settings)
    contender = Contender(made.network, made.vocabulary)
    judgement = judging.judgement(contender, champion and champion.contender, leads, cancellation)
    goes_on = newest.learnt.n_new > 0 and contender.is_finite
    final = continue_fit(made.checkpoint, newest.learnt, settings, cancellation) if goes_on else made
    learnt = Contender(final.network, final.vocabulary)
    is_sound = learnt.is_finite and judging.recall(learnt, cancellation) >= judgement.new.recall
    return Round(final if is_sound else made, newest.judged_by.n_new, is_sound, made.fitted, judgement)


def _judging(made: Continued, data: RoundClicks, settings: Settings) -> Judging:
    """Let popularity be that of all items, whichever are among the clicks."""
    vocabulary, clicks = made.vocabulary, data.clicks
    there = set(clicks.item_ids)
    ids = [*clicks.item_ids, *(item_id for item_id in vocabulary.item_ids if item_id not in there)]
    clicks = clicks._replace(item_ids=ids)
    row = item_index_in(vocabulary, clicks)
    popularity = np.where(row >= 0, vocabulary.popularity[row], 0.0)
    return Judging(clicks, group_by_user(clicks), data.n_old, popularity, settings)
