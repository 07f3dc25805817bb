"""A failure without the frames that its reader did not write.

Where a test fails is the line of the test, or of the user's loop, model or data that raised. What lies between them is
ours, thirty frames of it, and is taken out of the traceback; `--full-trace` keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

_OURS = "conformance."


def remove_internals(error: BaseException) -> bool:
    """Take our frames out of the tracebacks of an exception and of those it came from; whether there were any.

    Not where our code itself is what fails: then its frames are what there is to look at. Of a divergence Hypothesis's
    frames are taken out as well: in an explicit example they would be the last ones.
    """
    changed = False
    for one in _chain(error):
        steps = list(_steps(one.__traceback__))
        kept = [step for step in steps if not _is_internal(step.tb_frame, one)]
        if not kept or len(kept) == len(steps) or _ours_fails(steps[-1].tb_frame, one):
            continue
        one.__traceback__ = _joined(kept)
        changed = True
    return changed


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it came from, each once."""
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and not any(step is one for one in seen):
        seen.append(step)
        yield step
        step = step.__cause__ or step.__context__


def _steps(step: TracebackType | None) -> Iterator[TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _joined(steps: list[TracebackType]) -> TracebackType | None:
    joined: TracebackType | None = None
    for step in reversed(steps):
        joined = TracebackType(joined, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return joined


def _is_internal(frame: FrameType, error: BaseException) -> bool:
    return _is_ours(frame) or (_is_told(error) and _is_hypothesis(frame))


def _ours_fails(frame: FrameType, error: BaseException) -> bool:
    return _is_ours(frame) and not _is_told(error)


def _is_told(error: BaseException) -> bool:
    """Whether it is an exception whose message says all there is to it."""
    from conformance.errors import ConformanceError, DivergenceError, RetracedError

    return isinstance(error, ConformanceError | DivergenceError | RetracedError)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_OURS)


def _is_hypothesis(frame: FrameType) -> bool:
    """By file: a test that Hypothesis has wrapped has its module's globals, and stands in the user's file."""
    module = sys.modules.get("hypothesis")
    file = None if module is None else module.__file__
    return file is not None and Path(file).parent in Path(frame.f_code.co_filename).parents
