"""docs/architecture.md, enforced: imports go one way, the core is pure, a reason code means something."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from converter.core.reasons import REASONS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "converter"

RANKS = {
    "errors": 0,
    "": 0,  # converter itself: the version
    "core": 1,
    "data": 2,
    "forks": 0,
    "mounts": 0,
    "signals": 0,
    "fhir": 2,
    "mapping": 2,
    "reading": 2,
    "report": 2,
    "retry": 2,
    "settings": 2,
    "sites": 2,
    "config": 2,
    "sinks": 2,
    "sources": 2,
    "store": 2,
    "delivery": 3,
    "pipeline": 3,
    "listener": 4,
    "cli": 5,
    "__main__": 6,
}
"""Part to height; a part imports nothing above itself."""

IMPURE = {
    "asyncio", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "requests",
    "secrets", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib.request",
}  # fmt: skip
IMPURE_CALLS = {
    "open",
    "print",
    "input",
    "now",
    "utcnow",
    "today",
    "uuid1",
    "uuid4",
    "exec",
    "eval",
}
PRODUCERS = {"Issue": (1, "code"), "Unreadable": (0, "reason")}
"""Classes that carry a reason code: at which place, under which name."""


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()
NAMES = sorted(MODULES)


@cache
def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imported(name, *, typing=True):
    """Modules that one module imports, lazily or not; with or without those for types only."""
    for_types = set()
    if not typing:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                for_types.update(id(child) for part in node.body for child in ast.walk(part))
    for node in ast.walk(tree(name)):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: a relative import"
            assert node.module
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def part(name):
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_one_way(name):
    assert part(name) in RANKS, "a new part: give it a rank here and a line in docs/architecture.md"
    for other in imported(name):
        if other.split(".")[0] == "converter":
            assert RANKS[part(other)] <= RANKS[part(name)], f"{name} imports {other}"


def test_no_module_imports_itself_by_a_detour():
    graph = {
        name: {other for other in imported(name, typing=False) if other in MODULES}
        for name in NAMES
    }
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name] - {name}):
                visit(other, [*path, name])
            done.add(name)

    for name in NAMES:
        visit(name, [])


@pytest.mark.parametrize("name", [name for name in NAMES if part(name) == "core"])
def test_the_core_is_pure(name):
    for other in imported(name):
        assert not {other, other.split(".")[0]} & IMPURE, f"{name} imports {other}"
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            function = node.func
            called = (
                function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            )
            assert called not in IMPURE_CALLS, f"{name} line {node.lineno} calls {called}"


@pytest.mark.parametrize("name", [name for name in NAMES if part(name) != "fhir"])
def test_only_the_check_imports_fhir_resources(name):
    for other in imported(name):
        assert other.split(".")[0] not in {"fhir", "fhir_core"}, f"{name} imports {other}"


@pytest.mark.parametrize("name", NAMES)
def test_a_module_can_be_read_at_one_sitting(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("__main__")])
def test_a_module_says_what_it_is_for_and_what_it_offers(name):
    assert ast.get_docstring(tree(name)), "a docstring"
    body = [
        node
        for node in tree(name).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign)
    ]
    public = name.rpartition(".")[2][0] != "_"
    if public and body:
        assert any("__all__" in ast.unparse(node).split("=")[0] for node in tree(name).body), (
            "__all__"
        )


def codes_given(name):
    """Reason codes written out where an issue or an unreadable input is made."""
    for node in ast.walk(tree(name)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if called in PRODUCERS:
            index, keyword = PRODUCERS[called]
            values = [word.value for word in node.keywords if word.arg == keyword]
            values += node.args[index : index + 1]
            for value in values:
                if isinstance(value, ast.Constant):
                    yield value.value, node.lineno


@pytest.mark.parametrize("name", NAMES)
def test_every_reason_code_given_is_explained(name):
    for code, line in codes_given(name):
        assert code in REASONS, f"{name} line {line}"


def test_every_reason_code_explained_is_given():
    sources = [path for name, path in MODULES.items() if name != "converter.core.reasons"]
    sources += sorted((ROOT / "mappings").rglob("*.toml"))
    written = {
        code
        for path in sources
        for code in re.findall(r"[\"']([a-z0-9-]+)[\"']", path.read_text(encoding="utf-8"))
    }
    assert [code for code in REASONS if code not in written] == []


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_reason_says_what_it_means_and_what_to_do(code):
    reason = REASONS[code]
    assert reason.meaning.endswith((".", "!", "?"))
    assert reason.action.endswith((".", "?"))
    assert not (reason.failure and reason.kind not in {"skipped", "held"})
