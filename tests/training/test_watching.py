"""Being watched changes nothing, everything is recorded, and what is recorded is what happened."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from conformance import build, devices, prepare
from conformance.arm import parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule
from conformance.data import Array, arrays, epoch_dataset
from conformance.frozen import FrozenMap
from conformance.prepare import PreparedArm, release
from conformance.recording import Recorder
from conformance.recording.log import Log
from conformance.stage import FINAL, STAGES, Stage
from conformance.trace import Trace
from conformance.training import training

ARMS = [
    *(
        f"{trainer}/{placement}/{execution}"
        for trainer in ("fit", "loop", "train_on_batch")
        for placement in ("single", "mirrored:2")
        for execution in ("graph", "eager")
    ),
    *(f"{trainer}/single/xla" for trainer in ("fit", "loop", "train_on_batch")),
]


def chain(*nodes: tuple[str, str, dict[str, Any]], shape: tuple[int, ...]) -> Model:
    names = ["x", *(name for name, _, _ in nodes)]
    made = tuple(
        Node(name=name, layer=layer, config=FrozenMap(config), inputs=(before,))
        for (name, layer, config), before in zip(nodes, names, strict=False)
    )
    return Model(inputs=(Input(name="x", shape=shape),), nodes=made, outputs=(names[-1],))


RICH = Case(
    model=chain(
        ("conv", "Conv1D", {"filters": 2, "kernel_size": 2, "kernel_regularizer": {"l2": 0.125}}),
        ("norm", "BatchNormalization", {"momentum": 0.5}),
        ("flat", "Flatten", {}),
        ("drop", "Dropout", {"rate": 0.5}),
        ("dense", "Dense", {"units": 1, "bias_regularizer": {"l1": 0.125}, "activity_regularizer": {"l2": 0.125}}),
        shape=(4, 2),
    ),
    losses=(Loss(name="mean_squared_error"),),
    optimizer=Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625, clipnorm=1.0)),
    data=Data(rows=11, batch_size=4, seed=3),
    metrics=("mean_absolute_error",),
    schedule=Schedule(epochs=2),
    seed=5,
)

EVEN = msgspec.structs.replace(RICH, data=Data(rows=8, batch_size=4, seed=3))
"""For XLA, which takes seconds for each shape of a batch: one trainer with a partial one is enough."""


class Blind(Recorder):
    """A recorder that looks at nothing until training has returned."""

    @property
    def applied(self) -> bool:  # type: ignore[override]
        return True

    @applied.setter
    def applied(self, value: bool) -> None:
        """Loops ask whether the optimizer was called, which nobody sees here."""

    def watch_model(self, **_: Any) -> None: ...

    def watch_optimizer(self) -> None: ...

    def batch(self, *_: Any) -> None: ...

    def outputs(self, *_: Any) -> None: ...

    def loss(self, *_: Any) -> None: ...

    def begin(self) -> None: ...

    def end_step(self) -> None: ...


def left(trace: Trace) -> dict[tuple[Stage, str], tuple[Array, ...]]:
    """What training left behind: weights, slots, statistics and random states of every replica."""
    return {key[1:]: value for key, value in trace.values.items() if key[0] == FINAL}


def assert_same_bits(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for key, values in one.items():
        for first, second in zip(values, other[key], strict=True):
            np.testing.assert_array_equal(first, second, err_msg=str(key), strict=True)
            # The signs of zeros and NaNs too.
            assert first.tobytes() == second.tobytes(), key


@pytest.fixture(scope="module", params=ARMS)
def seen(request: pytest.FixtureRequest) -> Any:
    """One arm's trace with everything recorded, and with nothing."""
    arm = parse_arm(request.param)
    subject = training(EVEN if arm.execution == "xla" and arm.trainer != "fit" else RICH)
    with pytest.MonkeyPatch.context() as patch:
        watched = PreparedArm(arm, subject).run()
        patch.setattr(prepare, "Recorder", Blind)
        unwatched = PreparedArm(arm, subject).run()
    yield watched, unwatched
    release()


def test_being_watched_changes_no_bit(seen: tuple[Trace, Trace]) -> None:
    watched, unwatched = seen
    assert watched.error is unwatched.error is None
    assert not [key for key in unwatched.values if key[0] != FINAL]
    assert {stage for stage, _ in left(watched)} == {Stage.UPDATE, Stage.WEIGHTS, Stage.STATE}
    assert_same_bits(left(watched), left(unwatched))
    assert watched.logs == unwatched.logs
    assert watched.epoch_logs == unwatched.epoch_logs
    reports = watched.arm.trainer != "train_on_batch"
    assert {name for _, name in watched.epoch_logs} == ({"loss", "mean_absolute_error"} if reports else set())


def test_every_stage_of_every_step_is_recorded_on_every_replica(seen: tuple[Trace, Trace]) -> None:
    watched, _ = seen
    case = EVEN if watched.steps == EVEN.steps else RICH
    assert watched.steps == case.steps > 2
    assert_all_recorded(watched, case)


def short(name: str) -> str:
    """A path without the model's name; Keras numbers the paths of seeds through a whole process."""
    return name.rpartition("/")[2] if name.startswith("seed_generator") else name.removeprefix("model/")


def assert_all_recorded(trace: Trace, case: Case) -> None:
    trainable = {"conv/kernel", "conv/bias", "norm/gamma", "norm/beta", "dense/kernel", "dense/bias"}
    wanted = {
        Stage.BATCH: {"x", "y"},
        Stage.OUTPUTS: {"dense"},
        Stage.LOSS: {"loss"},
        Stage.LOCAL_GRADIENT: trainable,
        Stage.GRADIENT: trainable,
        Stage.WEIGHTS: trainable,
        Stage.STATE: {"norm/moving_mean", "norm/moving_variance", "seed_generator_state"},
    }
    stages = [stage for stage in STAGES if stage is not Stage.LOGS]
    for step in range(case.steps):
        for stage in stages:
            found = trace.stage(step, stage)
            assert found, (step, stage)
            assert all(len(values) == trace.replicas for values in found.values()), (step, stage)
            if stage in wanted:
                assert {short(name) for name in found} == wanted[stage]
        # Every variable has two slots in Adam, and the optimizer counts its steps.
        assert len(trace.stage(step, Stage.UPDATE)) == 2 + 2 * len(trainable)
        assert trace.values[step, Stage.UPDATE, "iteration"][0] == step + 1
    if trace.arm.trainer != "train_on_batch" and trace.replicas == 1:
        steps = range(case.schedule.steps_per_execution - 1, case.steps, case.schedule.steps_per_execution)
        assert {step for step, _ in trace.logs} >= set(steps)


def test_rows_are_recorded_as_they_were_given(seen: tuple[Trace, Trace]) -> None:
    watched, _ = seen
    x, y = arrays(RICH).structure()
    starts = (0, 4) if watched.steps == EVEN.steps else (0, 4, 8)
    if len(starts) == 2:
        x, y = arrays(EVEN).structure()
    rows = [slice(start, start + 4) for start in starts] * 2
    for step, part in enumerate(rows):
        if watched.arm.trainer == "train_on_batch" and watched.replicas > 1:
            # Keras splits no array there: each replica trains on the whole batch.
            for given in watched.values[step, Stage.BATCH, "x"]:
                np.testing.assert_array_equal(given, x[part])
            continue
        np.testing.assert_array_equal(watched.merged((step, Stage.BATCH, "x")), x[part])
        np.testing.assert_array_equal(watched.merged((step, Stage.BATCH, "y")), y[part])
        assert watched.merged((step, Stage.OUTPUTS, "dense")).shape == (len(x[part]), 1)


@pytest.mark.parametrize("replicas", [1, 2])
def test_fit_watched_is_fit_as_a_plain_script_runs_it(replicas: int) -> None:
    placement = "single" if replicas == 1 else "mirrored:2"
    arm = parse_arm(f"fit/{placement}/graph")
    watched = PreparedArm(arm, training(RICH)).run()
    strategy = devices.strategy(arm.placement)
    x, y = arrays(RICH).structure()
    with devices.determinism(True), devices.unfolded():
        with strategy.scope():
            model, optimizer = build.model(RICH), build.optimizer(RICH)
            model.compile(optimizer, build.losses(RICH)[0], metrics=build.metrics(RICH)[0])
        history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    final = left(watched)
    paths = {short(name): values[0] for (stage, name), values in final.items() if stage is not Stage.UPDATE}
    for variable in model.variables:
        if replicas == 1 or any(variable is weight for weight in model.trainable_variables):
            # What a script reads of a mirrored statistic is the mean over the replicas.
            np.testing.assert_array_equal(paths.pop(short(variable.path)), variable.numpy(), variable.path, strict=True)
    assert bool(paths) == (replicas > 1)
    slots = [values[0] for (stage, _), values in final.items() if stage is Stage.UPDATE]
    for slot, variable in zip(slots, optimizer.variables, strict=True):
        np.testing.assert_array_equal(slot, variable.numpy())
    for name, values in history.items():
        assert values == [watched.epoch_logs[epoch, name] for epoch in range(2)]
    release()


def loss_of(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss_fn(y, model(x, training=True)) + tf.add_n(model.losses) / replicas


def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(model, loss_fn, x, y)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


def by_hand(model: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(model, loss_fn, x, y)
    for gradient, variable in zip(
        tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True
    ):
        variable.assign_sub(0.125 * gradient)
    return {"loss": loss}


def train(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> list[float]:
    import tensorflow as tf

    @tf.function(input_signature=dataset.element_spec)
    def step(x: Any, y: Any) -> Any:
        return train_step(model, optimizer, loss_fn, x, y)

    losses = []
    for _ in range(epochs):
        losses += [float(step(x, y)) for x, y in dataset]
        # What is evaluated in between leaves no mark on the next step.
        for x, y in dataset:
            loss_fn(y, model(x, training=False))
    return losses


def train_in_the_graph(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int) -> None:
    import tensorflow as tf

    @tf.function
    def epoch() -> None:
        for x, y in dataset:
            train_step(model, optimizer, loss_fn, x, y)

    for _ in range(epochs):
        epoch()


def train_arrays(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int) -> list[float]:
    losses = []
    for _ in range(epochs):
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            losses.append(float(train_step(model, optimizer, loss_fn, x[part], y[part])))
    return losses


def train_distributed(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: int, strategy: Any) -> None:
    import tensorflow as tf

    distributed = strategy.experimental_distribute_dataset(dataset)

    @tf.function
    def epoch() -> None:
        for batch in distributed:
            strategy.run(lambda x, y: train_step(model, optimizer, loss_fn, x, y), args=batch)

    for _ in range(epochs):
        epoch()


def driven(step: Any) -> Any:
    """A script around a step, as the harness's own driver is one."""

    def run(dataset: Any, epochs: int, strategy: Any, **parts: Any) -> None:
        import tensorflow as tf

        distributed = strategy.experimental_distribute_dataset(dataset)

        @tf.function(input_signature=[distributed.element_spec])
        def compiled(batch: Any) -> None:
            strategy.run(lambda x, y: step(**parts, x=x, y=y), args=batch)

        for _ in range(epochs):
            for batch in distributed:
                compiled(batch)

    return run


LOOPS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "step": (train_step, "single", ("model", "optimizer", "loss_fn")),
    "step on replicas": (train_step, "mirrored:2", ("model", "optimizer", "loss_fn")),
    "step by hand": (by_hand, "single", ("model", "loss_fn")),
    "whole": (train, "single", ("model", "optimizer", "loss_fn", "dataset", "epochs")),
    "whole in the graph": (train_in_the_graph, "single", ("model", "optimizer", "loss_fn", "dataset", "epochs")),
    "whole on replicas": (
        train_distributed,
        "mirrored:2",
        ("model", "optimizer", "loss_fn", "dataset", "epochs", "strategy"),
    ),
    "arrays": (train_arrays, "single", ("model", "optimizer", "loss_fn", "x", "y", "batch_size", "epochs")),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_watched_is_the_loop_as_a_plain_script_runs_it(name: str) -> None:
    loop, placement, parameters = LOOPS[name]
    arm = parse_arm(f"trial/{placement}/graph")
    watched = PreparedArm(arm, training(RICH, loop)).run()
    strategy = devices.strategy(arm.placement)
    data = arrays(RICH)
    with devices.determinism(True), devices.unfolded():
        with strategy.scope():
            model, optimizer = build.model(RICH), build.optimizer(RICH)
            optimizer.build(model.trainable_variables)
            given = {"model": model, "optimizer": optimizer, "loss_fn": build.losses(RICH)[0], "strategy": strategy}
            given |= {"dataset": epoch_dataset(data, 4, "arrays"), "epochs": 2, "batch_size": 4}
            given |= dict(zip(("x", "y"), data.structure(), strict=True))
            if "x" in parameters or "dataset" in parameters:
                loop(**{parameter: given[parameter] for parameter in parameters})
        if "x" not in parameters and "dataset" not in parameters:
            everything = {parameter: given[parameter] for parameter in parameters}
            driven(loop)(given["dataset"], 2, strategy, **everything)
    assert watched.error is None
    assert watched.steps == RICH.steps
    final = {short(name): values[0] for (stage, name), values in left(watched).items() if stage is not Stage.UPDATE}
    for variable in model.variables:
        if watched.replicas == 1 or any(variable is weight for weight in model.trainable_variables):
            np.testing.assert_array_equal(final[short(variable.path)], variable.numpy(), variable.path, strict=True)
    slots = [values[0] for (stage, _), values in left(watched).items() if stage is Stage.UPDATE]
    assert bool(slots) == ("optimizer" in parameters)
    for slot, variable in zip(slots, optimizer.variables, strict=False):
        np.testing.assert_array_equal(slot, variable.numpy())
    release()


@pytest.mark.parametrize("name", ["whole", "whole in the graph", "whole on replicas", "arrays"])
def test_every_stage_of_a_whole_loop_is_recorded_as_that_of_a_driven_step(name: str) -> None:
    """What the driver sees of a step, from outside; but for the loss, to which the loop adds the penalties unseen."""
    loop, placement, _ = LOOPS[name]
    whole = PreparedArm(parse_arm(f"trial/{placement}/graph"), training(RICH, loop)).run()
    driven_step = PreparedArm(parse_arm(f"trial/{placement}/graph"), training(RICH, train_step)).run()
    found, wanted = ({(k[0], k[1], short(k[2])): v for k, v in t.values.items()} for t in (whole, driven_step))
    assert {key for key in wanted if key not in found} == {(step, Stage.LOSS, "loss") for step in range(RICH.steps)}
    if name in ("arrays", "whole in the graph"):
        # Its steps are no graphs, or are a dataset's own functions, and round otherwise.
        wanted = {key: value for key, value in wanted.items() if key[1] is Stage.BATCH}
    assert_same_bits(
        {key: found[key] for key in wanted if key in found}, {k: v for k, v in wanted.items() if k in found}
    )
    for ours, theirs in ((whole.first, driven_step.first), (whole.start, whole.first)):
        assert {stage for stage, _ in theirs} >= {Stage.WEIGHTS, Stage.STATE}
        for (stage, name), values in theirs.items():
            others = {(s, short(n)): v for (s, n), v in ours.items()}[stage, short(name)]
            for value, other in zip(values, others, strict=True):
                np.testing.assert_array_equal(value, other)
    assert whole.rates == driven_step.rates == dict.fromkeys(range(RICH.steps), 0.015625)
    assert whole.calls == driven_step.calls == dict.fromkeys(range(RICH.steps), (1,) * whole.replicas)
    release()


def test_several_steps_in_one_call_are_recorded_one_by_one() -> None:
    """Six steps in calls of three: nobody can look from Python between them."""
    case = msgspec.structs.replace(RICH, schedule=Schedule(epochs=2, steps_per_execution=3))
    together = PreparedArm(parse_arm("fit/single/graph"), training(case)).run()
    alone = PreparedArm(parse_arm("fit/single/graph"), training(RICH)).run()
    assert_all_recorded(together, case)
    first, second = (
        {(key[0], key[1], short(key[2])): value for key, value in trace.values.items()} for trace in (together, alone)
    )
    assert_same_bits(first, second)
    release()


# Numbers that floats hold exactly, so that what is due is a matter of arithmetic and not of rounding.
RATE, MOMENTUM, DECAY = 0.125, 0.5, 0.25
EXACT = Case(
    model=chain(("dense", "Dense", {"units": 1, "kernel_regularizer": {"l2": DECAY}}), shape=(2,)),
    losses=(Loss(name="mean_squared_error"),),
    optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=RATE, momentum=MOMENTUM)),
    data=Data(rows=8, batch_size=4, pattern="small_integers", seed=1),
)
KERNEL, BIAS = np.array([[0.5], [-1.0]]), np.array([0.25])


@pytest.mark.parametrize(
    "arm", ["fit/single/graph", "loop/single/eager", "fit/mirrored:2/graph", "loop/mirrored:2/eager"]
)
def test_what_is_recorded_is_the_arithmetic_of_a_step(arm: str) -> None:
    start = [KERNEL.astype(np.float32), BIAS.astype(np.float32)]
    trace = PreparedArm(parse_arm(arm), training(EXACT)).run(weights=start)
    release()
    x, y = (array.astype(np.float64) for array in arrays(EXACT).structure())
    replicas, kernel, bias = trace.replicas, KERNEL, BIAS
    velocity = [np.zeros((2, 1)), np.zeros(1)]
    for step in range(2):
        batch = slice(4 * step, 4 * step + 4)
        parts = [(x[batch][part], y[batch][part]) for part in np.split(np.arange(4), replicas)]
        seen: dict[str, list[Array]] = {name: [] for name in ("loss", "kernel", "bias")}
        for inputs, targets in parts:
            error = inputs @ kernel + bias - targets
            # A replica's share: the mean over its rows and its part of the penalty, over the number of replicas.
            seen["loss"].append(((error**2).mean() + DECAY * (kernel**2).sum()) / replicas)
            seen["kernel"].append((2 * inputs.T @ error / len(inputs) + 2 * DECAY * kernel) / replicas)
            seen["bias"].append(2 * error.mean(axis=0) / replicas)
        gradients = [sum(seen["kernel"]), sum(seen["bias"])]
        velocity = [MOMENTUM * v - RATE * g for v, g in zip(velocity, gradients, strict=True)]
        predicted = [inputs @ kernel + bias for inputs, _ in parts]
        kernel, bias = kernel + velocity[0], bias + velocity[1]
        due: dict[tuple[Stage, str], list[Any]] = {
            (Stage.BATCH, "x"): [inputs for inputs, _ in parts],
            (Stage.BATCH, "y"): [targets for _, targets in parts],
            (Stage.OUTPUTS, "dense"): predicted,
            (Stage.LOSS, "loss"): seen["loss"],
            (Stage.LOCAL_GRADIENT, "model/dense/kernel"): seen["kernel"],
            (Stage.LOCAL_GRADIENT, "model/dense/bias"): seen["bias"],
            (Stage.GRADIENT, "model/dense/kernel"): [gradients[0]] * replicas,
            (Stage.GRADIENT, "model/dense/bias"): [gradients[1]] * replicas,
            (Stage.UPDATE, "iteration"): [step + 1] * replicas,
            (Stage.UPDATE, "learning_rate"): [RATE] * replicas,
            (Stage.UPDATE, "model_dense_kernel_momentum"): [velocity[0]] * replicas,
            (Stage.UPDATE, "model_dense_bias_momentum"): [velocity[1]] * replicas,
            (Stage.WEIGHTS, "model/dense/kernel"): [kernel] * replicas,
            (Stage.WEIGHTS, "model/dense/bias"): [bias] * replicas,
        }
        assert {key[1:] for key in trace.values if key[0] == step} == due.keys()
        for key, wanted in due.items():
            for found, value in zip(trace.values[(step, *key)], wanted, strict=True):
                np.testing.assert_array_equal(found, np.asarray(value, found.dtype), str((step, key)), strict=True)


def test_what_fails_in_the_recording_is_no_exception_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of TensorFlow, where the last line of the traceback is none of ours."""
    import tensorflow as tf

    def broken(self: Log, replica: int, row: Any, value: Any) -> None:
        tf.reshape(tf.zeros((2,)), (3,))

    monkeypatch.setattr(Log, "write", broken)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="reshape"):
        PreparedArm(parse_arm("fit/single/eager"), training(RICH)).run()


def test_the_variables_of_an_optimizer_that_is_not_built_are_told_by_their_names() -> None:
    """The dynamic scale comes first where there is one, and its inner optimizer's learning rate before it is built."""
    import keras

    import conformance

    verdict = conformance.check(
        model=lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
        loss="mse",
        optimizer=lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0),
        data=(np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)),
        batch_size=4,
        executions=("eager",),
    )
    assert (verdict.verdict, verdict.flaky) == ("conforms", ())
    release()
