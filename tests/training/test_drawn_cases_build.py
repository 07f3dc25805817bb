"""Drawn cases are valid to Keras too: they build, to the shapes the case says, and give finite predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from conformance import build
from conformance import data as case_data
from conformance.case import Case, shapes
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.strategies import cases, register_layer
from conformance.strategies.register_layer import REGISTERED


def drawn(count: int) -> settings:
    """So many cases, the same ones every time, however slow the machine is."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )


def first_predictions(model: Any, case: Case) -> list[Any]:
    x = next(case_data.arrays(case).batches(case.data.batch_size))[0]
    predicted = model(list(x) if isinstance(x, tuple) else x, training=False)
    return [np.asarray(item) for item in (predicted if isinstance(predicted, list | tuple) else [predicted])]


def assert_builds(case: Case) -> None:
    built = build.model(case)
    known = shapes(case.model)
    assert [tuple(item.shape[1:]) for item in built.outputs] == [known[name] for name in case.model.outputs]
    shared = {node.shares for node in case.model.nodes}
    for node in case.model.nodes:
        # A layer that is called twice has no output of its own.
        if node.shares is None and node.name not in shared:
            assert tuple(built.get_layer(node.name).output.shape[1:]) == known[node.name], node
    assert built.trainable_variables
    rows = min(case.data.rows, case.data.batch_size)
    for name, value in zip(case.model.outputs, first_predictions(built, case), strict=True):
        assert value.shape == (rows, *known[name])
        assert np.isfinite(value).all()


@drawn(25)
@given(cases())
def test_a_drawn_case_builds_to_the_shapes_it_says_and_predicts_finite_values(case: Case) -> None:
    assert_builds(case)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_layer_builds_as_it_is_drawn(name: str) -> None:
    met: list[Case] = []

    def is_fifth_with_the_layer(case: Case) -> bool:
        met.extend([case] * any(node.layer == name for node in case.model.nodes))
        return len(met) >= 5

    # Raises where there are none.
    find(
        cases(layers=[name, "Dense"], kinds=["functional"], max_layers=3),
        is_fifth_with_the_layer,
        settings=drawn(2000),
    )
    for case in met[:5]:
        assert_builds(case)


@drawn(40)
@given(cases(max_layers=1))
def test_the_losses_the_optimizer_and_the_metrics_of_a_drawn_case_build(case: Case) -> None:
    made = build.losses(case)
    kinds = [LOSSES[loss.name].keras_class or "function" for loss in case.losses]
    assert [type(loss).__name__ for loss in made] == kinds
    assert type(build.optimizer(case)).__name__ == case.optimizer.name
    assert len(build.metrics(case)) == len(case.losses)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_option_an_optimizer_is_drawn_with_is_one_of_keras(name: str) -> None:
    @drawn(12)
    @given(cases(max_layers=1, optimizers=[name]))
    def each(case: Case) -> None:
        config = build.optimizer(case).get_config()
        for option, value in case.optimizer.config.items():
            assert config[option] == pytest.approx(value), option

    each()


def test_a_registered_layer_builds_where_it_is_drawn() -> None:
    import keras

    class Stretch(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, times: int, **options: Any) -> None:
            super().__init__(**options)
            self.times = times

        def call(self, inputs: Any) -> Any:
            return keras.ops.repeat(inputs, self.times, axis=-1)

    register_layer(
        Stretch,
        config=st.builds(dict, times=st.integers(1, 3)),
        output_shape=lambda config, shape: (*shape[:-1], shape[-1] * config["times"]),
    )
    met = []

    @drawn(15)
    @given(cases(layers=["Stretch", "Dense"]))
    def each(case: Case) -> None:
        met.extend(node for node in case.model.nodes if node.layer == "Stretch")
        assert_builds(case)

    try:
        each()
    finally:
        del LAYERS["Stretch"], REGISTERED["Stretch"]
    assert met
