"""Functions that TensorFlow traces are counted, with the argument that made it trace one again."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import transform

import conformance
from conformance import defaults, retracing
from conformance.arm import parse_arm
from conformance.build import Parts
from conformance.costs import Traced
from conformance.data import Arrays
from conformance.place import Place
from conformance.prepare import PreparedArm, release, without_warnings
from conformance.retracing import Retracing
from conformance.trainers import whole
from conformance.trainers.driving import compile_step
from conformance.trainers.timed import timed
from conformance.training import Training
from conformance.verdict import verdict_from_data, verdict_to_data


def counted(call: Any, own: Place | None = None) -> tuple[Traced, ...]:
    with Retracing(own) as seen:
        call()
    assert seen.functions is not None
    return seen.functions


def told(call: Any) -> tuple[int, int, list[str]]:
    # What TensorFlow makes to give variables their first values is in no file of the user's.
    (traced,) = [item for item in counted(call) if item.file]
    return traced.traces, traced.partial, [f"{change.kind}: {change}" for change in traced.changes]


def fresh() -> Any:
    @tf.function
    def add(batch: Any, step: Any) -> Any:
        return batch["x"] + tf.cast(step, batch["x"].dtype)

    return add


def test_a_python_number_that_counts_the_steps_is_told() -> None:
    add = fresh()
    traced = counted(lambda: [add({"x": tf.ones((4, 2))}, step) for step in range(4)])
    assert [(item.traces, str(item.changes[0]), len(item.changes)) for item in traced] == [(4, "step 0 -> 1", 1)]
    assert traced[0].function == "fresh.add"
    assert traced[0].file == __file__


def test_a_tensor_that_counts_the_steps_is_traced_once() -> None:
    add = fresh()
    assert told(lambda: [add({"x": tf.ones((4, 2))}, tf.constant(step)) for step in range(4)]) == (1, 0, [])


def test_a_last_partial_batch_is_told_as_one() -> None:
    add = fresh()
    call = lambda: [add({"x": tf.ones((rows, 2))}, 0) for rows in (4, 4, 3, 4, 3)]  # noqa: E731
    assert told(call) == (2, 1, ["shape: batch['x'] (4, 2) -> (3, 2)"])
    # What has been traced before is not traced again.
    assert counted(call) == ()


def test_other_dtypes_and_objects_are_told() -> None:
    add = fresh()
    dtypes = told(lambda: [add({"x": tf.ones(2, dtype)}, 0) for dtype in ("float32", "float64")])
    assert dtypes == (2, 0, ["dtype: batch['x'] float32 -> float64"])

    class Holder:
        pass

    @tf.function
    def held(x: Any, holder: Any) -> Any:
        return x

    holders = [Holder(), Holder()]
    objects = told(lambda: [held(tf.ones(2), holder) for holder in holders])
    assert objects == (2, 0, ["object: holder Holder -> another Holder"])


def test_a_function_made_anew_for_each_batch_is_one_that_is_traced_each_time() -> None:
    assert told(lambda: [fresh()({"x": tf.ones(2)}, 0) for _ in range(3)]) == (3, 0, ["function: another function"])


def test_variables_that_the_first_trace_makes_are_told_as_the_reason_of_the_second() -> None:
    optimizer, weight = keras.optimizers.Adam(), keras.Variable([1.0, 2.0])

    @tf.function
    def update(gradient: Any) -> None:
        optimizer.apply([gradient], [weight])

    call = lambda: [update(tf.ones(2)) for _ in range(3)]  # noqa: E731
    assert told(call) == (2, 0, ["variables: new variables"])
    optimizer = keras.optimizers.Adam()
    optimizer.build([weight])
    update = tf.function(update.python_function)
    assert told(call) == (1, 0, [])


def test_what_is_traced_within_a_trace_is_no_trace_of_its_own() -> None:
    add = fresh()
    outer = tf.function(lambda x: add({"x": x}, 0) + add({"x": x}, 1))
    (traced,) = counted(lambda: outer(tf.ones(2)))
    assert traced.traces == 1
    assert traced.function.endswith(".<lambda>")


def test_what_a_pipeline_traces_is_no_step() -> None:
    assert counted(lambda: list(tf.data.Dataset.from_tensors(tf.ones(2)).map(lambda x: x * 2))) == ()


def test_a_replica_has_a_trace_of_its_own_and_nobody_is_blamed() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    add = fresh()
    (traced,) = [item for item in counted(lambda: strategy.run(lambda: add({"x": tf.ones(2)}, 0))) if item.file]
    assert (traced.traces, traced.replicas, traced.retraces) == (2, 1, 0)


def test_a_step_of_ours_is_told_as_the_users_that_is_traced_in_it() -> None:
    step = compile_step(lambda x: None, "graph", tf.TensorSpec((None,), tf.float32))
    # A function of ours, whoever calls it.
    step.python_function.__code__ = step.python_function.__code__.replace(co_filename=retracing.__file__)  # type: ignore[attr-defined]
    (traced,) = counted(lambda: step(tf.ones(2)), Place("mine", "mine.py", 3, 4))
    assert traced.name == "mine (mine.py:3)"


def test_where_tensorflow_does_not_tell_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retracing, "_FRAMES", 0)
    with Retracing() as seen:
        fresh()({"x": tf.ones(2)}, 0)
    assert seen.functions is None
    monkeypatch.setattr(retracing, "_callbacks", lambda: None)
    with Retracing() as seen:
        fresh()({"x": tf.ones(2)}, 0)
    assert seen.functions is None


def test_nobody_listens_afterwards() -> None:
    before = list(transform.CONCRETE_FUNCTION_CALLBACKS)
    with Retracing():
        assert len(transform.CONCRETE_FUNCTION_CALLBACKS) == len(before) + 1
    assert before == transform.CONCRETE_FUNCTION_CALLBACKS


X = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")


def build_model() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@tf.function
def train_batch(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, step: Any) -> Any:
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: Any) -> list[float]:
    return [
        float(train_batch(model, optimizer, loss_fn, x, y, step))
        for _ in range(epochs)
        for step, (x, y) in enumerate(dataset)
    ]


def test_a_loop_that_passes_the_number_of_its_step_conforms_and_is_told() -> None:
    dataset = tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(4)
    given: Any = {"model": build_model, "loss": "mse", "optimizer": "sgd", "data": dataset}
    defaults.use(defaults.Defaults(max_retraces=1))
    try:
        with pytest.raises(conformance.RetracedError, match="2 beyond the first trace, at most 1 allowed") as caught:
            conformance.assert_conforms(train, **given)
    finally:
        defaults.use(defaults.Defaults())
    verdict: Any = caught.value.verdict
    assert verdict.conforms
    (line,) = [line for line in str(verdict).splitlines() if "retraced" in line]
    assert "train_batch (test_retracing.py:" in line
    assert "3 times: step 0 -> 1" in line
    ours, fits = verdict.costs
    assert (ours.arm, fits.arm) == ("trial/single/graph", "fit/single/graph")
    for costs in verdict.costs:
        assert costs.prepare > 0
        # Three steps, of which the first is told by itself.
        assert costs.first_step > 0
        assert costs.step > 0
        assert costs.reading > 0
        assert 0 < costs.waiting < 1
    assert fits.retraces == 0
    assert verdict_from_data(verdict_to_data(verdict)).costs == verdict.costs


def whole_training() -> Any:
    parts = Parts(
        build_model, lambda: keras.optimizers.Adam(0.1), lambda: ["mse"], None, lambda: [[]], built_first=False
    )
    return Training(parts, Arrays((X,), (X[:, :1],)), 4, epochs=2, trial=train)


def test_being_timed_and_counted_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = parse_arm("trial/single/graph")
    keras.utils.set_random_seed(1)
    subject = whole_training()
    seen = PreparedArm(arm, subject).run()
    monkeypatch.setattr(whole, "timed", lambda dataset, durations: dataset)
    monkeypatch.setattr(retracing, "_callbacks", lambda: None)
    unseen = PreparedArm(arm, subject).run()
    assert len(seen.durations) == seen.steps == unseen.steps == 6
    assert unseen.durations == []
    assert unseen.functions is None
    assert seen.values.keys() == unseen.values.keys()
    for key, (value,) in seen.values.items():
        assert value.tobytes() == unseen.values[key][0].tobytes(), key
    release()


def test_a_dataset_is_timed_where_python_asks_for_its_batches_and_stays_what_it_was() -> None:
    durations: list[float] = []
    dataset = tf.data.Dataset.range(6).batch(2)
    kind, spec = type(dataset), dataset.element_spec
    given = timed(dataset, durations)
    assert isinstance(given, kind)
    assert (type(given).__name__, given.element_spec) == (kind.__name__, spec)
    assert [batch.numpy().tolist() for batch in given] == [[0, 1], [2, 3], [4, 5]]
    # From each batch to the request after it, that for no more included.
    assert len(durations) == 3
    total = tf.function(lambda batches: batches.reduce(tf.constant(0, tf.int64), lambda s, b: s + tf.reduce_sum(b)))
    assert int(total(given)) == 15
    assert len(list(given.map(lambda x: x + 1))) == 3

    @tf.function
    def second(iterator: Any) -> Any:
        return next(iterator)

    iterator = iter(given)
    next(iterator)
    assert second(iterator).numpy().tolist() == [2, 3]
    assert len(durations) == 3


def test_tensorflow_does_not_warn_of_what_the_harness_traces(caplog: pytest.LogCaptureFixture) -> None:
    # Of functions of one line of code it warns twice in all.
    def first(x: Any) -> Any:
        return x + 1

    def second(x: Any) -> Any:
        return x + 1

    def trace_many(function: Any) -> list[str]:
        for _ in range(8):
            tf.function(function)(tf.zeros((1,)))
        return [record.message for record in caplog.records if "retracing" in record.message]

    with without_warnings():
        assert trace_many(first) == []
    assert trace_many(second) != []
