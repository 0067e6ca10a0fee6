"""The package's layers: imports point down only. `python tests/test_layers.py` prints a summary."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "idsr_cli"

# Lowest first. A unit (module or package directly under idsr_cli) may import from lower rows and from its own row, but
# never in a cycle. A new unit gets its place here and in CONTRIBUTING.md.
LAYERS = [
    {"errors"},
    {"arguments", "keypoints", "files", "kinds", "pages", "place"},
    {"images", "scale_space", "runtime", "networks", "synthetic_rain", "rain_estimate", "views"},
    {"clips", "weights"},
    {"features", "formats", "matching", "drawing", "inference", "conversion", "kept_pixels"},
    {"restoration", "extraction"},
    {"api", "evaluation"},
    {"training", "integrations"},
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


def upward_imports() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {importer} imports {imported}"
        for importer, imported, path in edges()
        if importer != "__init__" and RANK[importer] < RANK[imported]
    ]


def import_graph() -> dict[str, set[str]]:
    """Unit -> the other units that it imports."""
    graph: dict[str, set[str]] = {}
    for importer, imported, _ in edges():
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    return graph


def find_cycle(graph: dict[str, set[str]]) -> tuple[str, ...]:
    """The units of a cycle, the first one also last; () if there is none."""
    done: set[str] = set()

    def visit(unit: str, trail: tuple[str, ...]) -> tuple[str, ...]:
        if unit in trail:
            return (*trail[trail.index(unit) :], unit)
        if unit in done:
            return ()
        done.add(unit)
        return next(filter(None, (visit(lower, (*trail, unit)) for lower in sorted(graph.get(unit, ())))), ())

    return next(filter(None, (visit(unit, ()) for unit in sorted(graph))), ())


def test_imports_point_down() -> None:
    assert not upward_imports()


def test_units_do_not_import_each_other_in_a_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": {"b"}}) == ("b", "c", "d", "b")
    assert not find_cycle(import_graph())


def test_the_document_lists_the_same_layers() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \| .+ \|$", text, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in reversed(rows)] == LAYERS[:-1]


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


def summary() -> str:
    """Layers from top to bottom, what each unit imports, and the violations."""
    graph = import_graph()
    lines = [
        f"{unit} -> {' '.join(sorted(graph.get(unit, ()))) or '-'}" for row in LAYERS[::-1] for unit in sorted(row)
    ]
    count = sum(map(len, graph.values()))
    lines.append(f"{len(RANK)} units in {len(LAYERS)} layers, {count} arrows")
    lines.append(f"arrows up: {'; '.join(upward_imports()) or 'none'}")
    lines.append(f"cycle: {' -> '.join(find_cycle(graph)) or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(summary() + "\n")
