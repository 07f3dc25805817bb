"""Deviations that are Keras's own: where it computes something else than it documents, on one device too.

`fit` and a loop share them, so no comparison of the two can show them; the referee can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.referee.deviation import Deviation, Variant
from conformance.referee.disputed_loss_rules import AS_KERAS, DISPUTES
from conformance.referee.disputed_update_rules import UPDATE_DISPUTES, UpdateDispute
from conformance.referee.evaluate import Evaluator
from conformance.referee.loss_clauses import values_of
from conformance.referee.loss_rules import per_sample
from conformance.referee.scene import Part, Scene
from conformance.referee.update_rules import UPDATE_RULES
from conformance.stage import Stage

_RULE_NAMES = {rule.__name__: kind for kind, rule in UPDATE_RULES.items()}


def _of_losses(name: str, losses: tuple[str, ...]) -> Deviation:
    def as_keras(scene: Scene, part: Part, output: int) -> Any:
        known = scene.losses[output].known
        if known is None or known.name not in AS_KERAS:
            return values_of(scene, part, output)
        return per_sample(known, part.targets[output], part.outputs[output], as_keras=True)

    def variants(evaluator: Evaluator) -> Iterator[Variant]:
        if any(loss.known is not None and loss.known.name in losses for loss in evaluator.losses):
            yield Variant({"values_of": as_keras}, "as Keras computes it")

    return Deviation(name, (Stage.LOSS, Stage.LOCAL_GRADIENT), variants, today=True)


def _of_updates(dispute: UpdateDispute) -> Deviation:
    def variants(evaluator: Evaluator) -> Iterator[Variant]:
        kind = _RULE_NAMES.get(dispute.replaces)
        if kind is None or kind == evaluator.reading.optimizer_class:
            yield Variant({dispute.replaces: dispute.function}, "as Keras computes it")

    return Deviation(dispute.name, (Stage.UPDATE, Stage.WEIGHTS), variants, today=True)


SPARSE = "sparse_gradient_not_summed"


def _slices_apart(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.sparse:
        yield Variant({"combined": lambda slices: slices}, "every use of a row squared by itself", "Embedding")


def _slices_clipped_apart(evaluator: Evaluator) -> Iterator[Variant]:
    config = evaluator.reading.optimizer_config
    for limit in ("clipnorm", "global_clipnorm", "clipvalue"):
        if evaluator.sparse and config.get(limit):
            yield Variant({"combined": lambda slices: slices}, "every use of a row clipped by itself", limit)


DISPUTE_DEVIATIONS: tuple[Deviation, ...] = (
    *(_of_losses(dispute.name, dispute.losses) for dispute in DISPUTES),
    *(_of_updates(dispute) for dispute in UPDATE_DISPUTES),
    Deviation(SPARSE, (Stage.UPDATE, Stage.WEIGHTS), _slices_apart, today=True),
    Deviation(SPARSE, (Stage.GRADIENT,), _slices_clipped_apart, today=True),
)
"""One entry a dispute."""

DISPUTE_SENTENCES: dict[str, str] = {
    **{dispute.name: f"Keras's loss deviates from its documentation: {dispute.sentence}." for dispute in DISPUTES},
    **{dispute.name: dispute.sentence for dispute in UPDATE_DISPUTES},
    SPARSE: "Where a batch uses a row of an embedding more than once, the optimizer clips or squares the parts of its"
    " gradient one by one, instead of their sum: the gradient is an IndexedSlices, and Keras's elementwise operations"
    " work on its values without summing equal rows.",
}
"""What Keras does, by name."""

DISPUTE_ADVICE: dict[str, str] = {
    SPARSE: "Sum the parts before the optimizer sees them, in a loop by"
    " `gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]`; or take one that neither clips nor"
    " squares, such as SGD without limits.",
}
"""What to write instead, where there is more to do than to leave an option out."""

ADVICE = "Keras does so in fit and in a loop alike: leave the option out, or expect it."
"""The advice on any other."""
