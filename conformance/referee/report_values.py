"""What was reported, and what the clauses say should have been, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from conformance.build import HALF_DIGITS, perturbed
from conformance.data import Array
from conformance.referee.evaluate import ALL_RULES, Evaluator
from conformance.referee.metric_rules import METRIC_RULES, identify_metric
from conformance.referee.report_clauses import Losses, batches_counted, global_losses, reported_loss, validation_mode
from conformance.referee.scene import Part, Rules, Scene
from conformance.stage import Stage
from conformance.tolerance import SAFETY

RELATIVE = 2e-5
"""What adding up some dozens of float32 numbers in another order can do to their mean, as a part of the largest."""


@dataclass(frozen=True)
class Report:
    """One number that was reported: after a step, or (by `epoch`) after an epoch."""

    name: str
    step: int
    seen: float
    epoch: int | None = None


@dataclass(frozen=True)
class Off:
    """A report that is not what it should be."""

    report: Report
    wanted: float


class Reports:
    """The reports of one trace.

    Args:
        evaluator: the referee's evaluator of the trace.
        rules: the clauses, with the deviations that were found before in place.
        computed: take losses as they should have been, not as they were recorded.
    """

    def __init__(self, evaluator: Evaluator, rules: Rules, *, computed: bool = False) -> None:
        self.evaluator, self.rules, self._computed = evaluator, rules, computed
        self.reading = evaluator.reading
        self.training = evaluator.reading.training
        # A training that took other steps than it should has epochs of its own, and reports of steps that are whose.
        self._stopped = self.reading.trace.stopped
        self._regular = self._stopped or len(self.reading.steps) == self.training.steps
        every = len(self.reading.steps) // self.training.epochs
        self.steps_per_epoch = self.training.steps_per_epoch if self._stopped else every

    @cached_property
    def reports(self) -> list[Report]:
        """Everything that was reported, step by step, an epoch's after its last step."""
        trace, every = self.reading.trace, self.steps_per_epoch
        steps = len(self.reading.steps)
        if not every or (steps % self.training.epochs and not self._stopped) or trace.steps > steps:
            return []
        found = [Report(name, step, value) for (step, name), value in trace.logs.items() if self._regular]
        found += [
            Report(name, (epoch + 1) * every - 1, value, epoch) for (epoch, name), value in trace.epoch_logs.items()
        ]
        return sorted(found, key=lambda item: (item.step, item.epoch is not None))

    @cached_property
    def rows(self) -> Array:
        """The rows of every step."""
        return np.array([sum(self.reading.rows(step)) for step in self.reading.steps], np.float64)

    @cached_property
    def shares(self) -> Array:
        """Every replica's share of every step's loss, as recorded, (steps, replicas)."""
        trace = self.reading.trace
        if self.losses_recorded and not self._computed:
            values = [trace.stage(step, Stage.LOSS)["loss"] for step in self.reading.steps]
        else:
            values = [self.evaluator.loss(step, self.rules)["loss"] for step in self.reading.steps]
        return np.array([[float(part) for part in parts] for parts in values], np.float64)

    @cached_property
    def losses_recorded(self) -> bool:
        """Whether the loss of every step is known as it was trained on."""
        return self.reading.whole_losses and all(self.reading.has(step, Stage.LOSS) for step in self.reading.steps)

    def losses(self, values: Array | None = None) -> Losses:
        """The losses of all steps."""
        return Losses(global_losses(self.shares) if values is None else values, self.rows, self.steps_per_epoch)

    def of_output(self, output: int, rules: Rules) -> Array:
        """Every replica's share of the unweighted loss of one output at every step, (steps, replicas)."""
        own = self.alone(output, rules)
        values = [self.evaluator.loss(step, own)["loss"] for step in self.reading.steps]
        return np.array([[float(part) for part in parts] for parts in values], np.float64)

    def alone(self, output: int, rules: Rules) -> Rules:
        """The clauses with which the loss is the unweighted one of one output, without penalties."""

        def alone(scene: Scene, part: Part) -> Any:
            import tensorflow as tf

            return tf.zeros((), part.outputs[0].dtype)

        return {
            **rules,
            "regularization": alone,
            "activity": alone,
            "added": alone,
            "output_weight": lambda scene, index: 1.0 if index == output else 0.0,
        }

    # What should have been reported.

    @cached_property
    def wanted(self) -> dict[str, Callable[[Report], float]]:
        """By name of a report what it should have been."""
        found: dict[str, Callable[[Report], float]] = {}
        names, count = self.reading.output_names, len(self.evaluator.losses)
        losses = self.losses()
        found["loss"] = lambda report: reported_loss(losses, report.step)
        for output, name in enumerate(names if count > 1 else []):
            own = self.losses(global_losses(self.of_output(output, self.rules)))
            found[f"{name}_loss"] = partial(_reported_after, own)
        for name, output, metric in self.metrics:
            found[name] = partial(self._metric_after, metric, output)
        # On replicas each evaluates with statistics of its own.
        if self.training.validation is not None and not (self.reading.replicas > 1 and self.evaluator.twin.coupled):
            found["val_loss"] = lambda report: self.validation_loss(report.epoch or 0, validation_mode())
            for output, name in enumerate(names if count > 1 else []):
                found[f"val_{name}_loss"] = partial(self._validation_after, output)
        return found

    def _validation_after(self, output: int, report: Report) -> float:
        return self.validation_loss(report.epoch or 0, validation_mode(), output)

    def _metric_after(self, metric: tuple[str, Mapping[str, Any]], output: int, report: Report) -> float:
        return self.metric(metric, output, batches_counted(self.steps_per_epoch, report.step))

    @cached_property
    def metrics(self) -> list[tuple[str, int, tuple[str, Mapping[str, Any]]]]:
        """(name in reports, output, rule and options) of the metrics there is a rule for."""
        names = self.reading.output_names
        found = []
        given = self.training.parts.metrics()
        for output, (name, metrics) in enumerate(zip(names, given, strict=False)):
            for metric in metrics:
                rule = identify_metric(metric)
                if rule is not None and not self.evaluator.masked:
                    found.append((metric.name if len(names) == 1 else f"{name}_{metric.name}", output, rule))
        return found

    def metric_of_replicas(self, metric: tuple[str, Mapping[str, Any]], output: int, report: Report) -> float:
        """A metric as Keras reports it during an epoch under replicas: the mean of what each of them would report."""
        steps = batches_counted(self.steps_per_epoch, report.step)
        if report.epoch is not None:
            return self.metric(metric, output, steps)
        replicas = range(self.reading.replicas)
        return float(np.mean([self.metric(metric, output, steps, (replica,)) for replica in replicas]))

    def metric(
        self,
        metric: tuple[str, Mapping[str, Any]],
        output: int,
        steps: Any,
        replicas: Sequence[int] | None = None,
        rng: np.random.Generator | None = None,
    ) -> float:
        """A metric over the rows of some steps, on all replicas or on some; of no rows it is 0.

        Args:
            metric: its rule and options.
            output: the output it is of.
            steps: the steps.
            replicas: the replicas; None for all.
            rng: moves targets and outputs by a unit of the training's precision; None does not.
        """
        rule, options = metric
        targets, outputs = [], []
        for step in steps:
            if not self.reading.has(self.reading.steps[step], Stage.OUTPUTS):
                return float("nan")
            for replica in range(self.reading.replicas) if replicas is None else replicas:
                targets.append(self.reading.targets(self.reading.steps[step], replica)[output])
                outputs.append(self.reading.outputs(self.reading.steps[step], replica)[output].astype(np.float64))
        kept = [i for i, part in enumerate(outputs) if len(part)]
        if not kept:
            return 0.0
        if rng is not None:
            precision = self.training.rounding
            targets, outputs = ([perturbed(part, rng, precision) for part in parts] for parts in (targets, outputs))
        value: float = METRIC_RULES[rule].value([targets[i] for i in kept], [outputs[i] for i in kept], None, **options)
        return value

    def validation_loss(self, epoch: int, training: bool, output: int | None = None, *, weighted: bool = True) -> float:
        """The loss of the validation data after an epoch.

        Args:
            epoch: the epoch.
            training: whether the model is called in training mode.
            output: the output whose unweighted loss it is; None for the whole loss.
            weighted: whether batches count with their rows.
        """
        step = self.reading.steps[min((epoch + 1) * self.steps_per_epoch, len(self.reading.steps)) - 1]
        rules = ALL_RULES if output is None else self.alone(output, ALL_RULES)
        losses = self.evaluator.validation_losses(step, training=training, rules=rules)
        rows = [batch.rows for batch in self.reading.validation]
        return float(np.average(losses, weights=rows if weighted else None))

    # Comparing.

    def judged(self) -> list[Report]:
        """The reports there is an expectation for."""
        last = len(self.reading.steps)
        return [report for report in self.reports if report.name in self.wanted and report.step < last]

    def off(self, name: str, wanted: Callable[[Report], float]) -> list[Off]:
        """The reports of that name that are not what they should be."""
        found = []
        for report in self.judged():
            if report.name == name:
                due = wanted(report)
                if not _close(report.seen, due, self.allowed(report, due)):
                    found.append(Off(report, due))
        return found

    def allowed(self, report: Report, due: float) -> float:
        """What rounding explains of a report: Keras computes a metric of outputs in half precision in just that."""
        allowed = RELATIVE * max(abs(due), self.scale(report.name), 1e-7)
        found = next((item for item in self.metrics if item[0] == report.name), None)
        if found is None or self.training.rounding not in HALF_DIGITS:
            return allowed
        _, output, metric = found
        steps = batches_counted(self.steps_per_epoch, report.step)
        exact, *moved = (
            self.metric(metric, output, steps, rng=rng) for rng in (None, *map(np.random.default_rng, range(3)))
        )
        return allowed + SAFETY * max(abs(other - exact) for other in moved)

    def scale(self, name: str) -> float:
        """The size of what is added up in a report."""
        if name == "loss" and self.shares.size:
            return float(np.nanmax(np.abs(self.shares)))
        return 0.0


def _reported_after(losses: Losses, report: Report) -> float:
    return reported_loss(losses, report.step)


def _close(seen: float, due: float, allowed: float) -> bool:
    if np.isnan(seen) or np.isnan(due):
        return bool(np.isnan(seen) and np.isnan(due))
    return seen == due or abs(seen - due) <= allowed
