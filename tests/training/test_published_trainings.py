"""Trainings as people publish them, which hold what no drawn case has: layers and steps of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.prepare import release
from conformance.said import UNSCALED

RNG = np.random.default_rng(5)
X = RNG.normal(size=(8, 3)).astype("float32")
LABELS = RNG.integers(0, 2, size=8).astype("int32")


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    release()


def augmenting_autoencoder() -> Any:
    """Augments, and draws in TensorFlow's operations, in the dtype of Keras's generator."""
    import keras
    import tensorflow as tf

    class Sampling(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1)

        def call(self, given: Any) -> Any:
            mean, log_variance = given
            self.add_loss(-0.5 * tf.reduce_mean(1 + log_variance - tf.square(mean) - tf.exp(log_variance)))
            return mean + tf.exp(0.5 * log_variance) * keras.random.normal(tf.shape(mean), seed=self.seed_generator)

    inputs = keras.Input((4, 4, 1))
    augmented = keras.layers.RandomRotation(0.1, seed=2)(keras.layers.RandomFlip("horizontal", seed=1)(inputs))
    flat = keras.layers.Flatten()(augmented)
    latent = Sampling()([keras.layers.Dense(2)(flat), keras.layers.Dense(2)(flat)])
    return keras.Model(inputs, keras.layers.Dense(3)(latent))


def test_a_model_that_augments_and_draws_by_a_layer_of_its_own_is_judged_on_replicas() -> None:
    verdict = conformance.check(
        model=augmenting_autoencoder,
        loss="mse",
        optimizer="sgd",
        data=(RNG.normal(size=(8, 4, 4, 1)).astype("float32"), X),
        batch_size=8,
        replicas=(1, 2),
        executions=("eager",),
    )
    assert verdict.conforms, str(verdict)
    assert not any("judges nothing" in line for line in verdict.not_compared)
    assert [remark.split(",")[0] for remark in verdict.remarks] == ["random_stream_differs"]


def test_a_loop_with_a_model_that_names_half_precision_is_judged_by_the_roundings_of_that() -> None:
    import keras
    import tensorflow as tf

    def build() -> Any:
        with_policy = {"dtype": "mixed_float16"}
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(8, activation="relu", **with_policy)(inputs)
        hidden = keras.layers.Dense(2, **with_policy)(hidden)
        model = keras.Model(inputs, keras.layers.Activation("softmax", dtype="float32")(hidden))
        model.dtype_policy = keras.DTypePolicy("mixed_float16")
        return model

    def step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    given: dict[str, Any] = {"model": build, "loss": "sparse_categorical_crossentropy", "data": (X, LABELS)}
    given |= {"batch_size": 4, "executions": ("eager",)}
    scaling = keras.optimizers.LossScaleOptimizer
    verdict = conformance.check(step, optimizer=lambda: scaling(keras.optimizers.SGD(0.1)), replicas=(1, 2), **given)
    assert verdict.conforms, str(verdict)
    assert not any("judges nothing" in line for line in verdict.not_compared)
    assert verdict.remarks == ()
    # `compile` scales the loss of such a model by itself, and a loop does not.
    alone = conformance.check(step, optimizer=lambda: keras.optimizers.SGD(0.1), **given)
    assert UNSCALED in alone.remarks


def distiller(times: float = 1.0, *, undivided: bool = False) -> Any:
    """Makes a student that drops units, with a loss that its own `train_step` knows.

    Args:
        times: by which the loss is multiplied.
        undivided: whether a replica's loss is not divided by their number.
    """

    def build() -> Any:
        import keras
        import tensorflow as tf

        class Distiller(keras.Model):  # type: ignore[misc]
            def train_step(self, data: Any) -> Any:
                x, _ = data
                replicas = tf.distribute.get_strategy().num_replicas_in_sync if undivided else 1
                divergence = keras.losses.KLDivergence()
                with tf.GradientTape() as tape:
                    loss = times * replicas * divergence(tf.nn.softmax(x), tf.nn.softmax(self(x, training=True)))
                weights = self.trainable_variables
                self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
                return {"one": tf.ones(())}

        inputs = keras.Input((3,))
        return Distiller(inputs, keras.layers.Dense(3)(keras.layers.Dropout(0.4, seed=1)(inputs)))

    return build


def distill(model: Any, optimizer: Any, x: Any) -> Any:
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.losses.KLDivergence()(tf.nn.softmax(x), tf.nn.softmax(model(x, training=True)))
    weights = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


OWN_LOSS = {"optimizer": "sgd", "data": (X, LABELS), "batch_size": 8, "executions": ("eager",)}


def test_a_train_step_that_knows_its_loss_is_held_against_itself_and_what_replicas_draw_is_no_divergence() -> None:
    verdict = conformance.check(model=distiller(), replicas=(1, 2), **OWN_LOSS)
    assert verdict.conforms, str(verdict)
    assert [remark.split(",")[0] for remark in verdict.remarks] == ["random_stream_differs"]
    assert "the referee judges nothing: no loss was given" in str(verdict)


@pytest.mark.nightly
def test_beside_what_replicas_draw_a_fault_of_such_a_train_step_is_told() -> None:
    verdict = conformance.check(model=distiller(undivided=True), replicas=(1, 2), **OWN_LOSS)
    assert verdict.wrong_arm == "fit/mirrored:2/eager"
    assert verdict.cause is not None
    assert verdict.cause.evidence[-1] == (
        "with random layers that draw nothing they differ as well, first in weights, step 0"
    )


def test_a_step_beside_such_a_train_step_is_given_the_optimizer_and_held_against_it() -> None:
    verdict = conformance.check(distill, model=distiller(), **OWN_LOSS)
    assert verdict.conforms, str(verdict)
    assert verdict.compared > 4
    wrong = conformance.check(distill, model=distiller(2.0), **OWN_LOSS)
    assert wrong.divergence is not None
    assert (wrong.divergence.step, wrong.divergence.stage) == (0, "weights")


def frozen_base() -> Any:
    import keras

    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    base.trainable = False
    return keras.Sequential([keras.Input((3,)), base, keras.layers.Dense(1)])


def all_weights_given(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    optimizer.apply_gradients(zip(tape.gradient(loss, model.weights), model.weights, strict=True))
    return loss


def test_an_optimizer_that_is_given_frozen_weights_updates_them() -> None:
    arguments = {"model": frozen_base, "loss": "mse", "optimizer": "adam", "data": (X, X[:, :1]), "batch_size": 8}
    verdict = conformance.check(all_weights_given, executions=("eager",), **arguments)
    assert verdict.cause is not None, str(verdict)
    assert (verdict.cause.name, verdict.wrong_arm) == ("frozen_weights_updated", "trial/single/eager")


def detector() -> Any:
    import keras

    inputs = keras.Input((3,))
    return keras.Model(inputs, {name: keras.layers.Dense(1, name=name)(inputs) for name in ("box", "object")})


def one_loss_forgotten(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(y["box"] - model(x, training=True)["box"]))
    weights = model.get_layer("box").trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
    return loss


def test_a_loop_that_leaves_a_part_alone_is_wrong_whatever_fit_reports_and_assigns_nothing_by_hand() -> None:
    verdict = conformance.check(
        one_loss_forgotten,
        model=detector,
        loss={"box": "mse", "object": "mae"},
        optimizer="sgd",
        data=(X[:7], {"box": X[:7, :1], "object": X[:7, 1:2]}),
        batch_size=4,
    )
    assert verdict.divergence is not None
    assert (verdict.divergence.stage, verdict.wrong_arm) == ("loss", "trial/single/graph")
    assert "outside of the optimizer" not in str(verdict)
    assert not any(line.startswith("gradient box") for line in verdict.not_compared)


def segmenter() -> Any:
    import keras

    return keras.Sequential([keras.Input((2, 3, 1)), keras.layers.Conv2D(2, 1)])


def segmenting(reduce: Any) -> Any:
    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            counted = tf.cast(y != 255, tf.float32)
            labels = tf.where(y == 255, 0, y)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x, training=True))
            loss = reduce(losses * counted, counted)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    return step


def by_all(losses: Any, counted: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(losses)


def by_rows(losses: Any, counted: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.reduce_sum(losses, axis=(1, 2)))


@pytest.mark.parametrize(
    ("reduce", "ignored", "cause"), [(by_all, 255, "mask_ignored"), (by_rows, None, "loss_reduced_over_wrong_axis")]
)
def test_what_a_loss_of_pixels_is_divided_by_is_named(reduce: Any, ignored: int | None, cause: str) -> None:
    import keras

    pixels = RNG.integers(0, 2, size=(6, 2, 3)).astype("int32")
    if ignored is not None:
        pixels[:, 0, 0] = ignored
    verdict = conformance.check(
        segmenting(reduce),
        model=segmenter,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored),
        optimizer="sgd",
        data=(RNG.normal(size=(6, 2, 3, 1)).astype("float32"), pixels),
        batch_size=4,
        executions=("eager",),
    )
    assert verdict.cause is not None
    assert (verdict.cause.name, verdict.cause.exact) == (cause, True)
    assert len(verdict.observations) == 1


def mixing() -> Any:
    """Trains on mixed rows, which it draws before it calls itself."""
    import keras
    import tensorflow as tf

    class Mixing(keras.Model):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.seed_generator = keras.random.SeedGenerator(3)

        def train_step(self, data: Any) -> Any:
            x, y = data
            share = keras.random.uniform((tf.shape(x)[0], 1), seed=self.seed_generator)
            return super().train_step((share * x + (1 - share) * x[::-1], share * y + (1 - share) * y[::-1]))

    inputs = keras.Input((3,))
    return Mixing(inputs, keras.layers.Dense(1)(inputs))


def test_a_train_step_that_means_to_do_otherwise_is_not_accused_and_told_how_to_be_held_against_itself() -> None:
    arguments = {"loss": "mse", "data": (X, X[:, :1]), "batch_size": 8, "executions": ("eager",)}
    verdict = conformance.check(model=mixing, optimizer="sgd", **arguments)
    (told,) = verdict.observations
    assert (told.cause.name, told.wrong_arm) == ("unexplained", None)
    assert "optimizer={'optimizer': optimizer}" in told.cause.advice
    cured = arguments | {"executions": ("graph", "eager")}
    assert conformance.check(model=mixing, optimizer={"optimizer": "sgd"}, **cured).conforms
