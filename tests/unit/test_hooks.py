"""The contract with Faust and aiokafka: what is private to them and used here is listed, and is there."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import aiokafka.codec
import pytest

import stream
from nextclick.errors import PermanentError
from stream.faust_adapter import hooks
from stream.faust_adapter.hooks import HOOKS, INSTANCE_HOOKS, check_codecs, check_hooks, missing_hooks

LIBRARIES = ("faust", "mode", "aiokafka")
SOURCES = {
    path.name: path.read_text() for path in Path(hooks.__file__).parents[1].rglob("*.py") if path.name != "hooks.py"
}

OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}  # public, in spite of their names


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


def test_each_private_name_that_is_used_is_listed() -> None:
    """The other way round: a worker does not start with a version that lacks something, and fail in the middle."""
    listed = {attribute for _, _, attribute, _ in HOOKS + INSTANCE_HOOKS}
    used = dict(_private_names_of_others()) | dict(_names_shared_with_a_foreign_base())

    assert {name: place for name, place in used.items() if name not in listed} == {}


def test_the_search_for_private_names_finds_each_kind() -> None:
    """Of an object of theirs, of a base class of theirs, and overridden."""
    of_others, inherited = dict(_private_names_of_others()), dict(_names_shared_with_a_foreign_base())

    assert "_do_heartbeat" in of_others
    assert {"_loop", "_drain_messages"} <= inherited.keys()


def _private_names_of_others() -> Iterator[tuple[str, str]]:
    """Names that begin with one underscore, of other objects than `self`, unless a class here has such a name itself.

    Yields:
        The name, and the expression and file that use it.
    """
    trees = {name: ast.parse(source) for name, source in SOURCES.items()}
    own = {name for tree in trees.values() for name, is_own in _names_of_self(tree) if is_own}
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not _is_private(node.attr) or node.attr in own:
                continue
            if ast.unparse(node.value) not in ("self", "os"):
                yield node.attr, f"{ast.unparse(node)} in {file}"


def _names_shared_with_a_foreign_base() -> Iterator[tuple[str, str]]:
    """Private names of `self` that the source of a base class uses, too, where that class is not ours.

    Yields:
        The name, and the class that uses it.
    """
    for module_info in pkgutil.walk_packages(stream.__path__, "stream."):
        module = importlib.import_module(module_info.name)
        for owner in vars(module).values():
            if not inspect.isclass(owner) or owner.__module__ != module.__name__:
                continue
            foreign = [base for base in owner.__mro__ if base.__module__.partition(".")[0] in LIBRARIES]
            theirs = "\n".join(inspect.getsource(base) for base in foreign)
            for name, _ in _names_of_self(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
                if re.search(rf"\b(self\.|def ){name}\b", theirs):
                    yield name, f"{owner.__module__}.{owner.__qualname__}"


def _names_of_self(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Private names of `self` in a source, and whether they are made there: by a definition or an assignment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and _is_private(part.name):
                    yield part.name, True
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self" and _is_private(node.attr):
            yield node.attr, isinstance(node.ctx, ast.Store)


def _is_private(name: str) -> bool:
    """Whether a name is private to its class; the libraries' constants of error codes are not."""
    is_named_so = name.startswith("_") and not name.startswith("__") and not name.isupper()
    return is_named_so and name not in OF_NAMED_TUPLES


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


def test_a_worker_without_the_library_of_the_codecs_says_so_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka goes without, until the first batch comes that it cannot read."""
    check_codecs()
    monkeypatch.setattr(aiokafka.codec, "cramjam", None)

    with pytest.raises(PermanentError, match="cramjam is not installed"):
        check_codecs()
