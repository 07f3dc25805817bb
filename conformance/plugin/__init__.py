"""The pytest plugin: options, a marker, a header, a summary, case files as tests, and the fixture `conformance`.

pytest loads this module in every session of every project that has the package installed, so it imports nothing that
such a session has not paid for already: no TensorFlow, Keras, Hypothesis or NumPy. The engine is imported by the first
test that asks for a judgement. Hooks here are those that pytest calls before there is a session; the others are in
`conformance.plugin.hooks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.plugin import hooks, options
from conformance.plugin.session import SESSION

if TYPE_CHECKING:
    from conformance.plugin.judge import Judge as Judge


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, in a group of their own."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the session's hooks."""
    config.addinivalue_line("markers", "conformance: judges a training; every test that uses the fixture has it")
    hooks.register(config)


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Judge:
    """The package's `check` and `assert_conforms`, with the session's replicas and executions where a test names none.

    ```python
    def test_my_loop_trains_like_fit(conformance):
        conformance.assert_conforms(train_step, model=build_model, loss="mse", optimizer="sgd", data=(x, y))
    ```
    """
    from conformance.plugin.judge import Judge

    return Judge(request.config.stash[SESSION], request.node)


def __getattr__(name: str) -> object:
    """`Judge`, the type of the fixture, for whoever annotates a test with it."""
    if name == "Judge":
        from conformance.plugin.judge import Judge

        return Judge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
