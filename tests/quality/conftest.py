"""Every test here trains, so TensorFlow's devices are set up before the first one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The faults and the hunt are no tests and belong to no package; the script `kill_table.py` finds them like this too.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _devices(devices: None) -> None:
    """`devices`, unasked."""
