"""A layer that raises is named with its operation, its shapes and the user's line, however the training is run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import conformance
from conformance import prepare, strategies
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.errors import ABORTED, DivergenceError
from conformance.frozen import FrozenMap
from conformance.judge import judge_case
from conformance.layers import LAYERS
from conformance.minimize import Shrinking, confirmed
from conformance.plan import Plan
from conformance.prepare import PreparedArm
from conformance.strategies.register_layer import REGISTERED

X = np.random.default_rng(0).normal(size=(8, 10)).astype("float32")
GIVEN: dict[str, Any] = {"loss": "mse", "optimizer": "sgd", "data": (X, X[:, :1]), "batch_size": 4}
SUM = "return tf.matmul(inputs, self.w) + inputs[:, :2]"
SIGNATURE = "all/outputs/raises_in_every_arm/ValueError/Mine/AddV2"


class Mine(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Adds what cannot be added, but for two units."""

    def __init__(self, units: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: Any) -> None:
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")

    def call(self, inputs: Any) -> Any:
        return tf.matmul(inputs, self.w) + inputs[:, :2]


class Block(keras.Model):  # type: ignore[misc]
    """A model whose layer is called only where it trains, so that building shows nothing."""

    def __init__(self) -> None:
        super().__init__(name="outer")
        self.mine, self.head = Mine(name="mine"), keras.layers.Dense(1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.head(self.mine(inputs) if training else inputs[:, :2])


class Gathers(keras.layers.Layer):  # type: ignore[misc]
    """Reads behind the end, which only a run can tell."""

    def call(self, inputs: Any) -> Any:
        column = tf.gather(inputs, tf.shape(inputs)[1] + 4, axis=1)
        return inputs + column[:, None]


def sequential(layer: Any) -> Any:
    return lambda: keras.Sequential([keras.Input((10,)), layer(name="mine"), keras.layers.Dense(1)], name="outer")


def test_building_that_raises_is_a_verdict_and_an_assertion_that_names_the_layer() -> None:
    with pytest.raises(DivergenceError) as caught:
        conformance.assert_conforms(model=sequential(Mine), replicas=(1, 2), **GIVEN)
    verdict = caught.value.verdict
    assert isinstance(verdict, conformance.Verdict)
    assert (verdict.verdict, verdict.signature) == ("raises", SIGNATURE)
    for report in verdict.arms:
        raised = report.raised
        assert raised is not None
        assert raised.named == "outer/mine (Mine)"
        assert raised.refused == "AddV2 of (None, 5) float32, (None, 2) float32"
        assert raised.shapes == "(None, 10) float32"
        assert (raised.line or "").endswith(f": {SUM}")
        assert (raised.line or "").startswith(str(Path(__file__)))
        assert raised.message.startswith("Dimensions must be equal, but are 5 and 2")
    assert len(str(caught.value).splitlines()) <= 25
    assert "tensorflow/python" in str(caught.value.__cause__)


def test_a_model_that_cannot_be_asked_for_its_outputs_raises_as_any_other() -> None:
    verdict = conformance.check(model=sequential(Mine), loss_weights={"dense": 2.0}, **GIVEN)
    assert verdict.raised is not None
    assert verdict.raised.named == "outer/mine (Mine)"


@pytest.mark.parametrize(("execution", "replicas"), [("graph", 1), ("graph", 2), ("eager", 1)])
def test_a_step_that_raises_names_the_layer_within_the_model(execution: str, replicas: int) -> None:
    verdict = conformance.check(model=Block, replicas=(replicas,), executions=(execution,), **GIVEN)
    assert verdict.verdict == "raises"
    for report in verdict.arms:
        raised = report.raised
        assert raised is not None
        assert (raised.layer, raised.layer_class, raised.operation) == ("outer/mine", "Mine", "AddV2")
        assert (raised.operands or "").endswith(", 2) float32")
        assert (raised.line or "").endswith(f": {SUM}")


def test_an_operation_of_a_compiled_graph_is_traced_back_to_its_layer() -> None:
    verdict = conformance.check(model=sequential(Gathers), **GIVEN)
    for report in verdict.arms:
        raised = report.raised
        assert raised is not None
        assert (raised.kind, raised.message) == ("InvalidArgumentError", "indices = 14 is not in [0, 10)")
        assert (raised.named, raised.operation) == ("outer/mine (Gathers)", "GatherV2")
        assert (raised.line or "").endswith(": column = tf.gather(inputs, tf.shape(inputs)[1] + 4, axis=1)")


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(LAYERS), dict(REGISTERED)
    config = st.builds(dict, units=st.integers(1, 8))
    strategies.register_layer(Mine, config=config, input_ranks=(1,), output_shape=lambda given, _: (given["units"],))
    yield
    for table, kept in zip((LAYERS, REGISTERED), before, strict=True):
        table.clear()
        table.update(kept)


def test_a_case_whose_registered_layer_raises_is_made_smaller(registered: None) -> None:
    layers = [("Mine", FrozenMap(units=3)), ("Dropout", FrozenMap(rate=0.5))]
    names = ["x", *(f"n{place}" for place in range(len(layers))), "head"]
    nodes = [
        Node(name=name, layer=layer, config=config, inputs=(before,))
        for before, name, (layer, config) in zip(
            names, names[1:], [*layers, ("Dense", FrozenMap(units=1))], strict=False
        )
    ]
    case = Case(
        model=Model(inputs=(Input(name="x", shape=(3,)),), nodes=tuple(nodes), outputs=("head",)),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=10, batch_size=4),
    )
    plan = Plan()
    verdict = judge_case(case, plan)
    assert [item.signature for item in verdict.observations] == [SIGNATURE]
    shrinking = Shrinking(case, verdict.observations[0], plan, 60.0, most=6)
    smallest = confirmed(shrinking, shrinking.simplified(case), plan)
    assert smallest.verdict == "raises"
    assert smallest.case is not None
    assert [node.layer for node in smallest.case.model.nodes] == ["Mine", "Dense"]
    assert smallest.case.model.nodes[0].config == FrozenMap(units=3)
    assert shrinking.raised == 0
    assert smallest.signature == SIGNATURE


def test_what_an_earlier_exception_has_ended_is_no_training_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = tf.errors.CancelledError(
        None, None, "Collective ops is aborted by: group is cancelled\nRestart your program to reset."
    )

    def run(self: PreparedArm, *_: Any, **__: Any) -> Any:
        if self.arm.placement.mirrored:
            raise prepare._observed(ended)
        return whole(self)

    whole = PreparedArm.run
    monkeypatch.setattr(PreparedArm, "run", run)
    # What is noted of this process is not so.
    monkeypatch.setattr("conformance.devices._ABORTED", [])
    model = sequential(lambda name: keras.layers.Dense(1, name=name))
    verdict = conformance.check(model=model, replicas=(1, 2), executions=("eager",), **GIVEN)
    assert (verdict.verdict, verdict.observations) == ("unsupported", ())
    assert verdict.reason == ABORTED


# In a process of its own, for what is tried is what the first thing on replicas does to everything after it.
FAILS_FIRST = """
import tensorflow as tf
from conformance import devices
from conformance.arm import Placement

devices.set_up(2)
strategy = devices.strategy(Placement(2, True))

def step(x, fails):
    replica = tf.distribute.get_replica_context()
    if fails and int(tf.get_static_value(replica.replica_id_in_sync_group)) == 1:
        # Late, so that the other replica waits for the sum by then.
        late = tf.random.normal((300, 300))
        for _ in range(200):
            late = tf.matmul(late, late) * 1e-3
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_sum(late) < -1e9, ["mine"])]):
            x = tf.identity(x)
    return replica.all_reduce("sum", [2.0 * x])

for fails in (True, True, False):
    try:
        tf.function(lambda: strategy.run(step, (tf.ones((3,)), fails)))()
        print("trains")
    except tf.errors.OpError as error:
        print("mine" if "assertion failed: [mine]" in str(error) else "aborted")
"""


def test_an_exception_on_one_replica_ends_its_own_step_alone(tmp_path: Path) -> None:
    (tmp_path / "fails_first.py").write_text(FAILS_FIRST)
    done = subprocess.run([sys.executable, "fails_first.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mine", "mine", "trains"]
    assert "MirroredStrategy eagerly" not in done.stderr
