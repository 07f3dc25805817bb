"""Sketches are tiny valid cases, and one trait is found from wherever it is looked for."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from conformance.case import Case, from_json, to_json
from conformance.passes import simplified
from conformance.simplicity import simplicity
from conformance.sketch import FEW, Sketcher, sketched
from conformance.strategies import cases
from conformance.traits import ABOUT, Trait, is_spoken_of, traits

DRAWN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@DRAWN
@given(cases(replicas=2), st.integers(1, 4))
def test_every_trait_alone_makes_a_tiny_valid_case_that_has_it(case: Case, replicas: int) -> None:
    sketcher = Sketcher(case, replicas)
    for trait in sketcher.traits:
        assert trait.kind in ABOUT
        made = sketcher.sketch((trait,))
        if made is None:
            # A weight for one loss of two, say; the halves bring it with what it needs.
            continue
        assert from_json(to_json(made)) == made
        assert len(made.model.nodes) <= 4
        assert made.data.rows <= 4 * replicas
        if trait.kind not in ("partial", "short", "uneven", "outputs", "loss_weights"):
            assert trait in traits(made, replicas)


@DRAWN
@given(cases())
def test_the_simplest_case_has_no_traits(case: Case) -> None:
    least = simplified(case, lambda proposal: True)
    assert set(traits(least)) <= {Trait("short")}


def _clips(case: Case) -> bool:
    return any(name.startswith("clip") for name in case.optimizer.config)


def _draws(case: Case) -> bool:
    return any(node.layer in ("Dropout", "GaussianNoise", "SpatialDropout1D") for node in case.model.nodes)


def _penalizes(case: Case) -> bool:
    return any(
        name.endswith("regularizer") or node.layer == "ActivityRegularization"
        for node in case.model.nodes
        for name in node.config
    )


def _keeps_slots(case: Case) -> bool:
    return case.optimizer.name != "SGD" and case.steps > 1


@pytest.mark.parametrize("shows", [_clips, _draws, _penalizes, _keeps_slots], ids=lambda shows: shows.__name__)
def test_two_starts_of_one_fault_end_in_one_case(shows: object) -> None:
    assert callable(shows)
    ends: set[Case] = set()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def each(case: Case) -> None:
        assume(shows(case))
        ends.add(simplified(sketched(case, shows, "trainer/loss/unexplained"), shows))

    each()
    assert len(ends) == 1, [to_json(end) for end in ends]


def test_a_sketch_takes_few_attempts_where_the_signature_says_what_is_to_blame() -> None:
    import hypothesis

    case = hypothesis.find(
        cases(),
        lambda drawn: "clipnorm" in drawn.optimizer.config and len(traits(drawn)) > FEW,
        settings=settings(phases=(Phase.generate,), max_examples=2000, suppress_health_check=list(HealthCheck)),
    )
    asked: list[Case] = []

    def shows(proposal: Case) -> bool:
        asked.append(proposal)
        return "clipnorm" in proposal.optimizer.config

    made = sketched(case, shows, "trainer/gradient/clip_order/clipnorm")
    assert len(asked) == 1
    assert len(made.model.nodes) == 1
    assert simplicity(made) < simplicity(case)
    assert math.prod(made.model.inputs[0].shape) <= 3


@pytest.mark.parametrize(
    ("trait", "signature"),
    [
        (Trait("layer", "Dropout"), "trainer/outputs/training_flag_false"),
        (Trait("layer", "BatchNormalization"), "trainer/state/batchnorm_statistics_not_updated"),
        (Trait("head_option", "kernel_regularizer"), "trainer/loss/regularization_omitted"),
        (Trait("optimizer_option", "clipnorm"), "distribution/gradient/clip_order/clipnorm"),
        (Trait("partial"), "distribution/loss/replica_mean_of_means"),
        (Trait("loss_option", "from_logits", True), "referee/loss/logits_mismatch"),
    ],
    ids=str,
)
def test_a_signature_speaks_of_what_is_to_blame(trait: Trait, signature: str) -> None:
    assert is_spoken_of(trait, signature)
    assert not is_spoken_of(trait, "trainer/loss/unexplained")
