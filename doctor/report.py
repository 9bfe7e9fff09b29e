"""Shows a diagnosis: short on a terminal, or as JSON for scripts."""

from collections import Counter

import msgspec
from rich.console import Console
from rich.markup import escape

from doctor.diagnosis import Diagnosis
from doctor.findings import STATUS, Level, worst
from nextclick.clicks import RejectReason

_MARKS = {
    Level.OK: "[green]ok     [/green]",
    Level.NOTE: "[blue]note   [/blue]",
    Level.WARNING: "[yellow]warning[/yellow]",
    Level.ERROR: "[bold red]error  [/bold red]",
}


def print_report(diagnosis: Diagnosis, console: Console) -> None:
    """Print a line for each finding, below it what to do, and at the end what it comes to."""
    for level, about, found, advice in diagnosis.findings:
        console.print(f"{_MARKS[level]} [bold]{about}[/bold]: {escape(found)}", soft_wrap=True, highlight=False)
        for line in advice.splitlines():
            console.print(f"        -> {escape(line)}", soft_wrap=True, highlight=False)
    counts = Counter(finding.level for finding in diagnosis.findings)
    level = worst(diagnosis.findings)
    text = ", ".join(f"{counts[each]} {each.value}" for each in reversed(Level) if counts[each])
    console.print(f"\n{_MARKS[level].strip()} {text}; exit status {STATUS[level]}", highlight=False)


def as_json(diagnosis: Diagnosis) -> bytes:
    """Give everything as one JSON object: `status`, `worst`, `findings`, and of the records `sample` and `set`."""
    level = worst(diagnosis.findings)
    report: dict[str, object] = {
        "status": STATUS[level],
        "worst": level.value,
        "findings": [finding._asdict() for finding in diagnosis.findings],
    }
    proposal = diagnosis.proposal
    if proposal is not None:
        usage = proposal.before.usage
        by_kind: dict[str, dict[str, int]] = {"rejected": {}, "passed_over": {}}
        for reason, number in usage.by_reason.items():
            by_kind["rejected" if isinstance(reason, RejectReason) else "passed_over"][reason.value] = number
        report["sample"] = {"records": usage.records, "applied": usage.used, **by_kind}
        report["set"] = proposal.changes
        report["applied_when_set"] = proposal.after.used
        report["needs_rekey"] = proposal.needs_rekey
    return msgspec.json.format(msgspec.json.encode(report))
