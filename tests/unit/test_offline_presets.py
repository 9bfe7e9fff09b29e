"""Presets: what is written is read again, and what is wrong in one is named."""

from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from training.baselines.stan import Stan
from training.offline.models import MODELS, model_names
from training.offline.network_recommender import NetworkRecommender
from training.offline.presets import FOLDER, load_preset, save_preset
from training.offline.tune import SEARCH, Between


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
        ("[nonsense]\nk = 1", "found 'nonsense'"),
        ("stan = 3", "expects tables that are named"),
        ("[stan]\nkk = 1", "expects some of k, sample_size, place_decay, age_decay, distance_decay, found 'kk'"),
        ("[stan]\nk = 1.5", "expects k like 500"),
        ("[stan]\nk = -1", "expects k like 500"),
        ("[stan]\nk = true", "expects k like 500"),
        ("[stan]\nage_decay = 'x'", "expects age_decay like 0.5"),
        ("[network]\ncell = 3", 'expects cell like "gru"'),
        ("[network]\nbroker = 'x'", "found 'broker'"),
        ("[markov-chain]\nk = 3", "expects some of nothing"),
        ("[stan", "a TOML file that can be read"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """With the file, what was expected and what was found."""
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(PermanentError) as caught:
        load_preset(str(path))

    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["nonsense", "/nowhere/mine.toml"])
def test_a_preset_that_is_not_there(name: str) -> None:
    """Says what could be given."""
    with pytest.raises(PermanentError, match=r"ends with \.toml or one of these names"):
        load_preset(name)


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
    ("text", "expected"), [("stan,nonsense", "found 'nonsense'"), ("", "found ''"), ("stan, stan", "'stan' twice")]
)
def test_wrong_model_names_are_named(text: str, expected: str) -> None:
    """And those that are known are listed, or the one that is double."""
    with pytest.raises(PermanentError, match=expected):
        model_names(text)


def test_model_names_are_read() -> None:
    """Spaces are no matter."""
    assert model_names("stan, network") == ["stan", "network"]
