"""Deviations from chapter 4: what the loss of a step is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from conformance.referee.deviation import Deviation, Variant
from conformance.referee.evaluate import Evaluator
from conformance.referee.loss_clauses import (
    activity,
    added,
    divisor_of,
    expanded,
    quotient,
    reduced,
    regularization,
    values_of,
    weighted_sum,
)
from conformance.referee.loss_rules import per_sample
from conformance.referee.scene import Part, Scene
from conformance.stage import Stage

Tensors = list[Any]
_LOSS = (Stage.LOSS, Stage.LOCAL_GRADIENT)


def _nothing(scene: Scene, part: Part) -> Any:
    import tensorflow as tf

    return tf.zeros((), part.outputs[0].dtype)


def _penalties_of(matrices: bool, scene: Scene, part: Part) -> Any:
    """The penalties of weights that are matrices, or of those that are not."""
    kept = [item for item in part.penalties if (item[1].shape.rank > 1) == matrices]
    return regularization(scene, replace(part, penalties=kept))


def _penalties_omitted(evaluator: Evaluator) -> Iterator[Variant]:
    penalized, active = bool(evaluator.twin.penalized), evaluator.regularizes_activity
    everything = {"regularization": _nothing, "activity": _nothing, "added": _nothing}
    if penalized or active or evaluator.adds_losses:
        yield Variant(everything, "without anything of model.losses")
    if penalized:
        halved = {"regularization": lambda scene, part: 0.5 * regularization(scene, part)}
        yield Variant(halved, "half of the weights' penalties, as tf.nn.l2_loss has them")
    ranks = {len(evaluator.twin.trainable[name].shape) > 1 for name in evaluator.twin.penalized}
    for matrices, told in ((True, "biases and other vectors"), (False, "matrices")):
        if len(ranks) > 1:
            kept = partial(_penalties_of, matrices)
            yield Variant({"regularization": kept}, f"without the penalties of {told}")
    if penalized and active:
        yield Variant({"regularization": _nothing}, "without the penalties of the weights")
        yield Variant({"activity": _nothing}, "without the penalties of activities")


def _penalties_afterwards(evaluator: Evaluator) -> Iterator[Variant]:
    """Penalties that are added below the tape are those of the weights after the step."""
    if not evaluator.twin.penalized or evaluator.reading.trace.arm.trainer != "trial":
        return

    def afterwards(scene: Scene, part: Part) -> Any:
        return regularization(scene, replace(part, penalties=evaluator.penalties_after(part)))

    yield Variant({"regularization": afterwards}, "with the penalties of the weights after the step")


def _decay_as_penalty(evaluator: Evaluator) -> Iterator[Variant]:
    decay = evaluator.reading.optimizer_config.get("weight_decay")
    if not decay:
        return
    for factor, told in ((0.5, "half the decay"), (1.0, "the decay")):

        def penalized(scene: Scene, part: Part, factor: float = factor) -> Any:
            import tensorflow as tf

            squares = tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in part.weights])
            return regularization(scene, part) + factor * decay * squares / scene.replicas

        yield Variant({"regularization": penalized}, f"{told} times the sum of the squares of the weights in the loss")


def _activity_scaled(evaluator: Evaluator) -> Iterator[Variant]:
    if not evaluator.regularizes_activity:
        return

    def times(factor: Any, told: str) -> Variant:
        return Variant({"activity": lambda scene, part: activity(scene, part) * factor(scene, part)}, told)

    if evaluator.reading.replicas > 1:
        yield times(lambda scene, part: scene.rows / max(part.rows, 1) / scene.replicas, "mean over a replica's rows")
        yield times(lambda scene, part: scene.rows / max(part.rows, 1), "mean over a replica's rows, not averaged")
    yield times(lambda scene, part: scene.rows, "not divided by the rows of the batch")
    yield times(lambda scene, part: 1 / scene.rows, "divided by the rows of the batch twice")


def _labels_broadcast(evaluator: Evaluator) -> Iterator[Variant]:
    import tensorflow as tf

    if not any(shape and shape[-1] == 1 for shape in evaluator.output_shapes):
        return

    def values(scene: Scene, part: Part, output: int) -> Any:
        loss, y_pred = scene.losses[output], part.outputs[output]
        if y_pred.shape.rank != 2 or y_pred.shape[-1] != 1:
            return values_of(scene, part, output)
        if loss.known is None:
            given = tf.reshape(tf.cast(part.targets[output], y_pred.dtype), (-1,))
            return tf.cast(getattr(loss.given, "call", loss.given)(given, y_pred), y_pred.dtype)
        labels = tf.reshape(tf.cast(part.targets[output], y_pred.dtype), (1, -1, 1))
        count = tf.shape(y_pred)[0]
        every = (count, count, 1)
        pairs = per_sample(loss.known, tf.broadcast_to(labels, every), tf.broadcast_to(y_pred[:, None, :], every))
        return tf.reduce_mean(pairs, axis=1)

    yield Variant({"values_of": values}, "(n,) labels against (n, 1) predictions make n x n differences")


def _logits_mistaken(evaluator: Evaluator) -> Iterator[Variant]:
    known = [loss.known for loss in evaluator.losses]
    if not any(item is not None and "from_logits" in item.rule.options for item in known):
        return

    def values(scene: Scene, part: Part, output: int) -> Any:
        import tensorflow as tf

        item = scene.losses[output].known
        if item is None or "from_logits" not in item.rule.options:
            return values_of(scene, part, output)
        turned = replace(item, options={**item.options, "from_logits": not item.options.get("from_logits", False)})
        # A copy, behind which no logits are known.
        return per_sample(turned, part.targets[output], tf.identity(part.outputs[output]))

    yield Variant({"values_of": values}, "from_logits turned round")


def _wrong_axis(evaluator: Evaluator) -> Iterator[Variant]:
    def over_rows(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        units = scene.parts[0].outputs[output].shape[-1] or 1
        return [share * units for share in reduced(scene, output, values, weights, masks)]

    if any(shape and shape[-1] and shape[-1] > 1 for shape in evaluator.output_shapes):
        yield Variant({"reduced": over_rows}, "the mean over the rows alone, a vector whose sum is differentiated")

    # As many as there are replicas would be mistaken for these.
    doubtful = (evaluator.reading.replicas, evaluator.reading.replicas**2)
    for output, (loss, units) in enumerate(zip(evaluator.losses, map(_units, evaluator.output_shapes), strict=True)):
        if len(units) > 1 and math.prod(units[:-1]) not in doubtful:
            told = "the sum over all that a row has, and the mean over the rows"
            yield Variant({"reduced": _only(output, partial(_by_row, 1))}, told)
            yield Variant({"reduced": _only(output, partial(_by_row, units[-1]))}, f"{told}; the units of it as well")
        if loss.known is None and math.prod(units) not in (1, *doubtful):
            mean = partial(_divided, math.prod(units))
            yield Variant({"reduced": _only(output, mean)}, "the mean over all that a row has, where fit's loss sums")

    def by_sequence(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        import tensorflow as tf

        if any(mask is None or value.shape.rank < 2 for value, mask in zip(values, masks, strict=True)):
            return reduced(scene, output, values, weights, masks)
        means = []
        for value, weight, mask in zip(values, weights, masks, strict=True):
            counts = tf.cast(tf.broadcast_to(mask, tf.shape(value)), value.dtype)
            factor = counts if weight is None else counts * expanded(weight, value)
            within = tuple(range(1, value.shape.rank))
            sums = tf.reduce_sum(tf.where(counts > 0, value * factor, 0.0), within)
            means.append(tf.reduce_sum(tf.math.divide_no_nan(sums, tf.reduce_sum(counts, within))) / scene.rows)
        return means

    if evaluator.masked:
        yield Variant({"reduced": by_sequence}, "the mean over each sequence, and then over the sequences")


def _by_row(times: int, scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
    """The losses of a row are added up, and then averaged over the rows."""
    if (values[0].shape.rank or 0) < 2:
        return reduced(scene, output, values, weights, masks)
    sums = [weighted_sum(*part) for part in zip(values, weights, masks, strict=True)]
    return [times * total / scene.rows for total in sums]


def _divided(count: int, scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
    return [share / count for share in reduced(scene, output, values, weights, masks)]


def _units(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """What a row of an output has by axis; nothing where that is not known."""
    return () if None in shape[1:] else tuple(size or 0 for size in shape[1:])


def _only(chosen: int, rule: Any) -> Any:
    """A reduction of one of the outputs; the others are reduced by the clause."""

    def of_one(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        return (rule if output == chosen else reduced)(scene, output, values, weights, masks)

    return of_one


def _summed(evaluator: Evaluator) -> Iterator[Variant]:
    def summed(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        import tensorflow as tf

        if values[0].shape.rank == 0:
            return [v * tf.cast(p.rows, v.dtype) for v, p in zip(values, scene.parts, strict=True)]
        return [weighted_sum(*part) for part in zip(values, weights, masks, strict=True)]

    if any(loss.reduction == "sum_over_batch_size" for loss in evaluator.losses):
        yield Variant({"reduced": summed}, "the sum over the rows of the batch")

    def elements(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        units = scene.parts[0].outputs[output].shape[-1] or 1
        return [share * units for share in summed(scene, output, values, weights, masks)]

    if any(shape and shape[-1] and shape[-1] > 1 for shape in evaluator.output_shapes):
        yield Variant({"reduced": elements}, "the sum over the rows of the batch and the units of the output")


def _mask_ignored(evaluator: Evaluator) -> Iterator[Variant]:
    losses = evaluator.losses
    ignoring = any(loss.known is not None and loss.known.options.get("ignore_class") is not None for loss in losses)
    if not evaluator.masked and not ignoring:
        return
    if evaluator.masked:
        yield Variant({"mask_of": lambda *_: None}, "masked samples count like the others")

    def among_all(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        sums = [weighted_sum(*part) for part in zip(values, weights, masks, strict=True)]
        divisor = divisor_of(scene, output, values, weights, [None] * len(values))
        return [total if divisor is None else quotient(total, divisor) for total in sums]

    left_out = "masked samples" if evaluator.masked else "samples of the ignored class"
    yield Variant({"reduced": among_all}, f"{left_out} count in the number that is divided by")


def _crossed(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
    """Every loss of a replica times every weight of it, which is every loss times their mean."""
    import tensorflow as tf

    if values[0].shape.rank == 0 or any(weight is None for weight in weights):
        return reduced(scene, output, values, weights, masks)
    means = [tf.ones_like(weight) * tf.reduce_mean(weight) for weight in weights]
    return reduced(scene, output, values, means, masks)


def _weights_ignored(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.weighted:
        yield Variant(
            {"weights_of": lambda scene, part, output, values: part.class_weights}, "as if every weight were 1"
        )
        yield Variant({"reduced": _crossed}, "losses (n,) times weights (n, 1): every loss with every weight")


def _classes_ignored(evaluator: Evaluator) -> Iterator[Variant]:
    if evaluator.reading.training.class_weight:
        yield Variant(
            {"weights_of": lambda scene, part, output, values: evaluator.unclassed(part, output)},
            "as if every class weighed 1",
        )
        yield Variant({"reduced": _crossed}, "losses (n,) times weights (n, 1): every loss with every weight")


def _weights_normalized(evaluator: Evaluator) -> Iterator[Variant]:
    def by_weights(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        import tensorflow as tf

        if values[0].shape.rank == 0 or any(weight is None for weight in weights):
            return reduced(scene, output, values, weights, masks)
        parts = list(zip(values, weights, masks, strict=True))
        divisor = sum(weighted_sum(tf.ones_like(v), w, m) for v, w, m in parts)
        return [quotient(weighted_sum(*part), divisor) for part in parts]

    def by_count(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        import tensorflow as tf

        if values[0].shape.rank == 0 or any(weight is None for weight in weights):
            return reduced(scene, output, values, weights, masks)
        counted = [tf.cast(weight != 0, value.dtype) for value, weight in zip(values, weights, strict=True)]
        divisor = sum(weighted_sum(tf.ones_like(v), c, m) for v, c, m in zip(values, counted, masks, strict=True))
        return [quotient(weighted_sum(*part), divisor) for part in zip(values, weights, masks, strict=True)]

    if evaluator.weighted or evaluator.reading.training.class_weight:
        yield Variant({"reduced": by_weights}, "the sum of weighted losses divided by the sum of the weights")
        yield Variant(
            {"reduced": by_count}, "the sum of weighted losses divided by the number of weights that are not 0"
        )


def _loss_weights_ignored(evaluator: Evaluator) -> Iterator[Variant]:
    if any(loss.weight != 1.0 for loss in evaluator.losses):
        yield Variant({"output_weight": lambda scene, output: 1.0}, "as if every loss weight were 1")


LOSS_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("regularization_omitted", _LOSS, _penalties_omitted),
    Deviation("regularization_outside_tape", (Stage.LOSS,), _penalties_afterwards),
    Deviation("weight_decay", _LOSS, _decay_as_penalty),
    Deviation("activity_loss_scale", _LOSS, _activity_scaled, today=True),
    Deviation("sample_weight_ignored", _LOSS, _weights_ignored),
    Deviation("class_weight_ignored", _LOSS, _classes_ignored),
    Deviation("sample_weight_normalization", _LOSS, _weights_normalized),
    Deviation("loss_weights_ignored", _LOSS, _loss_weights_ignored),
    Deviation("mask_ignored", _LOSS, _mask_ignored),
    Deviation("loss_summed_not_averaged", _LOSS, _summed),
    Deviation("loss_reduced_over_wrong_axis", _LOSS, _wrong_axis),
    Deviation("label_shape_broadcast", _LOSS, _labels_broadcast),
    Deviation("logits_mismatch", _LOSS, _logits_mistaken),
)
"""What a loss on any number of replicas may do otherwise."""


def _several(evaluator: Evaluator) -> bool:
    return evaluator.reading.replicas > 1


def _local_mean(
    scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors, *, weighted: bool = False
) -> Tensors:
    """Each replica's own mean over its own samples."""
    import tensorflow as tf

    found = []
    for value, weight, mask in zip(values, weights, masks, strict=True):
        if value.shape.rank == 0:
            mean = 1.0 if weight is None else quotient(tf.reduce_sum(weight), tf.size(weight))
            found.append(value * tf.cast(mean, value.dtype))
            continue
        total = weighted_sum(value, weight, mask)
        counted = weighted_sum(tf.ones_like(value), weight if weighted else None, mask)
        found.append(total if scene.losses[output].reduction in ("sum", None) else quotient(total, counted))
    return found


def _means_of(evaluator: Evaluator, scale: Any, *, scalars_only: bool = False, weighted: bool = False) -> Any:
    def means(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        scalar = values[0].shape.rank == 0
        own = _local_mean(scene, output, values, weights, masks, weighted=weighted)
        summed = not scalar and scene.losses[output].reduction in ("sum", None)
        factor = 1.0 if summed else scale(scene)
        if scalars_only and not (scalar and all(weight is None for weight in weights)):
            factor = 1.0 if summed else 1.0 / scene.replicas
        # An empty replica's mean of nothing is nothing.
        return [share * factor if part.rows else share * 0.0 for share, part in zip(own, scene.parts, strict=True)]

    return means


def _mean_of_means(evaluator: Evaluator) -> Iterator[Variant]:
    if _several(evaluator) and (evaluator.uneven or evaluator.masked):
        means = _means_of(evaluator, lambda scene: 1.0 / scene.replicas)
        held = " and ".join(map(str, evaluator.uneven_rows))
        unlike = f"they hold {held} rows" if held else "masked samples leave each another number that counts"
        yield Variant({"reduced": means}, f"the mean of the replicas' means; {unlike}")


def _weighted_scalar(evaluator: Evaluator) -> Iterator[Variant]:
    if _several(evaluator) and (evaluator.weighted or evaluator.masked):
        means = _means_of(evaluator, lambda scene: 1.0 / scene.replicas, weighted=True)
        yield Variant({"reduced": means}, "divided by the sum of the replica's own weights")
    if _several(evaluator) and any(loss.known is None for loss in evaluator.losses):
        scalar = _means_of(evaluator, lambda scene: 1.0 / scene.replicas)
        yield Variant({"reduced": scalar}, "each replica's mean loss times its own mean weight")


def _not_scaled(evaluator: Evaluator) -> Iterator[Variant]:
    if not _several(evaluator):
        return
    # No loss of a known class is a scalar.
    if not evaluator.weighted and any(loss.known is None for loss in evaluator.losses):
        scalars = _means_of(evaluator, lambda scene: 1.0, scalars_only=True)
        yield Variant({"reduced": scalars}, "a scalar is not divided by the replicas")
    yield Variant({"reduced": _means_of(evaluator, lambda scene: 1.0)}, "each replica's own mean is not divided")
    unscaled = {
        "reduced": _means_of(evaluator, lambda scene: 1.0),
        "regularization": lambda scene, part: regularization(scene, part) * scene.replicas,
        "added": lambda scene, part: added(scene, part) * scene.replicas,
        "activity": lambda scene, part: activity(scene, part) * scene.rows / max(part.rows, 1),
    }
    yield Variant(unscaled, "neither the mean nor the penalties are divided")


def _scaled_twice(evaluator: Evaluator) -> Iterator[Variant]:
    if not _several(evaluator):
        return
    yield Variant({"reduced": _means_of(evaluator, lambda scene: 1.0 / scene.replicas**2)}, "the mean alone")
    twice = {
        "reduced": _means_of(evaluator, lambda scene: 1.0 / scene.replicas**2),
        "regularization": lambda scene, part: regularization(scene, part) / scene.replicas,
        "added": lambda scene, part: added(scene, part) / scene.replicas,
        "activity": lambda scene, part: (
            activity(scene, part) * scene.rows / max(part.rows, 1) / scene.replicas / scene.replicas
        ),
    }
    yield Variant(twice, "the mean and the penalties")


def _penalties_not_scaled(evaluator: Evaluator) -> Iterator[Variant]:
    if not _several(evaluator) or not (
        evaluator.twin.penalized or evaluator.regularizes_activity or evaluator.adds_losses
    ):
        return
    whole = {
        "regularization": lambda scene, part: regularization(scene, part) * scene.replicas,
        "added": lambda scene, part: added(scene, part) * scene.replicas,
        "activity": lambda scene, part: activity(scene, part) * scene.rows / max(part.rows, 1),
    }
    yield Variant(whole, "every replica adds the whole of model.losses")
    yield Variant({"regularization": whole["regularization"]}, "every replica adds the weights' penalties whole")


def _fixed_divisor(evaluator: Evaluator) -> Iterator[Variant]:
    def fixed(scene: Scene, output: int, values: Tensors, weights: Tensors, masks: Tensors) -> Tensors:
        import tensorflow as tf

        if values[0].shape.rank == 0:
            return reduced(scene, output, values, weights, masks)
        sums = [weighted_sum(*part) for part in zip(values, weights, masks, strict=True)]
        per_row = [tf.size(v) / max(p.rows, 1) for v, p in zip(values, scene.parts, strict=True)]
        return [
            total / (scene.batch_size * tf.cast(each, total.dtype)) for total, each in zip(sums, per_row, strict=True)
        ]

    if evaluator.partial:
        yield Variant({"reduced": fixed}, f"divided by {evaluator.reading.batch_size} rows, however many there are")


REPLICA_LOSS_DEVIATIONS: tuple[Deviation, ...] = (
    Deviation("replica_mean_of_means", _LOSS, _mean_of_means, today=True),
    Deviation("replica_loss_not_scaled", _LOSS, _not_scaled, today=True),
    Deviation("replica_local_normalization", _LOSS, _weighted_scalar, today=True),
    Deviation("replica_fixed_batch_divisor", _LOSS, _fixed_divisor),
    Deviation("replica_loss_scaled_twice", _LOSS, _scaled_twice),
    Deviation("replica_regularization_not_scaled", _LOSS, _penalties_not_scaled),
)
"""What a loss under several replicas may do otherwise."""
