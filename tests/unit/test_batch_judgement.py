"""Sequences of batches, and the names that they have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conformance.referee.batch_judgement import _LOOKS

ROWS = [bytes([row]) for row in range(12)]
EPOCH = [ROWS[:5], ROWS[5:10], ROWS[10:]]
DUE = EPOCH * 2
ENDLESS = [[ROWS[i % 12] for i in range(start, start + 5)] for start in range(0, 30, 5)]

BATCHES: Any = SimpleNamespace(reading=SimpleNamespace(batch_size=5, replicas=1, training=SimpleNamespace(epochs=2)))


def named(seen: list[list[bytes]]) -> list[str]:
    looks = ("partial_batch_dropped", "replica_batch_size", "batches_cross_epochs", "batch_skipped")
    return [name for name in looks if _LOOKS[name](BATCHES, seen, DUE)]


@pytest.mark.parametrize(
    "seen",
    [DUE[:4], ENDLESS, ENDLESS[:4]],
    ids=["steps rounded down over an iterator without an end", "repeated before batched", "both"],
)
def test_steps_that_go_on_over_the_end_of_an_epoch_are_named(seen: list[list[bytes]]) -> None:
    assert named(seen) == ["batches_cross_epochs"]


@pytest.mark.parametrize("seen", [DUE[:3], DUE[:5]], ids=["an epoch less", "a step less"])
def test_a_training_that_ends_early_has_no_name(seen: list[list[bytes]]) -> None:
    assert named(seen) == []


def test_a_batch_that_is_left_out_is_named() -> None:
    assert named([*EPOCH[:2], *DUE[:4]]) == ["batch_skipped"]
