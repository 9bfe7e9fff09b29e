"""Says why clicks were not written, from the error of their delivery, and what to do about it. Pure."""

from confluent_kafka import KafkaError

from feed.problems import ProblemError
from nextclick.settings import Settings

_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_NO_RIGHT = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
_NO_LOGIN = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_LATE = (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT)


def delivery_problem(error: KafkaError, settings: Settings, within_s: float) -> ProblemError:
    """Give the problem of a request of whose clicks one or more were not taken.

    Args:
        error: of the first of them.
        settings: of the feed.
        within_s: how long the broker had.
    """
    code, topic = error.code(), settings.clicks_topic
    if code in _NO_TOPIC:
        return _cannot_write(f"the broker has no topic {topic}: run nextclick topics, or correct clicks_topic")
    if code in _NO_RIGHT:
        return _cannot_write(
            f"the broker does not let the feed write to the topic {topic} ({error.name()}): grant its user WRITE and "
            "DESCRIBE on it (and IDEMPOTENT_WRITE on the cluster, before Kafka 2.8)"
        )
    if code in _NO_LOGIN:
        return _cannot_write(
            "the broker refuses the feed's login: correct sasl_mechanism, sasl_username and sasl_password"
        )
    if code in _TOO_LARGE:
        return ProblemError(
            "click-refused",
            f"the topic {topic} takes no record as large as one of these clicks: raise its max.message.bytes, or send "
            "shorter ids; others of the request may have been written",
        )
    what = f"has not confirmed within {within_s:g} s" if code in _LATE else f"has not taken it ({error.name()})"
    return ProblemError(
        "no-broker",
        f"the broker {what}; send it again under the same Idempotency-Key or event_id, by which it is known if it has "
        f"arrived, while fewer than {settings.recent_clicks} (recent_clicks) other clicks of the user came in between",
        {"Retry-After": "1"},
    )


def _cannot_write(detail: str) -> ProblemError:
    return ProblemError("cannot-write", detail, {"Retry-After": "5"})
