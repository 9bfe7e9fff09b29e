"""The job as a process: its signals, the checks at its start, and an end that nothing can hold up."""

import logging
import sys
from threading import Event

from confluent_kafka import KafkaException

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from rekey.job import RekeyJob
from rekey.topics import checked_route
from tools.endings import leave_at_once, stop_on_signals

_log = logging.getLogger(__name__)


def run_rekey(settings: Settings, source: str, destination: str, *, once: bool, may_begin: bool) -> None:
    """Copy until SIGTERM or SIGINT. Only for the main thread.

    Args:
        settings: of the job.
        source: the topic to read.
        destination: the topic to write.
        once: return when everything is copied that the source has now.
        may_begin: also a job that has copied nothing yet, where the destination holds records.

    Raises:
        NextclickError: it cannot start, or had to stop. Nothing is lost or doubled.
    """
    stop = Event()
    stop_on_signals(stop, "the job hangs and cannot end: cut off. Nothing is lost or doubled")
    route = checked_route(settings, source, destination, may_begin=may_begin)
    if settings.key_format != "text":
        _log.warning("keys are written as text: whoever reads %s needs key_format=text", destination)
    if not route.keeps_times:
        _log.warning(
            "%s gives its records a time of its own: clicks whose time is the record's get another; set "
            "message.timestamp.type=CreateTime",
            destination,
        )
    job = RekeyJob(settings, route, stop)
    try:
        job.run(once=once)
    except KafkaException as error:
        raise TemporaryError(
            f"the job stopped at an error of Kafka's: {error.args[0].str()}; nothing is lost or doubled, start it again"
        ) from error
    finally:
        if not job.close():
            leave_at_once(sys.exception(), "leaving the group takes too long: cut off")
