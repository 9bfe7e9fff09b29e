"""The contract with Faust and aiokafka: every private hook that is used is listed, and is there."""

import re
from pathlib import Path

import pytest

from nextclick.errors import PermanentError
from stream.faust_adapter import hooks
from stream.faust_adapter.hooks import HOOKS, INSTANCE_HOOKS, check_hooks, missing_hooks

SOURCES = {
    path.name: path.read_text() for path in Path(hooks.__file__).parents[1].rglob("*.py") if path.name != "hooks.py"
}


def test_the_installed_versions_have_every_hook() -> None:
    """If this fails, Faust or aiokafka has changed: read what each named hook is needed for before any update."""
    assert missing_hooks() == []
    check_hooks()


@pytest.mark.parametrize("hook", HOOKS + INSTANCE_HOOKS, ids=lambda hook: f"{hook[1]}.{hook[2]}")
def test_each_listed_hook_is_used(hook: tuple[str, str, str, str]) -> None:
    """The list does not grow old: what nobody uses is not demanded of a version."""
    attribute = hook[2]

    users = [name for name, source in SOURCES.items() if re.search(rf"\b{attribute}\b", source)]

    assert users != []


@pytest.mark.parametrize("list_name", ["HOOKS", "INSTANCE_HOOKS"])
@pytest.mark.parametrize(
    ("module", "owner"),
    [("faust.transport.consumer", "Consumer"), ("faust.transport.consumer", "Gone"), ("faust.gone", "Consumer")],
)
def test_a_missing_hook_is_named(monkeypatch: pytest.MonkeyPatch, list_name: str, module: str, owner: str) -> None:
    """A worker refuses to start and says which hook is missing, what for, and what to do."""
    made_up = (module, owner, "_no_such_hook", "chunks: made up by a test")
    monkeypatch.setattr(hooks, list_name, (*getattr(hooks, list_name), made_up))

    with pytest.raises(PermanentError) as refused:
        check_hooks()

    message = str(refused.value)
    assert "_no_such_hook" in message
    assert f"{module}.{owner}" in message
    assert "chunks: made up by a test" in message
    assert "install the versions of constraints.txt" in message
    assert message.count("(chunks: ") == 1
