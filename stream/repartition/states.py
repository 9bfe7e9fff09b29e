"""Moves the states of users to the partitions of their clicks. Blocks."""

import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import rocksdict
from confluent_kafka import Message

from nextclick.settings import Settings
from nextclick.user_state import UserState, decode_state, encode_state
from stream.protocol.restoration import ChangelogRecord, judged
from stream.repartition.log import FencedWriter, Progress, read_batches
from stream.repartition.plan import Homes, Plan
from stream.topics.identity import is_note
from tools.kafka import OffsetRange

MOVES = 5_000  # in one transaction
CACHE_BYTES, WRITE_BUFFER_BYTES = 32 * 1024**2, 16 * 1024**2  # RocksDB takes gigabytes by default
FOLDER = "repartition"  # below data_dir: holds the states of one partition at a time


def changelog_records(batch: Iterable[Message]) -> Iterator[tuple[int, ChangelogRecord]]:
    """Give what stands for states in a batch of the changelog, each with its partition; notes do not."""
    for message in batch:
        if not is_note(message.key()):
            yield message.partition(), ChangelogRecord(message.offset(), message.key(), message.value())


def move_states(
    settings: Settings, plan: Plan, homes: Homes, writer: FencedWriter, ranges: Mapping[int, OffsetRange]
) -> int:
    """Write every user's newest state anew, partition by partition; what was written by an earlier run is left alone.

    A state leaves its old partition in the transaction that brings it to the new one.

    Args:
        settings: of the application.
        plan: whose clicks are all copied.
        homes: where users belong.
        writer: of this run.
        ranges: of the partitions of the changelog that there were before.

    Returns:
        How many were written.

    Raises:
        CorruptStateError: a record is no state of its partition.
        OSError: the data folder cannot be written.
        TemporaryError, KafkaException: the changelog cannot be read or written; run it again.
    """
    topic = settings.changelog_topic
    n_written = 0
    progress = Progress("moving states", sum(end - first for first, end in ranges.values()))
    for partition, offsets in ranges.items():
        with _newest_states(settings, partition, offsets, progress) as states:
            changed = _changed(plan, homes, partition, states)
            while batch := list(itertools.islice(changed, MOVES)):
                with writer.transaction():
                    for key, state in batch:
                        writer.write(topic, state.partition, key, encode_state(state))
                        if state.partition != partition:
                            writer.write(topic, partition, key, None)
                n_written += len(batch)
    return n_written


def _changed(
    plan: Plan, homes: Homes, partition: int, states: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, UserState]]:
    """Give the states of a partition as they are to be, but for those that are so already, or never were at home."""
    for key, data in states:
        before, after = homes.of(key)
        state = decode_state(data)
        changed = plan.moved(state, after)
        if before == partition and changed != state:
            yield key, changed


@contextmanager
def _newest_states(
    settings: Settings, partition: int, offsets: OffsetRange, progress: Progress
) -> Iterator[Iterable[tuple[bytes, bytes]]]:
    """Collect a partition's states on the disk: per user the one with the highest fence, as a recovery does."""
    folder = settings.data_dir / FOLDER / str(partition)  # RocksDB keeps a lock on it until its iterators are gone
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with _explained(folder):
            store = rocksdict.Rdict(str(folder), _store_options())
            try:
                for batch in read_batches(settings, settings.changelog_topic, {partition: offsets}):
                    progress.add(len(batch))
                    _keep_newest(settings, store, partition, batch)
                yield cast("Iterator[tuple[bytes, bytes]]", store.items())
            finally:
                store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _store_options() -> rocksdict.Options:
    options, tables = rocksdict.Options(raw_mode=True), rocksdict.BlockBasedOptions()
    tables.set_block_cache(rocksdict.Cache(CACHE_BYTES))
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    return options


def _keep_newest(settings: Settings, store: rocksdict.Rdict, partition: int, batch: Iterable[Message]) -> None:
    records = [record for _, record in changelog_records(batch)]
    keys: list[Any] = list({record.key for record in records})
    stored = dict(zip(keys, store.get(keys) or [], strict=True))
    write = rocksdict.WriteBatch(raw_mode=True)
    for record, fence in judged(settings.changelog_topic, partition, stored, records):
        if fence is None:
            continue
        if record.state is None:
            write.delete(record.key)
        else:
            write.put(record.key, record.state)
    store.write(write)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn rocksdict's errors, which are all bare Exceptions, into one that says what can be done."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise OSError(f"the folder {folder} cannot be used: {error}") from error
