"""Any two cases can be compared, and what a reader minds most decides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from conformance.case import PATTERNS, Case, from_json, to_json
from conformance.cases import load
from conformance.frozen import FrozenMap
from conformance.simplicity import canonical_names, canonically_named, simplicity
from conformance.strategies import cases

DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PLAIN = from_json(
    """{"model": {"inputs": [{"name": "input_1", "shape": [1]}], "outputs": ["dense"],
    "nodes": [{"name": "dense", "layer": "Dense", "config": {"units": 1}, "inputs": ["input_1"]}]},
    "losses": [{"name": "mean_squared_error"}], "data": {"rows": 2, "batch_size": 2, "pattern": "ones"},
    "optimizer": {"name": "SGD", "config": {"learning_rate": 0.125}}}"""
)
"""As simple as a case can be."""


@DRAWN
@given(cases(), cases())
def test_of_two_different_cases_one_is_simpler_and_of_two_equal_ones_none(first: Case, second: Case) -> None:
    one, other = simplicity(first), simplicity(second)
    assert (one < other) + (other < one) == (first != second)


@DRAWN
@given(cases(), cases(), cases())
def test_the_order_is_transitive(a: Case, b: Case, c: Case) -> None:
    first, second, third = sorted((a, b, c), key=simplicity)
    assert simplicity(first) <= simplicity(second) <= simplicity(third)
    assert simplicity(first) <= simplicity(third)


@DRAWN
@given(cases())
def test_a_case_read_again_is_as_simple_as_it_was(case: Case) -> None:
    assert simplicity(from_json(to_json(case))) == simplicity(case)


@DRAWN
@given(cases())
def test_nothing_drawn_is_simpler_than_the_plainest_case(case: Case) -> None:
    assert simplicity(PLAIN) <= simplicity(case)


def test_numbers_that_python_takes_for_one_are_told_apart() -> None:
    def decayed(rate: Any) -> Case:
        config = FrozenMap(learning_rate=0.125, weight_decay=rate)
        return msgspec.structs.replace(PLAIN, optimizer=msgspec.structs.replace(PLAIN.optimizer, config=config))

    assert decayed(1) != decayed(1.0)
    assert simplicity(decayed(1)) != simplicity(decayed(1.0))


def _changed(part: str, **changes: Any) -> Case:
    changed = msgspec.structs.replace(getattr(PLAIN, part), **changes)
    return msgspec.structs.replace(PLAIN, **{part: changed})


ORDER = (
    PLAIN,
    _changed("data", seed=1),
    *(_changed("data", pattern=pattern) for pattern in PATTERNS[1:]),
    msgspec.structs.replace(PLAIN, metrics=("mean_absolute_error",)),
    _changed("data", sample_weight="ones"),
    _changed("data", feed="dataset"),
    _changed("optimizer", name="Adam"),
    _changed("optimizer", config=FrozenMap(learning_rate=0.125, clipnorm=0.125)),
    _changed("data", rows=1, batch_size=1),
    _changed("data", rows=3, batch_size=3),
    _changed("data", rows=3),
    _changed("schedule", epochs=2),
    load("dropout"),
)
"""Cases from the simplest on, each one with what a reader minds more than what those before it have."""


@pytest.mark.parametrize("place", range(len(ORDER) - 1))
def test_what_a_reader_minds_more_decides(place: int) -> None:
    assert simplicity(ORDER[place]) < simplicity(ORDER[place + 1])


@DRAWN
@given(cases())
def test_canonical_names_change_names_alone_and_are_given_once(case: Case) -> None:
    named = canonically_named(case)
    assert canonically_named(named) == named
    assert all(name == new for name, new in canonical_names(named).items())
    assert len(set(canonical_names(case).values())) == len(case.model.inputs) + len(case.model.nodes)
    assert [(node.layer, node.config) for node in named.model.nodes] == [
        (node.layer, node.config) for node in case.model.nodes
    ]
