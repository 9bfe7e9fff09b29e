"""Judges canaries in the trainer: follows what workers count, and rolls back, promotes or ends by itself.

A thread of its own, beside logging and training. While the trainer is away nothing is decided: the canary goes on with
its share of the users, `nextclick models status` says how it stands, and a person can end it.
"""

import logging
import time
from collections.abc import Sequence
from threading import Event, Thread

from confluent_kafka import KafkaException

from nextclick.errors import BundleError, NextclickError
from nextclick.experiment import Experiment, Tally
from nextclick.experiment_judgement import Decision, Standing, decide, in_words, standing
from nextclick.models_state import ModelsState
from nextclick.settings import Settings
from tools.followed_topic import FollowedTopic
from tools.tallies import Tallies
from training.learning.cancellation import TrainingCancelled
from training.service.metrics import TrainerMetrics
from training.service.models_changes import Moment, carry_out
from training.service.models_topic import ModelsTopic
from training.service.trainer_role import TrainerRole

_READ_S = 0.5  # two topics are read in turn
_AGAIN_S = 5.0  # after a failure
_log = logging.getLogger(__name__)


class ExperimentWatch:
    """Watches the experiment that runs, if any."""

    def __init__(self, settings: Settings, models: ModelsTopic, role: TrainerRole, metrics: TrainerMetrics) -> None:
        """Do nothing yet.

        Args:
            settings: of the trainer.
            models: is written to.
            role: must be held to decide.
            metrics: count decisions.
        """
        self._settings = settings
        self._models = models
        self._role = role
        self._metrics = metrics
        self._stop = Event()
        self._thread = Thread(target=self._run, name="experiments", daemon=True)
        self._said = self._decided = ""

    def start(self) -> None:
        """Begin; does not block."""
        self._thread.start()

    def stop(self) -> None:
        """End; does not block. A decision that is being written is given up with the models topic."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except TrainingCancelled:
                return
            except (NextclickError, KafkaException) as error:
                self._say(f"experiments are not judged for the moment: {error}")
            except Exception as error:  # a mistake of ours: clicks are logged and models trained all the same
                _log.error("judging experiments failed, and is tried again", exc_info=error)
            self._stop.wait(_AGAIN_S)

    def _follow(self) -> None:
        models, state = FollowedTopic(self._settings, self._settings.models_topic), ModelsState()
        tallies: Tallies | None = None
        watched: Experiment | None = None
        try:
            while not self._stop.is_set():
                for message in models.read(_READ_S):
                    try:
                        state = state.after((message.key() or b"").decode(errors="replace"), message.value())
                    except BundleError:  # is said by whoever announces over it
                        continue
                if not models.is_at_end:
                    continue
                if state.experiment != watched:
                    watched = state.experiment
                    if tallies is not None:
                        tallies.close()
                    tallies = Tallies(self._settings, watched) if watched is not None else None
                if watched is not None and tallies is not None:
                    counted = tallies.read(_READ_S)
                    if tallies.is_at_end:
                        self._judge(watched, counted)
        finally:
            models.close()
            if tallies is not None:
                tallies.close()

    def _judge(self, experiment: Experiment, counted: Sequence[Tally]) -> None:
        now = standing(experiment, counted, time.time_ns() // 1_000_000)
        decision = decide(experiment, now)
        if decision is Decision.WAIT:
            self._say(
                f"the canary {experiment.bundle_id} is to be promoted, but {now.not_serving} of the workers cannot "
                "load it, see their logs; it waits until they can, or are gone"
            )
        if not decision.ends or experiment.experiment_id == self._decided:
            return
        self._role.membership()
        self._carry_out(experiment, decision, now)

    def _carry_out(self, experiment: Experiment, decision: Decision, now: Standing) -> None:
        moment = Moment(time.time_ns() // 1_000_000, in_words(now))
        what = f"the end of the canary {experiment.bundle_id}"
        self._models.change(lambda state: carry_out(state, experiment, decision, moment), what, self._role)
        self._decided = experiment.experiment_id
        self._metrics.canaries.labels(decision.value).inc()
        fields = {"bundle": experiment.bundle_id, "champion": experiment.champion, "share": experiment.share}
        _log.warning("canary: %s, for it is %s", decision.value, moment.reason, extra={"fields": fields})

    def _say(self, text: str) -> None:
        """Say what is wrong, once for as long as it lasts."""
        if text != self._said:
            self._said = text
            _log.warning("%s", text)
