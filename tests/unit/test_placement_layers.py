"""Which layers are why two arms differ: those without which they agree."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.placement_layers import STATISTICS, STREAM, cause_of_layers

WHOLE, SILENT, TOGETHER = (), ("silent",), ("together",)


@pytest.mark.parametrize(
    ("agree", "normalizes", "cause"),
    [
        ({WHOLE, SILENT, TOGETHER}, True, None),
        ({SILENT}, False, STREAM),
        ({SILENT, TOGETHER}, True, STREAM),
        ({TOGETHER}, True, STATISTICS),
        ({TOGETHER}, False, None),
        (set(), True, None),
    ],
)
def test_the_cause_is_that_without_which_the_arms_agree(agree: Any, normalizes: bool, cause: str | None) -> None:
    def apart(**way: bool) -> float:
        return 0.5 if tuple(way) in agree else 2.0

    assert cause_of_layers(apart, 1.0, normalizes=normalizes) == cause
