"""The table of faults, before any is planted."""

from __future__ import annotations

from collections import Counter

import pytest
from faults import FAULTS, Fault
from hunt import plan_of

from conformance.causes import CAUSES
from conformance.stage import Stage


def test_no_two_faults_have_one_name() -> None:
    assert [name for name, count in Counter(map(str, FAULTS)).items() if count > 1] == []


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_says_what_goes_wrong_at_which_stage_and_why(fault: Fault) -> None:
    assert fault.tells.endswith(".")
    assert fault.stage in {stage.value for stage in Stage}
    assert fault.cause in {*CAUSES, "unexplained"}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_looked_for_where_it_can_show(fault: Fault) -> None:
    plan = plan_of(fault)
    assert plan.replicas == fault.replicas
    assert ("loop" in plan.trainers) is not fault.shared


def test_most_faults_have_a_cause_with_a_name_of_its_own() -> None:
    named = [fault for fault in FAULTS if fault.cause != "unexplained"]
    assert len(FAULTS) >= 54
    assert len(named) >= 47
    assert {fault.shared for fault in named} == {False, True}
    assert {fault.replicas for fault in named} == {1, 2}
