"""Every pass proposes valid cases, simpler ones, and together they end at the simplest case there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from conformance.case import FEEDS, PATTERNS, Case, from_json, to_json
from conformance.layers import LAYERS
from conformance.optimizers import OPTIMIZERS
from conformance.passes import PASSES, simplified
from conformance.strategies import cases

DRAWN = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def complexity(case: Case) -> tuple[Any, ...]:
    """What is to be read of a case, the most telling first; of two cases, the lesser one is simpler."""
    nodes, options = case.model.nodes, dict(case.optimizer.config)
    widths = [math.prod(item.shape) for item in case.model.inputs]
    widths += [int(node.config.get(name, 0)) for node in nodes for name in ("units", "filters", "output_dim")]
    return (
        len(case.losses) + len(case.model.inputs) + len(nodes),
        sum(LAYERS[node.layer].weights for node in nodes if node.layer) + case.model.kind.count("functional"),
        sum(len(node.config) for node in nodes)
        + sum(len(loss.config) + (loss.weight is not None) for loss in case.losses)
        + sum(loss.name != "mean_squared_error" for loss in case.losses)
        + len(options)
        + list(OPTIMIZERS).index(case.optimizer.name)
        + (options["learning_rate"] != 0.125)
        + (not case.optimizer.built_first),
        len(case.metrics) + case.schedule.epochs + case.schedule.steps_per_execution,
        case.data.rows,
        case.data.batch_size,
        sum(widths),
        PATTERNS.index(case.data.pattern)
        + FEEDS.index(case.data.feed)
        + (case.data.sample_weight is not None)
        + bool(case.data.seed)
        + bool(case.seed),
    )


@pytest.mark.parametrize("simplify", PASSES, ids=lambda simplify: simplify.__name__)
def test_proposals_are_valid_other_and_simpler(simplify: Callable[[Case], Any]) -> None:
    made = 0

    @DRAWN
    @given(cases())
    def each(case: Case) -> None:
        nonlocal made
        for proposal in simplify(case):
            assert proposal != case
            assert from_json(to_json(proposal)) == proposal
            # The head alone is also given a name of its own, which is neither simpler nor less so.
            renamed = simplify.__name__ == "keep_only_the_head" and complexity(proposal) == complexity(case)
            assert complexity(proposal) < complexity(case) or renamed
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


def test_the_passes_are_asked_for_no_case_twice_in_a_row() -> None:
    """`shows` trains: what was left behind is not asked for again."""
    import hypothesis

    case = hypothesis.find(cases(), lambda drawn: len(drawn.model.nodes) > 3)
    accepted: list[Case] = [case]

    def shows(proposal: Case) -> bool:
        assert proposal not in accepted
        accepted.append(proposal)
        return True

    simplified(msgspec.structs.replace(case, seed=5), shows)
    assert len(accepted) > 2
