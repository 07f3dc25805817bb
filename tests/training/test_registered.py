"""A user's own losses and optimizers, registered, train like those of Keras in every arm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from conformance import strategies
from conformance.arm import Placement
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.errors import UnsupportedError
from conformance.frozen import FrozenMap
from conformance.judge import judge_case
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.plan import Plan
from conformance.reports.repro import script
from conformance.strategies.register_loss import REGISTERED_LOSSES
from conformance.strategies.register_optimizer import REGISTERED_OPTIMIZERS

MIRRORED = Plan(placements=(Placement(), Placement(2, mirrored=True)))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    import keras
    import tensorflow as tf

    def quartic(y_true: Any, y_pred: Any) -> Any:
        return tf.reduce_mean(tf.square(tf.square(y_true - y_pred)), axis=-1)

    def scalar(y_true: Any, y_pred: Any) -> Any:
        return tf.reduce_mean(quartic(y_true, y_pred))

    class Power(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
        def __init__(self, power: int, name: str = "power") -> None:
            super().__init__(name=name)
            self.power = power

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return tf.reduce_mean(tf.abs(y_true - y_pred) ** self.power, axis=-1)

    class Halved(keras.optimizers.SGD):  # type: ignore[misc]
        """Half the step, as a rule of its own."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient * 0.5, variable, learning_rate)

    tables: tuple[dict[str, Any], ...] = (LOSSES, REGISTERED_LOSSES, OPTIMIZERS, REGISTERED_OPTIMIZERS)
    before = [dict(table) for table in tables]
    strategies.register_loss(quartic, returns="per_sample")
    strategies.register_loss(scalar, returns="scalar")
    strategies.register_loss(Power, config=st.builds(dict, power=st.integers(2, 3)))
    strategies.register_optimizer(Halved)
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


def case(loss: Loss, optimizer: str = "SGD") -> Case:
    return Case(
        model=Model(
            inputs=(Input(name="x", shape=(2,)),),
            nodes=(Node(name="dense", layer="Dense", config=FrozenMap(units=1), inputs=("x",)),),
            outputs=("dense",),
        ),
        losses=(loss,),
        optimizer=Optimizer(name=optimizer, config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=8, batch_size=4),
    )


@pytest.mark.parametrize("loss", [Loss(name="quartic"), Loss(name="Power", config=FrozenMap(power=3))], ids=str)
def test_a_loss_of_ones_own_conforms_on_one_device_and_on_two(loss: Loss) -> None:
    verdict = judge_case(case(loss), MIRRORED)
    assert verdict.conforms, verdict
    assert verdict.compared > 100


def test_a_scalar_loss_of_ones_own_is_found_to_be_unscaled_on_replicas() -> None:
    verdict = judge_case(case(Loss(name="scalar")), MIRRORED)
    assert [item.signature for item in verdict.observations] == ["both/loss/replica_loss_not_scaled"]
    with pytest.raises(UnsupportedError, match="scalar: a loss or optimizer of one's own is not copied"):
        script(verdict)


def test_an_optimizer_of_ones_own_is_compared_and_what_the_referee_cannot_say_of_it_is_said() -> None:
    verdict = judge_case(case(Loss(name="mean_squared_error"), "Halved"), Plan(executions=("eager",)))
    assert verdict.conforms, verdict
    assert any("Halved" in line for line in verdict.not_compared), verdict.not_compared
