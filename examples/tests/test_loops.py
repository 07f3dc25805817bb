"""Each loop on trial against `model.fit`, with the same model, data and optimizer."""

from __future__ import annotations

from typing import Any

import pytest

import conformance
from my_training import loops
from my_training.models import BATCH, build_model, build_optimizer, regression_data

TRAINING: dict[str, Any] = {
    "model": build_model,
    "loss": "mse",
    "optimizer": build_optimizer,
    "data": regression_data(),
    "batch_size": BATCH,
}


def wrong(loop: Any, **arguments: Any) -> conformance.Verdict:
    """The verdict on a loop that must not conform."""
    with pytest.raises(conformance.DivergenceError) as raised:
        conformance.assert_conforms(loop, **TRAINING, **arguments)
    verdict = raised.value.verdict
    assert isinstance(verdict, conformance.Verdict)
    assert verdict.cause is not None
    # The message, wrapped and cut to what a terminal holds, says what to write instead.
    told = " ".join(str(raised.value).split())
    cure = told.partition("cure: ")[2].partition(" signature: ")[0].removesuffix(" [...]")
    assert cure
    assert " ".join(verdict.cause.advice.split()).startswith(cure)
    return verdict


def test_the_compiled_step_trains_as_fit_does() -> None:
    conformance.assert_conforms(loops.compiled_step, **TRAINING, replicas=(1, 2))


def test_the_step_by_hand_trains_as_fit_does() -> None:
    conformance.assert_conforms(loops.step_by_hand, **TRAINING, replicas=(1, 2), executions=("eager",))


def test_the_whole_loop_trains_as_fit_does() -> None:
    conformance.assert_conforms(loops.train, **TRAINING, epochs=2, replicas=(1, 2))


def test_a_loop_that_forgets_the_penalties_is_found() -> None:
    verdict = wrong(loops.forgets_the_penalties)
    assert verdict.cause.name == "regularization_omitted"
    assert verdict.wrong_arm == "trial/single/graph"
    assert verdict.divergence.step == 0


def test_a_loop_that_sums_is_found() -> None:
    assert wrong(loops.sums_the_losses).cause.name == "loss_summed_not_averaged"


def test_a_loop_that_forgets_the_other_replicas_is_right_on_one_device_and_found_on_two() -> None:
    verdict = wrong(loops.forgets_the_other_replicas, replicas=(1, 2))
    assert verdict.cause.name == "replica_loss_not_scaled"
    assert {item.wrong_arm for item in verdict.observations} == {"trial/mirrored:2/graph"}
