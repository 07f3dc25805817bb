"""Every test here trains, so TensorFlow's devices are set up before the first one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _devices(devices: None) -> None:
    """`devices`, unasked."""
