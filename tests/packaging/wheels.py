"""What the tests of the package share: a checkout to build from, and environments to put into what was built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".nox", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The standard output of a command that must succeed."""
    # Not what this session adds to the path: the installed package alone is under test.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment with nothing in it."""
    venv.create(folder, symlinks=os.name != "nt")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def build(source: Path, kind: str, out: Path) -> Path:
    """The wheel or source archive of a checkout."""
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", out, source)
    (built,) = out.iterdir()
    return built


def checkout(to: Path) -> Path:
    """A copy of this checkout, so that building leaves nothing behind in it."""
    return Path(shutil.copytree(ROOT, to, symlinks=True, ignore=LEFT_OUT))


def install(python: Path, *arguments: str | Path) -> None:
    """Have pip install into another environment, and ask no registry."""
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", *arguments)
