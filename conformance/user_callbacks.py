"""A user's callbacks: what makes them anew for every run.

An arm is run many times, and what a callback has seen of one run it must not know in the next. So callbacks come from a
function that makes them, or are copied where they can be.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from conformance.errors import UsageError
from conformance.raised import shortened


def maker(given: Any) -> Callable[[], list[Any]] | None:
    """The function that makes the callbacks of a run; None where there are none.

    Args:
        given: None, a function that gives a callback or a list of them, a callback, or a list of them.

    Raises:
        UsageError: when it is or gives something else, or cannot be copied.
    """
    import keras

    if given is None or (isinstance(given, list | tuple) and not given):
        return None
    if isinstance(given, list | tuple | keras.callbacks.Callback):
        _check(given)
        try:
            copy.deepcopy(given)
        except Exception as error:  # a callback may hold anything: a file, a lock, a generator
            raise UsageError(
                f"callbacks cannot be copied for every run: {type(error).__name__}: {shortened(str(error))}; give a"
                " function that makes them"
            ) from error
        return lambda: _listed(copy.deepcopy(given))
    if not callable(given):
        raise UsageError(f"callbacks={type(given).__name__} should be a list of callbacks, or a function that makes it")
    _check(given())
    return lambda: _listed(given())


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, list | tuple) else [made]


def _check(made: Any) -> None:
    import keras

    for item in _listed(made):
        if not isinstance(item, keras.callbacks.Callback):
            raise UsageError(f"callbacks hold {type(item).__name__}, which is no keras.callbacks.Callback")
