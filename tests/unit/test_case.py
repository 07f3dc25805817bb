"""A case is a value: checked whole, equal by content and type, JSON both ways, and never code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.vendor import pretty

from conformance import case as case_module
from conformance.arm import Arm, Placement, arms, parse_arm, parse_execution, parse_placement, parse_trainer
from conformance.case import FORMAT, Node, from_data, from_json, load_case, save_case, to_data, to_json
from conformance.case_code import code_of
from conformance.cases import entries, load
from conformance.errors import CaseError, UsageError
from conformance.frozen import FrozenMap, freeze, thaw

PLAIN: dict[str, Any] = {
    "format": 1,
    "model": {
        "inputs": [{"name": "x", "shape": [3]}],
        "nodes": [
            {"name": "hidden", "layer": "Dense", "config": {"units": 2}, "inputs": ["x"]},
            {"name": "dense", "layer": "Dense", "config": {"units": 1}, "inputs": ["hidden"]},
        ],
        "outputs": ["dense"],
    },
    "losses": [{"name": "mean_squared_error"}],
    "optimizer": {"name": "SGD", "config": {"learning_rate": 0.125}},
    "data": {"rows": 8, "batch_size": 4},
}


def changed(place: str, value: Any) -> dict[str, Any]:
    """The plain case with one value replaced, added or (None) taken away."""
    data = json.loads(json.dumps(PLAIN))
    *parents, last = place.split(".")
    part = data
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part[name]
    if isinstance(part, list):
        part[int(last)] = value
    elif value is None:
        del part[last]
    else:
        part[last] = value
    return data


BAD = {
    "an unknown field": ("colour", 1, "unknown field `colour`"),
    "an unknown field inside": ("model.nodes.0.colour", 1, "unknown field `colour` - at `$.model.nodes[0]`"),
    "an unknown layer": ("model.nodes.1.layer", "Dence", "'Dence' is not a known layer - at `$.model.nodes[1].layer`"),
    "a Lambda": ("model.nodes.0.layer", "Lambda", "'Lambda' is not a known layer"),
    "an unknown option": (
        "model.nodes.0.config.unit",
        3,
        "'unit' is not an option of layer Dense - at `$.model.nodes[0].config`; its options are",
    ),
    "a negative option": (
        "model.nodes.0.config.units",
        -3,
        "units=-3 should be a whole number of at least 1 - at `$.model.nodes[0].config.units`",
    ),
    "a flag for a count": ("model.nodes.0.config.units", True, "units=True should be a whole number"),
    "a missing option": ("model.nodes.0.config.units", None, "layer Dense misses its option 'units'"),
    "an unknown loss": ("losses.0.name", "mse", "'mse' is not a known loss - at `$.losses[0].name`"),
    "an unknown optimizer": ("optimizer.name", "Lion2", "'Lion2' is not a known optimizer - at `$.optimizer.name`"),
    "an infinite rate": ("optimizer.config.learning_rate", float("inf"), "learning_rate=inf should be"),
    "two clippings": ("optimizer.config", {"learning_rate": 1, "clipnorm": 1.0, "clipvalue": 1.0}, "exclude one"),
    "a negative count": ("data.rows", -3, "-3: Expected `int` >= 1 - at `$.data.rows`"),
    "a count of none": ("data.batch_size", 0, "0: Expected `int` >= 1 - at `$.data.batch_size`"),
    "half a row": ("data.rows", 2.5, "2.5: Expected `int`, got `float` - at `$.data.rows`"),
    "a negative seed": ("seed", -1, "-1: Expected `int` >= 0 - at `$.seed`"),
    "a name with a slash": ("model.inputs.0.name", "x/y", "at `$.model.inputs[0].name`"),
    "an unknown pattern": ("data.pattern", "noise", "'noise' is not a known pattern - at `$.data.pattern`"),
    "an unknown feed": ("data.feed", "queue", "'queue' is not a known feed - at `$.data.feed`"),
    "an unknown precision": ("precision", "float16", "'float16' is not a known precision - at `$.precision`; choose"),
    "an unknown metric": ("metrics", ["auc"], "'auc' is not a known metric - at `$.metrics[0]`"),
    "a node nobody made": ("model.nodes.1.inputs", ["gone"], "'gone' is no input or earlier node"),
    "a name taken twice": ("model.nodes.1.name", "hidden", "the name 'hidden' is taken"),
    "an output that is an input": ("model.outputs", ["x"], "'x' is not the name of a node"),
    "no outputs": ("model.outputs", [], "a model needs an input and an output"),
    "a loss too many": ("losses", [{"name": "huber"}] * 2, "2 losses for 1 outputs - at `$.losses`"),
    "a model without its kind": ("model.kind", "graph", "'graph' is not a known kind of model"),
    "a format from the future": ("format", FORMAT + 1, "newer release, this one reads up to 1 - at `$.format`"),
    "a format before the first": ("format", 0, "format 0 should be a whole number of at least 1 - at `$.format`"),
    "no model": ("model", None, "missing required field `model`"),
}


@pytest.mark.parametrize(("place", "value", "told"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_said_in_one_line_with_its_path(place: str, value: Any, told: str) -> None:
    with pytest.raises(CaseError) as refused:
        from_data(changed(place, value))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_newer_format_is_said_before_anything_it_may_have_that_is_unknown() -> None:
    with pytest.raises(CaseError, match="newer release"):
        from_data({"format": FORMAT + 1, "layers": "of the future"})


@pytest.mark.parametrize("data", [None, 3, "case", [], [PLAIN]], ids=repr)
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(CaseError):
        from_data(data)


def test_a_change_that_leaves_no_valid_case_is_refused_too() -> None:
    case = from_data(PLAIN)
    with pytest.raises(CaseError):
        msgspec.structs.replace(case, losses=())


def test_a_case_goes_to_json_and_back_and_to_a_file_and_back(tmp_path: Path) -> None:
    case = from_data(PLAIN)
    assert from_json(to_json(case)) == case == from_data(to_data(case))
    save_case(case, tmp_path / "a.case.json")
    assert load_case(tmp_path / "a.case.json") == case
    assert [path.name for path in tmp_path.iterdir()] == ["a.case.json"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"gone\.json: No such file"):
        load_case(tmp_path / "gone.json")
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(CaseError, match=r"cut\.json: not JSON"):
        load_case(tmp_path / "cut.json")


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "tf.constant(1)", "x'); import os; ('"])
def test_text_in_a_case_is_never_code(text: str) -> None:
    for place in ("losses.0.name", "optimizer.name", "model.nodes.0.layer", "model.nodes.0.name"):
        with pytest.raises(CaseError):
            from_data(changed(place, text))
    with pytest.raises(CaseError):
        from_data(changed("model.nodes.0.config.activation", text))


def test_a_step_is_a_batch_and_the_last_one_may_be_partial() -> None:
    case = from_data({**PLAIN, "data": {"rows": 33, "batch_size": 16}, "schedule": {"epochs": 2}})
    assert (case.steps_per_epoch, case.steps, case.last_batch) == (3, 6, 1)
    full = from_data({**PLAIN, "data": {"rows": 32, "batch_size": 16}})
    assert (full.steps_per_epoch, full.last_batch) == (2, 16)


def test_cases_are_equal_and_hash_alike_by_content() -> None:
    assert from_data(PLAIN) == from_data(json.loads(json.dumps(PLAIN)))
    assert hash(from_data(PLAIN)) == hash(from_data(PLAIN))
    assert from_data(PLAIN) != from_data(changed("seed", 1))
    assert isinstance({from_data(PLAIN): 1}[from_data(PLAIN)], int)


# FrozenMap.


@pytest.mark.parametrize("others", [(1, 1.0), (1, True), (1.0, True), (0, False), (0.0, False)])
def test_numbers_of_other_types_are_other_values(others: tuple[Any, Any]) -> None:
    """To Keras they are: units=True is no 1, and a rate of 1 trains in integers."""
    first, second = (FrozenMap(rate=value) for value in others)
    assert first != second
    assert hash(first) != hash(second)
    assert FrozenMap(nested={"rate": others[0]}) != FrozenMap(nested={"rate": others[1]})
    assert FrozenMap(items=[others[0]]) != FrozenMap(items=[others[1]])


def test_the_order_of_names_does_not_matter() -> None:
    assert FrozenMap({"a": 1, "b": 2}) == FrozenMap({"b": 2, "a": 1})
    assert hash(FrozenMap({"a": 1, "b": 2})) == hash(FrozenMap({"b": 2, "a": 1}))


def test_a_frozen_map_cannot_be_changed_from_outside() -> None:
    given = {"items": [1, 2], "nested": {"a": [3]}}
    frozen = FrozenMap(given)
    given["items"].append(9)  # type: ignore[attr-defined]
    given["nested"]["a"] = 4  # type: ignore[call-overload]
    assert thaw(frozen) == {"items": [1, 2], "nested": {"a": [3]}}
    with pytest.raises(TypeError):
        frozen["a"] = 1  # type: ignore[index]


def test_changes_make_another_map() -> None:
    frozen = FrozenMap(a=1, b=2)
    assert frozen.set(b=3, c=[4]) == FrozenMap(a=1, b=3, c=(4,))
    assert frozen.without("a", "gone") == FrozenMap(b=2)
    assert frozen == FrozenMap(a=1, b=2)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), _VALUES, max_size=4))
def test_what_is_frozen_thaws_to_what_it_was(value: dict[str, Any]) -> None:
    frozen = freeze(value)
    assert thaw(frozen) == value
    assert hash(frozen) == hash(freeze(thaw(frozen)))
    assert frozen == freeze(thaw(frozen))


# Arms.


@pytest.mark.parametrize("text", ["fit/single/graph", "loop/mirrored:2/eager", "train_on_batch/mirrored:64/xla"])
def test_an_arm_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_arm(text)) == text


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (parse_arm, "fit", "'fit' is not an arm; write trainer/placement/execution"),
        (parse_arm, "fit/single/graph/more", "is not an arm"),
        (parse_arm, "fitt/single/graph", "'fitt' is not a trainer; choose among fit, loop, train_on_batch"),
        (parse_placement, "mirrored:1", "does not say how many replicas; write mirrored:N with N from 2 to 64"),
        (parse_placement, "mirrored:65", "does not say how many replicas"),
        (parse_placement, "mirrored:-2", "does not say how many replicas"),
        (parse_placement, "mirrored", "does not say how many replicas"),
        (parse_placement, "mirrored:two", "does not say how many replicas"),
        (parse_placement, "tpu:8", "'tpu:8' is not a placement; write single or mirrored:N"),
        (parse_placement, "", "'' is not a placement"),
        (parse_placement, "Single", "'Single' is not a placement"),
        (parse_execution, "jit", "'jit' is not an execution; choose among graph, eager, xla"),
        (parse_trainer, "", "'' is not a trainer"),
    ],
)
def test_a_misspelt_arm_is_refused_with_what_would_be_right(parse: Any, text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert told in str(refused.value)


def test_arms_are_the_product_of_their_axes_in_order() -> None:
    made = arms(("fit", "loop"), (Placement(), Placement(2, True)), ("graph",))
    assert list(map(str, made)) == [
        "fit/single/graph",
        "fit/mirrored:2/graph",
        "loop/single/graph",
        "loop/mirrored:2/graph",
    ]
    assert len({Arm("fit"), *made}) == 4


def test_a_case_shows_itself_as_the_code_that_makes_it_without_defaults() -> None:
    shown = repr(load("clipnorm"))
    assert shown == (
        "Case(model=Model(inputs=(Input(name='x', shape=(1,)),), nodes=(Node(name='dense', layer='Dense',"
        " config={'units': 1}, inputs=('x',)),), outputs=('dense',)), losses=(Loss(name='mean_squared_error'),),"
        " optimizer=Optimizer(name='SGD', config={'clipnorm': 0.125, 'learning_rate': 0.125}),"
        " data=Data(rows=2, batch_size=2))"
    )


@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_what_a_case_shows_makes_it_again(name: str) -> None:
    made = load(name)
    lines = code_of(made)
    for code in (repr(made), "\n".join(lines), pretty.pretty(made)):
        again = eval(code, dict(vars(case_module)))  # noqa: S307 - code of ours
        assert again == made
        assert hash(again) == hash(made)
    # A long shape or list of options is not broken.
    assert len(lines) <= 25
    assert all(len(line) <= 120 for line in lines)


def test_a_dictionary_will_do_for_options() -> None:
    node = Node(name="dense", layer="Dense", config={"kernel_regularizer": {"l2": 0.5}}, inputs=("x",))  # type: ignore[arg-type]
    assert node.config == FrozenMap(kernel_regularizer=FrozenMap(l2=0.5))
    assert hash(node)
