"""What workers have counted of an experiment, read from the topic of tallies."""

import contextlib

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from nextclick.errors import BundleError, PermanentError, TemporaryError
from nextclick.experiment import Experiment, Tally, decode_tally
from nextclick.settings import Settings
from tools.client_config import librdkafka_config
from tools.followed_topic import FollowedTopic

_ANSWER_S = 10.0


class Tallies:
    """The newest tally of each worker, of one experiment."""

    def __init__(self, settings: Settings, experiment: Experiment) -> None:
        """Begin with none; connects by itself."""
        self._experiment_id = experiment.experiment_id
        self._topic = FollowedTopic(settings, settings.tallies_topic)
        self._newest: dict[str, Tally] = {}

    @property
    def is_at_end(self) -> bool:
        """Whether all that the topic held was read at some moment."""
        return self._topic.is_at_end

    def read(self, timeout_s: float) -> list[Tally]:
        """Read on for a time at most, and give all workers' newest; for what it raises see `FollowedTopic.read`."""
        for message in self._topic.read(timeout_s):
            value = message.value()
            with contextlib.suppress(BundleError):  # of a newer version, or no tally: it judges nothing
                tally = decode_tally(value) if isinstance(value, bytes) else None
                if tally is not None and tally.experiment_id == self._experiment_id:
                    self._newest[tally.worker] = tally
        return list(self._newest.values())

    def close(self) -> None:
        """Let go of the connection."""
        self._topic.close()


def refuse_without_tallies(settings: Settings) -> None:
    """Make sure that what workers count can be written.

    Raises:
        PermanentError: there is no topic for it.
        TemporaryError: the broker does not answer.
    """
    topic, admin = settings.tallies_topic, AdminClient(librdkafka_config(settings))
    try:
        topics = admin.list_topics(timeout=_ANSWER_S).topics
    except KafkaException as error:
        raise TemporaryError(f"the broker at {settings.broker} does not answer: {error.args[0].str()}") from error
    if topic not in topics:
        raise PermanentError(f"there is no topic {topic}, where workers write what they count; run `nextclick topics`")
