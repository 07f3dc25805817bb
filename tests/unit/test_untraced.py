"""Hypothesis's tracer sees nothing of what is done untraced, and goes on behind it; nobody else's is touched."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis.internal.scrutineer import Tracer

from conformance.untraced import Untraced


def seen() -> None:
    len("seen")


def unseen() -> None:
    len("unseen")


def _lines(tracer: Tracer) -> set[int]:
    return {place[1] for branch in tracer.branches for place in branch if place and place[0] == __file__}


@pytest.mark.skipif(not Tracer.can_trace(), reason="somebody else traces")
def test_hypothesis_sees_what_comes_behind_and_nothing_within() -> None:
    with Tracer(should_trace=True) as tracer:
        with Untraced():
            unseen()
        seen()
    lines = _lines(tracer)
    assert seen.__code__.co_firstlineno + 1 in lines
    assert unseen.__code__.co_firstlineno + 1 not in lines


@pytest.mark.skipif(not Tracer.can_trace(), reason="somebody else traces")
def test_behind_an_exception_hypothesis_sees_nothing() -> None:
    with Tracer(should_trace=True) as tracer:
        try:
            with Untraced():
                raise ValueError
        except ValueError:
            unseen()
    assert unseen.__code__.co_firstlineno + 1 not in _lines(tracer)


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_the_tracer_of_somebody_else_goes_on() -> None:
    called: list[str] = []

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        called.append(frame.f_code.co_name)

    sys.settrace(trace)
    try:
        with Untraced():
            seen()
    finally:
        sys.settrace(None)
    assert "seen" in called
