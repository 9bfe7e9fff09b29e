"""What the trainer makes of a record: the same verdict as a worker's."""

from collections.abc import Iterable

from confluent_kafka import Message

from nextclick.clicks import FORWARDED_HEADER, Decoded
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.placement import is_home, misplaced
from nextclick.settings import Settings
from tools.records import headers_of
from tools.schema_registry.open_registry import open_registry
from training.service.click_log import ReadRecord


class RecordJudge:
    """Decodes records and looks whether they are in their users' partitions.

    Attributes:
        counts: how many partitions the topic has, and had before.
    """

    def __init__(self, settings: Settings) -> None:
        """Make one; the schema registry, if there is one, is not asked yet.

        Raises:
            PermanentError: the settings of the clicks' schema, or of the registry, cannot be used.
        """
        self.counts: set[int] = set()
        self._partitioner = settings.partitioner
        self._with_keys = settings.key_format == "registry"
        self._registry = open_registry(settings)
        self._decode = click_decoder(ClickSchema.of(settings), self._registry)

    def load_schemas(self, messages: Iterable[Message]) -> None:
        """Ask the registry for what it takes to decode records; blocks for 10 s at most while it does not answer.

        Raises:
            TemporaryError: it does not answer.
            PermanentError: it refuses us.
        """
        if self._registry is not None:
            records = ((each.key(), each.value(), headers_of(each)) for each in messages if each.error() is None)
            self._registry.load(self._registry.missing_schemas_of(records, with_keys=self._with_keys))

    def clicks(self, message: Message, now_ms: int) -> Decoded:
        """Decode a record; of a copy nothing, for the click that it is a copy of is logged where it stands."""
        headers = headers_of(message)
        if any(name == FORWARDED_HEADER for name, _ in headers):
            return ()
        return self._decode(message.key(), message.value(), headers, message.timestamp()[1], now_ms)

    def n_misplaced(self, records: Iterable[ReadRecord]) -> int:
        """Count the clicks that are not in their user's partition, by the counts that are known."""
        return sum(not self._is_home(record) for record in records)

    def placed(self, records: Iterable[ReadRecord]) -> list[ReadRecord]:
        """Reject the clicks that are not in their user's partition."""
        return [
            record if self._is_home(record) else record._replace(clicks=misplaced(self._partitioner, record.partition))
            for record in records
        ]

    def _is_home(self, record: ReadRecord) -> bool:
        if not isinstance(record.clicks, tuple) or not record.clicks:
            return True
        return is_home(record.key, record.partition, self._partitioner, self.counts)
