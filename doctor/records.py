"""What becomes of the records of the clicks topic, and the settings that would mend it, as findings. Pure."""

import shlex
from collections.abc import Mapping, Sequence

from doctor.findings import Finding, Level, plural
from doctor.search.propose import Proposal
from doctor.search.sample import Verdict
from nextclick.clicks import IgnoreReason, RejectReason
from nextclick.settings import Settings

_ABOUT = "clicks"
_FEW = 0.01  # of the records: fewer are mistakes of a client's


def check_records(
    settings: Settings, proposal: Proposal, given: Sequence[str], *, has_states: bool = False
) -> list[Finding]:
    """Say what is used, what is not and why, and what would mend it.

    Args:
        settings: as they are.
        proposal: what the search found.
        given: what the command line gave, to be repeated in the line that is to be pasted.
        has_states: whether the application is bound to its clicks topic already.
    """
    before, topic = proposal.before, settings.clicks_topic
    n_records = before.usage.records
    if not n_records:
        advice = "send some, with your producer or `nextclick send USER ITEM`, and ask again"
        return [Finding(Level.NOTE, _ABOUT, f"the topic {topic} has no records to look at", advice)]
    findings = [_summary(before, topic), *_reasons(proposal)]
    if proposal.needs_rekey:
        findings.append(_rekey(proposal, settings, given, has_states))
    else:
        if proposal.changes:
            findings.append(_changes(proposal, given))
        if not _is_better(proposal) and before.used < (1 - _FEW) * n_records - _ignored(before):
            findings.append(_nothing_found(proposal))
    return [*findings, *_left_out(proposal), *_event_ids(proposal, settings), *_notes(proposal, topic)]


def _left_out(proposal: Proposal) -> list[Finding]:
    """Say which elements of lists are lost because only the first is used."""
    if not proposal.after.used:
        return []
    return [
        Finding(
            Level.WARNING,
            _ABOUT,
            f"the lists at {path} hold {plural(number, 'element')} behind the first in the records that were looked "
            "through, and these are left out",
            f"--set {shlex.quote(f'list_field={path}')} makes each element an event, with fields named from there; "
            "then each record must have such a list, of objects and of one user",
        )
        for path, number in proposal.left_out.items()
    ]


def _event_ids(proposal: Proposal, settings: Settings) -> list[Finding]:
    """Say when the field of the events' ids repeats, which loses clicks, or when there is a better one."""
    ids, better = proposal.present_ids, f"--set {shlex.quote(f'id_field={proposal.id_field}')}"
    if ids.is_repeated:
        found = (
            f"id_field names {settings.id_field}, which is no id of each event's own: {ids.n_ids:,} events have "
            f"{plural(ids.different, 'value')} there. A click whose user had the same one shortly before is taken for "
            "a client's retry and is lost"
        )
        remedy = "counts every click" if not proposal.id_field else "applies each event once"
        return [Finding(Level.WARNING, _ABOUT, found, f"{better} {remedy}, for worker, trainer and feeds alike")]
    if not proposal.id_field or "id_field" in proposal.changes:
        return []
    found = (
        f"events have an id of their own at {proposal.id_field}, and id_field names another place: an event that a "
        "client sends twice counts twice"
    )
    return [Finding(Level.NOTE, _ABOUT, found, f"{better} applies it once")]


def _notes(proposal: Proposal, topic: str) -> list[Finding]:
    """Say what is good to know of records that can be used."""
    findings = []
    if proposal.grown_from:
        findings.append(
            Finding(
                Level.NOTE,
                _ABOUT,
                f"some of the records were written when {topic} had {proposal.grown_from} partitions: their users have "
                "moved since",
                "nothing where workers ran then, for `nextclick repartition` moved their states; a new application "
                "rejects these records, and with --start latest passes over them",
            )
        )
    if proposal.few_keys:
        findings.append(
            Finding(
                Level.NOTE,
                _ABOUT,
                f"the records have only {plural(proposal.few_keys, 'key')}, too few to tell which partitioner their "
                "producer uses",
                "ask again when there are more, or set partitioner to the one that you know of",
            )
        )
    return findings


def _summary(verdict: Verdict, topic: str) -> Finding:
    n_records, ignored = verdict.usage.records, _ignored(verdict)
    level = Level.OK
    if verdict.rejected >= _FEW * n_records:
        level = Level.WARNING
    if not verdict.used:
        level = Level.ERROR if verdict.rejected else Level.WARNING
    passed_over = f", {ignored:,} passed over" if ignored else ""
    found = f"of the newest {plural(n_records, 'record')} of {topic}, {verdict.used:,} would be applied"
    return Finding(level, _ABOUT, f"{found}{passed_over}, {verdict.rejected:,} rejected")


def _reasons(proposal: Proposal) -> list[Finding]:
    """Say why records are not used; what to do, only where what the search found does not mend it."""
    findings, verdict = [], proposal.before
    is_mended = bool(proposal.needs_rekey) or _is_better(proposal)
    for reason, number in verdict.usage.by_reason.most_common():
        often = _FEW * verdict.usage.records
        is_odd = isinstance(reason, RejectReason) and number >= often
        detail = f": {verdict.details[reason]}" if verdict.details[reason] else ""
        what = "rejected" if isinstance(reason, RejectReason) else "passed over"
        stays = not is_mended or proposal.after.usage.by_reason[reason] >= often
        advice = verdict.usage.remedy(reason) if stays and isinstance(reason, RejectReason) else ""
        if reason is RejectReason.BAD_JSON and verdict.n_empty:
            detail += f"; {verdict.n_empty:,} have no value: they delete a key, as in a compacted topic (tombstones)"
            others = f"; {advice}" if advice and number > verdict.n_empty else ""
            advice = f"for those without a value nothing, for they hold no click{others}"
        level = Level.WARNING if is_odd else Level.NOTE
        findings.append(Finding(level, _ABOUT, f"{number:,} {what} as {reason.value}{detail}", advice))
    return findings


def _is_better(proposal: Proposal) -> bool:
    before, after = proposal.before, proposal.after
    return after.used > before.used or before.rejected > after.rejected


def _changes(proposal: Proposal, given: Sequence[str]) -> Finding:
    after = proposal.after
    if _is_better(proposal):
        level = Level.WARNING
        found = f"other settings, for worker and trainer alike, suit these records: {after.used:,} would be applied"
        if _ignored(after):
            found += f", {_ignored(after):,} passed over because they are no clicks"
        found += f", {after.rejected:,} rejected"
    else:
        level = Level.NOTE
        found = f"the records say more than the settings read: {', '.join(proposal.changes)}"
    return Finding(level, _ABOUT, found, command("stream", given, proposal.changes))


def _nothing_found(proposal: Proposal) -> Finding:
    found = "no settings were found under which more of these records can be used"
    if proposal.missing:
        found += f": no field looks like the {' or the '.join(proposal.missing)}"
    return Finding(Level.NOTE, _ABOUT, found, "look at the reasons above")


def _rekey(proposal: Proposal, settings: Settings, given: Sequence[str], has_states: bool) -> Finding:
    # The states of an application are of one topic, and a data folder is of one application: the copy has new ones. So
    # have its lists (`nextclick/newer.py`): its offsets and its users' sequences begin again.
    app = {}
    if has_states:
        app = {"app": f"{settings.app}-copy", "recommendations_topic": f"{settings.recommendations_topic}-copy"}
    copy = {"clicks_topic": f"{settings.clicks_topic}-by-user"}
    read = {**proposal.changes, **app, **copy}
    if has_states:
        read["data_dir"] = f"{settings.data_dir}-copy"
    if proposal.changes.get("key_format", settings.key_format) != "text":
        read["key_format"] = "text"
    partitions = {"partitions": str(proposal.before.usage.n_partitions)}
    copied = [settings.clicks_topic, "--to", copy["clicks_topic"]]
    advice = [
        f"create a topic for a copy: {command('topics', given, {**app, **copy, **partitions})}",
        f"copy the records: {command('rekey', given, {**proposal.changes, **app}, copied)}",
        f"read the copy: {command('stream', given, read)}",
    ]
    found = f"a user's clicks are not all in one partition under the user's key: {proposal.needs_rekey}"
    if proposal.is_after_rekey:
        found += f"; of a copy with the user as key {proposal.after.used:,} would be applied"
    elif proposal.changes:
        found += f"; as they are {proposal.after.used:,} would be applied"
        advice.insert(0, f"read them as they are: {command('stream', given, proposal.changes)}")
    return Finding(Level.WARNING, _ABOUT, found, "\n".join(advice))


def command(name: str, given: Sequence[str], changes: Mapping[str, str], arguments: Sequence[str] = ()) -> str:
    """Give a command line that can be pasted.

    Args:
        name: of the command.
        given: options as they were given, each with its value; settings that are changed are left out.
        changes: settings to be given besides.
        arguments: of the command itself.
    """
    options: list[str] = []
    for option, value in zip(given[::2], given[1::2], strict=True):
        if option != "--set" or value.partition("=")[0].strip() not in changes:
            options += [option, value]
    options += [part for each, value in changes.items() for part in ("--set", f"{each}={value}")]
    return shlex.join(["nextclick", name, *arguments, *options])


def _ignored(verdict: Verdict) -> int:
    return sum(number for reason, number in verdict.usage.by_reason.items() if isinstance(reason, IgnoreReason))
