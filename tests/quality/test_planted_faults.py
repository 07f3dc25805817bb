"""Does the harness see what is wrong, and only that?"""

from __future__ import annotations

import pytest
from faults import FAULTS, Fault
from hunt import EXAMPLES, SEARCHED, Quarry, first_sight, layers_with_weights, plan_of, way_of

from conformance.judge import judge_case
from conformance.minimize import signatures
from conformance.verdict import CONFORMS, DIVERGES

MOST_LAYERS = 2


GATE = (
    "regularization_omitted",
    "gradient_slightly_off",
    "clip_order",
    "training_flag_false",
    "replica_loss_scaled_twice",
)
"""Those that every change must pass; the others take minutes."""

NAMED = 45
"""So many faults at the least are called by their name where they are first seen."""

AMBIGUOUS = {
    "batches_shuffled": "it shuffles without a seed, so that what it does to few batches is not always an order",
    "targets_shifted": "first seen in batches of one row of ones, whose weights stay where they were",
    "weights_normalized": "first seen where all weights are alike, so that leaving them out does the same",
    "features_summed": "first seen where an output has as many columns as a batch has rows",
    "accumulation_tail_applied": "it is in no step, and what is left after training is replayed by no deviation",
    "replica_regularization_not_scaled": "first seen with an activity penalty, which is scaled by the same factor",
    "replica_statistics_of_the_first": "no deviation gives one replica's statistics to all",
}
"""Faults that may be called otherwise, or nothing, where they are first seen, and why."""


@pytest.mark.parametrize("name", GATE)
def test_a_planted_fault_is_found_named_minimized_and_laid_to_fit(name: str) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    quarry = way_of(fault)(fault)

    assert quarry is not None, f"{fault.name} not found in {EXAMPLES} cases"
    assert quarry.drawn <= EXAMPLES
    told = quarry.told
    assert told.signature == quarry.seen.signature
    assert [item.divergence.stage.value for item in (quarry.seen, told)] == [fault.stage] * 2, told.divergence.message
    assert told.divergence.arms[0].startswith("fit/")
    assert told.wrong_arm is None or told.wrong_arm.startswith("fit/")
    assert told.cause.name == fault.cause, told.cause.evidence
    assert layers_with_weights(quarry.smallest) <= MOST_LAYERS, quarry.smallest
    _is_there_with_the_fault_alone(fault, quarry)


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_and_called_by_its_name_at_first_sight(fault: Fault) -> None:
    """Those that fit and the loop share too, which the referee alone can see."""
    sight = first_sight(fault)
    assert sight is not None, f"not found in {EXAMPLES} cases"
    names = {observation.cause.name for observation in sight.news}
    assert fault.cause in names or fault.name in AMBIGUOUS, names


def test_enough_faults_have_a_name_to_be_called_by_at_first_sight() -> None:
    assert set(AMBIGUOUS) < {fault.name for fault in FAULTS}
    named = [fault for fault in FAULTS if fault.cause != "unexplained" and fault.name not in AMBIGUOUS]
    assert len(named) >= NAMED


def _is_there_with_the_fault_alone(fault: Fault, quarry: Quarry) -> None:
    plan = plan_of(fault)
    clean = judge_case(quarry.smallest, plan)
    assert clean.verdict == CONFORMS, str(clean)
    assert clean.compared > 0
    assert quarry.told.signature not in signatures(judge_case(quarry.case, plan))
    with fault.planted():
        again = judge_case(quarry.smallest, plan)
    assert again.verdict == DIVERGES
    assert quarry.told.signature in signatures(again)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_taken_out_leaves_every_class_of_keras_as_it_was(fault: Fault) -> None:
    places = [(owner, name) for owner, name, _ in fault.replacements()]
    before = [vars(owner).get(name) for owner, name in places]
    during = []

    def train_and_fail() -> None:
        with fault.planted():
            during.extend(vars(owner).get(name) for owner, name in places)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_and_fail()
    after = [vars(owner).get(name) for owner, name in places]
    assert all(one is not other for one, other in zip(before, during, strict=True))
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_at_least_three_faults_go_the_whole_way_of_a_run() -> None:
    assert len(SEARCHED) >= 3
    assert {fault.name for fault in FAULTS} >= SEARCHED
