"""The commands of the runbooks can be typed as they stand there."""

import re
import shlex
import textwrap
from pathlib import Path

import click
import pytest
import yaml

from cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "runbooks").glob("*.md"))


def commands(page: Path) -> list[str]:
    """Every `nextclick ...` of a page, in blocks and in lines."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    lines = re.findall(r"`(nextclick [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return re.findall(r"^nextclick .*", blocks, re.MULTILINE) + lines


def parse(command: click.Command, arguments: list[str]) -> None:
    """Let click read a command line, and that of a command within it; nothing runs."""
    if isinstance(command, click.Group) and arguments:
        _, inner, rest = command.resolve_command(click.Context(command), arguments)
        assert inner is not None
        parse(inner, rest)
    else:
        command.make_context(command.name or "", list(arguments)).close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, its options, its settings; a file that is named is there."""
    monkeypatch.chdir(tmp_path)
    Path("clicks.csv").write_text("user,item,time\n")
    Path("FILE").write_text("")

    for line in commands(page):
        _, name, *arguments = shlex.split(line)
        parse(COMMANDS[name][0](), arguments)


def test_the_commands_for_containers_fit_what_is_deployed() -> None:
    """Names of pods and services, the namespace; and what asks from within is Python that compiles."""
    text = (ROOT / "docs" / "runbooks" / "README.md").read_text()
    manifests = [
        document
        for path in (ROOT / "deploy" / "kubernetes" / "base").glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
    ]
    workloads = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in manifests if "metadata" in each}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    asked = re.findall(r"kubectl --namespace (\S+) (?:exec|port-forward) (\S+)", text)
    scripts = re.findall(r'python -c "([^"]+)"', text)

    assert {namespace for namespace, _ in asked} == {"nextclick"}
    assert {re.sub(r"^([\w-]+)-0$", r"statefulset/\1", name) for _, name in asked} <= workloads
    assert set(re.findall(r"docker compose exec (?:--index 1 )?(\w+)", text)) <= services.keys()
    assert scripts
    for script in scripts:
        compile(textwrap.dedent(script), "README.md", "exec")


def test_a_wrong_command_would_be_noticed() -> None:
    """An option, a command and a setting that are not there."""
    for name, *arguments in (["train", "--skip"], ["models", "unpinn"], ["doctor", "extra"]):
        with pytest.raises(click.UsageError):
            parse(COMMANDS[name][0](), arguments)


def test_the_pages_hold_commands() -> None:
    """Else the first test would hold for pages without any."""
    assert sum(len(commands(page)) for page in PAGES) > 40
