"""Presets: what is written is read again, and what is wrong in one is named."""

import resource
from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.evaluation.baselines.session_neighbours import Stan
from training.evaluation.models import MODELS, model_names
from training.evaluation.network_recommender import NetworkRecommender
from training.evaluation.presets import FOLDER, load_preset, save_preset, without_settings
from training.evaluation.tune import SEARCH, Between, OneOf, search_space


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """With all kinds of values; the comment is for people."""
    preset = {"network": {"learning_rate": 0.25, "epochs": 3, "tied": False, "cell": "gru"}, "stan": {"k": 7}}
    path = tmp_path / "new" / "mine.toml"
    save_preset(path, "found\non a day", preset)

    assert load_preset(str(path)) == preset
    assert path.read_text().startswith("# found\n# on a day\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[nonsense]\nk = 1", "'nonsense' is no table of parameters"),
        ("stan = 3", "'stan' is no table of parameters"),
        (
            "[stan]\nkk = 1",
            "'kk' is no parameter of this model; it has k, sample_size, place_decay, age_decay, distance_decay",
        ),
        ("[stan]\nk = 1.5", "k is 1.5; give a value like 500"),
        ("[stan]\nk = -1", "k is -1; give a value like 500"),
        ("[stan]\nk = true", "k is true; give a value like 500"),
        ("[stan]\nage_decay = 'x'", 'age_decay is "x"; give a value like 0.5'),
        ("[network]\ncell = 3", 'cell is 3; give a value like "gru"'),
        ("[network]\nbroker = 'x'", "'broker' is no parameter of this model"),
        ("[markov-chain]\nk = 3", "it has none"),
        ("[network]\nhidden_size = 0", "setting hidden_size cannot be 0"),
        ("[gru-binary]\nlearning_rate = inf", "setting learning_rate cannot be inf"),
        ("[network]\nloss = 'x'", "setting loss cannot be 'x': it takes one of"),
        ("[stan]\nage_decay = 0", "age_decay is 0; give a value above 0"),
        ("[recent-popularity]\nhalf_life = 0.0", "half_life is 0.0; give a value above 0"),
        ("[session-knn]\nk = 0", "k is 0; give a value above 0"),
        ("[network]\nseed = 3", "a preset has no seed; remove it and give --seeds"),
        ("[network-alone]\nneighbours = 7", "neighbours cannot be set, it is always 0 in this model; remove it"),
        ("[lstm-binary]\ncell = 'gru'", 'cell cannot be set, it is always "lstm" in this model; remove it'),
        ("[stan", "cannot be read: "),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """With the file, what is wrong and what to do."""
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(PermanentError) as caught:
        load_preset(str(path))

    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["nonsense", "/nowhere/mine.toml"])
def test_a_preset_that_is_not_there(name: str) -> None:
    """Says what could be given."""
    with pytest.raises(PermanentError, match=r"ends with \.toml, or one of: "):
        load_preset(name)


def test_presets_come_with_the_program() -> None:
    """One for each data set that we measure."""
    assert {path.stem for path in FOLDER.glob("*.toml")} >= {"yoochoose_100k", "retailrocket_14d"}


@pytest.mark.parametrize("path", [path.stem for path in FOLDER.glob("*.toml")])
def test_presets_that_come_with_the_program_are_right(path: str) -> None:
    """They are read as any other."""
    assert load_preset(path)


def test_a_preset_reaches_its_model() -> None:
    """Parameters of baselines are fields; the network's are settings."""
    settings = Settings(epochs=9, dropout=0.1)
    network = MODELS["network"].make(settings, {"epochs": 2, "seed": 5})
    stan = MODELS["stan"].make(settings, {"k": 3})

    assert isinstance(network, NetworkRecommender)
    assert (network.settings.epochs, network.settings.seed, network.settings.dropout) == (2, 5, 0.1)
    assert isinstance(stan, Stan)
    assert (stan.k, stan.age_decay) == (3, 0.5)


def test_what_is_searched_can_be_set_and_holds_the_defaults() -> None:
    """Of every model that can be tuned: the defaults are the first trial."""
    for name, space in SEARCH.items():
        defaults = MODELS[name].parameters(Settings())
        for parameter, among in space.items():
            default = defaults[parameter]
            if isinstance(among, Between):
                assert isinstance(default, int | float)
                assert among.low <= default <= among.high
                assert isinstance(default, int) == isinstance(among.low, int)
            else:
                assert default in among.values


@pytest.mark.parametrize(
    ("parameter", "start"),
    [
        ("hidden_size", 100),
        ("batch_windows", 64),
        ("loss", "bpr_max"),
        ("negatives", 1_000),
        ("epochs", 20),
        ("learning_rate", 0.001),
        ("dropout", 0.9),
    ],
)
def test_what_is_searched_grows_to_hold_another_start(parameter: str, start: float | str) -> None:
    """Optuna takes no trial from outside; what was searched anyhow still is."""
    usual = MODELS["network"].parameters(Settings())
    among, before = search_space("network", {**usual, parameter: start})[parameter], SEARCH["network"][parameter]

    if isinstance(among, OneOf):
        assert isinstance(before, OneOf)
        assert among.values == (*before.values, start)
    else:
        assert isinstance(before, Between)
        assert isinstance(start, int | float)
        assert (among.low, among.high) == (min(before.low, start), max(before.high, start))
    assert search_space("network", usual) == SEARCH["network"]


def test_a_search_cannot_begin_at_zero_on_a_logarithmic_scale() -> None:
    """Zero lies on none."""
    with pytest.raises(PermanentError, match="cannot begin with learning_rate=0"):
        search_space("network", {**MODELS["network"].parameters(Settings()), "learning_rate": 0.0})


def test_a_setting_wins_in_the_tables_of_all_networks() -> None:
    """Baselines have no settings: a parameter of the same name would be another."""
    preset = {"network-alone": {"epochs": 3, "dropout": 0.5}, "gru-binary": {"epochs": 4}, "stan": {"k": 7}}

    left = without_settings(preset, {"epochs", "k"})

    assert left == {"network-alone": {"dropout": 0.5}, "gru-binary": {}, "stan": {"k": 7}}


def test_a_full_disk_leaves_the_old_preset(tmp_path: Path) -> None:
    """One line says so; nothing else is left in the folder."""
    path = tmp_path / "mine.toml"
    save_preset(path, "old", {"stan": {"k": 7}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # a write beyond 10 bytes fails, as on a full disk
    try:
        with pytest.raises(PermanentError, match="cannot be written: "):
            save_preset(path, "new", {"stan": {"k": 8}, "session-knn": {"k": 9}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert load_preset(str(path)) == {"stan": {"k": 7}}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_preset_stays_a_link(tmp_path: Path) -> None:
    """What it points to is replaced."""
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    link.symlink_to(real)
    save_preset(link, "found", {"stan": {"k": 7}})

    assert link.is_symlink()
    assert load_preset(str(real)) == {"stan": {"k": 7}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("stan,nonsense", "no model 'nonsense'"), ("", "no model ''"), ("stan, stan", "'stan' twice")],
)
def test_wrong_model_names_are_named(text: str, expected: str) -> None:
    """And those that are known are listed, or the one that is double."""
    with pytest.raises(PermanentError, match=expected):
        model_names(text)


def test_model_names_are_read() -> None:
    """Spaces are no matter."""
    assert model_names("stan, network") == ["stan", "network"]
