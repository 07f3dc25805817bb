"""What is left of a case is small, and does not depend on where the finding was made."""

from __future__ import annotations

import pytest
from faults import FAULTS, Fault
from hunt import ATTEMPTS, NO_CLOCK, Planted, drawn, news, plan_of
from minimal import SHOWS, endings

TWO_STARTS = (
    "gradient_slightly_off",
    pytest.param("regularization_omitted", marks=pytest.mark.nightly),
    pytest.param("training_flag_false", marks=pytest.mark.nightly),
)
MOST_LAYERS, MOST_ROWS = 2, 2


def named(name: str) -> Fault:
    """The fault of that name."""
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.parametrize("name", TWO_STARTS)
def test_two_starts_of_one_fault_end_in_one_small_case(name: str) -> None:
    first, second = endings(named(name), NO_CLOCK, starts=2, most=ATTEMPTS)
    assert first.start != second.start
    assert first.smallest == second.smallest
    assert len(first.smallest.model.nodes) <= MOST_LAYERS
    assert first.smallest.data.rows <= MOST_ROWS
    assert first.smallest.steps == 1


CASES_A_FAULT = 20
TEN = tuple(SHOWS)[:10]


@pytest.mark.nightly
def test_two_hundred_failing_cases_of_ten_faults_are_ten_findings() -> None:
    """All that each case shows only with the fault counts, not only what the fault is known by."""
    found: dict[str, set[str]] = {}
    failing = 0
    for name in TEN:
        fault = named(name)
        plan = plan_of(fault)
        with Planted(fault) as planted:
            left = CASES_A_FAULT
            for case in filter(SHOWS[name], drawn(1, 500)):
                seen = news(case, plan, planted)
                for item in seen:
                    found.setdefault(item.signature, set()).add(name)
                left -= bool(seen)
                if not left:
                    break
        failing += CASES_A_FAULT - left
    assert failing == len(TEN) * CASES_A_FAULT
    assert sorted(sorted(names) for names in found.values()) == sorted([name] for name in TEN), found
