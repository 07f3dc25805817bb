"""Lower rooms know nothing of upper ones, and only consumers of events print.

Imports are read from the syntax tree: those in functions count like those at the top of a module, and those under
`TYPE_CHECKING` too, for a type is knowledge as well.
"""

from __future__ import annotations

import ast
import graphlib
import importlib.util
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = "conformance"
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    PACKAGE: ROOT / PACKAGE,
    f"{PACKAGE}.strategies": ROOT / "strategies",
    f"{PACKAGE}.cases": ROOT / "cases",
    f"{PACKAGE}.reports": ROOT / "reports",
}

# Low to high, a room a line. A module may import from its own room and from those above it in this table, and no two
# modules each other. `x.*` is every module below the package x; `x` is the package's own `__init__`.
ROOMS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "untraced",
        "frozen",
        "stage",
        "versions",
        "place",
        "margin",
        "causes",
        "arm",
        "fields",
        "case_code",
        "layers",
        "losses",
        "optimizers",
        "raised",
        "costs",
        "retracing",
        "seeding",
        "refusal",
        "layer_error",
        "optimizer_config",
        "model_state",
    ),
    ("referee.clause", "referee.*_rules"),
    ("case",),
    ("data", "validation", "functions", "verdict", "baseline"),
    ("history",),
    ("strategies.*", "strategies"),
    ("imports", "simplicity", "traits", "sketch", "passes.*", "passes"),
    ("cases.*", "cases"),
    ("build",),
    ("several",),
    ("devices", "trace", "recording.*", "recording", "standstill"),
    ("training",),
    ("trainers.*",),
    ("trainers",),
    ("prepare",),
    ("tolerance",),
    ("referee.*", "referee"),
    ("compare",),
    ("square",),
    ("deviations.*", "deviations"),
    ("diagnose",),
    ("attribution", "exception"),
    ("plan", "telling", "placement_layers"),
    ("running", "said"),
    ("inquiry",),
    ("judge",),
    ("calibration", "finding"),
    ("calibrator", "environment", "minimize"),
    ("events",),
    ("reports.*", "reports"),
    ("search", "findings", "replay", "accept", "finding_folders", "releases", "bisection", "installation", "bisect"),
    ("job", "occupied"),
    ("worker",),
    ("supervisor",),
    ("campaign", "occurrence"),
    (
        "asked",
        "failure",
        "rereading",
        "user_batches",
        "user_callbacks",
        "user_data",
        "user_metrics",
        "user_outputs",
        "user_parts",
    ),
    ("defaults",),
    ("api", "info"),
    ("first_failure",),
    ("drawn",),
    ("plugin.*", "plugin"),
    ("cli.*", "cli", "cases.make"),
    ("__main__",),
    # The package's own `__init__`: it names the API, so nobody inside may import from it.
    ("",),
)

# Constants that cost nothing and know nothing, and may be imported from the package's `__init__` by anybody.
CONSTANTS = frozenset({"__version__"})

# Who prints.
PRINTERS = ("reports.terminal", "cli", "cli.*")

Modules = Mapping[str, ast.Module]


def read() -> Modules:
    """Every module's tree by its name below the package; a script in a folder that is no package is data."""
    return {
        name: ast.parse(path.read_text("utf-8"), filename=str(path))
        for package, folder in FOLDERS.items()
        for name, path in _files(package, folder)
    }


def _files(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    below = package.removeprefix(PACKAGE).removeprefix(".")
    for path in sorted(folder.iterdir()):
        # What has a second dot in its name can be imported by nobody: a script of a finding.
        if path.suffix == ".py" and "." not in path.stem:
            yield f"{below}.{path.stem}".removesuffix("__init__").strip("."), path
        elif not path.is_symlink() and (path / "__init__.py").exists():
            yield from _files(f"{package}.{path.name}", path)


def level(name: str) -> int | None:
    """The number of a module's room; the module's own name beats a wildcard."""
    for matches in (str.__eq__, fnmatchcase):
        for number, room in enumerate(ROOMS):
            if any(matches(name, pattern) for pattern in room):
                return number
    return None


def imports(modules: Modules) -> dict[str, set[str]]:
    """By module the modules of this package it imports."""
    return {name: set(_imported(name, tree, modules)) for name, tree in modules.items()}


def _imported(name: str, tree: ast.Module, modules: Modules) -> Iterator[str]:
    is_package = any(other.startswith(f"{name}.") for other in modules) or not name
    here = f"{PACKAGE}.{name}".rstrip(".")
    package = here if is_package else here.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            targets = [
                _origin(source, alias.name, modules) for alias in node.names if not _constant(source, alias.name)
            ]
        else:
            continue
        yield from (_below(target) for target in targets if target == PACKAGE or target.startswith(f"{PACKAGE}."))


def _origin(source: str, name: str, modules: Modules) -> str:
    """The module that `from source import name` imports: a submodule, or the source itself."""
    submodule = f"{source}.{name}"
    return submodule if _below(submodule) in modules else source


def _constant(source: str, name: str) -> bool:
    return source == PACKAGE and name in CONSTANTS


def _below(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".")


def unplaced(modules: Modules) -> list[str]:
    """The modules the table does not name."""
    return [name for name in modules if level(name) is None]


def upward(modules: Modules) -> list[str]:
    """The imports from a higher room, `importer -> imported` each."""
    return [
        f"{name} -> {target}"
        for name, targets in imports(modules).items()
        for target in sorted(targets)
        if (here := level(name)) is not None and (there := level(target)) is not None and there > here
    ]


def cycle(modules: Modules) -> list[str]:
    """One cycle of imports, its first module again at the end, or nothing."""
    graph = {name: targets - {name} for name, targets in imports(modules).items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def prints(modules: Modules) -> list[str]:
    """The places outside of the consumers of events that print, `module:line: what` each."""
    return [
        f"{name}:{node.lineno}: {what}"
        for name, tree in modules.items()
        if not any(fnmatchcase(name, printer) for printer in PRINTERS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and (what := ast.unparse(node)) in _PRINTING
    ]


_PRINTING = frozenset({"print", "sys.stdout", "sys.__stdout__", "click.echo", "click.secho"})


def test_every_module_has_a_room() -> None:
    assert unplaced(read()) == [], "give each a place in ROOMS"


def test_no_module_imports_from_a_higher_room() -> None:
    assert upward(read()) == []


def test_no_imports_go_in_a_circle() -> None:
    assert cycle(read()) == []


def test_only_consumers_of_events_print() -> None:
    assert prints(read()) == []


def test_the_whole_package_is_read() -> None:
    modules = read()
    assert {"", "case", "plugin", "trainers", "trainers.fit"} <= modules.keys()
    assert "conformance.stage" in {f"{PACKAGE}.{target}" for target in imports(modules)["trace"]}


def _planted(**sources: str) -> Modules:
    return {name.replace("__", "."): ast.parse(source) for name, source in sources.items()}


@pytest.mark.parametrize(
    "source",
    [
        "import conformance.judge",
        "from conformance.judge import judge",
        "from conformance import judge",
        "from .judge import judge",
        "from . import judge",
        "def f():\n    from conformance.judge import judge",
        "if TYPE_CHECKING:\n    from conformance.judge import judge",
        "from conformance.reports import terminal",
        "from conformance.trainers.fit import prepare",
        "from conformance import check",
        "import conformance",
    ],
)
def test_a_planted_upward_import_is_found(source: str) -> None:
    modules = {**_planted(case=source, judge="", reports__terminal="", trainers__fit=""), "": ast.parse("")}
    assert len(upward(modules)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import keras",
        "import conformancelike.judge",
        "from conformance.case import Case",
        "from conformance.errors import UsageError",
        "from conformance import __version__",
    ],
)
def test_a_downward_import_is_not_found(source: str) -> None:
    assert upward({**_planted(judge=source, case="", errors=""), "": ast.parse("")}) == []


def test_a_planted_cycle_within_a_room_is_found() -> None:
    modules = _planted(
        layers="from conformance.losses import LOSSES",
        losses="from conformance import fields",
        fields="def late():\n    import conformance.layers",
    )
    assert upward(modules) == []
    assert set(cycle(modules)) == {"layers", "losses", "fields"}


def test_a_module_without_a_room_is_found() -> None:
    assert unplaced(_planted(case="", gossip="", trainers__quick="", case__inner="")) == ["gossip", "case.inner"]


@pytest.mark.parametrize("source", ["print('x')", "import sys\nsys.stdout.write('x')", "say = print"])
def test_a_planted_print_is_found(source: str) -> None:
    assert len(prints(_planted(judge=source))) == 1
    assert prints(_planted(reports__terminal=source)) == []


def test_the_methods_called_print_of_others_are_not_prints() -> None:
    assert prints(_planted(judge="console.print('x')\nsys.stderr")) == []
