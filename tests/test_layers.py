"""Imports point down only, and stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "idsr_cli"

# Lowest first. A unit (module or package directly under idsr_cli) may import from lower rows and from its own row, but
# never in a circle. A new unit gets its place here.
LAYERS = [
    {"errors"},
    {"keypoints", "files"},
    {"images", "scale_space", "runtime", "networks", "synthetic_rain"},
    {"clips", "weights"},
    {"features", "formats", "matching", "drawing", "inference", "conversion"},
    {"restoration", "extraction"},
    {"api", "evaluation"},
    {"training"},
    {"runs"},
    {"cli"},
    {"__main__"},
]
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}
MODULES = sorted(PACKAGE.rglob("*.py"))
# A sdist has the tests without the benchmarks.
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Full names of everything imported anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> Iterator[tuple[str, str, Path]]:
    for path in MODULES:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "idsr_cli" and not parts[1].startswith("__"):  # `from idsr_cli import __version__` is free
                yield unit_of(path), parts[1], path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_has_a_layer(path: Path) -> None:
    assert unit_of(path) in RANK or path == PACKAGE / "__init__.py", f"give `{unit_of(path)}` a place in LAYERS"


def test_imports_point_down() -> None:
    wrong = [
        f"{path}: {importer} imports {imported}"
        for importer, imported, path in edges()
        if importer != "__init__" and RANK[importer] < RANK[imported]
    ]
    assert not wrong


def test_units_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported, _ in edges():
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    done: set[str] = set()

    def visit(unit: str, trail: tuple[str, ...]) -> None:
        assert unit not in trail, " -> ".join((*trail, unit))
        if unit not in done:
            for lower in graph.get(unit, ()):
                visit(lower, (*trail, unit))
            done.add(unit)

    for unit in graph:
        visit(unit, ())


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    outside = [path for path in MODULES if unit_of(path) not in ("cli", "__main__")]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (*outside, *BENCHMARKS)
        for name in imports(path)
        if f"{name}.".startswith("idsr_cli.cli.")
    ]
    assert not wrong


def test_only_the_console_touches_rich_and_nobody_click() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        for name in imports(path)
        if name.split(".")[0] in ("rich", "click")
    }
    assert users <= {"cli/console.py"}


def test_only_the_command_line_touches_typer() -> None:
    users = {unit_of(path) for path in MODULES for name in imports(path) if name.split(".")[0] == "typer"}
    assert users == {"cli"}
