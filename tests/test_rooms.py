"""A room imports only rooms below it; what the import graph of the packages may not have."""

from __future__ import annotations

import ast
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("data_partition", "fedml_spurious")

# From the bottom to the top; a module is in the room with the longest name that fits.
ROOMS = (
    "fedml_spurious.common",
    "data_partition.split_files",
    "data_partition",
    "fedml_spurious.results",
    "fedml_spurious.figures",
    "fedml_spurious.report",
    "fedml_spurious.learning",
    "fedml_spurious.analysis",
    "fedml_spurious.personalization",
    "fedml_spurious.config",
    "fedml_spurious.experiment",
    "fedml_spurious.audit",
    "fedml_spurious.fedml_adapter",
    "fedml_spurious.fedml_adapter.processes",
    "fedml_spurious.doctor",
    "fedml_spurious.sweep",
    "fedml_spurious",
)
WITHOUT_TORCH = (
    "fedml_spurious.common",
    "data_partition",
    "data_partition.split_files",
    "fedml_spurious.results",
    "fedml_spurious.figures",
    "fedml_spurious.report",
)
WITH_FEDML = ("fedml_spurious.fedml_adapter", "fedml_spurious.fedml_adapter.processes")


class Import(NamedTuple):
    """One imported module, where it stands, and whether it waits for a call of a function."""

    name: str
    line: int
    late: bool
    has_reason: bool


def module_files(root: Path) -> dict[str, Path]:
    """Files of the packages by the dotted name of their module."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports_of(text: str, modules: frozenset[str]) -> list[Import]:
    """All imports of a file, those for type checkers and those inside functions among them."""
    found = []
    lines, tree = text.splitlines(), ast.parse(text)
    late = {
        statement
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in ast.walk(function)
    }
    # Statements that follow each other share the reason that stands above the first of them.
    reasoned: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        above = lines[node.lineno - 2].strip() if node.lineno > 1 else ""
        if above.startswith("#") or node.lineno - 1 in reasoned or "  # " in lines[node.end_lineno - 1]:
            reasoned |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for name in imported_names(node, modules):
            found.append(Import(name, node.lineno, node in late, node.lineno in reasoned))
    return found


def imported_names(node: ast.Import | ast.ImportFrom, modules: frozenset[str]) -> list[str]:
    """The modules that a statement imports; ``from a import b`` is ``a.b`` where that is a module of ours."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "relative imports hide which room is meant"
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in modules else str(node.module) for name in inner]


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


Graph = dict[str, list[Import]]


def read_graph(root: Path) -> Graph:
    files = module_files(root)
    modules = frozenset(files)
    return {name: imports_of(path.read_text(encoding="utf-8"), modules) for name, path in files.items()}


def upward_imports(graph: Graph) -> list[str]:
    found = []
    for module, imports in graph.items():
        for one in imports:
            ours = one.name.split(".")[0] in PACKAGES
            if ours and ROOMS.index(room_of(one.name)) > ROOMS.index(room_of(module)):
                found.append(f"{module}, line {one.line}: imports {one.name}, which is in a room above it")
    return found


def forbidden_libraries(graph: Graph) -> list[str]:
    found = []
    for module, imports in graph.items():
        room = room_of(module)
        for one in imports:
            library = one.name.split(".")[0]
            if (library == "torch" and room in WITHOUT_TORCH) or (
                library == "fedml" and room not in WITH_FEDML
            ):
                found.append(f"{module}, line {one.line}: imports {library} in {room}")
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Modules that reach themselves, by depth-first search."""
    edges = {module: {one.name for one in imports} for module, imports in graph.items()}
    found, done = [], set[str]()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
            return
        if module not in done:
            for other in sorted(edges.get(module, set()) - {module}):
                visit(other, [*trail, module])
            done.add(module)

    for module in edges:
        visit(module, [])
    return found


def late_imports_without_reason(graph: Graph) -> list[str]:
    return [
        f"{module}, line {one.line}: imports {one.name} inside a function and does not say why"
        for module, imports in graph.items()
        for one in imports
        if one.late and not one.has_reason
    ]


def imports_between_data_sets(graph: Graph) -> list[str]:
    """Coloured images and CelebA know neither each other nor the data sets that are made of them."""
    rooms = ("data_partition.colored", "data_partition.celeba")
    return [
        f"{module}, line {one.line}: imports {one.name}"
        for module, imports in graph.items()
        for room in rooms
        if module == room or module.startswith(f"{room}.")
        for one in imports
        if one.name.startswith(rooms) and not (one.name == room or one.name.startswith(f"{room}."))
    ]


CHECKS = (
    upward_imports,
    forbidden_libraries,
    circles,
    late_imports_without_reason,
    imports_between_data_sets,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_rule_of_the_rooms_holds(check: object) -> None:
    assert callable(check)
    assert check(read_graph(REPOSITORY)) == []


def test_every_room_has_modules_and_says_what_lives_there() -> None:
    files = module_files(REPOSITORY)
    for room in ROOMS:
        assert [name for name in files if room_of(name) == room], room
        described = ast.get_docstring(ast.parse(files[room].read_text(encoding="utf-8")))
        assert described, room
        assert len(described.split(". ")) >= 2 or "\n\n" in described, room


@pytest.mark.parametrize(
    ("file", "line", "check"),
    [
        ("fedml_spurious/common/seeds.py", "import fedml_spurious.learning.attacks", upward_imports),
        ("fedml_spurious/common/seeds.py", "from fedml_spurious import cli", upward_imports),
        (
            "fedml_spurious/learning/losses.py",
            "def f():\n    from fedml_spurious.experiment.tasks import Task  # a reason",
            upward_imports,
        ),
        (
            "data_partition/split_files/meta.py",
            "from data_partition.dealing import divide_class",
            upward_imports,
        ),
        ("fedml_spurious/results/rows.py", "import torch", forbidden_libraries),
        ("fedml_spurious/figures/style.py", "import torch", forbidden_libraries),
        ("fedml_spurious/results/rows.py", "import fedml_spurious.figures.style", upward_imports),
        ("fedml_spurious/experiment/run.py", "from fedml.core import ClientTrainer", forbidden_libraries),
        ("fedml_spurious/learning/losses.py", "import fedml_spurious.learning.metrics", None),
        ("fedml_spurious/learning/modes.py", "import fedml_spurious.learning.metrics", circles),
        ("fedml_spurious/learning/losses.py", "def f():\n    import json", late_imports_without_reason),
        ("data_partition/celeba/options.py", "import data_partition.colored.plan", imports_between_data_sets),
        ("data_partition/colored/options.py", "import data_partition.celeba_real", imports_between_data_sets),
    ],
)
def test_a_planted_import_is_seen(tmp_path: Path, file: str, line: str, check: object) -> None:
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    with (tmp_path / file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n\n{line}\n")
    graph = read_graph(tmp_path)
    seen = [one for one in CHECKS if one(graph)]
    assert check in seen if check else not seen
