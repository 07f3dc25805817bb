"""Every pass proposes valid cases, simpler ones, and together they end at the simplest case there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conformance.case import PRECISIONS, Case, from_json, to_json
from conformance.passes import PASSES, simpler, simplified
from conformance.simplicity import simplicity
from conformance.strategies import cases

DRAWN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("simplify", PASSES, ids=lambda simplify: simplify.__name__)
def test_proposals_are_valid_and_simpler_and_every_pass_makes_some(simplify: Callable[[Case], Any]) -> None:
    made = 0

    @DRAWN
    @given(cases(precisions=PRECISIONS))
    def each(case: Case) -> None:
        nonlocal made
        for proposal in simpler(simplify, case):
            assert from_json(to_json(proposal)) == proposal
            assert simplicity(proposal) < simplicity(case)
            made += 1

    each()
    assert made


@DRAWN
@given(cases())
def test_what_shows_everywhere_ends_as_one_dense_layer_and_one_batch(case: Case) -> None:
    least = simplified(case, lambda proposal: True)
    (node,) = least.model.nodes
    assert (node.layer, dict(node.config)) == ("Dense", {"units": 1})
    assert least.model.inputs[0].shape == (1,)
    assert [loss.name for loss in least.losses] == ["mean_squared_error"]
    assert (least.optimizer.name, dict(least.optimizer.config)) == ("SGD", {"learning_rate": 0.125})
    assert (least.data.rows, least.data.pattern, least.data.feed) == (min(case.data.rows, 2), "ones", "arrays")
    assert least.metrics == ()
    assert (least.schedule.epochs, least.schedule.steps_per_execution, least.steps) == (1, 1, 1)
    assert least.seed == least.data.seed == 0


@DRAWN
@given(cases())
def test_what_shows_nowhere_else_stays_as_it_is(case: Case) -> None:
    assert simplified(case, lambda proposal: False) == case


@DRAWN
@given(cases(optimizers=["Adam"], layers=["Dropout", "Dense"], kinds=["sequential"]))
def test_what_a_finding_needs_is_kept(case: Case) -> None:
    """A finding of Adam with a dropout, say."""

    def shows(proposal: Case) -> bool:
        layers = [node.layer for node in proposal.model.nodes]
        return proposal.optimizer.name == "Adam" and ("Dropout" in layers or "Dropout" not in drawn)

    drawn = [node.layer for node in case.model.nodes]
    least = simplified(case, shows)
    assert shows(least)
    assert len(least.model.nodes) <= 2


@pytest.mark.parametrize("rows", [5, 6, 11])
def test_what_needs_many_rows_ends_with_as_many_from_every_start(rows: int) -> None:
    @DRAWN
    @given(cases(max_layers=1).filter(lambda case: case.data.rows >= rows))
    def each(case: Case) -> None:
        least = simplified(case, lambda proposal: proposal.data.rows >= rows)
        assert (least.data.rows, least.data.batch_size, least.steps) == (rows, rows, 1)

    each()


@DRAWN
@given(cases(max_layers=1).filter(lambda case: case.steps_per_epoch > 1 and case.last_batch > 4))
def test_what_needs_large_batches_ends_with_small_ones_of_them(case: Case) -> None:
    def shows(proposal: Case) -> bool:
        return proposal.steps_per_epoch > 1 and proposal.last_batch > 4

    least = simplified(case, shows).data
    assert (least.rows, least.batch_size) == (10, 5)


def test_nothing_that_is_no_simpler_is_asked_for() -> None:
    """`shows` trains: it is asked for nothing twice in a row, and for nothing that was left behind."""
    import hypothesis

    first = settings(phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    case = hypothesis.find(cases(), lambda drawn: len(drawn.model.nodes) > 3, settings=first)
    accepted: list[Case] = [msgspec.structs.replace(case, seed=5)]

    def shows(proposal: Case) -> bool:
        assert simplicity(proposal) < simplicity(accepted[-1])
        accepted.append(proposal)
        return True

    simplified(accepted[0], shows)
    assert len(accepted) > 2
