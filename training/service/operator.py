"""What a person does to the models: each as one call, which checks the bundle and writes to the topic `models`."""

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Literal, NamedTuple

import msgspec
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry

from nextclick.errors import BundleError, PermanentError, TemporaryError
from nextclick.experiment import Experiment, Promotion
from nextclick.experiment_judgement import Standing, standing
from nextclick.manifest import Manifest
from nextclick.models_state import ModelsState, Records
from nextclick.settings import Settings
from tools.tallies import Tallies, refuse_without_tallies
from training.learning.cancellation import NEVER_CANCELLED
from training.service import models_changes
from training.service.bundle_store import BundleStore
from training.service.metrics import TrainerMetrics
from training.service.models_changes import Moment
from training.service.models_topic import ModelsTopic

_ANSWER_S = 10.0
_READ_S = 0.5


class Trial(NamedTuple):
    """How a bundle is to be tried.

    Attributes:
        kind: `canary` or `shadow`.
        share: of the users.
        promote: when it becomes the champion by itself.
        max_judged: judged clicks after which a decision is due.
    """

    kind: Literal["canary", "shadow"]
    share: float
    promote: Promotion
    max_judged: int


class Operator:
    """One person at the command line. Every call blocks until the brokers have it."""

    def __init__(self, settings: Settings) -> None:
        """Do nothing yet."""
        self._settings = settings
        self._models = ModelsTopic(settings, TrainerMetrics(CollectorRegistry()), NEVER_CANCELLED)
        # A note of its own: the trainer writes another, of what it knows.
        self._store = BundleStore.of(settings, f"{settings.app}+models")

    def state(self) -> ModelsState:
        """Give what holds now."""
        return self._models.read()

    def bundles(self) -> dict[str, Manifest]:
        """Give the bundles that are there, the newest first."""
        return self._store.manifests()

    def find(self, name: str) -> Manifest:
        """Give the bundle with this id, or whose id alone begins so.

        Raises:
            PermanentError: there is none, or several.
        """
        found = self.bundles()
        matching = [bundle_id for bundle_id in found if name and bundle_id.startswith(name)]
        if len(matching) != 1:
            several = f"{len(matching)} bundles begin so: {', '.join(matching)}"
            place = self._settings.bundle_store or self._settings.bundle_dir
            none = f"there is none below {place}; `nextclick models list` shows those that are"
            raise PermanentError(f"expected the id of a bundle, found {name!r}: {several if matching else none}")
        return found[matching[0]]

    def standing(self, experiment: Experiment) -> Standing:
        """Give how an experiment stands.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: the topic of tallies is not there, or may not be read.
        """
        end_s = time.monotonic() + _ANSWER_S
        try:
            with closing(Tallies(self._settings, experiment)) as tallies:
                while not tallies.is_at_end:
                    counted = tallies.read(_READ_S)
                    if time.monotonic() > end_s and not tallies.is_at_end:
                        raise TemporaryError(f"the broker at {self._settings.broker} does not answer")
                return standing(experiment, counted, _now().now_ms)
        except KafkaException as error:
            raise PermanentError(f"topic {self._settings.tallies_topic}: {error.args[0].str()}") from error

    def promote(self, manifest: Manifest, *, pin: bool) -> ModelsState:
        """Make a bundle the champion; gives what held before."""
        self._check(manifest)
        moment = _now()
        return self._change(lambda state: models_changes.promote(state, manifest, moment, pin=pin), manifest)

    def roll_back(self, *, pin: bool) -> Manifest:
        """Make the champion before this one the champion again; gives it.

        Raises:
            PermanentError: none is known, or its bundle is not there any more.
        """
        former = self.state().former_champions()
        if not former:
            raise PermanentError(
                "no champion before this one is known; `nextclick models list` shows the bundles that are there, and "
                "`nextclick models promote ID` makes one the champion"
            )
        manifest = self.find(former[0])
        self._check(manifest)
        moment = _now()
        self._change(lambda state: models_changes.roll_back(state, manifest, moment, pin=pin), manifest)
        return manifest

    def pin(self) -> str:
        """Keep the champion; gives its id."""
        moment = _now()
        return self._models.change(lambda state: models_changes.pin(state, moment), "the pin", None).champion_id

    def unpin(self) -> str:
        """Let the trainer announce again; gives the champion's id."""
        moment = _now()
        return self._models.change(
            lambda state: models_changes.unpin(state, moment), "the end of the pin", None
        ).champion_id

    def try_out(self, manifest: Manifest, trial: Trial) -> Experiment:
        """Try a bundle on some users.

        Raises:
            PermanentError: it cannot be; the message says why.
        """
        refuse_without_tallies(self._settings)
        self._check(manifest)
        experiment = Experiment(
            experiment_id=uuid.uuid4().hex,
            kind=trial.kind,
            manifest=manifest,
            champion="",
            share=trial.share,
            started_ms=_now().now_ms,
            promote=trial.promote,
            max_judged=trial.max_judged,
        )
        before = self._change(lambda state: models_changes.begin(state, experiment), manifest)
        return msgspec.structs.replace(experiment, champion=before.champion_id)

    def stop(self) -> Experiment:
        """End the experiment; gives it."""
        moment = _now()
        before = self._models.change(
            lambda state: models_changes.stop(state, moment), "the end of the experiment", None
        )
        assert before.experiment is not None  # else it was refused
        return before.experiment

    def _change(self, decide: Callable[[ModelsState], Records], manifest: Manifest) -> ModelsState:
        return self._models.change(decide, f"bundle {manifest.bundle_id}", None)

    def _check(self, manifest: Manifest) -> None:
        """Check a bundle's files, and keep it from being removed.

        Raises:
            BundleError: it is not whole.
        """
        from nextclick.bundle import verify_bundle

        self._store.note_in_use(self.state().in_use() | {manifest.bundle_id})
        self._store.fetch(manifest)
        if verify_bundle(self._settings.bundle_dir / manifest.bundle_id) != manifest:
            raise BundleError(f"bundle {manifest.bundle_id} was changed meanwhile; look at it again")


def _now() -> Moment:
    return Moment(time.time_ns() // 1_000_000)
