"""Drawn cases are valid to Keras too: they build, to the shapes the case says, and give finite predictions."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from conformance import build
from conformance import data as case_data
from conformance.case import Case, shapes
from conformance.layers import LAYERS
from conformance.strategies import cases
from conformance.strategies.heads import _POOLINGS

# Building is slow beside drawing; nothing is generated twice and nothing is filtered.
FEW = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def predictions(model: object, case: Case) -> list[np.ndarray]:
    x = next(case_data.arrays(case).batches(case.data.batch_size))[0]
    given = model(list(x) if isinstance(x, tuple) else x, training=False)  # type: ignore[operator]
    return [np.asarray(item) for item in (given if isinstance(given, list | tuple) else [given])]


def check(case: Case) -> None:
    built = build.model(case)
    known = shapes(case.model)
    assert [tuple(item.shape[1:]) for item in built.outputs] == [known[name] for name in case.model.outputs]
    for node in case.model.nodes:
        if node.shares is None and sum(other.shares == node.name for other in case.model.nodes) == 0:
            assert tuple(built.get_layer(node.name).output.shape[1:]) == known[node.name], node
    assert built.trainable_variables
    rows = min(case.data.rows, case.data.batch_size)
    for name, value in zip(case.model.outputs, predictions(built, case), strict=True):
        assert value.shape == (rows, *known[name])
        assert np.isfinite(value).all()


@FEW
@given(cases())
def test_a_drawn_case_builds_to_the_shapes_it_says(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", sorted(set(LAYERS)))
def test_every_layer_builds_as_it_is_drawn(name: str) -> None:
    drawn: collections.Counter[str] = collections.Counter()

    @settings(FEW, max_examples=3)
    @given(cases(layers=[name], max_layers=2))
    def each(case: Case) -> None:
        drawn.update(node.layer for node in case.model.nodes if node.layer)
        check(case)

    each()
    assert drawn["Dense"]


@FEW
@given(cases(layers=_POOLINGS))
def test_losses_optimizers_and_metrics_of_a_drawn_case_build(case: Case) -> None:
    assert len(build.losses(case)) == len(build.metrics(case)) == len(case.losses)
    assert type(build.optimizer(case)).__name__ == case.optimizer.name
