from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from conformance import findings
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer, Schedule
from conformance.data import arrays
from conformance.errors import UnsupportedError, UsageError
from conformance.events import (
    CaseJudged,
    DivergenceSeen,
    Event,
    FindingMade,
    Problem,
    RunEnded,
    RunStarted,
    WorkerDied,
    WorkerReady,
)
from conformance.finding import NOT_REPRODUCED, REPRODUCED, Environment, Finding
from conformance.frozen import FrozenMap
from conformance.raised import Raised
from conformance.reports.folder import FORMAT, load_finding, write_finding
from conformance.reports.markdown import report, summary
from conformance.reports.referee import clause_of
from conformance.reports.repro import script
from conformance.reports.repro import scripts as forms
from conformance.reports.repro_data import data
from conformance.reports.repro_expected import numbers
from conformance.reports.source import call, listed, literal, names, statement
from conformance.reports.terminal import Terminal
from conformance.reports.text import code, docstring, fence, lines, markdown, plain
from conformance.reports.verify import verify, verify_text
from conformance.reports.words import REFEREE
from conformance.stage import Stage
from conformance.verdict import ArmReport, Cause, Divergence, Expected, Observation, Verdict

ROOT = Path(__file__).resolve().parents[2]
SINGLE, MIRRORED = "fit/single/graph", "fit/mirrored:2/graph"
REFEREE_IS = "differs from the referee, textbook training in float64"
HOSTILE = (
    "\x1b[31m`|<b>@all #1\x1b]0;title\x07 ]( http://x.y \r\x00\u202e \"\"\" ''' \\ {x} ${y} ``` </details>"
    " [a](b) _c_ *d*"
)
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def dense(loss: str = "mean_squared_error", *, rows: int = 16, batch_size: int = 8, **given: object) -> Case:
    parts: dict[str, object] = {
        "model": Model(
            inputs=(Input(name="x", shape=(3,)),),
            nodes=(Node(name="dense", layer="Dense", config=FrozenMap(units=1), inputs=("x",)),),
            outputs=("dense",),
        ),
        "losses": (Loss(name=loss),),
        "optimizer": Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        "data": Data(rows=rows, batch_size=batch_size),
    }
    return Case(**{**parts, **given})  # type: ignore[arg-type]


def everything(**given: object) -> Case:
    """Two inputs and outputs, names that Python wants for itself, a shared layer, a frozen one, all penalties."""
    nodes = (
        Node(name="emb", layer="Embedding", config=FrozenMap(input_dim=5, output_dim=3), inputs=("a",)),
        Node(name="flat", layer="Flatten", inputs=("emb",)),
        Node(
            name="keras",
            layer="Dense",
            config=FrozenMap(
                units=3,
                activation="tanh",
                kernel_regularizer={"l1": 0.125},
                bias_regularizer={"l2": 0.125},
                activity_regularizer={"l2": 0.125},
                kernel_constraint={"max_norm": 1.0},
                trainable=False,
            ),
            inputs=("class",),
        ),
        Node(name="again", shares="keras", inputs=("keras",)),
        Node(name="train", layer="Concatenate", inputs=("flat", "keras", "again")),
        Node(name="bn", layer="BatchNormalization", config=FrozenMap(trainable=False), inputs=("train",)),
        Node(name="drop", layer="Dropout", config=FrozenMap(rate=0.5), inputs=("bn",)),
        Node(name="one", layer="Dense", config=FrozenMap(units=1), inputs=("drop",)),
        Node(name="two", layer="Dense", config=FrozenMap(units=3, activation="softmax"), inputs=("drop",)),
    )
    inputs = (Input(name="a", shape=(4,), below=5), Input(name="class", shape=(3,)))
    return dense(
        **{
            "model": Model(kind="functional", inputs=inputs, nodes=nodes, outputs=("one", "two")),
            "losses": (
                Loss(name="per_sample_function", weight=0.5),
                Loss(name="categorical_crossentropy", weight=2.0),
            ),
            "metrics": ("mean_absolute_error", "accuracy"),
            "optimizer": Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625, use_ema=True)),
            "data": Data(rows=21, batch_size=8, sample_weight="normal", seed=3, feed="generator"),
            "schedule": Schedule(epochs=2, steps_per_execution=2),
            "seed": 7,
            **given,
        }  # type: ignore[arg-type]
    )


def verdict(case: Case | None, arms: tuple[str, str] = (MIRRORED, SINGLE), **given: object) -> Verdict:
    raised = given.pop("raised", None)
    text = str(given.pop("text", "said"))
    fields: dict[str, object] = {
        "axis": "distribution",
        "step": 0,
        "stage": Stage.GRADIENT,
        "variable": "model/dense/kernel",
        "magnitude": 0.5,
        "allowed": 1e-6,
        "message": text,
    }
    divergence = Divergence(arms=arms, **{**fields, **given})  # type: ignore[arg-type]
    reports = (
        ArmReport(arm=arms[0], status="raised" if raised else "ran", raised=raised, reason=None),  # type: ignore[arg-type]
        ArmReport(arm=arms[1], status="ran", seconds=0.25),
    )
    cause = Cause(name="replica_loss_not_scaled", explanation=text, advice=text, evidence=(text,))
    seen = Observation(divergence=divergence, cause=cause, signature="Distribution|gradient|x", wrong_arm=arms[0])
    return Verdict(case=case, verdict="diverges", arms=reports, observations=(seen,), not_compared=(text,))


def expected(*values: float, shape: tuple[int, ...] | None = None) -> Expected:
    return Expected(shape=(len(values),) if shape is None else shape, values=tuple(value.hex() for value in values))


def alone(
    case: Case, arm: str = SINGLE, cause: str = "averaged_every_step", rounding: str | None = None, **given: object
) -> Verdict:
    """A verdict on an arm that is held against the referee."""
    fields: dict[str, object] = {
        "axis": "referee",
        "step": 0,
        "stage": Stage.UPDATE,
        "variable": "model_dense_kernel_average",
        "magnitude": 0.5,
        "allowed": 1e-7,
        "message": f"update[step 0] x: off by 0.5 (allowed 1e-07) [{arm} against the referee]",
        "expected": expected(0.25, -0.5, 1 / 3),
    }
    found = Divergence(arms=(arm, "referee"), **{**fields, **given})  # type: ignore[arg-type]
    why = Cause(name=cause, explanation="It is taken too often.", advice="Do not.", exact=True)
    item = Observation(divergence=found, cause=why, signature="referee/update/x", wrong_arm=arm)
    arms = (ArmReport(arm=arm, status="ran"), ArmReport(arm="loop/single/graph", status="ran"))
    return Verdict(
        case=case, verdict="diverges", arms=arms, observations=(item,), rounding=(rounding,) if rounding else ()
    )


def finding(text: str = "said", **given: object) -> Finding:
    return Finding(
        verdict=verdict(dense(), text=text, **given),
        original=everything(),
        environment=Environment("3.11", "2.21", "3.15.1", "2.4", "0.1", text, "2 x CPU"),
        attempts=12,
        repro_status=REPRODUCED,
        repro_output=f"model/dense/kernel: off by 0.5\n{text}\nDIVERGES\n",
    )


TRAINERS = ("fit", "loop", "train_on_batch")
PAIRS = [
    *((f"{a}/single/graph", f"{b}/single/graph") for a in TRAINERS for b in TRAINERS if a != b),
    *((f"{t}/mirrored:2/graph", f"{t}/single/graph") for t in TRAINERS),
    *((f"{t}/mirrored:3/eager", f"{t}/mirrored:2/graph") for t in TRAINERS),
    *((f"{t}/single/{e}", f"{t}/single/graph") for t in TRAINERS for e in ("eager", "xla")),
    ("loop/mirrored:2/graph", "fit/mirrored:2/graph"),
    ("loop/mirrored:2/graph", "fit/single/xla"),
    ("loop/single/eager", "loop/single/xla"),
]
SHOWN: list[dict[str, object]] = [
    {"ratio": 2.0},
    {"allowed": 0.0, "stage": Stage.UPDATE, "variable": "iterations"},
    {"stage": Stage.LOSS, "variable": "loss"},
    {"stage": Stage.LOGS, "variable": "REPORT", "step": None, "epoch": 1},
    {"stage": Stage.LOGS, "variable": "loss", "step": 1},
    {"stage": Stage.BATCH, "variable": "the caller's arrays", "magnitude": float("inf"), "step": None},
    {"raised": Raised("ValueError", HOSTILE), "magnitude": float("inf"), "allowed": 0.0, "step": None},
]
CASES = {
    "dense": dense(metrics=("mean_absolute_error",)),
    "scalar": dense("scalar_function", data=Data(rows=16, batch_size=8, sample_weight="ones")),
    "unbuilt": dense(
        metrics=("mean_absolute_error",),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125), built_first=False),
    ),
    "everything": everything(),
}


ALONE = [
    *(f"{t}/single/{e}" for t in TRAINERS for e in ("graph", "eager")),
    *(f"{t}/mirrored:2/graph" for t in TRAINERS),
    "fit/single/xla",
]
QUANTITIES: list[dict[str, object]] = [
    {"stage": Stage.OUTPUTS, "variable": "OUTPUT"},
    {"stage": Stage.LOSS, "variable": "loss", "expected": expected(0.5, shape=())},
    {"stage": Stage.LOCAL_GRADIENT, "variable": "model/dense/kernel"},
    {"stage": Stage.GRADIENT, "variable": "model/dense/kernel"},
    {"stage": Stage.UPDATE, "variable": "model_dense_kernel_average"},
    {"stage": Stage.UPDATE, "variable": "iteration[1]", "expected": expected(1.0, shape=())},
    {"stage": Stage.WEIGHTS, "variable": "model/dense/kernel", "expected": expected(*[-1 / 3] * 64, shape=(8, 8))},
    {"stage": Stage.STATE, "variable": "model/bn/moving_mean"},
    {"stage": Stage.LOGS, "variable": "loss", "expected": expected(0.5, shape=())},
]
STEPS = (0, 1, 2, 3, None)


def scripts() -> dict[str, str]:
    pairs = {
        f"{name} {' '.join(pair)} {index} {form}": source
        for name, case in CASES.items()
        for pair in PAIRS
        for index, shown in enumerate(SHOWN)
        for form, source in enumerate(forms(verdict(case, pair, **{**shown, **_reports(name, shown)})))
    }
    return pairs | {
        f"{name} {arm} {index} {step}": script(alone(case, arm, step=step, **{**shown, **_output(name, shown)}))
        for name, case in _cases_of_arms_alone().items()
        for arm in ALONE
        for index, shown in enumerate(QUANTITIES)
        for step in STEPS
        if not (shown["stage"] is Stage.LOGS and (arm.startswith("train_on_batch") or step is None))
        and (step is not None or shown["stage"] is Stage.WEIGHTS)
        and (step or 0) < case.steps
        # XLA keeps no outputs of batches of several sizes.
        and not (name == "everything" and arm.endswith("xla") and shown["stage"] is Stage.OUTPUTS)
    }


def _cases_of_arms_alone() -> dict[str, Case]:
    averaged = Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125, use_ema=True))
    small = Data(rows=6, batch_size=3, pattern="small_integers", feed="generator")
    large = Data(rows=21, batch_size=8, sample_weight="normal", feed="dataset")
    return {
        "dense": dense(optimizer=averaged, schedule=Schedule(epochs=2)),
        "small": dense(data=small, metrics=("mean_absolute_error",)),
        "everything": everything(data=large, schedule=Schedule(epochs=2)),
    }


def _output(name: str, shown: dict[str, object]) -> dict[str, object]:
    return {"variable": "two" if name == "everything" else "dense"} if shown["variable"] == "OUTPUT" else {}


def _reports(name: str, shown: dict[str, object]) -> dict[str, object]:
    if shown.get("variable") != "REPORT":
        return {}
    return {"variable": {"everything": "two_accuracy", "scalar": "loss"}.get(name, "mean_absolute_error")}


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return scripts()


# Scripts.


def test_every_script_compiles_and_imports_only_what_everybody_has(written: dict[str, str]) -> None:
    assert len(written) > 800
    for name, source in written.items():
        tree = compile(source, name, "exec", ast.PyCF_ONLY_AST)
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert {"sys", "keras", "numpy"} <= imported <= {"itertools", "sys", "keras", "numpy", "tensorflow"}
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_no_script_bears_a_trace_of_this_package(written: dict[str, str]) -> None:
    assert [name for name, source in written.items() if "conformance" in source.lower()] == []


def test_scripts_hold_no_control_characters(written: dict[str, str]) -> None:
    assert [name for name, source in written.items() if CONTROLS.search(source)] == []


def test_scripts_are_formatted(written: dict[str, str], tmp_path: Path) -> None:
    for index, source in enumerate(written.values()):
        (tmp_path / f"s{index}.py").write_text(source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "100", "--diff", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[:3000]


def test_every_name_in_a_script_is_known(written: dict[str, str], tmp_path: Path) -> None:
    for index, source in enumerate(written.values()):
        (tmp_path / f"s{index}.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[:3000]


def test_the_script_of_a_small_case_is_a_screenful() -> None:
    short, long = forms(verdict(dense()))
    assert short.count("\n") <= 40
    assert long.count("\n") <= 53


def wrong(
    axis: str, arms: tuple[str, str], *, ran: str = SINGLE, more: str = "", others: tuple[Stage, ...] = ()
) -> Verdict:
    """A verdict on an arm on replicas, beside which other stages diverge, and other arms ran."""
    given = {"stage": Stage.LOSS, "variable": "loss", "allowed": 0.0}
    made = verdict(dense("scalar_function"), arms, axis=axis, **given)
    first = made.observations[0]
    rest = [
        msgspec.structs.replace(first, divergence=msgspec.structs.replace(first.divergence, stage=stage))
        for stage in others
    ]
    reports = (*made.arms, *(ArmReport(arm=arm, status="ran") for arm in (ran, more) if arm))
    return msgspec.structs.replace(made, observations=(first, *rest), arms=reports)


FIT_AND_LOOP = (MIRRORED, "loop/mirrored:2/graph")


def test_what_fit_does_wrong_on_replicas_alone_is_shown_against_fit_on_one_device() -> None:
    source = script(wrong("both", FIT_AND_LOOP))
    assert source.startswith('"""Keras: fit under MirroredStrategy with 2 replicas differs from fit on one device.\n')
    assert "GradientTape" not in source


@pytest.mark.parametrize(
    "seen",
    [
        wrong("both", FIT_AND_LOOP, ran="loop/single/graph"),
        wrong("both", FIT_AND_LOOP[::-1]),
        wrong("both", FIT_AND_LOOP, others=(Stage.OUTPUTS,)),
        wrong("both", FIT_AND_LOOP, others=(Stage.LOSS,)),
        wrong("distribution", ("loop/mirrored:2/graph", "loop/single/graph"), ran=MIRRORED, more=SINGLE),
    ],
    ids=[
        "fit did not run there",
        "the loop is wrong",
        "something enters before",
        "something enters with it",
        "told of the loop",
    ],
)
def test_another_arm_stands_in_only_where_it_differs_for_the_same_reason(seen: Verdict) -> None:
    assert "GradientTape" in script(seen)


def test_a_loss_is_not_read_off_reports_that_are_wrong_by_themselves() -> None:
    assert '"loss": np.array(reports)' in script(wrong("both", FIT_AND_LOOP))
    assert "reports" not in script(wrong("both", FIT_AND_LOOP, others=(Stage.LOGS,)))


def test_batches_that_fit_alone_takes_otherwise_are_shown_without_a_tape() -> None:
    data = Data(rows=3, batch_size=1, pattern="ones", feed="generator")
    model = msgspec.structs.replace(dense().model, inputs=(Input(name="x", shape=(1,)),))
    arms, batch = (SINGLE, "loop/single/graph"), {"stage": Stage.BATCH, "variable": "x", "allowed": 0.0}
    made = verdict(dense(model=model, data=data), arms, axis="trainer", **batch)
    source = script(made)
    assert "model.train_on_batch(x[i : i + 1], y[i : i + 1])" in source
    assert "GradientTape" not in source
    assert source.count("\n") <= 40


def test_of_the_scripts_of_a_finding_the_shortest_that_reproduces_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = verdict(dense())
    short, long = forms(made)
    for reproduces, kept in (({short, long}, short), ({long}, long), (set(), long)):
        monkeypatch.setattr(
            findings,
            "verify",
            lambda path, those=reproduces: (REPRODUCED if path.read_text() in those else NOT_REPRODUCED, "said"),
        )
        event = findings.write(tmp_path, made, dense(), 0, 0.0)
        assert Path(event.repro).read_text() == kept
        assert event.repro_status == (REPRODUCED if reproduces else NOT_REPRODUCED)


def test_a_docstring_has_a_title_of_one_line_and_paragraphs_of_three() -> None:
    told = docstring(["word " * 60, "word " * 200], 100)
    assert told[0].endswith("...")
    assert told[1] == ""
    assert len(told) == 6
    assert max(map(len, told)) <= 100


def test_small_data_of_many_digits_is_one_table() -> None:
    scope: dict[str, object] = {"np": np}
    case = dense(rows=9, data=Data(rows=9, batch_size=8))
    source = data(case)
    assert "rng" not in "".join(source)
    exec("\n".join(source), scope)  # noqa: S102 - the source is what is tested
    for name, group in (("x", arrays(case).x), ("y", arrays(case).y)):
        made = scope[name]
        assert isinstance(made, np.ndarray)
        assert (made.dtype, made.tobytes()) == (group[0].dtype, group[0].tobytes())


def test_a_script_says_what_is_expected_and_what_was_seen() -> None:
    source = script(verdict(dense(), ratio=2.0))
    told = ast.get_docstring(ast.parse(source)) or ""
    assert "MirroredStrategy with 2 replicas differs from fit on one device" in told
    assert "gradient of step 0, model/dense/kernel: equal within 1e-06" in told
    assert "off by 0.5, 2 times the other" in told


def test_the_same_bits_are_asked_for_only_within_one_mode() -> None:
    bits = script(verdict(dense(), ("fit/single/graph", "loop/single/graph"), allowed=0.0))
    assert "np.array_equal" in bits
    assert "set_intra_op_parallelism_threads(1)" in bits
    assert "np.allclose" in script(verdict(dense(), allowed=0.0))


@pytest.mark.parametrize(
    ("magnitude", "allowed", "stage", "expected"),
    [
        (0.5, 1e-6, Stage.WEIGHTS, "1e-05"),
        (0.5, 1e-6, Stage.GRADIENT, "1e-06"),
        (4e-6, 1e-6, Stage.WEIGHTS, "1e-06"),
        (float("inf"), 1e-3, Stage.WEIGHTS, "0.01"),
    ],
)
def test_the_allowance_is_above_rounding_and_below_what_was_seen(
    magnitude: float, allowed: float, stage: Stage, expected: str
) -> None:
    assert f"atol={expected}," in script(verdict(dense(), magnitude=magnitude, allowed=allowed, stage=stage))


def test_determinism_is_left_out_only_where_xla_forbids_it() -> None:
    bits = verdict(dense(), ("fit/single/graph", "loop/single/graph"), allowed=0.0)
    assert "enable_op_determinism" in script(bits)
    assert "enable_op_determinism" not in script(verdict(dense()))
    xla = script(verdict(dense(), ("fit/single/xla", "fit/single/graph")))
    assert "enable_op_determinism" not in xla
    assert 'jit_compile=execution == "xla"' in xla


@pytest.mark.parametrize(
    ("case", "arms", "said"),
    [
        (None, (MIRRORED, SINGLE), "without a case"),
        (dense(), ("trial/single/graph", "loop/single/graph"), "a loop of one's own"),
    ],
)
def test_what_no_script_can_spell_is_refused(case: Case | None, arms: tuple[str, str], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        script(verdict(case, arms))


def test_a_report_that_a_loop_does_not_make_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="'gossip' is not a report of a custom loop"):
        script(verdict(dense(), ("fit/single/graph", "loop/single/graph"), stage=Stage.LOGS, variable="gossip"))


def test_a_verdict_without_divergence_has_no_script() -> None:
    with pytest.raises(UnsupportedError, match="without a divergence"):
        script(Verdict(case=dense(), verdict="conforms"))


def test_a_script_of_one_arm_says_what_it_should_have_been_by_definition() -> None:
    source = script(alone(dense(), ratio=2.0))
    told = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    assert told.startswith("Keras: fit on one device differs from textbook training in float64.")
    assert "update of step 0, model_dense_kernel_average: within 1e-06 of the numbers below, by definition: The" in told
    assert "a step that only accumulates gradients leaves it as it is. Source: https://keras.io/api/optimizers/" in told
    assert "Actual: off by 0.5, 2 times what is expected." in told
    assert "Why: It is taken too often." in told
    assert "MirroredStrategy" not in source


def test_what_nothing_is_known_to_define_is_said_to_be_computed() -> None:
    told = " ".join((ast.get_docstring(ast.parse(script(alone(dense(), cause="unexplained")))) or "").split())
    assert "of the numbers below, computed from the definition." in told
    assert "Why:" not in told


def test_the_script_of_one_arm_of_a_small_case_is_a_screenful() -> None:
    source = script(alone(dense()))
    told = ast.get_docstring(ast.parse(source), clean=False)
    assert told is not None
    assert source.count("\n") - told.count("\n") <= 42
    assert len([line for line in source.split("\n")[told.count("\n") + 1 :] if line.strip()]) <= 36


@pytest.mark.parametrize(
    ("step", "rows", "epochs"), [(0, 3, 1), (1, 6, 1), (2, 8, 1), (3, 8, 2), (5, 8, 2), (None, 8, 3)]
)
def test_a_script_of_one_arm_trains_no_further_than_it_has_to(step: int | None, rows: int, epochs: int) -> None:
    data = Data(rows=8, batch_size=3, pattern="ones")
    source = script(alone(dense(data=data, schedule=Schedule(epochs=3)), step=step, stage=Stage.WEIGHTS))
    assert f'x = np.ones(({rows}, 3), "float32")' in source
    assert (f"epochs={epochs}" in source) == (epochs > 1)
    # In the middle of an epoch that is not the first, there is no stopping, so the value is kept.
    assert ("values[3]" in source) == (step == 3)


def test_rows_that_are_cut_off_are_drawn_first() -> None:
    scope: dict[str, object] = {"np": np, "tf": _Nest}
    case = everything()
    exec("\n".join(data(case, 8)), scope)  # noqa: S102 - the source is what is tested
    for name, group in (("x", arrays(case).x), ("y", arrays(case).y), ("w", arrays(case).sample_weight or ())):
        made = scope[name]
        assert isinstance(made, tuple)
        assert [a.tobytes() for a in made] == [b[:8].tobytes() for b in group]


class _Nest:
    """The one function of TensorFlow that data needs, for tuples of tuples."""

    class nest:  # noqa: N801 - as TensorFlow spells it
        @staticmethod
        def map_structure(change: object, parts: tuple[tuple[object, ...], ...]) -> tuple[tuple[object, ...], ...]:
            return tuple(tuple(change(item) for item in part) for part in parts)  # type: ignore[operator]


@pytest.mark.parametrize("size", [1, 4, 64])
@pytest.mark.parametrize("allowance", [1e-3, 1e-7, 1e-14, 1e-30])
def test_expected_numbers_evaluate_to_within_a_hundredth_of_the_allowance(size: int, allowance: float) -> None:
    values = np.random.default_rng(size).normal(size=size)
    shape = (size,) if size == 1 else (size // 4, 2, 2)
    scope: dict[str, object] = {"np": np}
    exec("\n".join(numbers(expected(*values.tolist(), shape=shape), allowance)), scope)  # noqa: S102 - as above
    made = scope["expected"]
    assert isinstance(made, np.ndarray)
    assert (made.shape, made.dtype) == (shape, np.float64)
    assert np.abs(made.ravel() - values).max() <= allowance / 100


def test_expected_numbers_are_short_where_the_allowance_permits() -> None:
    assert numbers(expected(1 / 3, 0.5), 1e-4) == ["expected = np.array([0.333333, 0.5])"]
    assert numbers(expected(2 / 3, shape=()), 1e-7) == ["expected = np.array(0.666666667)"]
    assert numbers(expected(1 / 3), 0.0) == ["expected = np.array([0.3333333333333333])"]


def test_what_is_no_finite_number_is_expected_as_such() -> None:
    for count in (3, 60):
        scope: dict[str, object] = {"np": np}
        exec("\n".join(numbers(expected(*[np.nan, np.inf, -np.inf] * count), 1e-6)), scope)  # noqa: S102 - as above
        assert np.array_equal(scope["expected"], [np.nan, np.inf, -np.inf] * count, equal_nan=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "within"),
    [
        ({"allowed": 1e-9}, "5e-07"),
        ({"allowed": 1e-4}, "0.001"),
        ({"magnitude": 4e-3, "allowed": 1e-3}, "0.001"),
        # What is tiny may not differ by more than what is tiny.
        ({"magnitude": 1e-8, "allowed": 1e-12, "expected": expected(1e-8)}, "1e-11"),
        ({"magnitude": float("inf"), "allowed": 0.0, "expected": expected(0.0)}, "1e-06"),
    ],
)
def test_one_arm_is_allowed_little_more_than_the_referee_allows(given: dict[str, object], within: str) -> None:
    assert f"atol={within}," in script(alone(dense(), **given))


@pytest.mark.parametrize(
    ("case", "arm", "given", "said"),
    [
        (dense(), SINGLE, {"expected": None}, "too large, or no number"),
        (dense(), "trial/single/graph", {}, "a loop of one's own"),
        (everything(), SINGLE, {"step": 3}, "between the steps of one execution"),
        (everything(), SINGLE, {"step": 0}, "between the steps of one execution"),
        (dense(), "train_on_batch/single/graph", {"stage": Stage.LOGS}, "reports a batch at a time"),
        (dense(), SINGLE, {"stage": Stage.GRADIENT, "step": 1, "magnitude": float("inf")}, "whether step 1 updates"),
        (dense(rows=11), "fit/single/xla", {"stage": Stage.OUTPUTS, "step": 1}, "XLA keeps nothing"),
    ],
)
def test_a_quantity_that_cannot_be_held_against_numbers_is_refused(
    case: Case, arm: str, given: dict[str, object], said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said):
        script(alone(case, arm, **given))


PATTERNS = ("ones", "ramp", "small_integers", "normal")
LOSSES = (
    "mean_squared_error",
    "poisson",
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
)


@pytest.mark.parametrize("rows", [1, 2, 17])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [None, *PATTERNS])
def test_a_scripts_data_is_the_cases_data_bit_for_bit(rows: int, pattern: str, loss: str, weights: str | None) -> None:
    for units in (2, 3):
        model = Model(
            kind="functional",
            inputs=(Input(name="i", shape=(2,), below=3), Input(name="x", shape=(2, 1))),
            nodes=(
                Node(name="e", layer="Embedding", config=FrozenMap(input_dim=3, output_dim=2), inputs=("i",)),
                Node(name="one", layer="Dense", config=FrozenMap(units=units), inputs=("e",)),
                Node(name="flat", layer="Flatten", inputs=("x",)),
                Node(name="two", layer="Dense", config=FrozenMap(units=units), inputs=("flat",)),
            ),
            outputs=("one", "two"),
        )
        case = dense(
            model=model,
            losses=(Loss(name=loss), Loss(name=loss)),
            data=Data(rows=rows, batch_size=8, pattern=pattern, sample_weight=weights, seed=5),
        )
        scope: dict[str, object] = {"np": np}
        exec("\n".join(data(case)), scope)  # noqa: S102 - the source is what is tested
        wanted = arrays(case)
        for name, group in (("x", wanted.x), ("y", wanted.y), ("w", wanted.sample_weight or ())):
            made = scope.get(name, ())
            assert isinstance(made, tuple)
            assert len(made) == len(group)
            for a, b in zip(made, group, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                assert a.tobytes() == b.tobytes()


def test_tiny_data_is_spelled_out() -> None:
    source = script(verdict(dense(rows=2, batch_size=2, data=Data(rows=2, batch_size=2, pattern="small_integers"))))
    assert "x = np.array([[" in source
    assert "rng.integers" not in source


# Source.


def test_a_statement_takes_the_fewest_lines_that_fit() -> None:
    assert statement("x = ", call("f", "a", b="1")) == ["x = f(a, b=1)"]
    long = "a" * 60
    assert statement("x = ", call("f", long, b=long[:29])) == [f"x = f({long}, b={long[:29]})"]
    assert statement("x = ", call("f" * 20, long, b=long[:30])) == [
        f"x = {'f' * 20}(",
        f"    {long}, b={long[:30]}",
        ")",
    ]
    assert statement("x = ", listed([long, long])) == ["x = [", f"    {long},", f"    {long},", "]"]


def test_literals_evaluate_to_what_they_spell() -> None:
    for value in (1, 0.1, 1e-9, True, None, "a\"b'\\\n", (), (3,), (1, (2, 3))):
        assert ast.literal_eval(literal(value)) == value


def test_variable_names_avoid_keywords_built_ins_and_one_another() -> None:
    given = names(["class", "class_", "list", "x", "ok"], ["x"])
    assert len(set(given.values())) == 5
    assert given["ok"] == "ok"
    assert {"class", "list", "x"}.isdisjoint(given.values())


# Text.


def test_plain_text_is_one_line_without_control_characters() -> None:
    said = plain(HOSTILE + "\nmore")
    assert not CONTROLS.search(said)
    assert "\n" not in said
    assert "[31m" not in said
    assert "title" not in said
    assert lines("a\n  b") == "a\n  b"


def test_markdown_shows_and_does_nothing() -> None:
    said = markdown(HOSTILE)
    assert "<" not in said
    assert "@" not in said
    assert "://" not in said
    assert not re.search(r"(?<!\\)[`|*_\[\]]", said)
    assert re.search(r"(?<!\\)(`+)(?!`).*(?<!\\)\|", code(HOSTILE)) is None
    assert code(HOSTILE).count("`") == 2


def test_a_fence_is_longer_than_any_within() -> None:
    assert fence("a\n````\nb", "text").split("\n")[0] == "`````text"


def test_a_docstring_cannot_be_closed_from_within() -> None:
    source = "\n".join(docstring(["x", HOSTILE * 5, '"""', "\\"], 100)) + "\nvalue = 1\n"
    assert [type(node).__name__ for node in ast.parse(source).body] == ["Expr", "Assign"]
    assert max(map(len, source.split("\n"))) <= 100


# Folders.


def test_a_finding_survives_the_folder(tmp_path: Path) -> None:
    made = finding(HOSTILE, magnitude=float("inf"), ratio=float("nan"), raised=Raised("ValueError", HOSTILE))
    folder = write_finding(made, "print()\n", tmp_path / "deep" / "findings")
    assert folder == tmp_path / "deep" / "findings" / "distribution-gradient-x"
    assert {path.name for path in folder.iterdir()} == {
        "repro.py",
        "case.json",
        "original.case.json",
        "finding.json",
        "report.md",
        "report.html",
    }
    assert repr(load_finding(folder)) == repr(made)
    assert json.loads((folder / "finding.json").read_text())["format"] == FORMAT


def test_a_finding_without_script_or_case_survives_too(tmp_path: Path) -> None:
    made = msgspec.structs.replace(finding(), verdict=verdict(None), original=None)
    folder = write_finding(made, "", tmp_path)
    assert {path.name for path in folder.iterdir()} == {"finding.json", "report.md", "report.html"}
    assert load_finding(folder) == made


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = write_finding(finding(), "old", tmp_path)
    (folder / "left.txt").write_text("over")
    write_finding(finding(), "new", tmp_path)
    assert (folder / "repro.py").read_text() == "new"
    assert not (folder / "left.txt").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_text_that_no_encoding_takes_is_written(tmp_path: Path) -> None:
    assert load_finding(write_finding(finding("half \ud800 a pair"), "", tmp_path)).repro_status == REPRODUCED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": FORMAT + 1}, f"format {FORMAT + 1} is from a newer release"),
        ({"format": "1"}, "format '1' is not that of a finding"),
        ({"environment": None}, "malformed"),
        ({"environment": {}}, "malformed"),
        ({"divergence": None}, "holds no divergence"),
        ({"divergence": {"arms": []}}, "malformed"),
        ({"case": {"format": 99}}, "newer release"),
        ({"attempts": "many"}, "malformed"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = write_finding(finding(), "", tmp_path) / "finding.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        load_finding(path.parent)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["environment", "arms", "verdict", "cause", "case"])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    path = write_finding(finding(), "", tmp_path) / "finding.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key != name}
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match=f"'{name}' is missing"):
        load_finding(path.parent)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "[" * 100_000, "\xff"])
def test_what_is_no_finding_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "finding.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "finding.json"))):
        load_finding(tmp_path)


# Verifying.


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("print('DIVERGES')\nraise SystemExit(1)", REPRODUCED),
        ("print('DIVERGES')", NOT_REPRODUCED),
        ("raise SystemExit(1)", NOT_REPRODUCED),
        ("print('DIVERGES')\nraise SystemExit(2)", NOT_REPRODUCED),
        ("import conformance.nothing", NOT_REPRODUCED),
    ],
)
def test_a_script_reproduces_when_it_says_so_and_exits_with_1(source: str, status: str) -> None:
    assert verify_text(source)[0] == status


def test_the_clean_process_has_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    path = tmp_path / "s.py"
    path.write_text(
        "import os, sys\n"
        "print([name for name in os.environ if name.startswith('PYTHON')], os.environ['CUDA_VISIBLE_DEVICES'])\n"
        f"print(os.listdir(), {str(tmp_path)!r} in sys.path)\n"
    )
    status, output = verify(path)
    assert (status, output) == (NOT_REPRODUCED, "[] 7\n[] False\n[exit code 0]\n")


def test_a_script_that_hangs_is_killed_and_said_so() -> None:
    status, output = verify_text("import time\nprint('begun', flush=True)\ntime.sleep(600)", timeout=2)
    assert status == NOT_REPRODUCED
    assert output == "begun\n[killed after 2 seconds]\n"


def test_what_a_script_prints_is_harmless_and_bounded() -> None:
    _, output = verify_text("print('\\x1b[31mred\\x07')\nprint('x' * 100_000)")
    assert not CONTROLS.search(output)
    assert len(output) < 21_000
    assert "characters left out" in output


# Reports.


def test_a_report_holds_what_an_issue_needs() -> None:
    text = report(finding(ratio=2.0, ulps=9), "import keras\n")
    for part in (
        "# fit under MirroredStrategy with 2 replicas: the gradient of `model/dense/kernel` is 2 times that",
        "**Wrong is fit under MirroredStrategy with 2 replicas (`fit/mirrored:2/graph`).**",
        "`model/dense/kernel` is off by 0.5, where 1e-06 is allowed: 500,000 times as much.",
        "| allowed | 1e-06 |",
        "| units in the last place | 9 |",
        "## Cause: `replica_loss_not_scaled`",
        "```python\nimport keras\n```",
        "**reproduced**",
        '"learning_rate": 0.125',
        "| keras | `3.15.1` |",
    ):
        assert part in text


def test_a_report_escapes_what_others_say() -> None:
    text = report(finding(HOSTILE, raised=Raised(HOSTILE, HOSTILE)), HOSTILE)
    fenced = re.sub(r"(?s)(?m:^)(`{3,})\w*\n.*?\n\1(?m:$)", "", text)
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", fenced)
    assert not CONTROLS.search(text)
    assert "<b>" not in outside
    assert "@all" not in outside
    assert outside.count("</details>") == outside.count("<details>") == 3
    rows = [line for line in fenced.split("\n") if line.startswith("| `fit/")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [9, 9]


def test_the_name_of_the_referee_is_the_one_that_verdicts_bear() -> None:
    from conformance import attribution

    assert attribution.REFEREE == REFEREE


def test_a_report_of_one_arm_says_who_is_wrong_and_by_which_definition() -> None:
    made = msgspec.structs.replace(finding(), verdict=alone(dense(), rounding="a|b [x against y]"))
    text = report(made, "import keras\n")
    for part in (
        "# fit on one device: the optimizer's `model_dense_kernel_average` differs from that of the referee, textbook",
        "Wrong is fit on one device (`fit/single/graph`), and every other trainer that was judged there with it.",
        "The referee computes every step anew in float64",
        "Every trainer that was judged there does the same",
        "| expected | `0.25 -0.5 0.333333333` |",
        "`fit/single/graph` gives what training is by definition, within 1e-07.",
        "By definition (clause 6.9 of `docs/semantics.md`): The moving average of the weights is",
        "Source: <https://keras.io/api/optimizers/>, use\\_ema",
        "It is taken too often.",
        "**Cure:** Do not.",
        "These differences are no divergences (`rounding_amplified`)",
        "- a\\|b \\[x against y\\]",
    ):
        assert part in text
    assert "Rounding" not in report(finding(), "")


def test_a_large_expectation_is_left_to_the_script() -> None:
    made = msgspec.structs.replace(finding(), verdict=alone(dense(), expected=expected(*[0.5] * 9)))
    assert "| expected | 9 numbers |" in report(made, "")


@pytest.mark.parametrize(
    ("cause", "number"),
    [
        ("sparse_gradient_not_summed", "6.26"),
        ("averaged_every_step", "6.9"),
        ("constrained_every_step", "6.11"),
        ("adafactor_always_relative", "7.12"),
        ("tversky_coefficients_swapped", "3.23"),
        ("regularization_omitted", "4.6"),
        ("unexplained", None),
        ("no_such_cause", None),
    ],
)
def test_a_cause_is_told_with_the_clause_it_replaces(cause: str, number: str | None) -> None:
    found = clause_of(cause)
    assert (found.number if found else None) == number


def test_a_cause_of_several_losses_is_told_with_the_one_that_is_used() -> None:
    assert clause_of("logits_of_another_activation") is None
    found = clause_of("logits_of_another_activation", dense("binary_crossentropy"))
    assert found is not None
    assert found.number == "3.13"


def test_everything_keras_is_known_to_do_otherwise_has_a_clause() -> None:
    from conformance.referee.dispute_deviations import DISPUTE_SENTENCES
    from conformance.referee.disputed_loss_rules import DISPUTES

    several = {dispute.name for dispute in DISPUTES if len(dispute.losses) > 1}
    assert {name for name in DISPUTE_SENTENCES if clause_of(name) is None} == several


ENVIRONMENT = Environment("3.11", "2.21", "3.15.1", "2.4", "0.1", "Linux", "2 x CPU")


def run(text: str, folder: str = "out/findings/a") -> list[Event]:
    return [
        RunStarted(arms=(MIRRORED, SINGLE), seed=3, workers=2, report="out", examples=10),
        WorkerReady(environment=ENVIRONMENT),
        WorkerReady(environment=ENVIRONMENT, worker=1),
        CaseJudged(index=0, seconds=0.5, outcome="conforms"),
        CaseJudged(index=1, seconds=0.5, outcome="diverges", signatures=("s",), message=text, path="x.json"),
        DivergenceSeen(signature="s", message=text),
        FindingMade(
            signature="s",
            message=text,
            cause="unexplained",
            explanation=text,
            advice=text,
            wrong_arm=None,
            folder=folder,
            repro=f"{folder}/repro.py",
            repro_status=REPRODUCED,
            layers=1,
            attempts=4,
            seconds=2.0,
        ),
        WorkerDied(reason=text, case="{}", path="out/crashed.json"),
        Problem(message=text),
        Problem(message=text),
        RunEnded(outcomes={"conforms": 1, "diverges": 1}, signatures={"s": 1}, findings=1, seconds=9.0, report="out"),
    ]


def test_a_summary_tells_the_run() -> None:
    text = summary(run("said"))
    for part in (
        "`fit/mirrored:2/graph`, fit under MirroredStrategy with 2 replicas; `fit/single/graph`, fit on one device",
        "| Seed | 3 |",
        "10 examples",
        "| conforms | 1 |",
        "| [said](<findings/a/report.md>) (`s`) | 1 | `x.json` (1 s) | `unexplained` | not decided | reproduced |",
        "case kept at `out/crashed.json`",
        "- said (2 times)",
    ):
        assert part in text


def of_referee(**given: object) -> FindingMade:
    fields: dict[str, object] = {
        "signature": "referee/update/averaged_every_step",
        "message": "update[step 0] x: off by 1 (exact) [fit/single/graph against the referee]",
        "cause": "averaged_every_step",
        "explanation": "It is taken too often.",
        "advice": "Do not.",
        "wrong_arm": "fit/single/graph",
        "folder": "out/findings/b",
        "repro": "out/findings/b/repro.py",
        "repro_status": REPRODUCED,
        "layers": 1,
        "attempts": 4,
        "seconds": 2.0,
    }
    return FindingMade(**{**fields, **given})  # type: ignore[arg-type]


def test_a_run_says_what_the_referee_is_where_it_has_found_something() -> None:
    for text in (summary([of_referee()]), told_on_a_terminal(of_referee())):
        for part in (
            f"fit on one device {REFEREE_IS}, as do all arms that agree with it",
            "clause 6.9 of docs/semantics.md",
            "It is taken too often.",
            "Do not.",
        ):
            assert part in text
    assert "computes every step anew in float64" in summary([of_referee()])
    alone = told_on_a_terminal(of_referee(signature="trainer/update/x", cause="unexplained"))
    assert f"{REFEREE_IS}\n" in alone


def test_nobody_hears_of_the_referee_where_two_arms_differ() -> None:
    pair = of_referee(message="x: off by 1 [fit/single/graph against loop/single/graph]")
    assert "referee," not in summary([pair])
    assert "anew" not in summary([pair])
    assert "referee," not in told_on_a_terminal(pair)


def test_a_summary_tells_each_cause_once() -> None:
    again = of_referee(folder="out/findings/c")
    assert summary([of_referee(), again]).count("It is taken too often.") == 1


def told_on_a_terminal(*events: Event) -> str:
    stream = io.StringIO()
    for event in events:
        Terminal(stream, live=False)(event)
    return stream.getvalue()


def test_a_run_that_was_cut_off_has_a_summary_too() -> None:
    text = summary(run("said")[:-1])
    assert "did not end by itself" in text
    assert "| diverges | 1 |" in text
    assert "No case was judged" in summary([])


def test_a_summary_escapes_what_others_say() -> None:
    text = summary(run(HOSTILE, "out/<b>|x"))
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert not CONTROLS.search(text)
    assert "<b>" not in outside
    assert "@all" not in outside
    assert "](<%3Cb%3E%7Cx/report.md>)" in text


@pytest.mark.parametrize("live", [False, True])
def test_the_terminal_tells_the_run(live: bool) -> None:
    stream = io.StringIO()
    show = Terminal(stream, live=live)
    for event in run("said"):
        show(event)
    text = stream.getvalue()
    for part in (
        "diverges: said",
        "FINDING said",
        "cause: unexplained: said",
        "wrong arm: not decided",
        "script: out/findings/a/repro.py (reproduced)",
        "worker 0 was lost: said",
        "problem: said",
        "1 conforms, 1 diverges; 1 finding",
        "report: out",
    ):
        assert part in text
    assert text.count("TensorFlow 2.21") == 1
    assert ("\x1b" in text) is live


def test_the_terminal_shows_no_control_characters_of_others() -> None:
    stream = io.StringIO()
    show = Terminal(stream, live=False)
    for event in run(HOSTILE + "\nFINDING forged", HOSTILE):
        show(event)
    assert not CONTROLS.search(stream.getvalue())
    assert "\nFINDING forged" not in stream.getvalue()


def test_markup_of_others_is_only_text_on_a_live_terminal() -> None:
    stream = io.StringIO()
    show = Terminal(stream, live=True)
    for event in run("[bold]x[/] \x1b]0;title\x07"):
        show(event)
    assert "[bold]x[/]" in stream.getvalue()
    assert "\x1b]0;" not in stream.getvalue()


def test_a_stream_that_cannot_spell_a_character_still_gets_the_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Terminal(stream, live=False)(Problem(message="caf\xe9"))
    assert raw.getvalue() == b"problem: caf\\xe9\n"


def test_nothing_goes_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    for live in (False, True):
        show = Terminal(io.StringIO(), live=live)
        for event in run("said"):
            show(event)
    assert capfd.readouterr() == ("", "")


# The package.


def test_the_writers_need_no_tensorflow() -> None:
    modules = [f"conformance.reports.{path.stem}" for path in (ROOT / "reports").glob("*.py") if path.stem[0] != "_"]
    source = f"import sys, {', '.join(modules)}; print({{'tensorflow', 'keras'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_the_bare_name_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import reports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().split("\n")[-1] == (
        "ImportError: import this package as conformance.reports, not as reports"
    )
