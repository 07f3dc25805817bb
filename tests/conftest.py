"""What every test relies on: a quiet TensorFlow, devices when asked for, the same examples every time."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"
# Hundreds of tests start a Python of their own. Without caches of bytecode, which everybody has, each of them compiles
# the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import settings

# Without the parent, a profile inherits from the one that Hypothesis chose for the machine (CI or not).
settings.register_profile(
    "tests",
    parent=settings.get_profile("default"),
    derandomize=True,
    deadline=None,
    print_blob=False,
    database=None,
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def devices() -> None:
    """Two logical CPU devices and one thread, before this process runs its first TensorFlow operation."""
    from conformance.devices import set_up

    set_up(2, one_thread=True)
