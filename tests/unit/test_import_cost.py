"""Nobody pays for what they do not use: what importing each part of the package brings along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = frozenset({"tensorflow", "keras"})
HEAVY = FRAMEWORKS | {"hypothesis", "numpy"}
OURS = frozenset({"click", "jinja2", "msgspec", "rich"})

_NAMES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in (
        "conformance",
        "conformance/cli",
        "conformance/plugin",
        "conformance/trainers",
        "conformance/strategies",
        "conformance/reports",
    )
    for path in (ROOT / folder).glob("*.py")
    if path.stem != "__init__"
)


def brought(code: str, *path: Path) -> set[str]:
    """The heavy packages that are loaded after `code` ran in a process of its own, with `path` searched first."""
    # __future__ imports lead, so the paths are added around the code and not in front of its text.
    script = "\n".join(
        [
            "import json, sys",
            f"sys.path[:0] = {[str(folder) for folder in path]!r}",
            f"exec(compile({code!r}, 'code', 'exec'), {{'__name__': 'code'}})",
            f"print(json.dumps(sorted(set({sorted(HEAVY | OURS)!r}) & set(sys.modules))))",
        ]
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert brought("import conformance; dir(conformance)") == set()


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    assert brought("import conformance.plugin") == set()


def test_case_files_need_no_numpy_and_no_framework() -> None:
    assert brought("import conformance; conformance.load_case, conformance.Verdict") & HEAVY == set()


def test_no_module_of_the_engine_imports_a_framework_by_being_imported() -> None:
    """TensorFlow takes seconds to import, and must not start before the devices are set up."""
    assert brought("\n".join(f"import {name}" for name in _NAMES)) & FRAMEWORKS == set()


@pytest.mark.parametrize("heavy", sorted(HEAVY))
def test_a_heavy_import_in_the_plugin_would_be_seen(heavy: str, tmp_path: Path) -> None:
    source = (ROOT / "conformance" / "plugin" / "__init__.py").read_text("utf-8")
    if heavy in FRAMEWORKS:
        # A stand-in: the name is what is looked for, and the real one takes seconds.
        (tmp_path / f"{heavy}.py").write_text("")
    assert heavy in brought(f"{source}\nimport {heavy}\n", tmp_path)


def test_the_package_runs_as_the_command_does() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "conformance", "--version"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ran.returncode, ran.stdout.startswith("conformance, version ")) == (0, True), ran.stderr
