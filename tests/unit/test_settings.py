"""Settings: what is refused and by which name, which source wins, and what a child process is told."""

import dataclasses
from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import RENAMED, Settings, setting_kinds


def test_defaults_are_valid() -> None:
    """Nothing has to be set."""
    settings = Settings.load({})

    assert settings == Settings()
    assert settings.changelog_topic == "nextclick-user-state-changelog"


def test_each_kind_of_value_is_read_from_text() -> None:
    """Text becomes what the field says: number, switch, path."""
    settings = Settings.load(
        {},
        {
            "partitions": "8",
            "popularity_half_life_s": "1.5",
            "tied": "False",
            "check_key": "1",
            "data_dir": "/somewhere/else",
            "app": "shop",
        },
    )

    assert settings.partitions == 8
    assert settings.popularity_half_life_s == 1.5
    assert settings.tied is False
    assert settings.check_key is True
    assert settings.data_dir == Path("/somewhere/else")
    assert settings.changelog_topic == "shop-user-state-changelog"


def test_set_wins_over_environment() -> None:
    """What stands on the command line is what the user means now."""
    environment = {"NEXTCLICK_PARTITIONS": "2", "NEXTCLICK_APP": "from-environment", "PATH": "/bin"}

    settings = Settings.load(environment, {"partitions": "3"})

    assert (settings.partitions, settings.app) == (3, "from-environment")


def test_the_brokers_usual_variable_counts_least() -> None:
    """KAFKA_BOOTSTRAP is used unless our own variable or --set names a broker."""
    usual = {"KAFKA_BOOTSTRAP": "usual:1"}
    own = usual | {"NEXTCLICK_BROKER": "own:2"}

    assert Settings.load(usual).broker == "usual:1"
    assert Settings.load(own).broker == "own:2"
    assert Settings.load(own, {"broker": "given:3"}).broker == "given:3"
    assert Settings.load({"KAFKA_BOOTSTRAP": ""}).broker == Settings().broker


@pytest.mark.parametrize(
    ("environment", "overrides", "where"),
    [
        ({"NEXTCLICK_PARTITION": "4"}, {}, "NEXTCLICK_PARTITION"),
        ({}, {"partition": "4"}, "--set"),
        ({"NEXTCLICK_PARTITION": "4"}, {"app": "x"}, "NEXTCLICK_PARTITION"),
        ({"NEXTCLICK_PARTITION": "4"}, {"partition": "4"}, "--set"),
    ],
)
def test_an_unknown_name_is_refused_by_name(environment: dict[str, str], overrides: dict[str, str], where: str) -> None:
    """A misspelt setting is never passed over in silence; the message says what was meant, and where it stands."""
    with pytest.raises(PermanentError) as refused:
        Settings.load(environment, overrides)

    assert str(refused.value) == f"there is no setting 'partition' (did you mean 'partitions'?); correct it in {where}"


@pytest.mark.parametrize(
    ("name", "meant"), [("Worker-Port", "worker_port"), ("clickstopic", "clicks_topic"), ("tls_ca", "tls_ca_file")]
)
def test_a_misspelt_name_is_told_the_one_that_was_meant(name: str, meant: str) -> None:
    """Whatever is wrong with it: its case, a sign, an end."""
    with pytest.raises(PermanentError, match=rf"no setting '{name}' \(did you mean '{meant}'\?\)"):
        Settings.load({}, {name: "x"})


def test_a_name_that_is_like_no_other_leads_to_the_list() -> None:
    """Nothing is guessed there."""
    with pytest.raises(PermanentError, match="no setting 'zookeeper': `nextclick settings` lists them all; correct"):
        Settings.load({}, {"zookeeper": "x"})


def test_numbers_are_read_as_python_writes_them() -> None:
    """Thousands may be set apart, and the zero before a point may be left out."""
    settings = Settings.load({}, {"min_clicks": "10_000", "dropout": ".5", "learning_rate": "1e-3"})

    assert (settings.min_clicks, settings.dropout, settings.learning_rate) == (10_000, 0.5, 0.001)


def test_a_former_name_says_the_name_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who upgrades is told what to write instead."""
    monkeypatch.setitem(RENAMED, "half_life", "popularity_half_life_s")

    with pytest.raises(PermanentError, match="no setting 'half_life': it is now called 'popularity_half_life_s'"):
        Settings.load({}, {"half_life": "5"})


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("partitions", "many", "a whole number from 1 to 10,000"),
        ("partitions", "", "a whole number from 1 to 10,000"),
        ("partitions", "1.5", "a whole number from 1 to 10,000"),
        ("learning_rate", "fast", "a number of at least 0"),
        ("tied", "maybe", "true or false"),
        ("partitions", "0", "a whole number from 1 to 10,000"),
        ("gather_ms", "-1", "a number from 0 to 10,000"),
        ("gather_ms", "1.5e300", "a number from 0 to 10,000"),
        ("partitions", "9" * 400, "a whole number from 1 to 10,000"),
        ("max_chunk_records", "1000000000", "a whole number from 1 to 100,000"),
        ("session_timeout_s", "100000", "a number from 1 to 90"),
        ("seed", "-1", "a whole number from 0 to 9,223,372,036,854,775,807"),
        ("seed", "9" * 400, "a whole number from 0 to 9,223,372,036,854,775,807"),
        ("gather_ms", "nan", "a number from 0 to 10,000"),
        ("stall_s", "inf", "a number of at least 1"),
        ("cell", "transformer", "one of gru, lstm, rnn"),
        ("start", "yesterday", "one of earliest, latest"),
        ("security_protocol", "ssl", "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, text: str, allowed: str) -> None:
    """The message says which setting, its value, what is allowed, and where to correct it."""
    with pytest.raises(PermanentError) as refused:
        Settings.load({}, {name: text})

    message = str(refused.value)
    assert message.startswith(f"setting {name} cannot be ")
    assert text[:4] in message
    assert message.endswith(f"it takes {allowed}; correct it in --set")
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("partitions", "4", "a whole number"),
        ("partitions", 0, "a whole number"),
        ("tied", 1, "true or false"),
        ("cell", "x", "one of gru"),
        ("app", 5, "a text"),
        ("dropout", float("nan"), "a number"),
    ],
)
def test_a_wrong_value_from_a_program_is_refused_too(name: str, value: object, allowed: str) -> None:
    """As whoever makes settings in code gives it; there a number is no text."""
    place = f"correct it in --set or in NEXTCLICK_{name.upper()}"
    with pytest.raises(PermanentError, match=f"setting {name} cannot be .*: it takes {allowed}.*; {place}"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recent_clicks", "256"),  # a user's state counts them in one byte
        ("list_length", "256"),  # as above
        ("hidden_size", "32768"),  # a user's state counts the bytes of `hidden` in two bytes
        ("worker_port", "65536"),
        ("trainer_port", "65536"),
        ("dropout", "1.5"),
        ("validation_share", "1.5"),
        ("session_timeout_s", "0.9"),
        ("session_timeout_s", "90.1"),  # Faust refuses to start with more than it waits for an answer
        ("session_timeout_s", "1800"),
    ],
)
def test_a_value_that_nothing_can_hold_is_refused_at_the_start(name: str, text: str) -> None:
    """Ranges have an upper end too: else a worker fails in the middle of the stream, again and again."""
    with pytest.raises(PermanentError, match=f"setting {name} cannot be"):
        Settings.load({}, {name: text})


@pytest.mark.parametrize("missing", ["sasl_username", "sasl_password"])
def test_a_login_needs_user_and_password(missing: str) -> None:
    """SASL without credentials is refused before a connection is tried."""
    login = {"security_protocol": "SASL_SSL", "sasl_username": "ann", "sasl_password": "secret"}

    with pytest.raises(PermanentError, match="sasl_username and sasl_password"):
        Settings.load({}, login | {missing: ""})


def test_the_password_is_shown_nowhere() -> None:
    """Neither a log of the settings nor the message about another mistake holds it."""
    login = {"security_protocol": "SASL_SSL", "sasl_username": "ann", "sasl_password": "hush-hush"}
    settings = Settings.load({}, login)

    with pytest.raises(PermanentError) as refused:
        Settings.load({}, login | {"cell": "x"})

    assert "hush-hush" not in f"{settings!r} {settings} {refused.value}"


def test_settings_are_frozen() -> None:
    """No part of a program can change what another one reads."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().partitions = 2  # type: ignore[misc]


def test_a_child_process_reads_the_same_settings() -> None:
    """`as_environment` and `load` are each other's inverse, for every kind of value."""
    settings = Settings(
        broker="a:1,b:2",
        partitions=7,
        tied=False,
        popularity_half_life_s=0.1 + 1,
        data_dir=Path("/tmp/with space"),
        security_protocol="SASL_PLAINTEXT",
        sasl_username="ann",
        sasl_password="p=w, x",
    )

    assert Settings.load(settings.as_environment()) == settings
    assert Settings.load(Settings().as_environment()) == Settings()


def test_a_child_process_that_inherits_the_environment_reads_the_same_settings() -> None:
    """--set wins over a variable in the parent, so it must win in the child too, also where it names the default."""
    inherited = {"KAFKA_BOOTSTRAP": "elsewhere:9092", "NEXTCLICK_PARTITIONS": "8", "NEXTCLICK_CONFIG": "gone.toml"}
    settings = Settings(broker=Settings().broker, partitions=4)

    child = Settings.load(inherited | settings.as_environment())

    assert child == settings


def test_every_setting_is_described() -> None:
    """Help and documentation are made from the fields themselves."""
    rows = Settings.describe()

    assert [row[0] for row in rows] == [field.name for field in dataclasses.fields(Settings)]
    assert all(reason for *_, reason in rows)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"schema_registry": "registry:8081"}, "begin with http:// or https://"),
        ({"schema_registry": "https://a:8081,b:8081"}, "'b:8081'"),
        ({"schema_registry": "https://ann:s3cret@registry"}, "schema_registry_username"),
        ({"schema_registry_username": "ann"}, "belong together"),
        ({"schema_registry_password": "s3cret"}, "belong together"),
    ],
)
def test_a_schema_registry_needs_an_address_and_both_or_no_credentials(given: dict[str, str], expected: str) -> None:
    """And a password in an address, which is logged, is refused without repeating it."""
    with pytest.raises(PermanentError) as caught:
        Settings.load({}, given)

    assert expected in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["bundle_store", "click_log"])
@pytest.mark.parametrize(
    "address", ["s3://shop", "s3://shop/a/folder", "gs://shop/x", "az://container/x", "file:///srv/bundles"]
)
def test_addresses_of_objects(name: str, address: str) -> None:
    """As fsspec writes them."""
    assert getattr(Settings.load({}, {name: address}), name) == address


@pytest.mark.parametrize("address", ["shop/x", "/srv/bundles", "s3:shop", "s3://", "file://shop", "http://shop/x"])
def test_what_is_no_address_of_objects_is_refused(address: str) -> None:
    """By the setting's name, with what it takes."""
    with pytest.raises(PermanentError, match="bundle_store must be an address as s3://bucket/folder"):
        Settings.load({}, {"bundle_store": address})


@pytest.mark.parametrize("address", ["s3://KEY:sec/ret@shop/x", "az://container/x?sig=secret", "s3://shop/x#secret"])
def test_a_secret_in_an_address_is_refused_and_not_shown(address: str) -> None:
    """Addresses are logged; a key can hold a slash."""
    with pytest.raises(PermanentError, match="click_log must not hold a user name, a key or a token") as error:
        Settings.load({}, {"click_log": address})

    assert address not in str(error.value)
    assert "sec" not in str(setting_kinds()["click_log"].shown(address)).partition("#")[0]


def test_log_and_bundles_are_at_two_addresses() -> None:
    """One lists what is there, and takes it for its own."""
    with pytest.raises(PermanentError, match="must be two different addresses"):
        Settings(click_log="s3://shop/x", bundle_store="s3://shop/x/")
