"""What doctor says of topics, brokers, clocks, groups, folders and records, and the status it ends with."""

import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from doctor.cli import reminders, repeated_options
from doctor.clocks import check_clocks
from doctor.diagnosis import Diagnosis
from doctor.findings import STATUS, Finding, Level, refusal, worst
from doctor.places import check_bundles, check_data_dir, check_disks
from doctor.progress import Group, worker_findings
from doctor.records import check_records
from doctor.report import as_json, print_report
from doctor.search.propose import propose
from doctor.search.sample import Sample, SampledRecord
from doctor.topic_traps import check_broker, check_topics
from nextclick.hashing import partition_of
from nextclick.manifest import MANIFEST_FILE, BundleFile, Manifest, encode_manifest
from nextclick.settings import Settings
from stream.topics.topic_rules import HOUR_MS, TopicFacts
from tools.kafka import OffsetRange

NOW_MS = 1_764_000_000_000
MINUTE_MS = 60_000
HEALTHY = {
    "cleanup.policy": "delete",
    "retention.ms": str(7 * 24 * HOUR_MS),
    "retention.bytes": "-1",
    "min.insync.replicas": "2",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
}
HEALTHY_BROKER = {
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "log.cleaner.enable": "true",
    "offsets.retention.minutes": "10080",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
}


def only(findings: list[Finding]) -> Finding:
    """The one finding that is not ok."""
    [finding] = [finding for finding in findings if finding.level is not Level.OK]
    return finding


def test_healthy_topics_and_brokers_are_not_nagged() -> None:
    """Three brokers, a week's retention."""
    settings = Settings()
    names = (settings.clicks_topic, settings.recommendations_topic, settings.changelog_topic)

    assert check_topics(settings, {name: TopicFacts(HEALTHY, 3, 4) for name in names}) == []
    assert check_broker(settings, HEALTHY_BROKER, n_brokers=3) == []


@pytest.mark.parametrize(
    ("topic", "config", "level", "says"),
    [
        ("clicks", {"retention.ms": str(HOUR_MS)}, Level.WARNING, "1.0 hours"),
        ("clicks", {"retention.ms": str(48 * HOUR_MS)}, Level.NOTE, "48.0 hours"),
        ("clicks", {"retention.bytes": "1000000"}, Level.NOTE, "1,000,000 bytes"),
        ("clicks", {"message.timestamp.type": "LogAppendTime"}, Level.NOTE, "LogAppendTime"),
        ("clicks", {"min.insync.replicas": "4"}, Level.ERROR, "min.insync.replicas=4"),
        ("recommendations", {"max.message.bytes": "1000"}, Level.WARNING, "1,000 bytes"),
    ],
)
def test_a_trap_of_a_topic_is_said(topic: str, config: dict[str, str], level: Level, says: str) -> None:
    """With what to do about it."""
    finding = only(check_topics(Settings(), {topic: TopicFacts(HEALTHY | config, 3, 4)}))

    assert finding.level is level
    assert says in finding.found
    assert finding.advice


def test_retention_for_ever_is_no_trap() -> None:
    """Kafka writes it as -1."""
    assert check_topics(Settings(), {"clicks": TopicFacts(HEALTHY | {"retention.ms": "-1"}, 3, 4)}) == []


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({"auto.create.topics.enable": "true"}, Level.NOTE),
        ({"unclean.leader.election.enable": "true"}, Level.WARNING),
        ({"log.cleaner.enable": "false"}, Level.WARNING),
        ({"offsets.retention.minutes": "60"}, Level.WARNING),
        ({"offsets.topic.replication.factor": "5"}, Level.WARNING),
        ({"transaction.state.log.replication.factor": "5"}, Level.WARNING),
        ({"group.min.session.timeout.ms": "20000"}, Level.ERROR),
        ({"group.max.session.timeout.ms": "5000"}, Level.ERROR),
    ],
)
def test_a_trap_of_a_broker_is_said(config: dict[str, str], level: Level) -> None:
    """By the name of what it is set to."""
    finding = only(check_broker(Settings(), HEALTHY_BROKER | config, n_brokers=3))

    assert finding.level is level
    assert next(iter(config)) in finding.found + finding.advice or "session_timeout_s" in finding.advice


def clicks_at(event_ms: int | None, record_ms: int) -> Sample:
    """Clicks of 30 users, all of one time."""
    event = {"item_id": "i"} if event_ms is None else {"item_id": "i", "timestamp_ms": event_ms}
    records = [
        SampledRecord(
            0, number, record_ms, f"u{number}".encode(), json.dumps(event | {"user_id": f"u{number}"}).encode()
        )
        for number in range(30)
    ]
    return Sample(records, 1, NOW_MS)


@pytest.mark.parametrize(
    ("event_ms", "record_ms", "says"),
    [
        (None, NOW_MS // 1000, "record time in seconds"),
        (None, NOW_MS * 1000, "microseconds"),
        (None, NOW_MS + 30 * MINUTE_MS, "ahead of this machine's clock, by 30 minutes"),
        (NOW_MS + 600 * MINUTE_MS, NOW_MS, "clients' clocks are ahead"),
        (NOW_MS + 4000 * MINUTE_MS, NOW_MS, "clients' clocks are ahead"),
        (NOW_MS - 10_000 * MINUTE_MS, NOW_MS, "half of the events happened 7 days or more before"),
    ],
)
def test_a_clock_that_is_wrong_is_said(event_ms: int | None, record_ms: int, says: str) -> None:
    """Also where the event is rejected for it."""
    assert says in only(check_clocks(clicks_at(event_ms, record_ms), Settings())).found


def test_clocks_that_fit_are_fine() -> None:
    """A second between the event and its record."""
    [finding] = check_clocks(clicks_at(NOW_MS - 2_000, NOW_MS - 1_000), Settings())

    assert finding.level is Level.OK


RANGES = {0: OffsetRange(100, 200), 1: OffsetRange(0, 50)}


@pytest.mark.parametrize(
    ("group", "level", "says"),
    [
        (Group(2, True, {0: 190, 1: 50}), Level.OK, "2 workers in the group nextclick; 10 records"),
        (Group(0, True, {0: 190, 1: 50}), Level.NOTE, "no worker runs; 10 records"),
        (Group(1, False, {0: 200, 1: 50}), Level.OK, "share out the partitions"),
        (Group(0, True, {}), Level.NOTE, "all 150 that the topic has"),
        (Group(1, True, {0: 40, 1: 50}), Level.WARNING, "removed up to 60 records"),
        (Group(1, True, {0: 300, 1: 50}), Level.ERROR, "further than partition 0"),
    ],
)
def test_how_far_workers_are(group: Group, level: Level, says: str) -> None:
    """From what the group has committed, and what the topic holds."""
    findings = worker_findings(Settings(), group, RANGES)

    assert worst(findings) is level
    assert any(says in finding.found for finding in findings)
    assert all("recommendations_topic=" in finding.advice for finding in findings if finding.level is Level.ERROR)


def settings_in(folder: Path) -> Settings:
    """Folders of this test's own."""
    return Settings(data_dir=folder / "worker", log_dir=folder / "log", bundle_dir=folder / "bundles")


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    """And nothing is made where a folder is missing."""
    (tmp_path / "log").write_text("")
    finding = next(each for each in check_disks(settings_in(tmp_path)) if each.level is Level.ERROR)

    assert "log_dir" in finding.found
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_workers_folder_of_another_application_is_refused_as_the_worker_refuses_it(tmp_path: Path) -> None:
    """Also one that is a copy of another changelog."""
    settings = settings_in(tmp_path)
    assert check_data_dir(settings, "id-1") == []
    settings.data_dir.mkdir()
    (settings.data_dir / "app").write_text("other")
    assert "found states of 'other'" in only(check_data_dir(settings, "id-1")).found
    (settings.data_dir / "app").write_text(settings.app)
    (settings.data_dir / "changelog").write_text("id-0")

    assert "Delete the folder" in only(check_data_dir(settings, "id-1")).advice


def a_bundle(folder: Path) -> Manifest:
    """A bundle of one file, as far as its manifest goes."""
    files = (BundleFile("model.safetensors", "0" * 64, 5),)
    manifest = Manifest(bundle_id="0123456789abcdef", created_ms=1, network={}, files=files, metrics={})
    (folder / manifest.bundle_id).mkdir(parents=True)
    (folder / manifest.bundle_id / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    (folder / manifest.bundle_id / "model.safetensors").write_bytes(b"12345")
    return manifest


def test_the_announced_bundle_is_looked_for(tmp_path: Path) -> None:
    """There, damaged, or in a folder that this machine does not have."""
    settings = settings_in(tmp_path)
    champion = a_bundle(settings.bundle_dir)
    assert worst(check_bundles(settings, champion)) in (Level.OK, Level.NOTE)
    (settings.bundle_dir / champion.bundle_id / "model.safetensors").write_bytes(b"1234")
    assert "is damaged: model.safetensors" in check_bundles(settings, champion)[0].found
    elsewhere = Settings(bundle_dir=tmp_path / "elsewhere")

    assert "a worker here cannot serve it" in check_bundles(elsewhere, champion)[0].found
    assert "everyone gets the popular items" in check_bundles(settings, None)[0].found


def test_a_bundle_that_the_settings_name_must_be_there(tmp_path: Path) -> None:
    """A worker with it would not start."""
    settings = Settings(bundle=str(tmp_path / "gone"), bundle_dir=tmp_path)

    assert worst(check_bundles(settings, None)) is Level.ERROR


def sample_of(event: dict[str, object], n_records: int = 60) -> Sample:
    """One record of each user."""
    records = []
    for number in range(n_records):
        user = f"u{number}"
        value = json.dumps(event | {"who": user, "sku": f"s{number % 9}"}).encode()
        records.append(
            SampledRecord(partition_of(user.encode(), 3, "murmur2_random"), number, NOW_MS, user.encode(), value)
        )
    return Sample(records, 3, NOW_MS)


def test_the_line_repeats_what_was_given_and_can_be_pasted() -> None:
    """Into a shell: with quotes where they are needed."""
    proposal = propose(sample_of({}), Settings())
    findings = check_records(Settings(), proposal, ["--broker", "kafka:9092", "--set", "app=my shop"])
    [line] = [finding.advice for finding in findings if finding.advice.startswith("nextclick")]

    assert shlex.split(line) == [
        *("nextclick", "stream", "--broker", "kafka:9092", "--set", "app=my shop"),
        *("--set", "user_field=who", "--set", "item_field=sku"),
    ]
    assert worst(findings) is Level.ERROR


def test_the_lines_for_a_copy_fit_the_copy() -> None:
    """As many partitions, a new application where there are states, and keys that are text."""
    records = [
        SampledRecord(number % 3, number, NOW_MS, b"%d" % number, b'{"user_id":"u%d","item_id":"i"}' % (number % 10))
        for number in range(60)
    ]
    settings = Settings(key_format="long", clicks_topic="shop")
    given = ["--set", "key_format=long", "--set", "clicks_topic=shop"]
    proposal = propose(Sample(records, 3, NOW_MS), settings)
    [new] = [each.advice for each in check_records(settings, proposal, given) if "rekey" in each.advice]
    [noted] = [
        each.advice for each in check_records(settings, proposal, given, has_states=True) if "rekey" in each.advice
    ]

    assert [shlex.split(line.partition(": ")[2])[1:] for line in new.splitlines()] == [
        ["topics", "--set", "key_format=long", "--set", "clicks_topic=shop-by-user", "--set", "partitions=3"],
        ["rekey", "shop", "--to", "shop-by-user", "--set", "key_format=long", "--set", "clicks_topic=shop"],
        ["stream", "--set", "clicks_topic=shop-by-user", "--set", "key_format=text"],
    ]
    assert noted.count("--set app=nextclick-copy --set recommendations_topic=recommendations-copy") == 3
    assert "--set data_dir=data/worker-copy" in noted.splitlines()[2]


def test_what_is_good_to_know_is_no_warning() -> None:
    """All records can be used; times and kinds are read as well when it is said where they are."""
    settings = Settings(user_field="who", item_field="sku")
    findings = check_records(settings, propose(sample_of({"at": "2025-11-24T15:00:00Z"}), settings), [])

    assert worst(findings) is Level.NOTE
    assert any("time_field=at" in finding.advice for finding in findings)


def test_where_nothing_can_be_used_it_is_said_what_is_missing() -> None:
    """A time that is found is no consolation."""
    sample = Sample(
        [record._replace(value=b'{"at":"2025-11-24T15:00:00Z"}') for record in sample_of({}).records], 3, NOW_MS
    )
    findings = check_records(Settings(), propose(sample, Settings()), [])
    said = [each.found for each in findings]

    assert any("no settings were found" in each and "no field looks like the user or the item" in each for each in said)
    assert not any("nextclick stream" in each.advice for each in findings)


def test_what_stands_behind_the_first_of_a_list_is_said() -> None:
    """Scalars cannot be events, and so are left out."""
    settings = Settings(user_field="who", item_field="items.0")
    findings = check_records(settings, propose(sample_of({"items": ["a", "b", "c"]}), settings), [])
    [left_out] = [each for each in findings if "left out" in each.found]

    assert "the lists at items hold 120 elements behind the first" in left_out.found
    assert left_out.level is Level.WARNING


def test_what_is_found_besides_does_not_hide_what_is_lost() -> None:
    """Half of the records hold clicks and a time, the others nothing."""
    settings = Settings(user_field="who", item_field="sku")
    records = [
        record._replace(value=b"{}") if record.offset % 2 else record
        for record in sample_of({"at": "2025-11-24T15:00:00Z"}).records
    ]
    findings = check_records(settings, propose(Sample(records, 3, NOW_MS), settings), [])

    assert any("time_field=at" in each.advice for each in findings)
    assert any("no settings were found" in each.found for each in findings)


def test_an_event_id_that_loses_clicks_is_a_warning_with_its_remedy() -> None:
    """All records can be read, and most of their clicks would be passed over in silence."""
    settings = Settings(user_field="who", item_field="sku")
    findings = check_records(settings, propose(sample_of({"event_id": "click"}), settings), [])
    [finding] = [each for each in findings if each.level is Level.WARNING]

    assert "id_field names event_id" in finding.found
    assert "60 events have 1 value there" in finding.found
    assert finding.advice.startswith("--set id_field= counts every click")


def test_an_event_id_that_is_an_object_is_given_up_in_the_line() -> None:
    """It can be pasted, and nothing contradicts it."""
    settings = Settings(user_field="who", item_field="sku")
    findings = check_records(settings, propose(sample_of({"event_id": {"a": 1}}), settings), [])

    assert any(each.advice == "nextclick stream --set id_field=" for each in findings)
    assert any("at 'event_id', found an object" in each.found for each in findings)
    assert not any("no settings were found" in each.found for each in findings)


def test_an_empty_topic_is_a_note() -> None:
    """There is nothing wrong yet."""
    findings = check_records(Settings(), propose(Sample([], 3, NOW_MS), Settings()), [])

    assert worst(findings) is Level.NOTE


def test_a_password_on_the_command_line_is_not_repeated() -> None:
    """Lines are pasted into tickets, too."""
    params = {"broker": None, "config": Path("shop.toml"), "assignments": ("sasl_password=s3cret", "app=shop")}

    assert repeated_options(params) == ["--config", "shop.toml", "--set", "app=shop"]


@pytest.mark.parametrize(
    ("assignments", "advice", "is_said"),
    [
        (("sasl_password=s3cret", "app=shop"), "nextclick stream --set app=shop", True),
        (("app=shop",), "nextclick stream --set app=shop", False),
        (("sasl_password=s3cret",), "correct the rights of this user", False),
    ],
)
def test_lines_that_lack_a_password_say_so(assignments: tuple[str, ...], advice: str, is_said: bool) -> None:
    """By its name."""
    reminded = reminders(assignments, [Finding(Level.WARNING, "clicks", "x", advice)])

    assert [each.found for each in reminded] == (
        ["the lines above are without sasl_password, which the command line gave"] if is_said else []
    )


def test_what_a_mend_leaves_is_still_explained() -> None:
    """Records without a value, beside ones whose fields are found."""
    records = [record._replace(value=None) if record.offset % 2 else record for record in sample_of({}).records]
    findings = check_records(Settings(), propose(Sample(records, 3, NOW_MS), Settings()), [])
    [empty] = [each for each in findings if "bad_json" in each.found]
    [unnamed] = [each for each in findings if "missing_field" in each.found]

    assert "30 have no value" in empty.found
    assert empty.advice == "for those without a value nothing, for they hold no click"
    assert unnamed.advice == ""


def test_a_line_of_a_program_is_cut_into_what_is_and_what_to_do() -> None:
    """At the last semicolon, or where a new sentence begins."""
    assert refusal("topics", "x is y; do z") == Finding(Level.ERROR, "topics", "x is y", "do z")
    assert refusal("topics", "x is y: z. Stop all; start again").advice == "Stop all; start again"
    assert refusal("topics", "x is y").found == "x is y"


@pytest.mark.parametrize(
    ("levels", "status"),
    [([], 0), ([Level.OK, Level.NOTE], 0), ([Level.NOTE, Level.WARNING], 3), ([Level.WARNING, Level.ERROR], 1)],
)
def test_the_exit_status_is_that_of_the_worst_finding(levels: list[Level], status: int) -> None:
    """For scripts."""
    assert STATUS[worst(Finding(level, "x", "y") for level in levels)] == status


def test_the_report_shows_every_finding() -> None:
    """As lines, where brackets are no markup, and as JSON."""
    diagnosis = Diagnosis([Finding(Level.WARNING, "clicks", "a [b] c", "do [this]\nthen that")])
    diagnosis.proposal = propose(sample_of({}), Settings())
    text = io.StringIO()
    print_report(diagnosis, Console(file=text, width=40))
    report = json.loads(as_json(diagnosis))

    assert "clicks: a [b] c\n        -> do [this]\n        -> then that\n" in text.getvalue()
    assert report["status"] == 3
    assert report["set"] == {"user_field": "who", "item_field": "sku"}
    assert report["sample"] == {"records": 60, "applied": 0, "rejected": {"missing_field": 60}, "passed_over": {}}
