"""What a round's process is told, what it gives, and what its parent makes of the way it ends."""

from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.clicks import Click
from nextclick.errors import PermanentError
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from training.learning.cancellation import Cancellation
from training.learning.judgement import Judgement
from training.learning.judging import Contender, Judging
from training.service.click_log import ClickLog, LogRow
from training.service.publication import judge
from training.service.round_child import SignsOfLife, run_task
from training.service.round_process import (
    ChampionUnusable,
    RoundFailed,
    RoundTask,
    Trained,
    Verdict,
    decode_task,
    encode_task,
    one_line,
    read_verdict,
    settings_for_round,
)

SETTINGS = Settings(hidden_size=8, epochs=1, min_clicks=100)
NEVER = Cancellation(Event())


@pytest.fixture
def task(tmp_path: Path) -> RoundTask:
    """A log of 400 clicks of users who go one item on, and an empty draft."""
    log = ClickLog(tmp_path / "log")
    clicks = [Click(f"user-{n % 20}", f"item-{(n % 20 + n // 20) % 10}", 1_000 * n, 0) for n in range(400)]
    log.append(3, 0, 399, [LogRow(offset, click) for offset, click in enumerate(clicks)])
    (tmp_path / "draft").mkdir()
    settings = Settings(hidden_size=8, epochs=1, bundle_dir=tmp_path / "bundles", log_dir=tmp_path / "log")
    return RoundTask(settings_for_round(settings), log.files, "", tmp_path / "draft", False)


def run(task: RoundTask) -> Verdict:
    torch.set_num_threads(1)
    return run_task(decode_task(encode_task(task)), NEVER)


def test_a_round_leaves_a_bundle_in_the_draft_and_gives_its_figures(task: RoundTask) -> None:
    """The verdict is plain: neither torch nor numpy is needed to read it."""
    verdict = run(task)

    assert isinstance(verdict, Trained)
    assert [path.name for path in task.draft.iterdir()] == [verdict.manifest.bundle_id]
    assert load_network(task.draft / verdict.manifest.bundle_id)[0] == verdict.manifest
    assert verdict.manifest.log_range == {"3": (0, 399)}
    assert verdict.manifest.judgement == judge(verdict.judgement).reason
    assert verdict.manifest.metrics["recall@20"] == verdict.judgement.new.recall
    assert verdict.manifest.settings["hidden_size"] == "8"
    assert verdict.manifest.versions["torch"] == torch.__version__.split("+")[0]
    assert (verdict.n_clicks, verdict.n_items, verdict.judgement.champion) == (400, 10, None)
    assert verdict.judgement.new.n_predictions > 0


def test_the_champion_is_compared_with(task: RoundTask, tmp_path: Path) -> None:
    """On the same predictions."""
    network, vocabulary = Network(NetworkConfig(1, 4)), Vocabulary(["item-0"], np.ones(1))
    champion = save_bundle(tmp_path / "bundles", network, vocabulary, created_ms=1, metrics={})

    verdict = run(RoundTask(task.settings, task.files, champion.bundle_id, task.draft, False))

    assert isinstance(verdict, Trained)
    assert verdict.judgement.champion is not None
    assert verdict.judgement.champion.n_predictions == verdict.judgement.new.n_predictions


def test_a_network_that_is_not_finite_is_refused_with_a_reason(
    task: RoundTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a verdict like others: no bundle is loaded that nobody will publish."""
    judgement = Judging.judgement

    def damage_and_judge(judging: Judging, new: Contender, *others: Any) -> Judgement:
        new.network.state_dict()["item_bias"][0] = torch.inf
        return judgement(judging, new, *others)

    monkeypatch.setattr(Judging, "judgement", damage_and_judge)

    verdict = run(task)

    assert isinstance(verdict, Trained)
    assert not judge(verdict.judgement).publish
    assert "a weight is not a finite number" in verdict.manifest.judgement


def test_a_champion_that_is_missing_is_a_verdict_and_nothing_is_trained(task: RoundTask) -> None:
    """It is for the trainer to say what can be done."""
    verdict = run(RoundTask(task.settings, task.files, "0" * 15 + "1", task.draft, False))

    assert isinstance(verdict, ChampionUnusable)
    assert list(task.draft.iterdir()) == []


def test_a_task_has_no_password() -> None:
    """A round speaks to no broker."""
    settings = Settings(security_protocol="SASL_SSL", sasl_username="me", sasl_password="s3cret")
    document = encode_task(RoundTask(settings_for_round(settings), [], "", Path("draft"), False))

    assert b"s3cret" not in document
    assert Settings.load(decode_task(document).settings).sasl_password == ""


def test_a_sign_of_life_is_given_once_a_second_at_most() -> None:
    """However often the training asks."""
    signs: list[int] = []
    cancellation = SignsOfLife(lambda: signs.append(1))
    for _ in range(1_000):
        cancellation.check()

    assert len(signs) == 1


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (b"\n\n", -9, "SIGKILL, as the kernel does when memory is short"),
        (b"", -11, "SIGSEGV"),
        (b'{"type":"Trained","man', 1, "status 1"),
        (b"", 0, "no verdict"),
        (b'\n{"type":"RoundFailed","reason":"no luck"}', -9, "no luck"),
    ],
)
def test_a_process_that_ends_without_a_verdict_is_a_failed_round_that_says_how(
    text: bytes, status: int, expected: str
) -> None:
    """A verdict counts, whatever the process did after it."""
    verdict = read_verdict(text, status)

    assert isinstance(verdict, RoundFailed)
    assert expected in verdict.reason


def test_whatever_is_raised_is_one_line_that_says_what_it_was() -> None:
    """The project's own errors speak for themselves."""
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(PermanentError("choose another folder")) == "choose another folder"
    assert one_line(KeyError()) == "KeyError: no reason given"
    assert len(one_line(ValueError("x" * 10_000))) <= 1_000
