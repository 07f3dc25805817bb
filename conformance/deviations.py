"""The named deviations: each a sentence of what training means, replaced, and replayed against what an arm did.

The key idea is that a name is never guessed. A deviation is a computation on the recorded quantities: if gradients
were clipped on each replica before they were added, then adding up the clipped local gradients must give what the
update rule received, and it either does or does not. Where a deviation cannot be computed from the records, the case
is trained again with that one thing taken away, and the difference either vanishes or does not.

Adding a deviation is adding an entry to `DEVIATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from conformance.case import Case
from conformance.compare import Difference
from conformance.data import Array
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import CLIPPING
from conformance.stage import Stage
from conformance.tolerance import distance, ulp
from conformance.trace import Trace

ROUNDING_ULPS = 8
"""A report so few units in the last place apart is the same mean, added up another way."""


@dataclass(frozen=True)
class Context:
    """What a deviation may look at.

    Attributes:
        axis: the axis of the difference.
        difference: the difference.
        suspect: the trace of the arm asked about.
        reference: the trace it is held against.
        allowed: what rounding explains of a quantity of the reference.
        options: the optimizer's options.
        case: the case, or None where a user's own parts are judged.
        vanishes: trains another case in the same two arms and says whether they agree at least up to the stage where
            they first differed; None where there is no case to change.
    """

    axis: str
    difference: Difference
    suspect: Trace
    reference: Trace
    allowed: Callable[[tuple[int, Stage, str]], float]
    options: Mapping[str, Any]
    case: Case | None = None
    vanishes: Callable[[Case], bool] | None = None

    def rows(self, step: int) -> list[int]:
        """Rows each replica of the suspect was given at a step."""
        batch = self.suspect.stage(step, Stage.BATCH)
        return [len(part) for part in next(iter(batch.values()))] if batch else []

    def matches(self, key: tuple[int, Stage, str], replayed: Array, recorded: Array) -> bool:
        """Whether a replayed quantity is the recorded one within rounding.

        The replay adds in float64 what an arm added in float32, so the allowance is what rounding explains of the
        quantity itself and of the largest of its parts.
        """
        parts = max((ulp(part) for part in self.suspect.values.get(key, ())), default=0.0)
        return distance(np.asarray(replayed), np.asarray(recorded)) <= 4 * self.allowed(key) + 64 * parts


@dataclass(frozen=True)
class Replay:
    """A deviation that reproduces what was seen.

    Attributes:
        exact: whether it reproduces every step, rather than the first wrong one.
        evidence: what was computed and found, a line each.
        feature: the layer, loss or optimizer feature involved, for the signature.
    """

    exact: bool
    evidence: tuple[str, ...]
    feature: str = ""


@dataclass(frozen=True)
class Deviation:
    """A named replacement of one sentence of what training means.

    Attributes:
        name: its name in the contract.
        stage: the stage where it enters.
        explanation: what the arm does, as a sentence.
        advice: what to write or do instead.
        replay: looks at what an arm did; None where it does not reproduce it.
    """

    name: str
    stage: Stage
    explanation: str
    advice: str
    replay: Callable[[Context], Replay | None]


def _shares(context: Context, factor: Callable[[int, int, int], float]) -> Replay | None:
    """Whether the replicas' shares, each times `factor(its rows, all rows, replicas)`, add up to the reference's."""
    found, step = context.difference, context.difference.step
    if context.suspect.replicas < 2 or step is None or found.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    rows = context.rows(step)
    total = sum(rows)
    if not total:
        return None
    factors = [factor(count, total, len(rows)) for count in rows]
    checked = 0
    for stage in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        for name, parts in context.suspect.stage(step, stage).items():
            key = (step, stage, name)
            if key not in context.reference.values:
                return None
            replayed = sum(f * part.astype(np.float64) for f, part in zip(factors, parts, strict=True))
            if not context.matches(key, np.asarray(replayed), context.reference.merged(key)):
                return None
            checked += 1
    if not checked:
        return None
    told = ", ".join(f"{count} x {value:.4g}" for count, value in zip(rows, factors, strict=True))
    line = f"step {step}: the replicas' shares times (rows x factor: {told}) add up to {context.reference.arm}'s"
    return Replay(step == context.suspect.steps - 1, (f"{line} in {checked} of {checked} quantities",))


def _mean_of_means(context: Context) -> Replay | None:
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2:
        return None
    return _shares(context, lambda count, total, replicas: count * replicas / total)


def _not_scaled(context: Context) -> Replay | None:
    if context.reference.replicas == context.suspect.replicas:
        return _unscaled_beside(context)
    return _shares(context, lambda count, total, replicas: count / total)


def _unscaled_beside(context: Context) -> Replay | None:
    """The same, beside an arm with as many replicas that does divide: data loss d, regularization r, N replicas.

    One share is d + r and the other d / N + r, so d = (one - other) N / (N - 1), and r = other - d / N has to come out
    the same on every replica, for it does not depend on the rows. With no regularization r is 0 everywhere.
    """
    found, step, count = context.difference, context.difference.step, context.suspect.replicas
    if count < 2 or step is None or found.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    checked = 0
    for stage in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        for name, ones in context.suspect.stage(step, stage).items():
            others = context.reference.values.get((step, stage, name))
            if others is None:
                return None
            wide = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ones, others, strict=True)]
            penalties = [b - (a - b) / (count - 1) for a, b in wide]
            scale = max(float(np.abs(a).max(initial=0.0)) for a, _ in wide)
            if any(distance(penalties[0], other) > 1e-5 * scale for other in penalties[1:]):
                return None
            checked += scale > 0
    if not checked:
        return None
    line = f"step {step}: every replica's share less the regularization is {count} times the other arm's"
    return Replay(step == context.suspect.steps - 1, (line,))


def _scaled_twice(context: Context) -> Replay | None:
    return _shares(context, lambda count, total, replicas: count * replicas**2 / total)


Gradients = dict[str, Array]
"""Gradients by variable."""


def _reduced(
    context: Context,
    local: Callable[[Gradients], Gradients],
    reduce: Callable[[list[Gradients], int], Gradients],
) -> Replay | None:
    """Whether the gradients the update rule received are, at every step, what a reduction makes of the local ones.

    Args:
        context: what is looked at.
        local: what is done to each replica's gradients before.
        reduce: (every replica's gradients, a replica's number) to what that replica's update rule receives.
    """
    suspect = context.suspect
    if suspect.replicas < 2 or context.difference.stage is not Stage.GRADIENT:
        return None
    if "gradient_accumulation_steps" in context.options:
        return None
    steps = sorted({key[0] for key in suspect.values if key[1] is Stage.GRADIENT})
    for step in steps:
        recorded, reduced = suspect.stage(step, Stage.LOCAL_GRADIENT), suspect.stage(step, Stage.GRADIENT)
        parts = [local({name: values[i] for name, values in recorded.items()}) for i in range(suspect.replicas)]
        for replica in range(suspect.replicas):
            replayed = reduce(parts, replica)
            for name, values in reduced.items():
                if name not in replayed:
                    return None
                # Parts may cancel, so it is their size that says what rounding can do to their sum.
                scale = max(float(np.abs(part[name]).max(initial=0.0)) for part in parts)
                if distance(replayed[name], values[replica]) > 1e-5 * scale * suspect.replicas + 1e-12:
                    return None
    return Replay(True, (f"reproduces the gradient of {len(steps)} of {len(steps)} steps from the local gradients",))


def _added(parts: list[Gradients]) -> Gradients:
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def clipped(gradients: Gradients, options: Mapping[str, Any]) -> Gradients:
    """Gradients clipped by the optimizer's one clipping option: by value, by each one's norm or by the joint norm."""
    if options.get("clipvalue"):
        limit = options["clipvalue"]
        return {name: np.clip(value, -limit, limit) for name, value in gradients.items()}
    if options.get("clipnorm"):
        limit = options["clipnorm"]
        return {n: v * (limit / max(limit, float(np.linalg.norm(v)))) for n, v in gradients.items()}
    limit = options["global_clipnorm"]
    joint = float(np.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in gradients.values())))
    return {name: value * (limit / max(limit, joint)) for name, value in gradients.items()}


def _clip_order(context: Context) -> Replay | None:
    kinds = [name for name in CLIPPING if context.options.get(name)]
    if not kinds:
        return None
    replay = _reduced(context, lambda part: clipped(part, context.options), lambda parts, _: _added(parts))
    return None if replay is None else Replay(replay.exact, replay.evidence, kinds[0])


def _not_reduced(context: Context) -> Replay | None:
    return _reduced(context, dict, lambda parts, replica: parts[replica])


def _reduced_twice(context: Context) -> Replay | None:
    return _reduced(context, dict, lambda parts, _: {n: len(parts) * v for n, v in _added(parts).items()})


def _not_split(context: Context) -> Replay | None:
    step = context.difference.step
    if context.difference.stage is not Stage.BATCH or step is None or context.suspect.replicas < 2:
        return None
    wanted = context.reference.stage(step, Stage.BATCH)
    for name, parts in context.suspect.stage(step, Stage.BATCH).items():
        whole = context.reference.merged((step, Stage.BATCH, name)) if name in wanted else None
        if whole is None or any(not np.array_equal(part, whole) for part in parts):
            return None
    return Replay(True, (f"step {step}: every replica holds all {len(whole) if whole is not None else 0} rows",))


def _batches(trace: Trace) -> list[bytes]:
    """Every step's batch as bytes."""
    steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
    return [
        b"|".join(trace.merged((step, Stage.BATCH, name)).tobytes() for name in trace.stage(step, Stage.BATCH))
        for step in steps
    ]


def _sizes(trace: Trace) -> list[int]:
    steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
    return [sum(len(part) for part in next(iter(trace.stage(step, Stage.BATCH).values()))) for step in steps]


def _partial_dropped(context: Context) -> Replay | None:
    if context.difference.stage is not Stage.BATCH:
        return None
    sizes = _sizes(context.reference)
    full = [batch for batch, size in zip(_batches(context.reference), sizes, strict=True) if size == max(sizes)]
    if len(full) == len(sizes) or _batches(context.suspect) != full:
        return None
    return Replay(True, (f"trains on the {len(full)} full batches of {len(sizes)}, in order",))


def _order_differs(context: Context) -> Replay | None:
    if context.difference.stage is not Stage.BATCH or _sizes(context.suspect) != _sizes(context.reference):
        return None
    names = [key[2] for key in context.reference.values if key[:2] == (0, Stage.BATCH)]
    rows = []
    for trace in (context.suspect, context.reference):
        steps = sorted({key[0] for key in trace.values if key[1] is Stage.BATCH})
        columns = [np.concatenate([trace.merged((step, Stage.BATCH, name)) for step in steps]) for name in names]
        rows.append(sorted(b"|".join(c[i].tobytes() for c in columns) for i in range(len(columns[0]))))
    if rows[0] != rows[1]:
        return None
    return Replay(True, (f"the same {len(rows[0])} rows, whole and in another order",))


def _summed(context: Context) -> Replay | None:
    found, step = context.difference, context.difference.step
    if found.stage is not Stage.LOSS or step is None:
        return None
    rows = sum(context.rows(step))
    key = (step, Stage.LOSS, "loss")
    wanted = context.reference.merged(key).astype(np.float64)
    if rows < 2 or not context.matches(key, rows * wanted, context.suspect.merged(key)):
        return None
    exact = step == context.suspect.steps - 1
    return Replay(exact, (f"step {step}: the loss is {rows} times the other's, and the batch has {rows} rows",))


def _frozen_updated(context: Context) -> Replay | None:
    found = context.difference
    if found.stage is not Stage.WEIGHTS or found.step is None:
        return None
    if any(key[1] is Stage.LOCAL_GRADIENT and key[2] == found.name for key in context.reference.values):
        return None
    kept = [v[0] for k, v in context.reference.values.items() if k[1] is Stage.WEIGHTS and k[2] == found.name]
    if any(not np.array_equal(kept[0], value) for value in kept):
        return None
    return Replay(True, (f"{found.name} is not trainable and changes at step {found.step}",))


def _reported_loss(context: Context, mean: Callable[[Array, Array], float]) -> Replay | None:
    """Whether every loss that the suspect reports under that name is `mean` of (the epoch's losses so far, rows)."""
    found, suspect = context.difference, context.suspect
    if found.stage is not Stage.LOGS or not found.name.endswith("loss"):
        return None
    epochs = 1 + max((epoch for epoch, _ in suspect.epoch_logs), default=0)
    sizes = np.array(_sizes(suspect), dtype=np.float64)
    steps = len(sizes) // epochs
    losses = _step_losses(context, found.name, sizes, steps)
    if losses is None or not steps or _is_rounding(found):
        return None
    reported = {(step, True): value for (step, name), value in suspect.logs.items() if name == found.name}
    reported |= {
        ((epoch + 1) * steps - 1, False): value
        for (epoch, name), value in suspect.epoch_logs.items()
        if name == found.name
    }
    for (step, _), value in reported.items():
        part = slice(step - step % steps, step + 1)
        replayed = mean(losses[part], sizes[part])
        if abs(replayed - value) > 1e-5 * max(abs(value), abs(replayed)):
            return None
    feature = "" if found.name == "loss" else "output_loss"
    return Replay(True, (f"reproduces {len(reported)} of {len(reported)} reports of {found.name}",), feature)


def _is_rounding(found: Difference) -> bool:
    return found.ulps is not None and found.ulps <= ROUNDING_ULPS


def _rounded(context: Context) -> Replay | None:
    found = context.difference
    if found.stage is not Stage.LOGS or not _is_rounding(found):
        return None
    feature = "output_loss" if found.name.endswith("_loss") else ""
    return Replay(True, (f"{found.ulps} units in the last place, in what is reported alone",), feature)


def _step_losses(context: Context, name: str, sizes: Array, steps: int) -> Array | None:
    """The loss of every batch: as recorded, or, of one output, taken back out of the running means of the other arm."""
    if name == "loss":
        keys = [(step, Stage.LOSS, "loss") for step in range(len(sizes))]
        if any(key not in context.suspect.values for key in keys):
            return None
        return np.array([float(context.suspect.merged(key)) for key in keys])
    running = [context.reference.logs.get((step, name)) for step in range(len(sizes))]
    if not running or None in running:
        return None
    losses: list[float] = []
    for step, mean in enumerate(running):
        first = step - step % steps
        before = sum(losses[i] * sizes[i] for i in range(first, step))
        losses.append((float(mean or 0.0) * sizes[first : step + 1].sum() - before) / sizes[step])
    return np.array(losses)


def _without(context: Context, change: Callable[[str, FrozenMap], FrozenMap], stage: Stage) -> tuple[Case, str] | None:
    """The case with some layers' configurations changed, and the first such layer's class; None where none is."""
    case = context.case
    if case is None or context.vanishes is None or context.difference.stage is not stage:
        return None
    nodes = [
        node if node.layer is None else _replaced(node, change(node.layer, node.config)) for node in case.model.nodes
    ]
    changed = [new.layer for new, old in zip(nodes, case.model.nodes, strict=True) if new != old]
    if not changed:
        return None
    return _replaced_case(case, tuple(nodes)), changed[0] or ""


def _replaced(node: Any, config: FrozenMap) -> Any:
    return msgspec.structs.replace(node, config=config)


def _replaced_case(case: Case, nodes: tuple[Any, ...]) -> Case:
    return msgspec.structs.replace(case, model=msgspec.structs.replace(case.model, nodes=nodes))


def _silenced(layer: str, config: FrozenMap) -> FrozenMap:
    if not LAYERS[layer].random:
        return config
    return config.set(**{name: 0.0 for name in ("rate", "stddev") if name in config})


def _synchronized(layer: str, config: FrozenMap) -> FrozenMap:
    return config.set(synchronized=True) if layer == "BatchNormalization" else config


def _on_replicas(
    context: Context, change: Callable[[str, FrozenMap], FrozenMap], told: str, stage: Stage = Stage.OUTPUTS
) -> Replay | None:
    if context.suspect.replicas < 2:
        return None
    changed = _without(context, change, stage)
    if changed is None or context.vanishes is None:
        return None
    if context.vanishes(changed[0]):
        return Replay(False, (f"the difference vanishes {told}",), changed[1])
    return None


def _no_activity_penalty(layer: str, config: FrozenMap) -> FrozenMap:
    return config.set(l1=0.0, l2=0.0) if layer == "ActivityRegularization" else config.without("activity_regularizer")


def _activity_scale(context: Context) -> Replay | None:
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2:
        return None
    told = f"without activity regularization; the replicas hold {' and '.join(map(str, rows))} rows"
    replay = _on_replicas(context, _no_activity_penalty, told, Stage.LOSS)
    return None if replay is None else Replay(False, replay.evidence)


def _uneven_otherwise(context: Context) -> Replay | None:
    """A mean of means that the shares alone do not show, for only some of the losses are means."""
    rows = context.rows(context.difference.step or 0)
    if len(set(rows)) < 2 or context.difference.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    return _vanishes_evenly(context)


def _vanishes_evenly(context: Context) -> Replay | None:
    case, replicas = context.case, context.suspect.replicas
    if case is None or context.vanishes is None or replicas < 2:
        return None
    rows = [context.rows(step) for step in range(context.suspect.steps)]
    uneven = next((counts for counts in rows if len(set(counts)) > 1), None)
    if uneven is None:
        return None
    size = -(-case.data.batch_size // replicas) * replicas
    even = msgspec.structs.replace(case.data, batch_size=size, rows=size * case.steps_per_epoch)
    if not context.vanishes(msgspec.structs.replace(case, data=even)):
        return None
    held = " and ".join(map(str, uneven))
    return Replay(False, (f"replicas hold {held} rows, and the difference vanishes when every batch splits evenly",))


def _skipped(context: Context) -> Replay | None:
    if context.difference.stage is not Stage.BATCH or context.suspect.replicas < 2:
        return None
    wanted, seen = _batches(context.reference), _batches(context.suspect)
    steps = len(set(wanted))
    if not seen or steps < 2 or len(wanted) % steps:
        return None
    # A generator goes on where it is: what is skipped moves everything after it forward.
    endless = wanted[:steps] * (len(wanted) // steps + 2)
    for first in range(len(seen)):
        for count in (1, 2, 3):
            if endless[:first] + endless[first + count : len(seen) + count] == seen:
                return Replay(True, (f"trains on the batches in order, but for {count} left out before step {first}",))
    return None


def _crosses_epochs(context: Context) -> Replay | None:
    if context.difference.stage is not Stage.BATCH:
        return None
    wanted, seen = _batches(context.reference), _batches(context.suspect)
    epochs = 1 + max((epoch for epoch, _ in context.suspect.epoch_logs), default=0)
    if not wanted or len(wanted) % epochs:
        return None
    endless = wanted[: len(wanted) // epochs] * (len(seen) // len(wanted) + 2) * epochs
    if len(seen) <= len(wanted) or seen != endless[: len(seen)]:
        return None
    extra = f"{len(seen) - len(wanted)} or more" if context.suspect.steps > len(seen) else len(seen) - len(wanted)
    return Replay(True, (f"the batches in order, {extra} beyond the {len(wanted)} of {epochs} epoch(s)",))


def _local_statistics(context: Context) -> Replay | None:
    return _on_replicas(context, _synchronized, "with BatchNormalization(synchronized=True)")


def _random_stream(context: Context) -> Replay | None:
    return _on_replicas(context, _silenced, "when the random layers draw nothing")


def _statistics_and_stream(context: Context) -> Replay | None:
    def both(layer: str, config: FrozenMap) -> FrozenMap:
        return _silenced(layer, _synchronized(layer, config))

    return _on_replicas(context, both, "with both synchronized statistics and silenced random layers")


def _statistics_then_stream(context: Context) -> Replay | None:
    replay = _statistics_and_stream(context)
    return replay if replay and replay.feature == "BatchNormalization" else None


def _stream_then_statistics(context: Context) -> Replay | None:
    replay = _statistics_and_stream(context)
    return replay if replay and replay.feature != "BatchNormalization" else None


def _weighted_scalar(context: Context) -> Replay | None:
    case = context.case
    if case is None or context.vanishes is None or case.data.sample_weight is None or context.suspect.replicas < 2:
        return None
    scalars = [loss.name for loss in case.losses if LOSSES[loss.name].returns == "scalar"]
    if not scalars or context.difference.stage not in (Stage.LOSS, Stage.LOCAL_GRADIENT):
        return None
    plain = msgspec.structs.replace(case, data=msgspec.structs.replace(case.data, sample_weight=None))
    # Without the weights the scalar is not divided by the replicas either: that is another finding, so both go.
    losses = tuple(
        msgspec.structs.replace(loss, name="mean_squared_error") if loss.name in scalars else loss
        for loss in case.losses
    )
    if not context.vanishes(msgspec.structs.replace(plain, losses=losses)):
        return None
    return Replay(False, ("the difference vanishes without sample weights and with a loss of one value a row",))


def _reported_by_replicas(context: Context) -> Replay | None:
    """Whether every reported loss is the mean over the replicas of each one's running mean, weighted by its rows."""
    found, suspect = context.difference, context.suspect
    if found.stage is not Stage.LOGS or found.name != "loss" or suspect.replicas < 2:
        return None
    epochs = 1 + max((epoch for epoch, _ in suspect.epoch_logs), default=0)
    steps = suspect.steps // epochs
    if not steps:
        return None
    shares = [suspect.values.get((step, Stage.LOSS, "loss")) for step in range(suspect.steps)]
    rows = [context.rows(step) for step in range(suspect.steps)]
    if any(share is None or not count for share, count in zip(shares, rows, strict=True)):
        return None
    losses = suspect.replicas * np.array([[float(value) for value in share or ()] for share in shares])
    counts = np.array(rows, dtype=np.float64)
    checked = 0
    for (step, name), value in suspect.logs.items():
        part = slice(step - step % steps, step + 1)
        held = counts[part].sum(axis=0)
        own = np.divide((losses[part] * counts[part]).sum(axis=0), held, where=held > 0, out=np.zeros_like(held))
        if name == "loss" and abs(float(own.mean()) - value) > 1e-5 * max(abs(value), 1e-6):
            return None
        checked += name == "loss"
    for (epoch, name), value in suspect.epoch_logs.items():
        part = slice(epoch * steps, (epoch + 1) * steps)
        whole = float((losses[part] * counts[part]).sum() / counts[part].sum())
        if name == "loss" and abs(whole - value) > 1e-5 * max(abs(value), 1e-6):
            return None
        checked += name == "loss"
    return Replay(True, (f"reproduces {checked} of {checked} reports of the loss",)) if checked else None


def _reported_unevenly(context: Context) -> Replay | None:
    if context.difference.stage is not Stage.LOGS or context.suspect.replicas < 2 or context.axis == "trainer":
        return None
    return _vanishes_evenly(context)


def _raises(context: Context) -> Replay | None:
    if (context.suspect.error is None) == (context.reference.error is None):
        return None
    error = context.suspect.error or context.reference.error
    return Replay(True, (str(error),), error.kind if error else "")


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        "raises_in_one_arm",
        Stage.BATCH,
        "The training raises in one arm and runs in the other.",
        "Look at the layer, the operation and the line the exception names; the other arm shows that the case itself"
        " is sound.",
        _raises,
    ),
    Deviation(
        "replica_data_not_split",
        Stage.BATCH,
        "Every replica trains on the whole batch instead of its part of it.",
        "Distribute the dataset with strategy.experimental_distribute_dataset(dataset), or give fit the data whole.",
        _not_split,
    ),
    Deviation(
        "partial_batch_dropped",
        Stage.BATCH,
        "The last, partial batch of an epoch is not trained on.",
        "Batch with drop_remainder=False, or round the number of steps up: math.ceil(rows / batch_size).",
        _partial_dropped,
    ),
    Deviation(
        "data_order_differs",
        Stage.BATCH,
        "The same rows are trained on in another order.",
        "Pass shuffle=False to fit, or shuffle both with one seed and reshuffle_each_iteration=False.",
        _order_differs,
    ),
    Deviation(
        "batches_cross_epochs",
        Stage.BATCH,
        "An epoch goes on past its last step: fit runs steps_per_execution steps at a time, also where steps_per_epoch"
        " is no multiple of them, and takes what is missing from the batches of the next epoch.",
        "Make steps_per_epoch a multiple of steps_per_execution.",
        _crosses_epochs,
    ),
    Deviation(
        "batch_skipped",
        Stage.BATCH,
        "A batch is taken from the data and not trained on: under a strategy, fit opens the data once to learn its"
        " shapes and again to train, and what it has read ahead of a generator by then is lost.",
        "Feed a tf.data.Dataset (tf.data.Dataset.from_generator(make, output_signature=...)), which can be read anew.",
        _skipped,
    ),
    Deviation(
        "replica_mean_of_means",
        Stage.LOSS,
        "The loss is the mean of the replicas' means: where a batch splits unevenly, rows on the replica with fewer"
        " of them count more, and a replica without rows takes its part of the average with it.",
        "Make the global batch size and the number of rows multiples of the number of replicas, or drop the"
        " remainder; in a loop, sum the per-sample losses and divide by the rows of the global batch.",
        _mean_of_means,
    ),
    Deviation(
        "activity_loss_scale",
        Stage.LOSS,
        "Activity regularization is a mean over the replica's own rows, and the replicas' means are averaged: where a"
        " batch splits unevenly, rows on the replica with fewer of them are punished more.",
        "Make the global batch size and the number of rows multiples of the number of replicas.",
        _activity_scale,
    ),
    Deviation(
        "replica_mean_of_means",
        Stage.LOSS,
        "Some of the losses are means of the replicas' means: where a batch splits unevenly, rows on the replica with"
        " fewer of them count more.",
        "Make the global batch size and the number of rows multiples of the number of replicas.",
        _uneven_otherwise,
    ),
    Deviation(
        "replica_loss_not_scaled",
        Stage.LOSS,
        "The loss is not divided by the number of replicas before the gradients are summed over them, so loss and"
        " gradients are as many times too large.",
        "Return one value a sample from the loss, tf.reduce_mean(tf.square(y_true - y_pred), axis=-1), or wrap it in"
        " a keras.losses.Loss: Keras divides by the replicas only what it reduces itself. In a loop, divide the loss"
        " by strategy.num_replicas_in_sync.",
        _not_scaled,
    ),
    Deviation(
        "replica_loss_scaled_twice",
        Stage.LOSS,
        "The loss is divided by the number of replicas twice, so loss and gradients are too small.",
        "Divide once: a keras.losses.Loss called inside strategy.run has already divided by the replicas.",
        _scaled_twice,
    ),
    Deviation(
        "replica_local_normalization",
        Stage.LOSS,
        "A loss that is a scalar already is multiplied with every row's weight, so each replica trains on its mean loss"
        " times its mean weight, and the mean of such products is not the product of the global means.",
        "Return one value a row from the loss, so that each is weighted by itself: drop the outer tf.reduce_mean, or"
        " give it axis=-1.",
        _weighted_scalar,
    ),
    Deviation(
        "loss_summed_not_averaged",
        Stage.LOSS,
        "The loss is the sum over the rows of the batch, not their mean.",
        "Average over the batch: tf.reduce_mean(per_sample_loss).",
        _summed,
    ),
    Deviation(
        "clip_order",
        Stage.GRADIENT,
        "Gradients are clipped on each replica and then summed, instead of summed and then clipped: the clipped"
        " gradient is up to as many times larger as there are replicas, and may point elsewhere.",
        "Reduce first: gradients = tf.distribute.get_replica_context().all_reduce('sum', gradients), then clip, and"
        " give the optimizer no clipping option; under fit, divide the clipping norm by the number of replicas and"
        " expect it to be approximate.",
        _clip_order,
    ),
    Deviation(
        "replica_gradients_not_reduced",
        Stage.GRADIENT,
        "Each replica updates with its own gradients; they are not summed over the replicas.",
        "Let the optimizer reduce (optimizer.apply inside strategy.run), and keep every replica's weights the same.",
        _not_reduced,
    ),
    Deviation(
        "replica_gradients_reduced_twice",
        Stage.GRADIENT,
        "The gradients are summed over the replicas twice, so they are as many times too large.",
        "Reduce once: leave out the all_reduce of your own, Keras's optimizer does it.",
        _reduced_twice,
    ),
    Deviation(
        "replica_local_statistics",
        Stage.OUTPUTS,
        "BatchNormalization normalizes each replica's rows by that replica's own mean and variance, not by the"
        " global batch's.",
        "Use keras.layers.BatchNormalization(synchronized=True).",
        _local_statistics,
    ),
    Deviation(
        "random_stream_differs",
        Stage.OUTPUTS,
        "Each replica draws random numbers of its own for its rows, so other rows are dropped or disturbed than on"
        " one device.",
        "Nothing is wrong: expect equality in distribution only, or compare without random layers.",
        _random_stream,
    ),
    Deviation(
        "random_stream_differs",
        Stage.OUTPUTS,
        "Each replica draws random numbers of its own for its rows; BatchNormalization's local statistics come on top.",
        "Expect equality in distribution only; use BatchNormalization(synchronized=True) for the rest.",
        _stream_then_statistics,
    ),
    Deviation(
        "replica_local_statistics",
        Stage.OUTPUTS,
        "BatchNormalization normalizes each replica's rows by that replica's own mean and variance; each replica draws"
        " random numbers of its own on top.",
        "Use keras.layers.BatchNormalization(synchronized=True), and expect equality in distribution only.",
        _statistics_then_stream,
    ),
    Deviation(
        "frozen_weights_updated",
        Stage.WEIGHTS,
        "A weight that is not trainable is changed by the training.",
        "Take gradients for model.trainable_variables, and set layer.trainable before compiling.",
        _frozen_updated,
    ),
    Deviation(
        "numeric_precision",
        Stage.LOGS,
        "The same number is reported but for its last places: fit averages an output's losses without weights in a"
        " graph, where a mean weighted with equal numbers of rows rounds otherwise. Training itself is the same.",
        "Compare what is reported with a tolerance of a few units in the last place.",
        _rounded,
    ),
    Deviation(
        "replica_reported_loss",
        Stage.LOGS,
        "The reported loss is put together from the replicas' own losses: during an epoch as the plain mean of their"
        " running means, at its end weighted by rows, and neither is the loss of the global batch where a loss is a sum"
        " or a batch splits unevenly.",
        "Make batches split evenly, use a mean instead of a sum, or evaluate on one device.",
        _reported_by_replicas,
    ),
    Deviation(
        "replica_reported_loss",
        Stage.LOGS,
        "What is reported during an epoch is the plain mean of what the replicas report, whatever rows they hold.",
        "Read the epoch's values rather than the steps', or make batches split evenly.",
        _reported_unevenly,
    ),
    Deviation(
        "epoch_loss_unweighted",
        Stage.LOGS,
        "The loss of an epoch is the plain mean over its batches: a row of the smaller last batch counts more.",
        "Weigh every batch with its rows: mean.update_state(loss, sample_weight=tf.shape(x)[0]).",
        lambda context: _reported_loss(context, lambda losses, sizes: float(losses.mean())),
    ),
    Deviation(
        "epoch_loss_last_batch",
        Stage.LOGS,
        "The loss reported for an epoch is that of its last batch.",
        "Report the mean over the epoch, weighted with the rows of each batch.",
        lambda context: _reported_loss(context, lambda losses, sizes: float(losses[-1])),
    ),
)
