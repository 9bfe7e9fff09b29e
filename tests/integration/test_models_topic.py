"""The topic `models`: what its readers see of transactions, and who can announce a bundle in one."""

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from nextclick.manifest import CHAMPION, BundleFile, Manifest, bundle_id_of, encode_manifest
from stream.faust_adapter.announcements import follow_models
from tests.decided import wait_until_decided
from tests.record_forms import CODECS, forms_in_log, send_with_odd_header
from tests.trainers import PATIENCE_S, announce, announced, announcer, go_on, models_of, polled, small_bundle
from tools.client_config import producer_config
from tools.presence import BrokerPresence
from training.service.trainer_role import TrainerRole

ANSWER_S = 30.0


def manifest(number: int) -> Manifest:
    """A manifest without a bundle."""
    files = (BundleFile("model.safetensors", "", number),)
    return Manifest(bundle_id=bundle_id_of(files, {}, number), created_ms=number, network={}, files=files, metrics={})


FIRST, SECOND = manifest(1), manifest(2)


def announce_twice(playground: Any, ends: str) -> Producer:
    """Announce the first bundle, and the second in a transaction that ends somehow."""
    settings = playground.settings
    producer = Producer(producer_config(settings) | {"transactional.id": f"{settings.app}-test"})
    producer.init_transactions(ANSWER_S)
    for bundle, end in ((FIRST, "committed"), (SECOND, ends)):
        producer.begin_transaction()
        producer.produce(settings.models_topic, encode_manifest(bundle), CHAMPION)
        producer.flush(ANSWER_S)
        if end == "committed":
            producer.commit_transaction(ANSWER_S)
        elif end == "aborted":
            producer.abort_transaction(ANSWER_S)
    if ends != "open":
        wait_until_decided(settings, settings.models_topic)
    return producer


class Served:
    """Notes what the worker's reader hands on."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    async def announced(self, value: bytes) -> None:
        self.values.append(value)

    def again_in_s(self) -> float:
        return float("inf")

    async def try_again(self) -> None:
        pass


async def follow(playground: Any) -> Served:
    """Follow `models` until the worker would begin to serve, and through one more announcement."""
    served, caught_up = Served(), asyncio.Event()
    follower = asyncio.create_task(follow_models(playground.settings, served, caught_up))  # type: ignore[arg-type]
    try:
        await asyncio.wait_for(caught_up.wait(), ANSWER_S)
    finally:
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
    return served


@pytest.mark.parametrize(("ends", "champion"), [("committed", SECOND), ("aborted", FIRST), ("open", FIRST)])
def test_readers_of_models_come_to_its_end_and_see_what_was_committed(
    playground: Any, ends: str, champion: Manifest
) -> None:
    """The topic ends with a marker, or with a transaction that nobody has ended yet."""
    producer = announce_twice(playground, ends)

    trainer_sees = models_of(playground).champion()
    worker_sees = asyncio.run(follow(playground)).values

    assert trainer_sees == champion
    assert worker_sees[-1] == encode_manifest(champion)
    if ends == "open":
        producer.abort_transaction(ANSWER_S)


def test_an_announcement_is_seen_in_every_codec_with_any_headers_and_behind_an_aborted_one(playground: Any) -> None:
    """By the worker's follower and by the trainer; an aborted one in the same codec is seen by neither."""
    settings = playground.settings
    for number, codec in enumerate(CODECS):
        new = manifest(10 + number)
        producer = Producer(
            producer_config(settings) | {"transactional.id": f"{settings.app}-{codec}", "compression.type": codec}
        )
        producer.init_transactions(ANSWER_S)
        for bundle, headers in ((SECOND, []), (new, [("none", None), ("large", b"x" * 5_000), ("empty", b"")])):
            producer.begin_transaction()
            producer.produce(
                settings.models_topic, encode_manifest(bundle), CHAMPION, headers=headers, timestamp=1_764_000_000
            )
            assert producer.flush(ANSWER_S) == 0
            producer.abort_transaction(ANSWER_S) if bundle is SECOND else producer.commit_transaction(ANSWER_S)
        wait_until_decided(settings, settings.models_topic)
        worker_sees = asyncio.run(follow(playground)).values

        assert worker_sees[-1] == encode_manifest(new)
        assert encode_manifest(SECOND) not in worker_sees
        assert models_of(playground).champion() == new

    forms = asyncio.run(forms_in_log(settings, settings.models_topic))
    assert {codec for codec, _ in forms} == set(CODECS)


def test_an_announcement_with_a_header_whose_name_is_no_utf8_is_seen_and_what_follows_it(playground: Any) -> None:
    """Anybody can write such a record, with which every worker would end at each start."""
    announce(playground, encode_manifest(FIRST))
    key, value = CHAMPION.encode(), encode_manifest(SECOND)
    asyncio.run(send_with_odd_header(playground.settings, playground.settings.models_topic, 0, key, value))
    before = asyncio.run(follow(playground)).values
    announce(playground, encode_manifest(FIRST))
    after = asyncio.run(follow(playground)).values

    assert before[-1] == value
    assert after[-1] == encode_manifest(FIRST)
    assert models_of(playground).champion() == FIRST


@pytest.fixture
def sleepers(playground: Any) -> Any:
    """The playground, where a sleeping trainer is forgotten after 2 s."""
    playground.settings = dataclasses.replace(playground.settings, session_timeout_s=2)
    return playground


@contextlib.contextmanager
def other_trainer(playground: Any) -> Iterator[TrainerRole]:
    """Another trainer of the same application, in this process."""
    role = TrainerRole(playground.settings, BrokerPresence(playground.settings.broker))
    try:
        yield role
    finally:
        role.close()


@pytest.mark.parametrize("moment", ["before the transaction", "before the commit"])
def test_who_slept_past_its_session_cannot_publish(sleepers: Any, moment: str) -> None:
    """It wakes up in the middle of its announcement and does not know yet that it lost the role."""
    with announcer(sleepers, moment) as (sleeper, _), other_trainer(sleepers) as successor:
        os.kill(sleeper.pid, signal.SIGSTOP)
        sleepers.wait_for(lambda: successor.wait(0.1), "the role", PATIENCE_S)
        models = models_of(sleepers)
        models.settle()  # as a round begins
        os.kill(sleeper.pid, signal.SIGCONT)

        answer = go_on(sleeper)

        assert "not the trainer of the application" in answer
        assert announced(sleepers) == []
        manifest = small_bundle(sleepers.settings.bundle_dir, 2)
        with polled(successor):
            models.announce(manifest, None, successor)
        assert announced(sleepers) == [manifest]


def test_a_trainer_that_joins_and_waits_does_not_keep_the_other_from_publishing(playground: Any) -> None:
    """Every member's membership changes then: the announcement is made with the new one."""
    with announcer(playground, "before the transaction") as (holder, manifest), other_trainer(playground) as other:
        nobody = other._no_membership
        playground.wait_for(
            lambda: other.wait(0.1) or other._consumer.consumer_group_metadata() != nobody, "a membership", PATIENCE_S
        )

        assert not other.is_held()  # it may get the role once the holder has announced, and ends
        with polled(other):
            assert go_on(holder) == "announced"
        assert announced(playground) == [manifest]


def test_a_trainer_that_is_shut_out_by_one_that_woke_up_too_late_publishes_all_the_same(playground: Any) -> None:
    """The other believes to be the trainer and begins a round. It must not keep this one from announcing."""
    with announcer(playground, "before the commit") as (holder, manifest):
        models_of(playground).settle()  # takes the transaction back, and shuts its producer out

        assert go_on(holder) == "announced"
    assert announced(playground) == [manifest]
