"""Does a Keras training do what training means? `fit` against a custom loop, one device against many.

The names below are looked up when they are first used, so that importing the package, which pytest does in every
session where it is installed, imports neither TensorFlow, Keras, Hypothesis nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance import strategies
    from conformance.api import assert_conforms, check
    from conformance.case import Case, load_case, save_case
    from conformance.drawn import given
    from conformance.errors import DivergenceError, RetracedError
    from conformance.verdict import Verdict

__all__ = [
    "Case",
    "DivergenceError",
    "RetracedError",
    "Verdict",
    "__version__",
    "assert_conforms",
    "check",
    "given",
    "load_case",
    "save_case",
    "strategies",
]

__version__ = "0.1.0"

_HOMES = {
    "Case": "conformance.case",
    "DivergenceError": "conformance.errors",
    "RetracedError": "conformance.errors",
    "Verdict": "conformance.verdict",
    "assert_conforms": "conformance.api",
    "check": "conformance.api",
    "given": "conformance.drawn",
    "load_case": "conformance.case",
    "save_case": "conformance.case",
}


def __getattr__(name: str) -> object:
    if name == "strategies":
        return import_module("conformance.strategies")
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
