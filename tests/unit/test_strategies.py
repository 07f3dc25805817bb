"""The strategies draw only valid data, all of it, at the promised rates, and shrink to little."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from conformance import strategies
from conformance.case import (
    FEEDS,
    PATTERNS,
    Case,
    Data,
    Input,
    Loss,
    Model,
    Node,
    Optimizer,
    from_json,
    owner_of,
    shapes,
    to_json,
)
from conformance.errors import CaseError, UsageError
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import CLIPPING, COMMON, OPTIMIZERS
from conformance.strategies.body import _owners
from conformance.strategies.graph import Graph
from conformance.strategies.options import settings as option_settings
from conformance.strategies.register_layer import REGISTERED
from conformance.strategies.register_loss import REGISTERED_LOSSES
from conformance.strategies.register_optimizer import REGISTERED_OPTIMIZERS
from conformance.strategies.weighted import weighted

ROOT = Path(__file__).resolve().parents[2]

# Of the health checks only the one that looks at a clock is off: that nothing is filtered stays checked.
DRAWN = settings(
    max_examples=2000,
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
# Explaining a minimal example varies it a hundred times more, which is not shrinking.
SHRUNK = settings(
    database=None, deadline=None, derandomize=True, max_examples=5000, phases=[Phase.generate, Phase.shrink]
)


def drawn(strategy: st.SearchStrategy[Any], count: int = DRAWN.max_examples) -> list[Any]:
    """So many values of a strategy, the same ones every time."""
    values: list[Any] = []

    @settings(DRAWN, max_examples=count)
    @given(strategy)
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    return values


def smallest(condition: Callable[[Case], Any]) -> Case:
    return find(strategies.cases(), lambda case: bool(condition(case)), settings=SHRUNK)


def layer_names(case: Case) -> list[str]:
    return [node.layer for node in case.model.nodes if node.layer is not None]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return drawn(strategies.cases())


@pytest.fixture
def scratch_layers() -> Iterator[None]:
    before, registered = dict(LAYERS), dict(REGISTERED)
    yield
    for table, kept in ((LAYERS, before), (REGISTERED, registered)):
        table.clear()  # type: ignore[attr-defined]
        table.update(kept)  # type: ignore[attr-defined]


# What is drawn is valid.


def test_a_drawn_case_goes_through_json_unchanged(cases: list[Case]) -> None:
    for case in cases:
        again = from_json(to_json(case))
        assert again == case
        assert hash(again) == hash(case)


def test_a_drawn_case_is_small(cases: list[Case]) -> None:
    for case in cases:
        assert case.steps <= 6
        assert 2 <= case.data.rows <= 48
        assert case.data.batch_size <= 16
        # 200, and what a window, a padding or a Dense over them may add.
        assert all(_count(shape) <= 200 for shape in shapes(case.model).values())


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def test_every_output_is_a_dense_head_that_suits_its_loss(cases: list[Case]) -> None:
    for case in cases:
        known = shapes(case.model)
        nodes = {node.name: node for node in case.model.nodes}
        for name, loss in zip(case.model.outputs, case.losses, strict=True):
            entry, head = LOSSES[loss.name], nodes[name]
            assert head.layer == "Dense"
            wanted = None if loss.config.get("from_logits") else entry.head
            assert head.config.get("activation") == wanted
            assert known[name][0] >= entry.least_units
            assert len(known[name]) == 1
            assert "trainable" not in head.config


def test_every_input_and_node_of_a_drawn_model_bears_on_an_output(cases: list[Case]) -> None:
    for case in cases:
        used = set(case.model.outputs)
        for node in reversed(case.model.nodes):
            assert node.name in used, case
            used.update(node.inputs)
        assert {item.name for item in case.model.inputs} <= used


def test_indices_feed_an_embedding_of_their_range(cases: list[Case]) -> None:
    for case in cases:
        below = {item.name: item.below for item in case.model.inputs if item.below is not None}
        for node in case.model.nodes:
            if node.inputs[0] in below:
                owner = owner_of(case.model, node)
                assert owner.layer == "Embedding"
                assert owner.config["input_dim"] == below[node.inputs[0]]


def test_an_option_left_out_is_the_usual_thing(cases: list[Case]) -> None:
    nodes = [node for case in cases for node in case.model.nodes if node.layer == "Conv1D"]
    assert sum(set(node.config) == {"filters", "kernel_size"} for node in nodes) > len(nodes) / 3


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 8, 16])
def test_an_epoch_has_a_row_for_every_replica(replicas: int) -> None:
    for data in drawn(strategies.data(replicas=replicas), 200):
        assert replicas <= data.rows <= 48
        assert data.batch_size >= replicas


# Everything is drawn.


def test_every_layer_loss_and_optimizer_is_drawn(cases: list[Case]) -> None:
    assert {name for case in cases for name in layer_names(case)} == set(LAYERS)
    assert {loss.name for case in cases for loss in case.losses} == set(LOSSES)
    assert {case.optimizer.name for case in cases} == set(OPTIMIZERS)


def test_every_option_of_every_loss_and_optimizer_is_drawn(cases: list[Case]) -> None:
    options = {(loss.name, option) for case in cases for loss in case.losses for option in loss.config}
    assert options == {(name, option) for name, entry in LOSSES.items() for option in entry.fields}
    assert {option for case in cases for option in case.optimizer.config} >= set(COMMON)
    own = {(case.optimizer.name, option) for case in cases for option in case.optimizer.config}
    assert own >= {(name, option) for name, entry in OPTIMIZERS.items() for option in entry.own}


@pytest.mark.parametrize("name", LAYERS)
def test_every_option_of_a_layer_is_drawn(name: str) -> None:
    entry = LAYERS[name]
    shape = {1: (4,), 2: (4, 2), 3: (4, 4, 2)}[entry.ranks[-1]]
    below = 3 if entry.takes == "index" else None
    given_shapes = (shape, shape) if entry.merges else (shape,)
    nodes = drawn(strategies.layers(shapes=given_shapes, names=[name], below=below), 400)
    assert {option for node in nodes for option in node.config} == set(entry.fields)


FEATURES: dict[str, Callable[[Case], Any]] = {
    "sequential": lambda case: case.model.kind == "sequential",
    "functional": lambda case: case.model.kind == "functional",
    "a functional chain": lambda case: case.model.kind == "functional" and len(case.model.nodes) == 1,
    "two inputs": lambda case: len(case.model.inputs) == 2,
    "two outputs": lambda case: len(case.model.outputs) == 2,
    "two inputs and two outputs": lambda case: len(case.model.inputs) == len(case.model.outputs) == 2,
    "loss weights": lambda case: case.losses[0].weight is not None,
    "a shared layer": lambda case: any(node.shares for node in case.model.nodes),
    "a shared layer with weights": lambda case: any(
        node.shares and LAYERS[owner_of(case.model, node).layer or ""].weights for node in case.model.nodes
    ),
    "a frozen layer": lambda case: any(node.config.get("trainable") is False for node in case.model.nodes),
    "full batches": lambda case: case.last_batch == case.data.batch_size,
    "a partial last batch": lambda case: 2 <= case.last_batch < case.data.batch_size,
    "a last batch smaller than 2": lambda case: case.last_batch < 2,
    "fewer rows than a batch": lambda case: case.data.rows < case.data.batch_size,
    "two epochs": lambda case: case.schedule.epochs == 2,
    "three epochs": lambda case: case.schedule.epochs == 3,
    "two steps per execution": lambda case: case.schedule.steps_per_execution == 2,
    "an optimizer not built first": lambda case: not case.optimizer.built_first,
    "no metrics": lambda case: not case.metrics,
    "two metrics": lambda case: len(case.metrics) == 2,
    "accuracy": lambda case: "accuracy" in case.metrics,
    "clipping with accumulation": lambda case: (
        "gradient_accumulation_steps" in case.optimizer.config and set(CLIPPING) & set(case.optimizer.config)
    ),
    **{f"fed by {feed}": lambda case, feed=feed: case.data.feed == feed for feed in FEEDS},
    **{f"values {pattern}": lambda case, pattern=pattern: case.data.pattern == pattern for pattern in PATTERNS},
    **{
        f"sample weights {pattern}": lambda case, pattern=pattern: case.data.sample_weight == pattern
        for pattern in (None, *PATTERNS)
    },
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_drawn(feature: str, cases: list[Case]) -> None:
    assert any(FEATURES[feature](case) for case in cases)


# At the promised rates. Bounds are wide: they hold for other releases of Hypothesis, which draw otherwise.

RATES: dict[str, tuple[float, float, Callable[[Case], Any]]] = {
    "batch-dependent layers": (0.06, 0.20, lambda case: any(not LAYERS[name].samples for name in layer_names(case))),
    "random layers": (0.03, 0.15, lambda case: any(LAYERS[name].random for name in layer_names(case))),
    "recurrent layers": (0.02, 0.10, lambda case: {"SimpleRNN", "GRU", "LSTM"} & set(layer_names(case))),
    "clipping": (0.1, 0.3, lambda case: set(CLIPPING) & set(case.optimizer.config)),
    "accumulation": (0.04, 0.2, lambda case: "gradient_accumulation_steps" in case.optimizer.config),
    "averaging": (0.05, 0.2, lambda case: case.optimizer.config.get("use_ema")),
    "decay": (0.05, 0.2, lambda case: "weight_decay" in case.optimizer.config),
    "sequential models": (0.3, 0.7, lambda case: case.model.kind == "sequential"),
    "partial last batches": (0.3, 0.8, lambda case: case.last_batch < case.data.batch_size),
    "starved replicas": (0.15, 0.5, lambda case: case.last_batch < 2),
    "sample weights": (0.2, 0.6, lambda case: case.data.sample_weight is not None),
}


@pytest.mark.parametrize("feature", RATES)
def test_a_feature_is_drawn_at_the_promised_rate(feature: str, cases: list[Case]) -> None:
    low, high, condition = RATES[feature]
    assert low <= sum(bool(condition(case)) for case in cases) / len(cases) <= high


# What is drawn shrinks.

TRIVIAL = Case(
    model=Model(
        inputs=(Input(name="input_1", shape=(1,)),),
        nodes=(Node(name="dense_1", layer="Dense", config=FrozenMap(units=1), inputs=("input_1",)),),
        outputs=("dense_1",),
    ),
    losses=(Loss(name="mean_squared_error"),),
    optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
    data=Data(rows=2, batch_size=2, pattern="ones"),
)


def changed(case: Case, **parts: Any) -> Case:
    return msgspec.structs.replace(case, **parts)


def test_the_smallest_case_is_one_dense_layer_and_one_step() -> None:
    assert smallest(lambda _: True) == TRIVIAL


def test_a_case_that_needs_a_feature_of_the_optimizer_keeps_nothing_else() -> None:
    case = smallest(lambda case: "clipnorm" in case.optimizer.config)
    config = FrozenMap(clipnorm=0.125, learning_rate=0.125)
    assert case == changed(TRIVIAL, optimizer=Optimizer(name="SGD", config=config))


def test_a_case_that_needs_a_partial_batch_and_a_scalar_loss_keeps_nothing_else() -> None:
    case = smallest(lambda case: case.losses[0].name == "scalar_function" and case.last_batch < case.data.batch_size)
    data = Data(rows=3, batch_size=2, pattern="ones")
    assert case == changed(TRIVIAL, losses=(Loss(name="scalar_function"),), data=data)


@pytest.mark.parametrize("name", ["Dropout", "BatchNormalization", "Conv2D", "Embedding", "SimpleRNN"])
def test_a_case_that_needs_a_layer_has_at_most_three(name: str) -> None:
    case = smallest(lambda case: name in layer_names(case))
    assert len(case.model.nodes) <= 3
    assert case.losses == TRIVIAL.losses
    assert case.optimizer == TRIVIAL.optimizer
    assert case.data == TRIVIAL.data


def test_a_case_that_needs_two_outputs_has_two_layers_of_one_input() -> None:
    case = smallest(lambda case: len(case.model.outputs) == 2)
    assert [node.name for node in case.model.nodes] == ["dense_1", "dense_2"]
    assert case.losses == TRIVIAL.losses * 2


def test_shrinking_takes_about_a_hundred_evaluations() -> None:
    # An evaluation is a training or several, so this is minutes or hours. The bound leaves room for bad luck.
    evaluations: Counter[str] = Counter()
    needs: dict[str, Callable[[Case], Any]] = {
        "clipnorm": lambda case: "clipnorm" in case.optimizer.config,
        "Dropout": lambda case: "Dropout" in layer_names(case),
        "scalar loss": lambda case: case.losses[0].name == "scalar_function",
        "starved": lambda case: case.last_batch < 2,
        "averaging": lambda case: case.optimizer.config.get("use_ema"),
    }
    for need, condition in needs.items():

        def counting(case: Case, need: str = need, condition: Callable[[Case], Any] = condition) -> bool:
            holds = bool(condition(case))
            evaluations[need] += bool(holds or evaluations[need])
            return holds

        smallest(counting)
    assert max(evaluations.values()) <= 400, evaluations
    assert sum(evaluations.values()) / len(needs) <= 200, evaluations


# Arguments are checked when a strategy is made.

MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "replicas": (lambda: strategies.cases(replicas=0), "replicas=0 should be a whole number from 1 to 16"),
    "true": (lambda: strategies.cases(replicas=True), "replicas=True should be a whole number"),
    "max_layers": (lambda: strategies.cases(max_layers="5"), "max_layers='5' should be a whole number from 1 to 20"),  # type: ignore[arg-type]
    "layer": (lambda: strategies.cases(layers=["Lambda"]), "'Lambda' in layers is not known; choose among Dense, "),
    "bare": (lambda: strategies.cases(layers="Dense"), "layers='Dense' should be a collection of names; write"),
    "none": (lambda: strategies.cases(losses=[]), r"losses=\[\] leaves nothing to draw; name at least one"),
    "number": (lambda: strategies.cases(feeds=3), "feeds=3 should be a collection of names"),  # type: ignore[arg-type]
    "loss": (lambda: strategies.losses(names=["hinge"]), "'hinge' in names is not known; choose among mean_sq"),
    "optimizer": (lambda: strategies.cases(optimizers=["LBFGS"]), "'LBFGS' in optimizers is not known"),
    "kind": (lambda: strategies.models(kinds=["subclassed"]), "'subclassed' in kinds is not known"),
    "merging": (lambda: strategies.cases(layers=["Add"], kinds=["sequential"]), "only merge, .*; add other layers"),
    "no loss": (lambda: strategies.models(losses=[]), r"losses=\[\] should be one loss, or two"),
    "not a loss": (lambda: strategies.models(losses=["mse"]), r"losses\[0\]='mse' should be a conformance.case.Loss"),  # type: ignore[list-item]
    "shapes": (lambda: strategies.layers(shapes=[(4, 4, 1)], names=["Conv1D"]), "are taken by none of the layers"),
    "shape": (lambda: strategies.layers(shapes=[(0,)]), "a length in shapes=0 should be a whole number"),
    "steps": (lambda: strategies.schedules(steps_per_epoch=7), "steps_per_epoch=7 should be a whole number from 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_argument_that_cannot_be_used_is_refused_at_once(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_arguments_narrow_what_is_drawn() -> None:
    narrowed = strategies.cases(
        layers=["Conv1D", "Dropout"], losses=["huber"], optimizers=["Adam"], feeds=["generator"], kinds=["sequential"]
    )
    values = drawn(narrowed, 100)
    assert {name for case in values for name in layer_names(case)} == {"Conv1D", "Dropout", "Flatten", "Dense"}
    assert {case.losses[0].name for case in values} == {"huber"}
    assert {case.optimizer.name for case in values} == {"Adam"}
    assert {case.data.feed for case in values} == {"generator"}
    assert {case.model.kind for case in values} == {"sequential"}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_chain_has_at_most_the_layers_asked_for(most: int) -> None:
    for model in drawn(strategies.models(max_layers=most, kinds=["sequential"]), 200):
        # The glue before the head comes on top.
        assert len(model.nodes) <= most + 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_has_an_output_for_each_loss_given(count: int) -> None:
    wanted = [Loss(name="poisson"), Loss(name="categorical_crossentropy")][:count]
    for model in drawn(strategies.models(losses=wanted), 50):
        assert len(model.outputs) == count


# A user's own layers.


class Double:
    """Stands for a user's Keras layer; it is never made here."""


def test_a_registered_layer_is_drawn_and_loaded(scratch_layers: None) -> None:
    strategies.register_layer(Double, config=st.builds(dict, times=st.integers(1, 3)), input_ranks=(1, 2))
    case = find(strategies.cases(), lambda case: "Double" in layer_names(case), settings=SHRUNK)
    assert [node.name for node in case.model.nodes] == ["double_1", "dense_1"]
    assert case.model.nodes[0].config == FrozenMap(times=1)
    assert from_json(to_json(case)) == case
    assert LAYERS["Double"].make is Double


def test_a_layer_registered_again_is_replaced(scratch_layers: None) -> None:
    for value in ("first", "second"):
        strategies.register_layer(Double, config=st.just({"mode": value}), random=True)
    nodes = drawn(strategies.layers(names=["Double"]), 5)
    assert {node.config["mode"] for node in nodes} == {"second"}
    assert LAYERS["Double"].random


def test_a_registered_layer_has_the_shape_it_was_registered_with(scratch_layers: None) -> None:
    strategies.register_layer(Double, config=st.just({}), output_shape=lambda _, shape: (*shape[:-1], 2 * shape[-1]))
    for case in drawn(strategies.cases(layers=["Double"]), 50):
        known = shapes(case.model)
        for node in case.model.nodes:
            if node.layer == "Double":
                assert known[node.name][-1] == 2 * known[node.inputs[0]][-1]


def test_a_drawn_option_that_no_case_can_hold_is_refused(scratch_layers: None) -> None:
    strategies.register_layer(Double, config=st.just({"kernel": object()}))
    with pytest.raises(CaseError, match=r"kernel=<object object at .*> should be a number, a string"):
        drawn(strategies.layers(names=["Double"]), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "Double"}, "layer='Double' should be a layer class or a function"),
        ({"config": {}}, "config={} should be a Hypothesis strategy of mappings"),
        ({"input_ranks": (4,)}, "a rank in input_ranks=4 should be a whole number from 1 to 3"),
        ({"input_ranks": ()}, r"input_ranks=\(\) leaves no input"),
        ({"input_ranks": 2}, "input_ranks=2 should be a collection of ranks"),
        ({"name": "Dense"}, "name='Dense' is a layer of Keras; give another"),
        ({"layer": lambda **_: None}, "name='<lambda>' should be an identifier"),
        ({"output_shape": (3,)}, r"output_shape=\(3,\) should be a function"),
    ],
)
def test_a_layer_that_cannot_be_registered_is_refused(
    scratch_layers: None, arguments: dict[str, Any], message: str
) -> None:
    given_arguments = {"layer": Double, "config": st.just({}), **arguments}
    with pytest.raises(UsageError, match=message):
        strategies.register_layer(given_arguments.pop("layer"), **given_arguments)


# A user's own losses and optimizers.


@pytest.fixture
def scratch_parts() -> Iterator[None]:
    tables: tuple[dict[str, Any], ...] = (LOSSES, REGISTERED_LOSSES, OPTIMIZERS, REGISTERED_OPTIMIZERS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


def quartic(y_true: Any, y_pred: Any) -> Any:
    """Stands for a user's loss; it is never called here."""


def test_a_registered_loss_is_drawn_with_the_head_and_targets_it_wants_and_loaded(scratch_parts: None) -> None:
    strategies.register_loss(quartic, returns="per_sample", target="onehot", head="softmax", least_units=3)
    case = find(strategies.cases(), lambda case: case.losses[0].name == "quartic", settings=SHRUNK)
    head = next(node for node in case.model.nodes if node.name == case.model.outputs[0])
    assert (head.config["activation"], head.config["units"]) == ("softmax", 3)
    assert from_json(to_json(case)) == case


def test_the_options_of_a_registered_class_of_losses_are_drawn_from_its_strategy(scratch_parts: None) -> None:
    strategies.register_loss(Double, config=st.builds(dict, power=st.integers(1, 3)))
    assert {loss.config["power"] for loss in drawn(strategies.losses(names=["Double"]), 50)} == {1, 2, 3}


def test_a_registered_optimizer_is_drawn_and_loaded(scratch_parts: None) -> None:
    strategies.register_optimizer(Double, config=st.just({"decay": 0.5}), learning_rates=(0.25,))
    case = find(strategies.cases(), lambda case: case.optimizer.name == "Double", settings=SHRUNK)
    assert case.optimizer.config == FrozenMap(decay=0.5, learning_rate=0.25)
    assert from_json(to_json(case)) == case
    clipped = find(strategies.optimizers(names=["Double"]), lambda made: "clipnorm" in made.config, settings=SHRUNK)
    assert clipped.config["decay"] == 0.5


def test_an_optimizer_without_the_options_of_all_is_drawn_without_them(scratch_parts: None) -> None:
    strategies.register_optimizer(Double, features=False)
    assert {tuple(made.config) for made in drawn(strategies.optimizers(names=["Double"]), 100)} == {("learning_rate",)}


@pytest.mark.parametrize(
    ("register", "arguments", "message"),
    [
        (strategies.register_loss, {"loss": "mse"}, "loss='mse' should be a function of"),
        (strategies.register_loss, {"name": "huber"}, "name='huber' is a loss of Keras; give another"),
        (strategies.register_loss, {"loss": lambda *_: None}, "name='<lambda>' should be an identifier"),
        (strategies.register_loss, {"target": "image"}, "target='image' should be one of 'real', 'positive'"),
        (strategies.register_loss, {"head": "gelu"}, "head='gelu' should be one of None, 'sigmoid'"),
        (strategies.register_loss, {"returns": "mean"}, "returns='mean' should be 'scalar', 'per_sample' or None"),
        (strategies.register_loss, {"returns": "scalar", "config": st.just({})}, "config= with returns="),
        (strategies.register_loss, {"config": {}}, "config={} should be a Hypothesis strategy"),
        (strategies.register_loss, {"least_units": 0}, "least_units=0 should be a whole number"),
        (strategies.register_optimizer, {"optimizer": "sgd"}, "optimizer='sgd' should be a class of optimizers"),
        (strategies.register_optimizer, {"name": "Adam"}, "name='Adam' is an optimizer of Keras; give another"),
        (strategies.register_optimizer, {"config": 3}, "config=3 should be a Hypothesis strategy"),
        (strategies.register_optimizer, {"learning_rates": ()}, r"learning_rates=\(\) should be numbers"),
        (strategies.register_optimizer, {"learning_rates": (-1.0,)}, r"learning_rates=\(-1.0,\) should be numbers"),
        (strategies.register_optimizer, {"learning_rates": 0.5}, "learning_rates=0.5 should be numbers"),
    ],
)
def test_a_loss_or_optimizer_that_cannot_be_registered_is_refused(
    scratch_parts: None, register: Callable[..., None], arguments: dict[str, Any], message: str
) -> None:
    given_arguments = {"loss" if register is strategies.register_loss else "optimizer": Double, **arguments}
    with pytest.raises(UsageError, match=message):
        register(given_arguments.pop(next(iter(given_arguments))), **given_arguments)


# The parts.


def test_weights_keep_every_value_once_in_front() -> None:
    assert weighted(("a", 3), ("b", 2), ("c", 0)) == ["a", "b", "a", "a", "b"]


def test_what_keras_does_anyhow_is_not_set() -> None:
    assert ("use_bias", True) not in option_settings(LAYERS["Dense"].fields, ((3,),))
    assert ("use_bias", False) in option_settings(LAYERS["Dense"].fields, ((3,),))


# Importing.


def modules_after(code: str) -> set[str]:
    """The top-level modules of a clean process after some code."""
    report = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_drawing_a_case_imports_no_tensorflow() -> None:
    code = "import hypothesis, conformance.strategies as s; hypothesis.find(s.cases(), lambda c: True)"
    modules = modules_after(code)
    assert "hypothesis" in modules
    assert not modules & {"tensorflow", "keras"}


def test_the_package_imports_no_hypothesis() -> None:
    assert "hypothesis" not in modules_after("import conformance")


def test_the_folder_refuses_to_be_imported_under_its_bare_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import strategies"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "ImportError: 'strategies' is a folder of keras-conformance; import it as conformance.strategies"
    )


def test_no_layer_of_real_values_is_called_again_on_indices() -> None:
    graph = Graph()
    values, indices = graph.input((4,), None), graph.input((4,), 3)
    dense = graph.call("Dense", {"units": 4}, values)
    assert _owners(graph, dense) == [dense]
    assert _owners(graph, indices) == []
