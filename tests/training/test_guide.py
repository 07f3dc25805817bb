"""Every block of code in the guide is run, and prints what its page says.

All pages in this process, for TensorFlow is imported once then; a page's blocks in one module, in order. The lines of
that module are the page's own lines, so a traceback names the line of the page.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conformance
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.prepare import release
from conformance.strategies.register_layer import REGISTERED
from conformance.strategies.register_loss import REGISTERED_LOSSES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import pages  # noqa: E402 - after its folder is on the path

COMMANDS = {
    "conformance": (sys.executable, "-c", "from conformance.cli import main; main()"),
    "pytest": (sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
}
"""How the commands of the pages are run with this interpreter, whichever scripts are on the path."""


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a page, and nothing left of what it registers and trains."""
    tables: tuple[dict[str, Any], ...] = (LAYERS, REGISTERED, LOSSES, REGISTERED_LOSSES)
    before = [dict(table) for table in tables]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for table, was in zip(tables, before, strict=True):
        table.clear()
        table.update(was)
    release()


@pytest.mark.parametrize("page", pages.GUIDE, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_happens(
    page: Path, clean: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    module = types.ModuleType(f"guide_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    told = []
    for block in pages.blocks(page):
        if block.not_run:
            continue
        if block.file:
            (clean / block.file).parent.mkdir(parents=True, exist_ok=True)
            (clean / block.file).write_text(block.source, "utf-8")
        elif block.language == "python":
            told += _differing(block, block.prints, _run(block, module, clean, request))
        elif block.language == "console":
            code = 0
            for item in pages.commands(block):
                printed, code = (f"{code}", 0) if item.line == "echo $?" else _call(item)
                told += _differing(block, item.prints, printed)
    assert not told, "\n\n".join(told)


def _run(block: pages.Block, module: types.ModuleType, folder: Path, request: pytest.FixtureRequest) -> str:
    """Run a block in its page's module; the tests that it defines are called too. What it prints."""
    before = set(vars(module))
    # A file of its own, for TensorFlow reads the source of what it compiles.
    file = folder / f"{block.page.stem}_{block.line}.py"
    file.write_text("\n" * (block.line - 1) + block.source, "utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(file.read_text("utf-8"), file, "exec"), vars(module))  # noqa: S102 - the guide's own code
        for name in [name for name in vars(module) if name not in before and name.startswith("test_")]:
            _test(vars(module)[name], request)
    return out.getvalue()


def _test(function: Any, request: pytest.FixtureRequest) -> None:
    code = getattr(function, "__code__", None)
    takes = code is not None and "conformance" in code.co_varnames[: code.co_argcount]
    function(**({"conformance": request.getfixturevalue("conformance")} if takes else {}))


def _call(command: pages.Command) -> tuple[str, int]:
    """Call a command of a page: its output, or its errors where it has none, and its exit code.

    Errors beside an output are left out, for TensorFlow warns as it pleases.
    """
    name, *arguments = shlex.split(command.line)
    # The package that is tested here, from a checkout or installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(conformance.__file__).parents[1]), "COLUMNS": "80"}
    result = subprocess.run(
        [*COMMANDS[name], *arguments], capture_output=True, text=True, check=False, env=environment, timeout=600
    )
    return result.stdout or result.stderr, result.returncode


def _differing(block: pages.Block, wanted: str | None, seen: str) -> list[str]:
    """What is to be said where a block prints otherwise than its page has it."""
    if wanted is None or pages.printed(wanted, seen):
        return []
    return [f"{block.page.name}:{block.line} says that it prints\n{wanted}\nand it prints\n{seen}"]
