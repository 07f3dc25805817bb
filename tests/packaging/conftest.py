"""The wheel of this checkout, built once, and an environment that has it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# No test and in no package; found like this, as the loops of tests/quality are.
sys.path.insert(0, str(Path(__file__).parent))

from wheels import build, checkout, environment, install


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return build(checkout(folder / "checkout"), "wheel", folder / "dist")


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with the wheel and nothing else."""
    python = environment(tmp_path_factory.mktemp("venv"))
    install(python, "--no-deps", wheel)
    return python
