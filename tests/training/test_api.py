"""The Python API's contract: a user's own model, loss, optimizer, data and loop on trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformance
from conformance import cases
from conformance.baseline import Baseline, Known, save_baseline
from conformance.errors import UsageError
from conformance.failure import failure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 10)).astype("float32")
Y = RNG.normal(size=(100, 1)).astype("float32")


def build() -> Any:
    import keras

    return keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])


def penalized() -> Any:
    import keras

    layers = [keras.Input((10,)), keras.layers.Dense(2, kernel_regularizer="l2"), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def normalized() -> Any:
    import keras

    layers = [keras.Input((10,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def adam() -> Any:
    import keras

    return keras.optimizers.Adam(0.01)


def mse(y_true: Any, y_pred: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.square(y_true - y_pred))


def train_step(model: Any, x: Any, y: Any, optimizer: Any) -> Any:
    """The hand-written step of many a tutorial, which closes over its loss."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = mse(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def in_inference_mode(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=False))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def never(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    return loss_fn(y, model(x, training=True))


def test_a_hand_written_step_conforms_on_one_device() -> None:
    verdict = conformance.check(train_step, model=build, loss=mse, optimizer=adam, data=(X, Y))
    assert verdict.conforms, str(verdict)
    assert verdict.divergence is verdict.cause is verdict.wrong_arm is None
    assert verdict.compared > 50
    assert {report.arm for report in verdict.arms} == {"trial/single/graph", "fit/single/graph"}
    assert str(verdict) == "conforms: trial/single/graph, fit/single/graph"


def test_a_scalar_loss_on_two_replicas_is_found_to_be_twice_too_large() -> None:
    verdict = conformance.check(model=build, loss=mse, optimizer=adam, data=(X, Y), batch_size=20, replicas=(1, 2))
    assert not verdict.conforms
    assert verdict.divergence is not None
    assert verdict.divergence.ratio == pytest.approx(2.0, rel=1e-6)
    assert verdict.cause is not None
    assert verdict.cause.name == "replica_loss_not_scaled"
    assert verdict.wrong_arm == "fit/mirrored:2/graph"
    told = str(verdict)
    assert "loss[step 0] loss = 2 x the other's" in told
    assert "wrong: fit/mirrored:2/graph" in told
    assert "replica_loss_not_scaled: The loss is not divided by the number of replicas" in told
    assert "advice: Return one value a sample" in told


def test_a_step_that_forgets_the_penalties_is_an_assertion_error() -> None:
    with pytest.raises(AssertionError) as raised:
        conformance.assert_conforms(train_step, model=penalized, loss="mse", optimizer="sgd", data=(X[:8], Y[:8]))
    assert isinstance(raised.value, conformance.DivergenceError)
    verdict = raised.value.verdict
    assert isinstance(verdict, conformance.Verdict)
    assert str(raised.value) == failure(verdict)
    assert verdict.verdict == "diverges"
    assert verdict.wrong_arm == "trial/single/graph"
    assert verdict.divergence is not None
    assert (verdict.divergence.step, verdict.divergence.stage) == (0, "loss")


def test_a_step_in_inference_mode_is_found_in_the_outputs() -> None:
    with pytest.raises(conformance.DivergenceError) as raised:
        conformance.assert_conforms(
            in_inference_mode, model=normalized, loss="mse", optimizer="sgd", data=(X[:8], Y[:8])
        )
    verdict: Any = raised.value.verdict
    assert (verdict.divergence.step, verdict.divergence.stage) == (0, "outputs")
    assert verdict.wrong_arm == "trial/single/graph"


def test_a_step_that_never_calls_its_optimizer_diverges() -> None:
    verdict = conformance.check(never, model=build, loss="mse", optimizer="sgd", data=(X[:8], Y[:8]))
    assert (verdict.verdict, verdict.conforms) == ("diverges", False)
    assert verdict.cause is not None
    assert verdict.cause.name == "model_not_trained"
    assert "neither is the optimizer called nor, under a tape, the model, and no weight is assigned" in str(verdict)


def test_what_a_baseline_knows_is_known_and_does_not_raise(tmp_path: Path) -> None:
    known = Baseline((Known("trainer/weights/model_not_trained", "It is a test."),))
    save_baseline(known, tmp_path / "known.json")
    arguments = {"model": build, "loss": "mse", "optimizer": "sgd", "data": (X[:8], Y[:8])}
    verdict = conformance.assert_conforms(never, **arguments, baseline=tmp_path / "known.json")
    assert (verdict.verdict, verdict.conforms) == ("known", True)
    assert verdict.signature == "trainer/weights/model_not_trained"


def test_a_training_that_raises_everywhere_raises() -> None:
    verdict = conformance.check(model=build, loss="mse", optimizer="sgd", data=(X[:8, :3], Y[:8]))
    assert verdict.verdict == "raises"
    assert not verdict.conforms


def _dataset() -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X[:10], Y[:10])).batch(4)


def _sequence() -> Any:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            part = slice(4 * index, min(4 * index + 4, 10))
            return X[part], Y[part]

    return Batches()


def _generator() -> Callable[[], Iterator[Any]]:
    def batches() -> Iterator[Any]:
        for start in (0, 4, 8):
            yield X[start : min(start + 4, 10)], Y[start : min(start + 4, 10)]

    return batches


@pytest.mark.parametrize("feed", [_dataset, _sequence, _generator], ids=["dataset", "PyDataset", "generator function"])
def test_batches_of_any_kind_are_trained_on(feed: Callable[[], Any]) -> None:
    verdict = conformance.assert_conforms(train_step, model=build, loss=mse, optimizer="sgd", data=feed())
    # Three steps of ten rows in batches of four: fewer quantities are compared when batches are lost.
    by_arrays = conformance.check(
        train_step, model=build, loss=mse, optimizer="sgd", data=(X[:10], Y[:10]), batch_size=4
    )
    assert verdict.compared == by_arrays.compared > 0


def two_outputs() -> Any:
    import keras

    given = keras.Input((10,))
    named = [keras.layers.Dense(1, name=name)(given) for name in ("first", "second")]
    return keras.Model(given, named)


@pytest.mark.parametrize("loss", [["mse", "mae"], {"second": "mae", "first": "mse"}], ids=["list", "dictionary"])
def test_several_outputs_are_judged(loss: Any) -> None:
    import keras

    verdict = conformance.check(
        model=two_outputs,
        loss=loss,
        optimizer=keras.optimizers.SGD(0.125, momentum=0.5),
        data=(X[:8], (Y[:8], Y[:8])),
        batch_size=4,
        metrics=("mae",),
        loss_weights=(1.0, 0.5),
    )
    assert verdict.conforms, str(verdict)
    assert not [line for line in verdict.not_compared if "loss" in line]


def test_a_case_can_be_put_on_trial_with_a_step() -> None:
    case = cases.load("rows_43_in_16")
    assert conformance.check(in_inference_mode, case=case).conforms
    verdict = conformance.check(case=case, replicas=(1, 2))
    assert verdict.case == case
    assert verdict.cause is not None
    assert verdict.cause.name == "replica_mean_of_means"


def _given(**changes: Any) -> dict[str, Any]:
    return {"model": build, "loss": "mse", "optimizer": "sgd", "data": (X[:8], Y[:8]), **changes}


BAD = {
    "nothing": ({}, "check() misses model, loss, optimizer, data; give them, or a case"),
    "no loss": (_given(loss=None), "check() misses loss"),
    "a model that is built already": (_given(model=object()), "should be a function without arguments"),
    "a function that makes no model": (_given(model=lambda: 3), "model() gave int, which is no keras.Model"),
    "a function that makes no optimizer": (_given(optimizer=lambda: 3), "optimizer gave int"),
    "a number for an optimizer": (_given(optimizer=3), "optimizer=3 should be a name"),
    "a number for a baseline": (_given(baseline=3), "baseline=3 should be the path of a baseline, or 'corpus'"),
    "a baseline that is not there": (_given(baseline="missing.json"), "missing.json: No such file or directory"),
    "no replicas": (_given(replicas=()), "replicas=() should be whole numbers from 1 to 64"),
    "half a replica": (_given(replicas=(1, 0.5)), "replicas=(1, 0.5) should be"),
    "a negative number of replicas": (_given(replicas=(-2,)), "replicas=(-2,) should be"),
    "replicas that are no sequence": (_given(replicas=2), "replicas=2 should be"),
    "too many replicas": (_given(replicas=(1, 65)), "replicas=(1, 65) should be whole numbers from 1 to 64"),
    "an unknown execution": (_given(executions=("jit",)), "'jit' is not an execution"),
    "executions as a name": (_given(executions="graph"), "executions='graph' should be a list of names"),
    "a batch size of none": (_given(batch_size=0), "batch_size=0 should be a whole number of at least 1"),
    "negative epochs": (_given(epochs=-1), "epochs=-1 should be a whole number of at least 1"),
    "rows that do not match": (_given(data=(X[:8], Y[:7])), "data with [7, 8] rows"),
    "no rows": (_given(data=(X[:0], Y[:0])), "data with 0 rows"),
    "data of another kind": (_given(data=3), "data=int is neither"),
    "a batch of four parts": (_given(data=[(X, Y, Y, Y)]), "a batch of 4 parts"),
    "no batches": (_given(data=[]), "the data has no batches"),
    "batches of many sizes": (_given(data=[(X[:2], Y[:2]), (X[:3], Y[:3])]), "batches have [2, 3] rows"),
    "a loss for an output that is not there": (_given(loss={"third": "mse"}), "['third'] are not the model's outputs"),
    "an unknown loss": (_given(loss="squared"), "'squared' is no loss that Keras knows"),
    "an unknown loss of an output": (_given(loss=["mse", "squared"]), "'squared' is no loss that Keras knows"),
    "an unknown optimizer": (_given(optimizer="sdg"), "'sdg' is no optimizer that Keras knows"),
    "callbacks that are none": (_given(callbacks=3), "callbacks=int should be a list of callbacks, or a function"),
    "a callback that is none": (_given(callbacks=[3]), "callbacks hold int, which is no keras.callbacks.Callback"),
    "a function that makes no callbacks": (_given(callbacks=lambda: [None]), "callbacks hold NoneType"),
    "a function that makes no metric": (_given(metrics=[lambda: 3]), "a function among metrics gave int"),
    "an unknown metric": (_given(metrics=("mape_",)), "'mape_' is no metric that Keras knows"),
}


def limited(*, configured: bool) -> Any:
    """A metric with an argument of its own, which is in its configuration or is lost."""
    import keras

    class Limited(keras.metrics.Mean):  # type: ignore[misc]  # Keras has no types
        def __init__(self, limit: float = 0.0, name: str = "limited") -> None:
            super().__init__(name=name)
            self.limit = limit

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            import tensorflow as tf

            return super().update_state(tf.cast(tf.abs(y_true - y_pred) > self.limit, tf.float32))

    class Configured(Limited):
        def get_config(self) -> Any:
            return {"name": self.name, "limit": self.limit}

    return (Configured if configured else Limited)(0.5)


def within(y_true: Any, y_pred: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(tf.abs(y_true - y_pred) < 1.0, tf.float32), axis=-1)


def test_metrics_of_any_kind_are_computed_alike_on_one_device_and_on_replicas() -> None:
    import keras

    def made() -> Any:
        return keras.metrics.MeanAbsoluteError(name="made")

    metrics = [limited(configured=True), keras.metrics.MeanSquaredError, within, made]
    verdict = conformance.check(**_given(metrics=metrics, batch_size=4, replicas=(1, 2)))
    assert verdict.conforms, verdict
    epochs = [line for line in verdict.not_compared if "of an epoch" in line]
    assert epochs == []


def test_a_metric_whose_configuration_leaves_something_out_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Limited cannot be made anew: its get_config leaves out limit; give a funct"):
        conformance.check(**_given(metrics=[limited(configured=False)]))


@pytest.mark.parametrize(("arguments", "told"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        conformance.check(**arguments)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("loop", [3, lambda batch: batch, lambda model, y: y], ids=["number", "batch", "no x"])
def test_a_loop_of_other_parameters_is_refused(loop: Any) -> None:
    with pytest.raises(UsageError, match=r"train_step|training step") as refused:
        conformance.check(loop, **_given())
    assert "\n" not in str(refused.value)


def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    """A whole loop; the other forms have tests of their own."""
    for _ in range(epochs):
        for x, y in dataset:
            train_step(model, x, y, optimizer)


def test_a_whole_loop_can_be_put_on_trial_with_a_case() -> None:
    case = cases.load("rows_43_in_16")
    verdict = conformance.check(train, case=case)
    assert verdict.case == case
    assert {report.arm for report in verdict.arms} >= {"trial/single/graph", "fit/single/graph"}
    assert {report.status for report in verdict.arms} == {"ran"}


def test_a_cause_that_a_training_cannot_tell_from_another_is_told_with_it() -> None:
    """Of two rows of two columns, the sum over either is twice the mean; of three rows it is not."""
    import keras
    import tensorflow as tf

    def summed_over_columns(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.reduce_sum(tf.square(y - model(x, training=True)), axis=-1))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def told(rows: int) -> conformance.Cause:
        verdict = conformance.check(
            summed_over_columns,
            model=lambda: keras.Sequential([keras.Input((10,)), keras.layers.Dense(2)]),
            loss="mse",
            optimizer="sgd",
            data=(X[:rows], X[:rows, :2]),
            batch_size=rows,
            replicas=(1,),
        )
        assert verdict.cause is not None
        return verdict.cause

    undecided = told(2)
    assert undecided.name == "loss_summed_not_averaged"
    assert any(line.startswith("here the same as loss_reduced_over_wrong_axis") for line in undecided.evidence)
    decided = told(3)
    assert decided.name == "loss_reduced_over_wrong_axis"
    assert not any("here the same as" in line for line in decided.evidence)


def centred(x: Any) -> Any:
    """A layer that looks at all rows of its batch."""
    import keras
    import tensorflow as tf

    class Centred(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x - tf.reduce_mean(x, axis=0, keepdims=True)

    return Centred()(x)


def summing(x: Any) -> Any:
    """A layer that adds a sum over its rows to the loss."""
    import keras
    import tensorflow as tf

    class Summing(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * tf.reduce_sum(tf.square(x)))
            return x

    return Summing()(x)


@pytest.mark.parametrize(("layer", "stage"), [(centred, "outputs"), (summing, "loss")])
@pytest.mark.parametrize("loop", [None, train_step], ids=["fit", "loop"])
def test_what_looks_at_a_whole_batch_diverges_on_replicas_though_every_replica_is_right_by_itself(
    layer: Callable[[Any], Any], stage: str, loop: Any
) -> None:
    import keras

    def build_model() -> Any:
        given = keras.Input((10,))
        return keras.Model(given, keras.layers.Dense(1)(layer(given)))

    def step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True)) + sum(model.losses) / count()
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def count() -> int:
        import tensorflow as tf

        return int(tf.distribute.get_strategy().num_replicas_in_sync)

    verdict = conformance.check(
        None if loop is None else step,
        model=build_model,
        loss="mse",
        optimizer="sgd",
        data=(X[:8], Y[:8]),
        batch_size=4,
        replicas=(1, 2),
    )
    assert verdict.divergence is not None, verdict
    assert (verdict.divergence.axis, verdict.divergence.stage.value) == ("distribution", stage)
    assert verdict.cause is not None
    assert any("looks at all rows of a batch" in line for line in verdict.cause.evidence), verdict


def test_a_layer_that_the_referee_cannot_run_is_said_and_the_arms_are_still_compared() -> None:
    import keras
    import tensorflow as tf

    class Narrow(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any, training: bool = False) -> Any:
            return x + tf.ones(tf.shape(x), tf.float32) if training else x

    def build_model() -> Any:
        given = keras.Input((10,))
        return keras.Model(given, keras.layers.Dense(1)(Narrow()(given)))

    verdict = conformance.check(model=build_model, loss="mse", optimizer="sgd", data=(X[:8], Y[:8]), batch_size=4)
    assert verdict.conforms
    assert verdict.compared > 0
    told = [line for line in str(verdict).splitlines() if "the referee judges nothing" in line]
    assert told
    assert not any("\x1b" in line for line in told)


def test_a_lambda_may_be_a_loss() -> None:
    import tensorflow as tf

    verdict = conformance.check(
        model=build,
        loss=lambda y_true, y_pred: tf.reduce_mean(tf.square(y_true - y_pred), axis=-1),
        optimizer="sgd",
        data=(X[:8], Y[:8]),
        batch_size=4,
    )
    assert verdict.conforms, verdict
