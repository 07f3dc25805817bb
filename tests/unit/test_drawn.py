"""What `conformance.given` draws for a loop; that it judges it is for the tests of the plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import conformance
from conformance.case import Case
from conformance.verdict import CONFORMS, Verdict


def plain(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> None: ...


def weighing(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, sample_weight: Any) -> None: ...


def whole(model: Any, optimizer: Any, loss_fn: Any, dataset: Any, epochs: Any) -> None: ...


@pytest.mark.parametrize(
    ("loop", "weighted", "wanted"),
    [(plain, None, False), (weighing, None, True), (whole, None, False), (plain, True, True), (weighing, False, False)],
)
def test_weights_are_drawn_for_a_loop_that_takes_them(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[..., Any], weighted: bool | None, wanted: bool
) -> None:
    drawn: list[Case] = []

    def check(loop: Any, *, case: Case, **options: Any) -> Verdict:
        drawn.append(case)
        return Verdict(case=case, verdict=CONFORMS)

    monkeypatch.setattr("conformance.api.check", check)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @conformance.given(loop=loop, weighted=weighted)
    def judge() -> None: ...

    judge()
    assert any(case.data.sample_weight is not None for case in drawn) is wanted
