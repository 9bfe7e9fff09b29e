"""Writes what a worker has counted of a bundle on trial, so that whoever judges it can add up all workers.

A record holds all that this process has counted since it knows of the experiment, under a key of its own: one that is
lost is made up for by the next, and what a killed worker counted up to its last record stays. Uses confluent-kafka.
"""

import asyncio
import logging
import time
import uuid

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from nextclick.experiment import encode_tally, tally_key
from nextclick.settings import Settings
from stream.served_bundle import ServedBundle
from tools.client_config import producer_config

WRITE_EVERY_S = 2.0
NOT_SERVING_EVERY_S = 10.0  # so often for `nextclick.experiment_judgement.NOT_SERVING_MS` that one record may be lost
_SAY_EVERY_S = 60.0
_log = logging.getLogger(__name__)


class TallyWriter:
    """Writes to the topic of tallies while there is an experiment; without one it has no connection."""

    def __init__(self, settings: Settings, served: ServedBundle) -> None:
        """Do nothing yet.

        Args:
            settings: of the worker.
            served: has the bundle on trial.
        """
        self._settings = settings
        self._served = served
        self._worker = uuid.uuid4().hex  # a process, not a data folder: each begins to count at zero
        self._producer: Producer | None = None
        self._written: tuple[str, int, bool] | None = None
        self._written_s = 0.0
        self._said_s = -_SAY_EVERY_S

    async def write_regularly(self) -> None:
        """Write every few seconds, for ever."""
        while True:
            self.write()
            await asyncio.sleep(WRITE_EVERY_S)

    def write(self) -> None:
        """Write what was counted, if that is more than before. Does not block.

        That the bundle cannot be loaded is said again and again: a worker that is gone holds up no promotion.
        """
        trial = self._served.trial
        if trial is None:
            self._producer = self._written = None
            return
        if self._producer is None:
            self._producer = Producer(producer_config(self._settings))
        self._producer.poll(0)
        counted, now_s = (trial.experiment.experiment_id, trial.n_judged, trial.serves), time.monotonic()
        is_said = trial.serves or now_s < self._written_s + NOT_SERVING_EVERY_S
        if (counted == self._written and is_said) or len(self._producer):  # what is on its way is not overtaken
            return
        tally = trial.tally(self._worker, time.time_ns() // 1_000_000)
        key = tally_key(tally.experiment_id, tally.worker)
        self._written, self._written_s = counted, now_s
        try:
            self._producer.produce(
                self._settings.tallies_topic, encode_tally(tally), key, 0, on_delivery=self._on_delivery
            )
        except KafkaException as error:  # the client knows already that it may not, or that there is no such topic
            self._note(error.args[0])

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._note(error)

    def _note(self, error: KafkaError) -> None:
        self._written = None
        if time.monotonic() >= self._said_s + _SAY_EVERY_S:
            self._said_s = time.monotonic()
            _log.warning(
                "what is counted of the bundle on trial cannot be written to %s, and it is not judged until then: %s",
                self._settings.tallies_topic,
                error.str(),
            )
