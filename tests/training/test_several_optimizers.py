"""Models that train with several optimizers in their own `train_step`: alone, and beside a loop with the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.errors import UsageError
from conformance.prepare import release

RNG = np.random.default_rng(4)
X = RNG.normal(size=(8, 3)).astype("float32")
REAL = RNG.normal(size=(8, 2)).astype("float32")


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def gan() -> Any:
    """A generator and a discriminator, each with its optimizer; built by `compile`, as replicas need it."""
    import keras
    import tensorflow as tf

    class Gan(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            self.discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

        def call(self, x: Any) -> Any:
            return self.discriminator(self.generator(x))

        def compile(self, d_optimizer: Any, g_optimizer: Any, loss_fn: Any) -> None:
            super().compile()
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
            d_optimizer.build(self.discriminator.trainable_variables)
            g_optimizer.build(self.generator.trainable_variables)

        def train_step(self, data: Any) -> Any:
            x, real = data
            with tf.GradientTape(persistent=True) as tape:
                seen = self.discriminator(tf.concat([self.generator(x), real], 0))
                fake = self.discriminator(self.generator(x))
                d_loss = self.loss_fn(tf.concat([tf.ones_like(fake), tf.zeros_like(fake)], 0), seen)
                g_loss = self.loss_fn(tf.zeros_like(fake), fake)
            for part, optimizer, loss in (
                (self.discriminator, self.d_optimizer, d_loss),
                (self.generator, self.g_optimizer, g_loss),
            ):
                optimizer.apply(tape.gradient(loss, part.trainable_variables), part.trainable_variables)
            return {"g_loss": g_loss}

    return Gan()


def made_with() -> Any:
    """The same with optimizers that its maker gives it."""
    import keras

    class Made(type(gan())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.d_optimizer = keras.optimizers.Adam(0.01)
            self.g_optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
            self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

        def compile(self, **arguments: Any) -> None:
            keras.Model.compile(self, **arguments)

    return Made()


def adam() -> Any:
    import keras

    return keras.optimizers.Adam(0.01)


def given(**changes: Any) -> dict[str, Any]:
    optimizers = {"d_optimizer": adam, "g_optimizer": "sgd"}
    return {"model": gan, "optimizer": optimizers, "loss": scalar, "data": (X, REAL), "batch_size": 4} | changes


def scalar(y: Any, p: Any) -> Any:
    """A scalar, which no replica divides."""
    import tensorflow as tf

    return tf.reduce_mean(tf.square(y - p))


def test_a_model_that_makes_its_optimizers_conforms_to_itself_and_the_rest_is_said_not_to_be_judged() -> None:
    arguments = {"model": made_with, "data": (X, REAL), "batch_size": 4}
    verdict = conformance.assert_conforms(**arguments, executions=("graph", "eager"))
    assert [report.arm for report in verdict.arms] == ["fit/single/graph", "fit/single/eager"]
    assert verdict.compared > 20
    assert "the referee judges nothing: the model trains with optimizers of its own" in str(verdict)


def test_what_replicas_do_otherwise_is_seen_in_the_variables_of_each_optimizer() -> None:
    verdict = conformance.check(**given(replicas=(1, 2), executions=("eager",)))
    assert verdict.wrong_arm == "fit/mirrored:2/eager"
    assert verdict.divergence is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (0, "update")
    assert verdict.divergence.variable.startswith("d_optimizer/")
    assert verdict.divergence.ratio == pytest.approx(2.0, rel=1e-4)
    assert not verdict.flaky


def at_once(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
    """The step of the model, written as a loop's."""
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        seen = model.discriminator(tf.concat([model.generator(x), y], 0))
        fake = model.discriminator(model.generator(x))
        d_loss = loss_fn(tf.concat([tf.ones_like(fake), tf.zeros_like(fake)], 0), seen)
        g_loss = loss_fn(tf.zeros_like(fake), fake)
    for part, name, loss in (
        (model.discriminator, "d_optimizer", d_loss),
        (model.generator, "g_optimizer", g_loss),
    ):
        weights = part.trainable_variables
        optimizer[name].apply(tape.gradient(loss, weights), weights)


def one_after_the_other(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None:
    """The generator is trained against the discriminator as it is after its step."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        seen = model.discriminator(tf.concat([model.generator(x), y], 0))
        loss = loss_fn(tf.concat([tf.ones_like(y[:, :1]), tf.zeros_like(y[:, :1])], 0), seen)
    weights = model.discriminator.trainable_variables
    optimizer["d_optimizer"].apply(tape.gradient(loss, weights), weights)
    with tf.GradientTape() as tape:
        fake = model.discriminator(model.generator(x))
        loss = loss_fn(tf.zeros_like(fake), fake)
    weights = model.generator.trainable_variables
    optimizer["g_optimizer"].apply(tape.gradient(loss, weights), weights)


def test_a_step_with_the_optimizers_of_the_model_is_held_against_its_train_step() -> None:
    verdict = conformance.assert_conforms(at_once, **given())
    assert [report.arm for report in verdict.arms] == ["trial/single/graph", "fit/single/graph"]
    assert verdict.compared > 20
    assert "the loop is held against fit with that" in str(verdict)
    wrong = conformance.check(one_after_the_other, **given())
    assert wrong.divergence is not None
    assert (wrong.divergence.step, wrong.divergence.stage) == (0, "weights")
    # The model's maker has written both.
    assert wrong.wrong_arm is None


def whole(model: Any, optimizer: Any, dataset: Any, epochs: int) -> None: ...


@pytest.mark.parametrize(
    ("loop", "changes", "told"),
    [
        (None, {}, "nothing is there to hold one fit against; ask for others beside it, as in replicas=(1, 2)"),
        (whole, {}, "several optimizers in a whole loop, whose steps nobody can tell apart; give a step of it instead"),
    ],
)
def test_what_cannot_be_judged_is_unsupported_and_says_what_to_change(loop: Any, changes: Any, told: str) -> None:
    verdict = conformance.check(loop, **given(**changes))
    assert verdict.verdict == "unsupported"
    assert told in str(verdict.reason)


def plain() -> Any:
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer": {"a": "sgd"}}, "compile() of Gan takes no a; it takes d_optimizer, g_optimizer, loss_fn"),
        ({"optimizer": {"d_optimizer": 3}}, "optimizer=3 should be a name, a keras.optimizers.Optimizer or make one"),
        ({"model": plain}, "several optimizers are for a keras.Model with a train_step of its own"),
    ],
)
def test_optimizers_that_no_compile_takes_are_refused(changes: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        conformance.check(**given(executions=("graph", "eager"), **changes))
    assert told in str(refused.value)


def test_a_step_that_draws_numbers_is_said_to() -> None:
    import tensorflow as tf

    def noisy() -> Any:
        class Noisy(type(gan())):  # type: ignore[misc]
            def train_step(self, data: Any) -> Any:
                noise, real = data
                return super().train_step((tf.random.normal(tf.shape(noise)), real))

        return Noisy()

    verdict = conformance.check(**given(model=noisy, executions=("graph", "eager")))
    assert verdict.cause is not None
    assert (verdict.cause.name, verdict.wrong_arm) == ("random_stream_differs", None)
    assert "its step draws numbers" in verdict.cause.evidence[0]
