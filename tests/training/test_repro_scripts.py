"""The scripts do what the engine does: the same weights bit for bit, in a process that knows nothing of it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conformance import build, devices
from conformance.arm import parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule
from conformance.causes import CAUSES
from conformance.finding import NOT_REPRODUCED, REPRODUCED
from conformance.frozen import FrozenMap
from conformance.prepare import prepare, release
from conformance.raised import Raised
from conformance.reports.repro import script, scripts
from conformance.reports.repro_weights import literals
from conformance.reports.source import flat
from conformance.reports.verify import verify_text
from conformance.stage import FINAL, Stage
from conformance.trace import PerReplica
from conformance.training import training
from conformance.verdict import ArmReport, Cause, Divergence, Expected, Observation, Verdict

NIGHTLY = pytest.mark.nightly
"""On what is told by one of its like with every change, and takes seconds in a process of its own."""

SINGLE, MIRRORED, LOOP = "fit/single/graph", "fit/mirrored:2/graph", "loop/single/graph"


def dense(loss: str = "mean_squared_error", *, rows: int = 16, batch_size: int = 8, **options: object) -> Case:
    return Case(
        model=Model(
            inputs=(Input(name="x", shape=(3,)),),
            nodes=(Node(name="dense", layer="Dense", config=FrozenMap(units=1), inputs=("x",)),),
            outputs=("dense",),
        ),
        losses=(Loss(name=loss),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125, **options)),
        data=Data(rows=rows, batch_size=batch_size),
    )


def line(loss: str = "mean_squared_error", *, rows: int = 2, batch_size: int = 2, **options: object) -> Case:
    """A straight line through two points: what is left of most cases."""
    case = dense(loss, **options)
    model = msgspec.structs.replace(case.model, inputs=(Input(name="x", shape=(1,)),))
    return msgspec.structs.replace(case, model=model, data=Data(rows=rows, batch_size=batch_size, pattern="ones"))


def wide(**given: object) -> Case:
    """Two inputs, two outputs, an embedding, a random layer, moving statistics, penalties, sample weights."""
    nodes = (
        Node(
            name="emb",
            layer="Embedding",
            config=FrozenMap(input_dim=5, output_dim=2, embeddings_regularizer={"l2": 0.125}),
            inputs=("a",),
        ),
        Node(name="flat", layer="Flatten", inputs=("emb",)),
        Node(
            name="keras",
            layer="Dense",
            config=FrozenMap(
                units=3,
                activation="tanh",
                kernel_regularizer={"l1": 0.125},
                kernel_constraint={"max_norm": 1.0},
                activity_regularizer={"l2": 0.125},
            ),
            inputs=("b",),
        ),
        Node(name="again", shares="keras", inputs=("keras",)),
        Node(name="cat", layer="Concatenate", inputs=("flat", "again")),
        Node(name="bn", layer="BatchNormalization", inputs=("cat",)),
        Node(name="drop", layer="Dropout", config=FrozenMap(rate=0.5), inputs=("bn",)),
        Node(name="one", layer="Dense", config=FrozenMap(units=1), inputs=("drop",)),
        Node(name="two", layer="Dense", config=FrozenMap(units=3, activation="softmax"), inputs=("drop",)),
    )
    parts: dict[str, object] = {
        "model": Model(
            kind="functional",
            inputs=(Input(name="a", shape=(4,), below=5), Input(name="b", shape=(3,))),
            nodes=nodes,
            outputs=("one", "two"),
        ),
        "losses": (
            Loss(name="huber", config=FrozenMap(delta=0.5), weight=0.5),
            Loss(name="sparse_categorical_crossentropy", weight=2.0),
        ),
        "metrics": ("mean_absolute_error", "accuracy"),
        "optimizer": Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625, use_ema=True)),
        "data": Data(rows=21, batch_size=8, sample_weight="normal", seed=3),
        "schedule": Schedule(epochs=2),
        "seed": 7,
    }
    return Case(**{**parts, **given})  # type: ignore[arg-type]


def deep(*, built_first: bool = True, steps_per_execution: int = 1, feed: str = "generator") -> Case:
    """A chain with a convolution, a frozen normalization, a recurrent layer and a loss that is a function.

    Under a strategy, fit loses what it has read ahead of a generator when it begins, which differs from run to run.
    """
    return Case(
        model=Model(
            inputs=(Input(name="x", shape=(6, 2)),),
            nodes=(
                Node(
                    name="conv",
                    layer="Conv1D",
                    config=FrozenMap(filters=3, kernel_size=2, kernel_regularizer={"l2": 0.1}),
                    inputs=("x",),
                ),
                Node(name="bn", layer="BatchNormalization", config=FrozenMap(trainable=False), inputs=("conv",)),
                Node(name="lstm", layer="LSTM", config=FrozenMap(units=3), inputs=("bn",)),
                Node(name="noise", layer="GaussianNoise", config=FrozenMap(stddev=0.5), inputs=("lstm",)),
                Node(name="dense", layer="Dense", config=FrozenMap(units=2), inputs=("noise",)),
            ),
            outputs=("dense",),
        ),
        losses=(Loss(name="scalar_function"),),
        optimizer=Optimizer(
            name="SGD",
            config=FrozenMap(learning_rate=0.125, momentum=0.5, clipnorm=1.0),
            built_first=built_first,
        ),
        data=Data(rows=19, batch_size=8, pattern="small_integers", feed=feed, seed=11),
        schedule=Schedule(epochs=2, steps_per_execution=steps_per_execution),
        seed=5,
    )


def functions() -> Case:
    """Function losses whose values a loop has to reduce by itself."""
    case = dense("per_sample_function", rows=19)
    data = Data(rows=19, batch_size=8, feed="dataset", sample_weight="ramp")
    return Case(model=case.model, losses=case.losses, optimizer=case.optimizer, data=data, schedule=Schedule(epochs=2))


def verdict(case: Case, arms: tuple[str, str] = (MIRRORED, SINGLE), **given: object) -> Verdict:
    raised = given.pop("raised", None)
    fields: dict[str, object] = {
        "axis": "distribution",
        "step": 0,
        "stage": Stage.GRADIENT,
        "variable": "model/dense/kernel",
        "magnitude": 0.05,
        "allowed": 1e-6,
        "message": "said",
    }
    divergence = Divergence(arms=arms, **{**fields, **given})  # type: ignore[arg-type]
    reports = (
        ArmReport(arm=arms[0], status="raised" if raised else "ran", raised=raised),  # type: ignore[arg-type]
        ArmReport(arm=arms[1], status="ran"),
    )
    cause = Cause(name="unexplained", explanation="said", advice="said")
    seen = Observation(divergence=divergence, cause=cause, signature="s")
    return Verdict(case=case, verdict="diverges", arms=reports, observations=(seen,))


RAISED = Raised("RuntimeError", "merge_call called while defining a new graph or a tf.function")
PARTIAL: dict[str, object] = {"stage": Stage.LOSS, "variable": "loss", "step": 1}
MINIMAL: dict[str, tuple[Case, str, dict[str, object], str]] = {
    "scalar_loss": (
        line("scalar_function"),
        "replica_loss_not_scaled",
        {"axis": "both", "stage": Stage.LOSS, "variable": "loss", "allowed": 0.0, "ratio": 2.0},
        r"loss: .* ratio \[2.\]\nkernel: \[.*\] instead of \[.*\], ratio \[2.\]\n",
    ),
    "rows_43_in_16": (line(rows=7, batch_size=4), "replica_mean_of_means", PARTIAL, r"kernel: \[.*\] instead of"),
    "rows_33_in_16": (line(rows=3), "replica_mean_of_means", PARTIAL, r"kernel: \[.*\] instead of"),
    "clipnorm": (line(clipnorm=0.125), "clip_order", {"ratio": 2.0}, r"bias: .* ratio \[2.\]\n"),
    "gradient_accumulation": (
        line(gradient_accumulation_steps=2),
        "raises_in_one_arm",
        {"step": None, "stage": Stage.UPDATE, "magnitude": float("inf"), "allowed": 0.0, "raised": RAISED},
        r"DIVERGES: RuntimeError (.|\n)*merge_call",
    ),
}
"""What is left of the divergences that everybody is told of first, once they are minimal."""


@pytest.mark.parametrize("name", MINIMAL)
def test_a_minimal_finding_of_one_layer_reproduces_in_forty_lines_of_literals(name: str) -> None:
    case, cause, given, shown = MINIMAL[name]
    both = given.get("axis") == "both"
    made = verdict(case, (MIRRORED, "loop/mirrored:2/graph" if both else SINGLE), **given)
    why = Cause(name=cause, explanation=CAUSES[cause].sentence, advice=CAUSES[cause].advice)
    found = msgspec.structs.replace(made.observations[0], cause=why, wrong_arm=MIRRORED)
    arms = (*made.arms, ArmReport(arm=SINGLE, status="ran"))
    source = script(msgspec.structs.replace(made, observations=(found,), arms=arms))
    assert source.count("\n") <= 40
    assert "rng" not in source
    assert "conformance" not in source.lower()
    status, output = verify_text(source)
    assert status == REPRODUCED, output
    assert re.search(shown, output)


def embedded() -> Case:
    """An embedding and two dense layers, one without a bias, with other layers between."""
    nodes = (
        Node(name="emb", layer="Embedding", config=FrozenMap(input_dim=3, output_dim=2), inputs=("x",)),
        Node(name="drop", layer="Dropout", config=FrozenMap(rate=0.5), inputs=("emb",)),
        Node(name="flat", layer="Flatten", inputs=("drop",)),
        Node(name="one", layer="Dense", config=FrozenMap(units=2, use_bias=False), inputs=("flat",)),
        Node(name="two", layer="Dense", config=FrozenMap(units=1), inputs=("one",)),
    )
    model = Model(inputs=(Input(name="x", shape=(4,), below=3),), nodes=nodes, outputs=("two",))
    return msgspec.structs.replace(dense(), model=model, seed=3)


@pytest.mark.parametrize("case", [line(), embedded()])
def test_weights_are_spelled_as_the_engine_draws_them(case: Case) -> None:
    spelled = literals(case)
    assert spelled is not None
    made = build.model(case).get_weights()
    assert len(made) == len(spelled)
    for value, expression in zip(made, spelled, strict=True):
        shown = eval(flat(expression), {"np": np})  # noqa: S307 - the source is what is tested
        assert shown.shape == value.shape
        assert np.array_equal(shown.astype("float32"), value)


def test_two_steps_of_it_diverge_too() -> None:
    status, output = verify_text(script(verdict(dense("scalar_function"), ratio=2.0)))
    assert status == REPRODUCED, output
    assert re.search(r"ratio \[2.", output)


def test_batches_that_split_evenly_conform_under_replicas() -> None:
    status, output = verify_text(script(verdict(dense(rows=32, batch_size=16))))
    assert status == NOT_REPRODUCED, output
    assert output.endswith("CONFORMS\n[exit code 0]\n")


def long(verdict: Verdict) -> str:
    """The script that looks at everything, to the bit."""
    return scripts(verdict)[-1]


def test_the_loss_of_an_output_is_reported_as_the_engine_reports_it(tmp_path: Path) -> None:
    given = {"stage": Stage.LOGS, "variable": "one_loss", "step": 1, "allowed": 0.0}
    source = long(verdict(wide(), (SINGLE, LOOP), **given))
    path = tmp_path / "train.py"
    path.write_text(source.split("differ = ", 1)[0] + "print(repr([[r for _, r in s] for s in (seen, wanted)]))\n")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = ast.literal_eval(done.stdout.strip().split("\n")[-1])
    for values, arm in zip(made, (SINGLE, LOOP), strict=True):
        trace = prepare(parse_arm(arm), training(wide())).run()
        assert values == [trace.logs[step, "one_loss"] for step in range(6)]
        release()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"stage": Stage.LOGS, "variable": "loss", "step": 1}, marks=NIGHTLY),
        {"stage": Stage.LOGS, "variable": "two_accuracy", "step": None, "epoch": 1},
        pytest.param({"stage": Stage.LOSS, "variable": "loss"}, marks=NIGHTLY),
    ],
)
def test_what_fit_and_loop_report_agrees_bit_for_bit(given: dict[str, object]) -> None:
    status, output = verify_text(script(verdict(wide(), (SINGLE, LOOP), allowed=0.0, **given)))
    assert status == NOT_REPRODUCED, output
    assert output.endswith("CONFORMS\n[exit code 0]\n")


def test_an_error_of_the_script_itself_is_no_verdict() -> None:
    source = script(verdict(dense())).replace("model.fit(", "model.fot(")
    status, output = verify_text(source)
    assert status == NOT_REPRODUCED
    assert "AttributeError" in output
    assert output.endswith("[exit code 2]\n")


@pytest.mark.parametrize(
    ("case", "arms"),
    [
        (wide(), (SINGLE, LOOP)),
        pytest.param(wide(), ("loop/mirrored:2/graph", MIRRORED), marks=NIGHTLY),
        (deep(feed="dataset"), (MIRRORED, SINGLE)),
        pytest.param(deep(built_first=False, steps_per_execution=2), (SINGLE, "fit/single/eager"), marks=NIGHTLY),
        pytest.param(deep(), ("loop/mirrored:2/graph", "loop/single/eager"), marks=NIGHTLY),
        (functions(), ("loop/mirrored:2/graph", "train_on_batch/single/eager")),
        (dense(rows=19), ("loop/single/xla", "fit/single/xla")),
    ],
    ids=["wide-single", "wide-mirrored", "deep-fit", "deep-unbuilt", "deep-loop", "functions", "xla"],
)
def test_a_script_trains_to_the_very_weights_of_the_engine(case: Case, arms: tuple[str, str], tmp_path: Path) -> None:
    source = long(verdict(case, arms, allowed=0.0, stage=Stage.WEIGHTS))
    # The threads of the engine's own process are one too; only scripts that compare bits ask for that.
    threads = "".join(f"tf.config.threading.set_{kind}_op_parallelism_threads(1)\n" for kind in ("intra", "inter"))
    head, rest = source.split("sys.excepthook", 1)
    body, _ = rest.split("differ = ", 1)
    path = tmp_path / "train.py"
    save = "".join(f"np.savez({str(tmp_path / name)!r}, **dict({name}))\n" for name in ("seen", "wanted"))
    path.write_text(f"{head}{threads}sys.excepthook{body}{save}")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-I", str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, arm in zip(("seen", "wanted"), arms, strict=True):
        trace = prepare(parse_arm(arm), training(case)).run()
        assert trace.error is None
        made = np.load(tmp_path / f"{name}.npz")
        compared = 0
        for step, stage, variable in trace.keys():  # noqa: SIM118 - `keys` of a trace is its order of training
            if step == FINAL and stage in (Stage.WEIGHTS, Stage.STATE) and "seed_generator" not in variable:
                copies = trace.values[step, stage, variable]
                # Scripts of two arms in one placement look at every copy, others at the copies' mean.
                value = np.stack(copies) if made[variable].ndim > copies[0].ndim else np.mean(copies, 0, "float64")
                assert np.array_equal(made[variable], value), (arm, variable)
                compared += 1
        assert compared == len([key for key in made.files if not _is_slot(key, trace.values)])
        release()


def _is_slot(name: str, values: object) -> bool:
    return not any(key[2] == name for key in values)  # type: ignore[attr-defined]


def averaged(**given: object) -> Case:
    """Momentum, and averages that fit writes into the weights at its end; batches of several sizes."""
    case = dense(rows=19, momentum=0.5, use_ema=True, **given)
    return msgspec.structs.replace(case, metrics=("mean_absolute_error",), schedule=Schedule(epochs=2))


def held_against(case: Case, arm: str, key: tuple[int, Stage, str], value: np.ndarray) -> Verdict:
    """A verdict that this quantity should have had this value."""
    step, stage, name = key
    expected = Expected(shape=value.shape, values=tuple(float(item).hex() for item in value.ravel()))
    when = None if step == FINAL else step
    given = {"step": when, "stage": stage, "variable": name, "allowed": 1e-6, "expected": expected}
    return verdict(case, (arm, "referee"), axis="referee", **given)


def trained(source: str) -> object:
    """What a script's `train` returns, in this process, whose devices are set up already."""
    body = source[source.index("\nimport ") : source.rindex("\nexpected = ")]
    body = re.sub(r"^(?:sys\.|cpu = |tf\.config\.|strategy = ).*\n", "", body, flags=re.MULTILINE)
    # Two strategies over the same devices mistake one another's collective operations for their own.
    scope: dict[str, object] = {"strategy": devices.strategy(parse_arm(MIRRORED).placement)}
    with devices.determinism("jit_compile" not in source):
        exec(body, scope)  # noqa: S102 - the script is what is tested
        return scope["train"]() if "train" in scope else scope["seen"]  # type: ignore[operator]


def quantities(case: Case, arm: str, step: int) -> dict[tuple[int, Stage, str], PerReplica]:
    """The last quantity of every stage of a step, as recorded."""
    trace = prepare(parse_arm(arm), training(case)).run()
    assert trace.error is None
    found = {
        stage: {key: value for key, value in trace.values.items() if key[:2] == (step, stage) and _is_small(value)}
        for stage in Stage
        if stage is not Stage.BATCH
    }
    last = dict(list(held.items())[-1] for held in found.values() if held)
    ends = {epoch: value for (epoch, name), value in trace.epoch_logs.items() if name == "loss"}
    epoch, place = divmod(step, case.steps_per_epoch)
    if place + 1 == case.steps_per_epoch and epoch in ends and "mirrored" not in arm:
        last[step, Stage.LOGS, "loss"] = (np.array(ends[epoch]),)
    elif (step, "loss") in trace.logs and "mirrored" not in arm:
        last[step, Stage.LOGS, "loss"] = (np.array(trace.logs[step, "loss"]),)
    release()
    return last


def _is_small(values: PerReplica) -> bool:
    return values[0].dtype.kind == "f" and values[0].size <= 64


@pytest.mark.parametrize(
    ("case", "arm", "step"),
    [
        (averaged(), SINGLE, 1),
        (averaged(), SINGLE, 3),
        (averaged(), SINGLE, FINAL),
        (averaged(), LOOP, 5),
        (averaged(), "loop/mirrored:2/graph", 2),
        pytest.param(deep(built_first=False, feed="dataset"), MIRRORED, 2, marks=NIGHTLY),
        pytest.param(deep(), SINGLE, 1, marks=NIGHTLY),
        (wide(), "train_on_batch/single/eager", 4),
        (dense(rows=16, gradient_accumulation_steps=2, clipnorm=0.1), "fit/single/xla", 1),
    ],
    ids=["fit", "fit-between", "fit-end", "loop", "loop-mirrored", "fit-mirrored", "generator", "on-batch", "xla"],
)
def test_one_arms_quantity_is_read_as_the_engine_recorded_it(case: Case, arm: str, step: int) -> None:
    recorded = quantities(case, arm, step)
    assert len(recorded) >= (1 if step == FINAL else 6)
    for key, values in recorded.items():
        for source in scripts(held_against(case, arm, key, values[-1])):
            seen = trained(source)
            # The reduced gradient and the reports of all replicas are one.
            due = values if isinstance(seen, list) and len(seen) == len(values) else values[:1]
            for a, b in zip(seen if isinstance(seen, list) and len(due) > 1 else [seen], due, strict=True):
                assert np.allclose(a, b, rtol=1e-5, atol=1e-7), (arm, key, a, b)
            release()


def test_on_replicas_what_fit_reports_of_a_step_and_of_its_epoch_is_held_against_the_same() -> None:
    value = np.array(1.0)
    seen = trained(script(held_against(dense(rows=19), MIRRORED, (2, Stage.LOGS, "loss"), value)))
    trace = prepare(parse_arm(MIRRORED), training(dense(rows=19))).run()
    assert np.allclose(seen, [trace.logs[2, "loss"], trace.epoch_logs[0, "loss"]])  # type: ignore[arg-type]
    assert trace.logs[2, "loss"] != trace.epoch_logs[0, "loss"]
    release()


@pytest.mark.parametrize(("factor", "status"), [(1.0, NOT_REPRODUCED), (1.001, REPRODUCED)])
def test_a_script_of_one_arm_conforms_exactly_where_it_is_as_expected(factor: float, status: str) -> None:
    """On replicas, each of which has a gradient of its own."""
    case = dense(rows=13)
    ((key, values),) = [item for item in quantities(case, MIRRORED, 1).items() if item[0][1] is Stage.LOCAL_GRADIENT]
    got, output = verify_text(script(held_against(case, MIRRORED, key, values[1] * factor)))
    assert got == status, output
    assert output.count("seen:") == 2
