"""Where settings come from: files, variables of ours and of Kubernetes, and which of them counts."""

from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.setting_sources import given_settings
from nextclick.settings import GROUPS, Settings, setting_kinds

# What a pod is told of a Service `nextclick`, of `nextclick-worker` with a named port, and of one with two protocols.
KUBERNETES = {
    "NEXTCLICK_SERVICE_HOST": "10.0.0.11",
    "NEXTCLICK_SERVICE_PORT": "9464",
    "NEXTCLICK_PORT": "tcp://10.0.0.11:9464",
    "NEXTCLICK_PORT_9464_TCP": "tcp://10.0.0.11:9464",
    "NEXTCLICK_PORT_9464_TCP_PROTO": "tcp",
    "NEXTCLICK_PORT_9464_TCP_PORT": "9464",
    "NEXTCLICK_PORT_9464_TCP_ADDR": "10.0.0.11",
    "NEXTCLICK_WORKER_SERVICE_HOST": "fd00::11",
    "NEXTCLICK_WORKER_SERVICE_PORT": "9464",
    "NEXTCLICK_WORKER_SERVICE_PORT_METRICS": "9464",
    "NEXTCLICK_WORKER_PORT": "tcp://[fd00::11]:9464",
    "NEXTCLICK_WORKER_PORT_9464_TCP": "tcp://[fd00::11]:9464",
    "NEXTCLICK_TRAINER_SERVICE_PORT_METRICS_HTTP": "9465",
    "NEXTCLICK_TRAINER_PORT": "udp://10.0.0.12:9465",
    "NEXTCLICK_TRAINER_PORT_9465_UDP_ADDR": "10.0.0.12",
    "NEXTCLICK_TRAINER_PORT_9466_SCTP": "sctp://10.0.0.12:9466",
    "NEXTCLICK_CONFIG_SERVICE_HOST": "10.0.0.13",
    "NEXTCLICK_CONFIG_PORT": "tcp://10.0.0.13:80",
    "NEXTCLICK_2_SHOP_SERVICE_HOST": "10.0.0.14",
}


@pytest.mark.parametrize("variable", KUBERNETES)
def test_a_variable_of_kubernetes_is_no_setting(variable: str) -> None:
    """Whatever a Service is called, also where its variable has the name of a setting."""
    assert Settings.load({variable: KUBERNETES[variable]}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NEXTCLICK_PORT", "9464"),
        ("NEXTCLICK_WORKER_PORTS", "tcp://10.0.0.1:9464"),
        ("NEXTCLICK_WORKER_HOST", "10.0.0.1"),
        ("NEXTCLICK_SERVICE", "10.0.0.1"),
        ("NEXTCLICK_WORKER_PORT", "tcp://10.0.0.1"),
        ("NEXTCLICK_BROKER_ADDR", "10.0.0.1"),
    ],
)
def test_what_only_looks_like_one_of_kubernetes_is_refused(variable: str, value: str) -> None:
    """A misspelt setting must not pass for a Service's variable."""
    with pytest.raises(PermanentError, match=variable):
        Settings.load({variable: value})


def test_a_setting_that_ends_like_a_service_is_a_setting() -> None:
    """A port of ours is a number, and no address."""
    assert Settings.load({"NEXTCLICK_WORKER_PORT": "9999"}).worker_port == 9999


def test_a_file_gives_settings_typed_or_as_text(tmp_path: Path) -> None:
    """As a TOML file has them, also with a byte order mark."""
    text = 'partitions = 8\nstall_s = 5\ntied = false\ncell = "lstm"\nmin_clicks = "10_000"\ndata_dir = "d"\n'
    file = _file(tmp_path, "\ufeff# our shop\n" + text)

    settings = Settings.of(given_settings({}, {}, file))

    assert settings == Settings(
        partitions=8, stall_s=5.0, tied=False, cell="lstm", min_clicks=10_000, data_dir=Path("d")
    )


def test_a_variable_wins_over_the_file_and_set_over_both(tmp_path: Path) -> None:
    """The nearer to the command, the more it counts; the broker's usual variable counts less than the file."""
    file = _file(tmp_path, 'app = "file"\npartitions = 2\nstall_s = 2\nbroker = "file:1"')
    environment = {"NEXTCLICK_PARTITIONS": "3", "NEXTCLICK_STALL_S": "3", "KAFKA_BOOTSTRAP": "usual:1"}

    settings = Settings.of(given_settings(environment, {"stall_s": "4"}, file))

    assert (settings.app, settings.partitions, settings.stall_s, settings.broker) == ("file", 3, 4.0, "file:1")


def test_a_variable_names_the_file_unless_the_command_line_does(tmp_path: Path) -> None:
    """One file counts, not both."""
    ours, other = _file(tmp_path, "partitions = 2", "ours"), _file(tmp_path, "stall_s = 2", "other")
    environment = {"NEXTCLICK_CONFIG": str(other)}

    assert Settings.load(environment) == Settings(stall_s=2.0)
    assert Settings.of(given_settings(environment, {}, ours)) == Settings(partitions=2)
    assert Settings.load({"NEXTCLICK_CONFIG": ""}) == Settings()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("partition = 8", "no setting 'partition' (did you mean 'partitions'?); correct it in {file}"),
        ("partitions = 1.5", "setting partitions cannot be 1.5: it takes a whole number from 1 to 10,000; correct"),
        ("partitions = true", "setting partitions cannot be True: it takes a whole number"),
        ("tied = 2", "setting tied cannot be 2: it takes true or false; correct it in {file}"),
        ("app = 5", "setting app cannot be 5: it takes a text; correct it in {file}"),
        ("stall_s = nan", "setting stall_s cannot be nan: it takes a number of at least 1; correct it in {file}"),
        ("broker = ['a:1', 'b:2']", "setting broker cannot be ['a:1', 'b:2']: it takes a text; correct it in {file}"),
        ("app = 2026-11-26", "setting app cannot be datetime.date(2026, 11, 26): it takes a text; correct"),
        ("data_dir = 5", "setting data_dir cannot be 5: it takes a text; correct it in {file}"),
        (
            "[worker]\nstall_s = 5",
            "{file} has a table 'worker', and settings are in none; write each as `name = value`",
        ),
        ("worker.stall_s = 5", "{file} has a table 'worker', and settings are in none"),
        ("app = shop", "{file} is no TOML: Invalid value (at line 1, column 7); write a line for each setting"),
        ("app: shop", "{file} is no TOML"),
        (b"app = '\xff'", "{file} is no TOML"),
        ("app = 'a'\napp = 'b'", "{file} is no TOML: Cannot overwrite a value"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_key(tmp_path: Path, content: str | bytes, expected: str) -> None:
    """In one line, before anything starts."""
    file = _file(tmp_path, content)

    with pytest.raises(PermanentError) as refused:
        Settings.of(given_settings({}, {}, file))

    message = str(refused.value)
    assert expected.format(file=file) in message
    assert "\n" not in message


@pytest.mark.parametrize(("name", "reason"), [("nowhere.toml", "No such file"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    """With why, and both places that can name it."""
    with pytest.raises(
        PermanentError, match=f"{tmp_path / name} cannot be read: {reason}.*--config or NEXTCLICK_CONFIG"
    ):
        given_settings({}, {}, tmp_path / name)


def test_a_secret_is_not_shown_when_it_is_wrong(tmp_path: Path) -> None:
    """A password of digits, without quotes, is no text; and an address can hold a login."""
    for content in ("sasl_password = 12345678", "cell = 'http://ann:12345678@registry'"):
        with pytest.raises(PermanentError) as refused:
            Settings.of(given_settings({}, {}, _file(tmp_path, content)))

        assert "12345678" not in str(refused.value)


def test_every_group_of_settings_begins_with_a_field() -> None:
    """In the order of the fields; else a setting would be listed under another program."""
    names = list(setting_kinds())

    assert [name for name in names if name in GROUPS] == list(GROUPS)
    assert names[0] in GROUPS


def _file(folder: Path, content: str | bytes, name: str = "shop.toml") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
