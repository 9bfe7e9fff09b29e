"""`nextclick evaluate` from end to end, on clicks that a few lines make."""

import itertools
import json
import os
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from nextclick.bundle import load_network
from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.evaluation.baselines.popularity import Popularity
from training.evaluation.evaluate_cli import evaluate
from training.evaluation.offline_data import OfflineData, offline_data
from training.evaluation.presets import load_preset
from training.evaluation.tune import Limits, tune
from training.learning.sequences import ClickColumns, Sequences

REAL_DATA = Path(__file__).parents[2] / "../shared/data"
N_ITEMS = 12


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """Three days of sessions that walk through the items one by one, now and then with a jump."""
    return write_clicks(tmp_path / "walks.csv", seed=1)


def write_clicks(path: Path, seed: int, last_day_seed: int = 1) -> Path:
    """Write sessions of three days; the last day's have a seed of their own."""
    lines = ["user_id,item_id,timestamp"]
    for day in range(3):
        rng = np.random.default_rng([last_day_seed if day == 2 else seed, day])
        for session in range(40):
            start_s, length = 90_000 * day + session * 600 + 3_600, int(rng.integers(2, 6))
            item = int(rng.integers(N_ITEMS))
            for place in range(length):
                lines.append(f"d{day}s{session},i{item % N_ITEMS},{start_s + 60 * place}")
                item += 1 if rng.random() < 0.8 else int(rng.integers(N_ITEMS))
    path.write_text("\n".join(lines) + "\n")
    return path


def invoke(*arguments: object) -> Result:
    """Run the command as the command line does."""
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_one_table_with_all_models_that_were_asked_for(clicks: Path) -> None:
    """In their order; the walk is learnt by the Markov chain, not by popularity."""
    done = invoke(clicks, "--models", "popularity,markov-chain,stan")

    assert done.exit_code == 0, done.output
    rows = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"  [a-z]+(-[a-z]+)?  .*\.\d{3}", line)]
    assert rows == ["popularity", "markov-chain", "stan"]
    for column in ("Recall", "MRR", "NDCG", "@1 @5 @10 @20", "coverage", "clicks/s", "tions/s", "p against"):
        assert column in done.stdout
    assert "popularity: Recall@20" in done.stderr  # how far it is, while it runs


def test_a_second_table_says_what_is_known_of_users_with_few_clicks(clicks: Path, tmp_path: Path) -> None:
    """The same predictions as in the first one, by the clicks before them."""
    file = tmp_path / "out.json"
    done = invoke(clicks, "--models", "popularity,markov-chain", "--by-history", "--json", file)

    assert done.exit_code == 0, done.output
    _, second = done.stdout.split("by the clicks of the session before")
    for title in ("1", "2", "3 to 5", "6 or more"):
        assert title in second
    [first] = [each for each in json.loads(file.read_text())["models"]["markov-chain"]["positions"][:1]]
    assert f"{first['recall']:.3f} / {first['mrr']:.3f}".replace("0.", ".") in second


def test_the_json_file_has_all_figures_and_the_configuration(clicks: Path, tmp_path: Path) -> None:
    """Means within their intervals; what the data are, what the models were set to, where it ran."""
    file = tmp_path / "out.json"
    preset = tmp_path / "mine.toml"
    preset.write_text("[stan]\nk = 7\n")
    done = invoke(clicks, "--models", "popularity,markov-chain,stan", "--json", file, "--preset", preset)
    found = json.loads(file.read_text())

    assert done.exit_code == 0, done.output
    assert found["data"]["file"]["path"] == str(clicks)
    assert found["data"]["split"]["test_hours"] == 24
    assert found["data"]["sizes"]["test_sessions"] == 40
    assert found["parameters"]["stan"]["k"] == 7
    assert found["parameters"]["stan"]["age_decay"] == 0.5
    assert found["seeds"] == [0]
    assert set(found["versions"]) == {"nextclick", "torch", "numpy"}
    assert found["machine"]["processor"]
    chain = found["models"]["markov-chain"]
    assert len(chain["metrics"]) == 12
    for metric in chain["metrics"].values():
        assert 0 <= metric["low"] <= metric["mean"] <= metric["high"] <= 1
    assert sum(position["predictions"] for position in chain["positions"]) == (
        found["data"]["sizes"]["test_clicks"] - found["data"]["sizes"]["test_sessions"]
    )
    assert chain["metrics"]["mrr@20"]["mean"] > found["models"]["popularity"]["metrics"]["mrr@20"]["mean"]
    (compared,) = (
        comparison
        for comparison in found["comparisons"]
        if (comparison["model"], comparison["other"]) == ("popularity", "markov-chain")
        and comparison["metric"] == "mrr@20"
    )
    assert compared["difference"] < 0
    assert compared["p"] < 0.01


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_plot(clicks: Path, tmp_path: Path, ending: str, start: bytes) -> None:
    """In the format of the file's ending."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file = tmp_path / f"plot{ending}"
    done = invoke(clicks, "--models", "popularity,stan", "--plot", file)

    assert done.exit_code == 0, done.output
    assert file.read_bytes().startswith(start)


def test_the_network_runs_once_for_each_seed(clicks: Path, tmp_path: Path) -> None:
    """Other models run once; --set wins over the preset, and passes are counted in the clicks per second."""
    file, preset = tmp_path / "out.json", tmp_path / "mine.toml"
    preset.write_text("[network]\nepochs = 3\nhidden_size = 8\nneighbours = 0\n")
    done = invoke(
        clicks,
        "--models",
        "popularity,network",
        "--seeds",
        "3,4",
        "--preset",
        preset,
        "--set",
        "epochs=2",
        "--set",
        "neighbours=0",  # counts know no seed, and say it all where there are so few items
        "--json",
        file,
    )
    found = json.loads(file.read_text())

    assert done.exit_code == 0, done.output
    assert "spread" in done.stdout
    assert found["parameters"]["network"]["epochs"] == 2
    assert found["parameters"]["network"]["hidden_size"] == 8
    assert found["parameters"]["network"]["neighbours"] == 0
    network = found["models"]["network"]
    first, second = network["metrics"]["recall@5"]["by_seed"]
    assert first != second
    assert network["metrics"]["recall@5"]["mean"] == pytest.approx((first + second) / 2)
    assert network["metrics"]["recall@5"]["spread"] == pytest.approx(abs(first - second) / 2**0.5)
    assert network["training_clicks_per_s"] * network["fit_s"] == pytest.approx(
        2 * found["data"]["sizes"]["training_clicks"]
    )
    assert len(found["models"]["popularity"]["metrics"]["recall@5"]["by_seed"]) == 1


def test_the_json_file_says_what_every_network_was_made_with(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a preset, what neither --set nor the environment gives; the seeds stand apart."""
    file, preset = tmp_path / "out.json", tmp_path / "mine.toml"
    preset.write_text("[network-alone]\nepochs = 3\nhidden_size = 8\ndropout = 0.5\n")
    monkeypatch.setenv("NEXTCLICK_DROPOUT", "0.125")
    arguments = ("--models", "network-alone", "--preset", preset, "--set", "epochs=1", "--json", file)
    done = invoke(clicks, *arguments)
    found = json.loads(file.read_text())

    assert done.exit_code == 0, done.output
    parameters = found["parameters"]["network-alone"]
    assert (parameters["epochs"], parameters["hidden_size"], parameters["dropout"]) == (1, 8, 0.125)
    assert parameters["neighbours"] == 0
    assert "seed" not in parameters
    assert found["seeds"] == [0]


def test_the_trained_network_is_saved_as_a_bundle(clicks: Path, tmp_path: Path) -> None:
    """With all items of the training part, their popularity, and how good it is."""
    store, file = tmp_path / "bundles", tmp_path / "out.json"
    arguments = ("--models", "popularity,network", "--set", "epochs=1", "--set", "hidden_size=8")
    done = invoke(clicks, *arguments, "--save-bundle", store, "--json", file)
    (folder,) = store.iterdir()
    manifest, network, vocabulary = load_network(folder)
    found = json.loads(file.read_text())

    assert done.exit_code == 0, done.output
    assert f"--set bundle={folder}" in done.stderr
    assert network.config.hidden_size == 8
    assert sorted(vocabulary.item_ids) == sorted(f"i{number}" for number in range(N_ITEMS))
    assert manifest.metrics["clicks"] == found["data"]["sizes"]["training_clicks"]
    assert manifest.metrics["recall@20"] == found["models"]["network"]["metrics"]["recall@20"]["mean"]
    # Two days of clicks with a half-life of one: less than their number, and all of it.
    half_lives = (90_000 + 40 * 600) / Settings().popularity_half_life_s
    n_clicks, weight = found["data"]["sizes"]["training_clicks"], vocabulary.popularity.sum()
    assert n_clicks * 2.0**-half_lives < weight < 0.9 * n_clicks


def test_the_test_clicks_are_saved_as_they_are_predicted(tmp_path: Path) -> None:
    """In log order with their times and types, without what is dropped; sessions are users."""
    data, file = tmp_path / "clicks.csv", tmp_path / "test.csv"
    data.write_text(
        "user_id,item_id,timestamp,event_type\n"
        'a,"x,1",100,view\na,y,101,view\n'
        'b,y,200000.25,cart\nc,"x,1",200001,view\nb,new,200002,view\nd,y,200003,view\nb,"x,1",200004,wish\n'
        "c,y,200005,view\n"
    )
    done = invoke(data, "--models", "popularity", "--save-test", file)

    assert done.exit_code == 0, done.output
    assert file.read_text().splitlines() == [
        "user_id,item_id,timestamp,event_type",
        "session-0,y,200000.25,cart",
        'session-1,"x,1",200001.0,view',
        'session-0,"x,1",200004.0,other',
        "session-1,y,200005.0,view",
    ]


def test_tuning_looks_at_training_clicks_alone(tmp_path: Path) -> None:
    """Two files that differ in the test part give the same preset, and it names what it is for."""
    texts = []
    for last_day_seed in (1, 2):
        data, out = write_clicks(tmp_path / "walks.csv", 1, last_day_seed), tmp_path / f"{last_day_seed}.toml"
        pytest.importorskip("optuna", reason="Optuna is not installed")
        done = invoke(data, "--tune", "--models", "stan,recent-popularity", "--trials", 3, "--preset-out", out)
        assert done.exit_code == 0, done.output
        texts.append(out.read_text())

    assert texts[0] == texts[1]
    assert "walks" in texts[0]
    assert set(tomllib.loads(texts[0])) == {"stan", "recent-popularity"}


def test_a_tuned_preset_keeps_the_other_models_of_its_file(clicks: Path, tmp_path: Path) -> None:
    """One file can hold several, tuned one after another."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    out = tmp_path / "mine.toml"
    out.write_text("[stan]\nk = 7\n")
    done = invoke(clicks, "--tune", "--models", "recent-popularity", "--trials", 1, "--preset-out", out)

    assert done.exit_code == 0, done.output
    assert tomllib.loads(out.read_text()) == {"stan": {"k": 7}, "recent-popularity": {"half_life": 0.02}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds", "1,1"], "different whole numbers"),
        (["--seeds", "x"], "different whole numbers"),
        (["--seeds", "-1"], "different whole numbers"),
        (["--plot", "x.pdf"], "does not end with .png or .svg"),
        (
            ["--tune", "--seeds", "1"],
            "use it without --json, --plot, --by-history, --seeds, --save-bundle, --save-test and --validation",
        ),
        (
            ["--tune", "--save-test", "x"],
            "use it without --json, --plot, --by-history, --seeds, --save-bundle, --save-test and --validation",
        ),
        (["--save-bundle", "x", "--models", "stan"], "name network among --models, and give one seed"),
        (["--save-bundle", "x", "--models", "network", "--seeds", "1,2"], "give one seed"),
        (["--tune", "--preset-out", "x"], "does not end with .toml"),
        (["--trials", "0"], "0 is not in the range"),
        (["--tune-minutes", "nan"], "'nan' is not a number"),
        (["--set", "epochs"], "expected name=value"),
    ],
)
def test_a_wrong_command_line(clicks: Path, arguments: list[str], expected: str) -> None:
    """Status 2, and a last line that says what is wrong."""
    done = invoke(clicks, *arguments)

    assert done.exit_code == 2
    assert expected in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--models", "popularity,nonsense"], "no model 'nonsense'"),
        (["--set", "nonsense=1"], "there is no setting 'nonsense'"),
        (["--preset", "nonsense"], "--preset: there is no preset 'nonsense'"),
        (["--json", "/nowhere/x.json"], "the folder /nowhere does not exist"),
        (["--save-test", "/nowhere/x.csv"], "the folder /nowhere does not exist"),
        (["--save-bundle", "/nowhere/bundles"], "the folder /nowhere does not exist"),
        (["--json", "."], "--json .: this is a folder, and a file is to be written"),
        (["--save-test", "."], "--save-test .: this is a folder, and a file is to be written"),
        (["--save-bundle", __file__, "--models", "network"], "this is a file, and a folder is to be written"),
        (["--tune", "--models", "markov-chain"], "--tune: 'markov-chain' has no parameters to tune"),
        (["--tune", "--set", "learning_rate=0"], "cannot begin with learning_rate=0"),
    ],
)
def test_a_mistake_that_is_seen_before_any_work(clicks: Path, arguments: list[str], expected: str) -> None:
    """One line from the program, no trace; nothing was read or trained."""
    done = invoke(clicks, *arguments)

    assert isinstance(done.exception, PermanentError)
    assert expected in str(done.exception)
    assert done.output == ""


@pytest.mark.parametrize("arguments", [["--models", "stan,network"], ["--tune"]])
def test_a_gpu_that_is_not_there_is_seen_before_any_work(
    clicks: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Only if there is a network to train."""
    if "--tune" in arguments:
        pytest.importorskip("optuna", reason="Optuna is not installed")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = invoke(clicks, *arguments, "--set", "device=cuda")

    assert isinstance(done.exception, PermanentError)
    assert "torch finds no GPU" in str(done.exception)
    assert done.output == ""
    assert invoke(clicks, "--models", "popularity", "--set", "device=cuda").exit_code == 0


def test_a_preset_folder_is_made_or_refused_before_any_work(clicks: Path, tmp_path: Path) -> None:
    """Not after the first trial."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    arguments = (clicks, "--tune", "--models", "recent-popularity", "--trials", 1, "--preset-out")
    refused, done = invoke(*arguments, clicks / "x.toml"), invoke(*arguments, tmp_path / "new" / "x.toml")

    assert isinstance(refused.exception, PermanentError)
    assert f"the preset {clicks / 'x.toml'} cannot be written" in str(refused.exception)
    assert refused.output == ""
    assert done.exit_code == 0, done.output
    assert (tmp_path / "new" / "x.toml").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize(
    ("option", "name"),
    [("--json", "x.json"), ("--plot", "x.png"), ("--save-test", "x.csv"), ("--preset-out", "x.toml")],
)
def test_a_folder_that_cannot_be_written_is_seen_before_any_work(
    clicks: Path, tmp_path: Path, option: str, name: str
) -> None:
    """Not after hours of training."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    tuning = ["--tune", "--models", "stan"] if option == "--preset-out" else []
    if tuning:
        pytest.importorskip("optuna", reason="Optuna is not installed")
    done = invoke(clicks, *tuning, option, closed / name)

    assert isinstance(done.exception, PermanentError)
    assert str(closed / name) in str(done.exception)
    assert done.output == ""


@pytest.mark.parametrize(("arguments", "name"), [(["--plot", "x.png"], "matplotlib"), (["--tune"], "optuna")])
def test_an_extra_that_is_not_installed(
    clicks: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str
) -> None:
    """Says how to install it."""
    for module in (name, f"{name}.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    done = invoke(clicks, *arguments)

    assert isinstance(done.exception, PermanentError)
    assert "pip install 'nextclick[evaluate]'" in str(done.exception)


def small_data() -> OfflineData:
    """A random walk, training and test part."""
    rng = np.random.default_rng(5)
    columns = [
        ClickColumns(
            np.repeat(np.arange(n), 4),
            rng.integers(8, size=4 * n),
            np.arange(4 * n),
            np.zeros(4 * n, np.int64),
            list("abcdefgh"),
        )
        for n in (60, 30)
    ]
    return offline_data(*columns)


def test_tuning_begins_with_what_is_given_and_never_ends_below_it() -> None:
    """The same seed finds the same; what is not searched is kept."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    data = small_data()
    found, again = (
        list(tune("recent-popularity", {"half_life": 0.5}, Settings(), data, Limits(4, 1))) for _ in range(2)
    )

    assert found == again
    assert [so_far.n_trials for so_far in found] == [1, 2, 3, 4]
    assert found[0].first == found[0].last == found[0].best
    assert found[0].first.parameters == {"half_life": 0.5}
    qualities = [so_far.last.recall + so_far.last.mrr for so_far in found]
    assert [so_far.best.recall + so_far.best.mrr for so_far in found] == list(np.maximum.accumulate(qualities))


def test_a_tuned_preset_gives_its_figures_again(clicks: Path, tmp_path: Path) -> None:
    """It names settings outside the search, not where it was computed nor the seed."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    out, file = tmp_path / "found.toml", tmp_path / "out.json"
    settings = ("cell=lstm", "skip=false", "neighbours=0", "hidden_size=12", "epochs=1", "device=cpu", "seed=4")
    assignments = [part for setting in settings for part in ("--set", setting)]
    tuned = invoke(clicks, "--tune", "--trials", 1, "--preset-out", out, *assignments)
    names = ("--models", "network", "--preset", out, "--set", "seed=4", "--json", file)
    done = invoke(clicks, *names, "--validation")
    found = json.loads(file.read_text())
    recall = found["models"]["network"]["metrics"]["recall@20"]["mean"]
    mrr = found["models"]["network"]["metrics"]["mrr@20"]["mean"]

    assert tuned.exit_code == done.exit_code == 0, tuned.output + done.output
    preset = load_preset(str(out))["network"]
    assert {name: preset[name] for name in ("cell", "skip", "neighbours", "hidden_size", "epochs")} == {
        "cell": "lstm",
        "skip": False,
        "neighbours": 0,
        "hidden_size": 12,
        "epochs": 1,
    }
    assert not {"device", "seed"} & set(preset)
    assert f"network: Recall@20 {recall:.4f}, MRR@20 {mrr:.4f} after 1 trials" in tuned.stdout


def test_tuning_ends_in_time() -> None:
    """The trial that is under way is finished."""
    pytest.importorskip("optuna", reason="Optuna is not installed")

    assert len(list(tune("recent-popularity", {}, Settings(), small_data(), Limits(10_000, 1e-6)))) == 1


def test_a_search_that_is_ended_has_written_what_it_found(
    clicks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the third trial."""
    pytest.importorskip("optuna", reason="Optuna is not installed")
    out, fit, n_fits = tmp_path / "found.toml", Popularity.fit, itertools.count(1)

    def fit_twice(self: Popularity, train: Sequences, n_items: int) -> None:
        if next(n_fits) == 3:
            raise KeyboardInterrupt
        fit(self, train, n_items)

    monkeypatch.setattr(Popularity, "fit", fit_twice)

    done = invoke(clicks, "--tune", "--models", "recent-popularity", "--preset-out", out)

    assert done.exit_code != 0
    assert "trial 2: Recall@20" in done.stderr
    assert "half_life" in load_preset(str(out))["recent-popularity"]
    assert "after 2 trials" in out.read_text(encoding="utf-8")


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"the real click data is not at {REAL_DATA}")
def test_real_clicks_give_the_figures_that_others_measured(tmp_path: Path) -> None:
    """session-rec's Markov chain on yoochoose_100k: Recall@20 .563, MRR@20 .328; session popularity .382, .300."""
    file = tmp_path / "out.json"
    names = "popularity,session-recency,markov-chain"
    done = invoke(REAL_DATA / "yoochoose_100k.csv.gz", "--models", names, "--json", file)
    models = json.loads(file.read_text())["models"]

    assert done.exit_code == 0, done.output
    for name, recall, mrr in (
        ("popularity", 0.089, 0.026),
        ("session-recency", 0.382, 0.300),
        ("markov-chain", 0.563, 0.328),
    ):
        assert models[name]["metrics"]["recall@20"]["mean"] == pytest.approx(recall, abs=0.01)
        assert models[name]["metrics"]["mrr@20"]["mean"] == pytest.approx(mrr, abs=0.01)
