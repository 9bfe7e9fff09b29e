"""The one-command demo: broker, worker, trainer, feed and simulator as processes, and live views of what they do."""

import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from demo.answer_lag import AnswerLag
from demo.children import Child, SupervisedChild
from demo.demo_view import DemoFigures, DemoView
from demo.following import Following, TopicMessage
from demo.live_score import LiveScore
from demo.local_kafka import LocalKafka
from demo.page_feed import PROGRAM, SECRET_VARIABLE, FiguresSender, PageAddress, choose_address
from demo.page_figures import PageRecorder
from demo.simulator import USER_PREFIX
from demo.stop_signals import StopSignals
from demo.temporary_folder import remove_folder, temporary_name
from demo.watched_user import UserWatch
from nextclick.errors import PermanentError
from nextclick.manifest import CHAMPION, decode_manifest
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, answer_of
from tools.processes import cpu_s
from tools.update_formats import update_decoder

REFRESH_S = 1.0
STOP_PATIENCE_S = 6.0
# A demo lasts minutes: the first training comes after some seconds of clicks, and later ones soon after.
DEMO_SETTINGS = {
    "min_clicks": 3_000,
    "train_every_s": 30.0,
    "log_flush_s": 10.0,
    "worker_port": 0,
    "trainer_port": 0,
    "explain": True,
    "feed_host": "127.0.0.1",
    "id_field": "event_id",  # the page sends a click again when it got no answer
}


class _Running(NamedTuple):
    """What is there after the start; `supervised` are started again, the simulator is not."""

    consumer: Following
    supervised: list[SupervisedChild]
    simulator: Child
    page: PageAddress
    sender: FiguresSender


class Demo:
    """Starts everything, follows the topics, stops everything."""

    def __init__(self, settings: Settings, own_broker: bool, rate: int, seed: int, kafka_home: Path | None) -> None:
        self._settings = settings
        self._own_broker = own_broker
        self._rate = rate
        self._seed = seed
        self._kafka_home = kafka_home
        self._started_s = time.monotonic()
        self._signals = StopSignals()
        self._first_update_s: float | None = None
        self._ceiling = 0.0
        self._n_clicks = 0
        self._bundle_created_ms: dict[str, int] = {}
        self._pids = [os.getpid()]  # of what is never started again
        self._cores: list[float] = []
        self._cpu_at: tuple[float, float, list[int]] | None = None
        self._decoder = click_decoder(ClickSchema.of(settings))
        self._decode_update = update_decoder(settings)
        self._watch = UserWatch()
        self._lag = AnswerLag()
        self._score = LiveScore(Popularity(settings.popularity_half_life_s), settings.list_length)

    def run(self, seconds: float | None, environment: Mapping[str, str]) -> bool:
        """Run until the time is over or a signal comes.

        Args:
            seconds: how long, from the first start; None: until a signal.
            environment: for the processes.

        Returns:
            Whether recommendations arrived, a trained bundle was swapped in, and what was sent after it hit more
            often than popularity.

        Raises:
            NextclickError: something did not start, or ends again and again by itself.
            KeyboardInterrupt: a signal came before everything was started.
        """
        view = DemoView(seconds)
        with self._signals, ExitStack() as stack:
            folder = temporary_name("nextclick-demo-")
            stack.callback(remove_folder, folder)
            with view:  # its table is gone before the parts end
                with self._signals.interrupting():  # a start, and a first download above all, must not be waited for
                    running = self._start(stack, folder, view, environment)
                self._follow(running, view, seconds)
        view.finish(self._figures())
        return self._figures().succeeded

    def _start(self, stack: ExitStack, folder: Path, view: DemoView, environment: Mapping[str, str]) -> _Running:
        folder.mkdir(mode=0o700)
        if self._own_broker:
            view.say("starting a local Apache Kafka (the first time it is downloaded)")
            broker = LocalKafka(kafka_home=self._kafka_home, data_dir=folder / "kafka")
            stack.callback(broker.stop)
            broker.start()
            self._pids.append(broker.pid)
            self._settings = replace(self._settings, broker=broker.bootstrap)
        page = choose_address(self._settings.feed_port)
        self._settings = replace(self._settings, feed_port=page.port)
        settings = self._settings = _demo_settings(self._settings, folder, self._own_broker)
        if not self._own_broker:
            stack.callback(_delete_topics, settings)
        Topics(settings).create()
        consumer = stack.enter_context(Following(settings))
        view.say("starting worker, trainer, feed and simulator")
        own = settings.as_environment() | {"TMPDIR": str(folder)}
        supervised, simulator = self._start_children(stack, folder, dict(environment) | own, page)
        self._pids.append(simulator.pid)
        sender = FiguresSender(page)
        stack.callback(sender.close)
        return _Running(consumer, supervised, simulator, page, sender)

    def _start_children(
        self, stack: ExitStack, folder: Path, environment: dict[str, str], page: PageAddress
    ) -> tuple[list[SupervisedChild], Child]:
        def supervise(name: str, start: Callable[[str, Path], Child]) -> SupervisedChild:
            child = SupervisedChild(lambda: start(name, folder / f"{name}.log"), time.monotonic())
            stack.callback(child.stop, STOP_PATIENCE_S)
            return child

        with_secret = environment | {SECRET_VARIABLE: page.secret}
        # Stopped in the opposite order: first the clicks end, the worker last.
        supervised = [
            supervise("worker", lambda name, log: Child(name, ["stream"], environment, log)),
            supervise("trainer", lambda name, log: Child(name, ["train"], environment, log)),
            supervise("feed", lambda name, log: Child(name, [], with_secret, log, program=PROGRAM)),
        ]
        simulate = ["simulate", "--rate", str(self._rate), "--seed", str(self._seed)]
        simulator = Child("simulator", simulate, environment, folder / "simulator.log", read_output=True)
        stack.callback(simulator.stop, STOP_PATIENCE_S)
        threading.Thread(target=self._read_ceiling, args=(simulator,), name="ceiling", daemon=True).start()
        return supervised, simulator

    def _read_ceiling(self, simulator: Child) -> None:
        assert simulator.output is not None  # it was asked for
        try:
            for line in simulator.output:
                self._ceiling = msgspec.json.decode(line)["ceiling_recall_at_20"]
        except ValueError:
            return  # the pipe was closed under the reader: the demo is ending

    def _follow(self, running: _Running, view: DemoView, seconds: float | None) -> None:
        page = PageRecorder(self._settings.list_length)
        next_refresh_s = 0.0
        while not self._signals.requested:
            now_s = time.monotonic()
            if seconds is not None and now_s - self._started_s >= seconds:
                return
            self._tend(running, view, now_s)
            for message in running.consumer.read(0.2):
                self._take(message)
            if now_s >= next_refresh_s:
                self._measure_cores(now_s, self._pids + [part.child.pid for part in running.supervised])
                figures = self._figures()
                view.show(figures)
                running.sender.send(page.take(figures))
                if running.sender.has_answered:
                    view.say_page(running.page.url)
                next_refresh_s = now_s + REFRESH_S

    def _tend(self, running: _Running, view: DemoView, now_s: float) -> None:
        for part in running.supervised:
            if (happened := part.tend(now_s)) is not None:
                view.say(happened)
        simulator = running.simulator
        # Clicks that are simulated anew would be other clicks: the figures could not be trusted.
        if simulator.exit_status is not None:
            raise PermanentError(
                f"the {simulator.name} ended by itself with status {simulator.exit_status}; "
                f"the end of its log:\n{simulator.log_tail}"
            )

    def _measure_cores(self, now_s: float, pids: list[int]) -> None:
        used_s = sum(cpu_s(pid) for pid in pids)
        if self._cpu_at is not None:
            before_s, before_used_s, before_pids = self._cpu_at
            if pids == before_pids:  # else what an ended one had used is missing from the sum
                self._cores.append((used_s - before_used_s) / (now_s - before_s))
        self._cpu_at = (now_s, used_s, pids)

    def _take(self, message: TopicMessage) -> None:
        settings = self._settings
        if message.topic == settings.clicks_topic:
            click = self._decode(message)
            if click is not None:
                self._n_clicks += 1
                self._score.click((message.partition, message.offset), *click)
                self._lag.click(message.partition, message.offset)
                user_id, item_id, _ = click
                if user_id.startswith(USER_PREFIX):  # not a visitor of the page
                    self._watch.click(user_id, item_id)
        elif message.topic == settings.models_topic:
            if message.key == CHAMPION.encode():  # there are other keys, for operators and experiments
                manifest = decode_manifest(message.value)
                self._bundle_created_ms[manifest.bundle_id] = manifest.created_ms
        else:
            self._first_update_s = self._first_update_s or time.monotonic() - self._started_s
            update = self._decode_update(message.value)
            self._score.update(update, time.time() * 1000)
            self._watch.update(update, time.monotonic())
            self._lag.update(update.source.partition, update.source.offset)

    def _decode(self, message: TopicMessage) -> tuple[str, str, int] | None:
        now_ms = int(time.time() * 1000)
        decoded = self._decoder(message.key, message.value, None, message.timestamp_ms, now_ms)
        return decoded[0][:3] if isinstance(decoded, tuple) else None

    def _figures(self) -> DemoFigures:
        bundle = self._score.bundles[-1] if self._score.bundles else ""
        created_ms = self._bundle_created_ms.get(bundle)
        p50_ms, p99_ms = self._score.latency_ms((0.5, 0.99))
        return DemoFigures(
            elapsed_s=time.monotonic() - self._started_s,
            clicks=self._n_clicks,
            updates=self._score.n_updates,
            network_updates=self._score.n_network,
            first_update_s=self._first_update_s,
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            bundle=bundle,
            n_bundles=len(self._score.bundles),
            bundle_age_s=time.time() - created_ms / 1000 if created_ms is not None else None,
            overall=self._score.overall,
            after_swap=self._score.after_swap,
            recent=self._score.recent.rates,
            ceiling=self._ceiling,
            lag=self._lag.clicks,
            cores=self._cores[-1] if self._cores else 0.0,
            median_cores=statistics.median(self._cores) if self._cores else 0.0,
            watched=self._watch.watched,
        )


def _demo_settings(settings: Settings, folder: Path, own_broker: bool) -> Settings:
    """Keep everything of the demo in its folder, and on a broker that is shared, in topics of its own."""
    defaults = Settings()
    chosen = {
        name: value for name, value in DEMO_SETTINGS.items() if getattr(settings, name) == getattr(defaults, name)
    }
    settings = replace(
        settings,
        data_dir=folder / "worker",
        served_dir=folder / "served",
        log_dir=folder / "click-log",
        bundle_dir=folder / "bundles",
        feed_dir=folder / "feed",
        feed_tokens_file="",  # the page has none
        feed_tls_certificate_file="",
        feed_tls_key_file="",
        **chosen,  # type: ignore[arg-type]
    )
    if own_broker:
        return settings
    name = f"nextclick-demo-{secrets.token_hex(3)}"
    return replace(
        settings,
        app=name,
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-clicks-rejected",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
    )


def _delete_topics(settings: Settings) -> None:
    topics = [
        settings.clicks_topic,
        settings.recommendations_topic,
        settings.rejected_topic,
        settings.models_topic,
        settings.items_topic,
        settings.changelog_topic,
    ]
    end_s = time.monotonic() + ANSWER_S
    for deletion in AdminClient(librdkafka_config(settings)).delete_topics(topics).values():
        with suppress(KafkaException):  # they are only left over, or the broker is away
            answer_of(deletion, max(end_s - time.monotonic(), 0))
