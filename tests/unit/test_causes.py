"""Every name of the contract has a text, and every text is a sentence, a cure with code and a clause that exists."""

from __future__ import annotations

import ast
import re

import pytest

from conformance.causes import CAUSES, CauseEntry
from conformance.referee.semantics import registered
from conformance.stage import Stage

# As the contract has them: names may come to it, and none may change.
CONTRACT = [
    "regularization_omitted",
    "regularization_outside_tape",
    "activity_loss_scale",
    "training_flag_false",
    "batchnorm_statistics_not_updated",
    "model_called_twice",
    "label_shape_broadcast",
    "logits_mismatch",
    "loss_reduced_over_wrong_axis",
    "loss_summed_not_averaged",
    "mask_ignored",
    "sample_weight_ignored",
    "sample_weight_normalization",
    "class_weight_ignored",
    "loss_weights_ignored",
    "partial_batch_dropped",
    "batches_cross_epochs",
    "data_order_differs",
    "inputs_and_targets_misaligned",
    "learning_rate_off_by_one",
    "learning_rate_frozen",
    "optimizer_state_reset",
    "clip_kind",
    "clip_order",
    "accumulation_not_averaged",
    "accumulation_tail",
    "ema_not_applied",
    "weight_decay",
    "constraint_not_applied",
    "frozen_weights_updated",
    "loss_scaling_missing",
    "metric_not_reset",
    "epoch_loss_unweighted",
    "epoch_loss_last_batch",
    "loss_reported_after_update",
    "evaluation_in_training_mode",
    "replica_loss_not_scaled",
    "replica_loss_scaled_twice",
    "replica_regularization_not_scaled",
    "replica_gradients_not_reduced",
    "replica_gradients_reduced_twice",
    "replica_mean_of_means",
    "replica_fixed_batch_divisor",
    "replica_local_normalization",
    "replica_local_statistics",
    "replica_data_not_split",
    "replica_batch_size",
    "replica_reported_loss",
    "initial_weights_differ",
    "random_stream_differs",
    "rounding_amplified",
    "numeric_precision",
    "raises_in_one_arm",
    "unexplained",
]
ADDED = [
    "batch_skipped",
    "raises_in_every_arm",
    "model_not_trained",
    "callbacks_not_called",
    "optimizer_called_twice",
    "accumulation_mean_of_means",
    "metric_not_updated",
]

# Nothing is computed otherwise (but rounded), or it is not known what.
WITHOUT_CLAUSE = {
    "rounding_amplified",
    "numeric_precision",
    "raises_in_one_arm",
    "raises_in_every_arm",
    "unexplained",
    "callbacks_not_called",
}
HARMLESS = {"random_stream_differs", "rounding_amplified", "numeric_precision"}

every = pytest.mark.parametrize("entry", CAUSES.values(), ids=list(CAUSES))


def pieces(advice: str) -> list[ast.stmt]:
    """What stands in backticks, as statements; the head of a block is given a body.

    Raises:
        SyntaxError: when one of them is no Python.
    """
    code = re.findall(r"`([^`]*)`", advice)
    return [node for piece in code for node in ast.parse(f"{piece} pass" if piece.endswith(":") else piece).body]


def does_something(statement: ast.stmt) -> bool:
    """Whether a statement is a line to write, rather than a name that the text mentions."""
    return not isinstance(statement, ast.Expr) or any(isinstance(node, ast.Call) for node in ast.walk(statement))


def test_every_name_of_the_contract_has_an_entry_and_no_other() -> None:
    assert list(CAUSES) == [*CONTRACT, *ADDED]
    assert [entry.name for entry in CAUSES.values()] == list(CAUSES)


@every
def test_what_is_said_is_one_sentence(entry: CauseEntry) -> None:
    assert re.fullmatch(r"[A-Z].*[^.]\.", entry.sentence)
    assert not re.search(r"\. [A-Z]", entry.sentence)


@every
def test_the_advice_has_a_line_of_code_and_all_of_its_code_is_python(entry: CauseEntry) -> None:
    assert any(map(does_something, pieces(entry.advice)))
    assert re.fullmatch(r"[A-Z].*\.", entry.advice)


@pytest.mark.parametrize("advice", ["Average.", "Call `model.fit` again.", "Give `steps` a value."])
def test_advice_without_a_line_of_code_is_found(advice: str) -> None:
    assert not any(map(does_something, pieces(advice)))


def test_advice_with_code_that_is_no_python_is_found() -> None:
    with pytest.raises(SyntaxError):
        pieces("Write `loss = tf.reduce_mean(losses`.")


@every
def test_the_clause_that_it_replaces_exists(entry: CauseEntry) -> None:
    assert (entry.clause is None) == (entry.name in WITHOUT_CLAUSE)
    assert entry.clause is None or entry.clause in {clause.number for clause in registered()}


def test_only_rounding_and_random_numbers_are_harmless() -> None:
    assert {entry.name for entry in CAUSES.values() if entry.harmless} == HARMLESS


@every
def test_a_cause_enters_where_its_clause_can_show(entry: CauseEntry) -> None:
    if entry.clause is None:
        return
    stages = {
        1: {Stage.BATCH},
        2: {Stage.OUTPUTS, Stage.STATE},
        3: {Stage.LOSS},
        4: {Stage.LOSS},
        5: {Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.WEIGHTS},
        6: {Stage.LOCAL_GRADIENT, Stage.GRADIENT, Stage.UPDATE, Stage.WEIGHTS},
        8: {Stage.OUTPUTS, Stage.STATE},
        9: {Stage.LOGS},
    }
    assert entry.stage in stages[int(entry.clause.partition(".")[0])]


def test_what_a_name_lays_to_replicas_is_a_matter_of_the_distribution() -> None:
    assert all(entry.of_replicas for entry in CAUSES.values() if entry.name.startswith("replica_"))
