"""The command `nextclick kafka`."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from nextclick.errors import PermanentError

if TYPE_CHECKING:
    from demo.local_kafka import LocalKafka

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="What clients connect to; 0 picks a free one.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the data here; else it goes at the end."
)
@click.option(
    "--kafka-home",
    envvar="KAFKA_HOME",
    type=click.Path(path_type=Path),
    help="An unpacked Apache Kafka to run (KAFKA_HOME); else it is downloaded once.",
)
def kafka(port: int, data_dir: Path | None, kafka_home: Path | None) -> None:
    """Run a local Apache Kafka until Ctrl-C. Needs neither Docker nor Java."""
    from demo.local_kafka import LocalKafka
    from tools.logs import set_up_logs

    set_up_logs("kafka")
    for number in _STOP_SIGNALS:
        signal.signal(number, _stop)
    broker = LocalKafka(port=port, data_dir=data_dir, kafka_home=kafka_home)
    try:
        broker.start()
        click.echo(f"Kafka is ready at {broker.bootstrap} (Ctrl-C to stop)")
        _wait_for_its_end(broker)
    except KeyboardInterrupt:
        click.echo("Kafka is stopping", err=True)
    finally:
        # A second Ctrl-C must not leave the folder behind.
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        broker.stop()


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _wait_for_its_end(broker: "LocalKafka") -> NoReturn:
    status = broker.wait()
    raise PermanentError(
        f"the local Apache Kafka expects to run until it is stopped, found that it ended with status {status}; "
        f"see the end of its log:\n{broker.log_tail}"
    )
