"""What every arm raises: a finding of a layer of one's own, and of Keras's own layers none."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import strategies as st

from conformance import strategies
from conformance.arm import Placement, parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.defaults import with_known
from conformance.exception import everywhere
from conformance.finding import Finding
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.minimize import plan_for
from conformance.passes import simplified
from conformance.plan import Plan
from conformance.raised import Raised
from conformance.reports.finding_page import finding_page
from conformance.reports.markdown import written
from conformance.reports.repro import script
from conformance.search import judged
from conformance.simplicity import simplicity
from conformance.sketch import sketched
from conformance.strategies.register_layer import REGISTERED
from conformance.trace import Trace
from conformance.verdict import ArmReport, Observation, Verdict

ARMS = ("fit/single/graph", "loop/mirrored:2/graph")
RAISED = Raised(
    "ValueError",
    "Dimensions must be equal, but are 5 and 2.",
    "model_7/mine_3",
    "AddV2",
    "(4, 10) float32",
    "/layers.py:3: return a + b",
    "Mine",
    "(4, 5) float32, (4, 2) float32",
    "Traceback\n  deep",
)


class Mine:
    """Stands for a user's Keras layer; it is never made here."""


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(LAYERS), dict(REGISTERED)
    strategies.register_layer(
        Mine,
        config=st.builds(dict, units=st.integers(1, 8), kind=st.just("a")),
        output_shape=lambda options, _: (options["units"],),
        input_ranks=(1,),
    )
    yield
    for table, kept in zip((LAYERS, REGISTERED), before, strict=True):
        table.clear()
        table.update(kept)


def case(layer: str = "Mine", **options: object) -> Case:
    return Case(
        model=Model(
            inputs=(Input(name="x", shape=(3,)),),
            nodes=(
                Node(name="first", layer=layer, config=FrozenMap(units=5, **options), inputs=("x",)),
                Node(name="between", layer="Dropout", config=FrozenMap(rate=0.5), inputs=("first",)),
                Node(name="head", layer="Dense", config=FrozenMap(units=1), inputs=("between",)),
            ),
            outputs=("head",),
        ),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name="SGD", config=FrozenMap(learning_rate=0.125)),
        data=Data(rows=8, batch_size=4),
    )


def found(raised: Raised = RAISED, of: Case | None = None) -> Observation | None:
    traces = {parse_arm(arm): Trace(parse_arm(arm), 1, error=raised) for arm in ARMS}
    return everywhere(traces, of)


def seen(of: Case | None = None) -> Verdict:
    item = found(of=of)
    assert item is not None
    arms = tuple(ArmReport(arm=arm, status="raised", raised=RAISED) for arm in ARMS)
    return Verdict(case=of, verdict="raises", arms=arms, observations=(item,), reason=str(RAISED))


def test_the_signature_has_the_exception_the_layers_class_and_the_operation_and_no_numbers() -> None:
    item = found()
    assert item is not None
    assert item.signature == "all/outputs/raises_in_every_arm/ValueError/Mine/AddV2"
    assert (item.divergence.arms, item.wrong_arm) == (ARMS, None)


@pytest.mark.parametrize(
    ("layer", "raised", "is_one"),
    [
        ("Dense", RAISED, False),
        ("Mine", RAISED, True),
        ("Mine", msgspec.structs.replace(RAISED, line=None), True),
        ("Mine", msgspec.structs.replace(RAISED, line=None, layer_class="Dropout"), False),
        (None, Raised("KeyError", "'x'"), True),
    ],
    ids=["of Keras alone", "of one's own", "without a source", "elsewhere in the model", "a model of one's own"],
)
def test_keras_refusing_a_case_is_no_finding(layer: str | None, raised: Raised, is_one: bool) -> None:
    assert (found(raised, None if layer is None else case(layer)) is not None) == is_one


def test_one_arm_is_enough_to_make_it_smaller() -> None:
    whole = Plan(placements=(Placement(), Placement(2, mirrored=True)), executions=("graph", "eager"))
    item = found()
    assert item is not None
    assert list(plan_for(item, whole).arms) == [parse_arm(ARMS[0])]


def test_a_registered_layer_is_made_smaller_and_keeps_the_options_that_show_it() -> None:
    def shows(smaller: Case) -> bool:
        return any(
            node.layer == "Mine" and node.config.get("units", 0) > 2 and node.config.get("kind") == "a"
            for node in smaller.model.nodes
        )

    smallest = simplified(sketched(case(kind="a"), shows), shows)
    assert simplicity(smallest) < simplicity(case(kind="a"))
    assert [node.layer for node in smallest.model.nodes] == ["Mine", "Dense"]
    assert smallest.model.nodes[0].config == FrozenMap(units=3, kind="a")


def test_its_script_trains_one_arm_with_the_layers_options() -> None:
    source = script(seen(case(kind="a")))
    assert 'Mine(kind="a", units=5, name="first")' in source
    assert source.count("train()") == 2
    assert "every arm raises" in source
    compile(source, "repro.py", "exec")


def test_its_page_has_the_layer_the_operation_and_the_traceback(made_finding: object) -> None:
    environment = made_finding().environment  # type: ignore[operator]
    page = finding_page(Finding(verdict=seen(case()), original=case(), environment=environment), "")
    assert page.title == "Every arm raises ValueError in layer `model_7/mine_3 (Mine)`"
    shown = written(page)
    assert "| operation | `AddV2 of (4, 5) float32, (4, 2) float32` |" in shown
    assert "<summary>Traceback</summary>\n\n```text\nTraceback\n  deep\n```" in shown


def test_what_a_baseline_knows_is_known_of_an_exception_too() -> None:
    verdict = seen(case())
    known = frozenset({verdict.observations[0].signature})
    assert with_known(verdict, known).conforms
    assert judged(0, verdict, 0.0, known).outcome == "known"
    assert judged(0, verdict, 0.0, frozenset()).outcome == "raises"
    assert judged(0, msgspec.structs.replace(verdict, observations=()), 0.0, known).outcome == "raises"
