"""What people report in the place of what is due, replayed on the losses and metrics of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.data import Array
from conformance.referee.report_clauses import Losses, batches_counted, global_losses, reported_loss, validation_mode
from conformance.referee.report_values import Report, Reports

Replayed = tuple[str, str, Callable[[Report], float]]
"""The cause's name, what it does, and what it would report."""


def replays(reports: Reports, name: str) -> Iterator[Replayed]:
    """What may have been reported under a name in the place of what is due."""
    names = reports.reading.output_names
    # An output may be called so that the report of its loss in training looks like one of an evaluation.
    if name == "val_loss" or name.removeprefix("val_") in {f"{of}_loss" for of in names} - {name}:
        yield from _replays_of_validation(reports, name)
        return
    of_metric = next((item for item in reports.metrics if item[0] == name), None)
    if of_metric is not None:
        yield from _of_batches(reports, *of_metric[1:])
        yield "metric_not_updated", "what it holds of no rows, 0", _nothing
        yield (
            "metric_not_reset",
            "over the rows of all epochs so far",
            lambda report: reports.metric(of_metric[2], of_metric[1], range(report.step + 1)),
        )
        if reports.reading.replicas > 1:
            yield (
                "replica_reported_loss",
                "the plain mean of what each replica has over its own rows, during an epoch",
                lambda report: reports.metric_of_replicas(of_metric[2], of_metric[1], report),
            )
        return
    yield from _replays_of_losses(reports, name)


def _replays_of_validation(reports: Reports, name: str) -> Iterator[Replayed]:
    of = name.removeprefix("val_").removesuffix("_loss")
    output = None if name == "val_loss" else reports.reading.output_names.index(of)
    yield (
        "evaluation_in_training_mode",
        "the model called with training=True",
        lambda report: reports.validation_loss(report.epoch or 0, True, output),
    )
    yield (
        "epoch_loss_unweighted",
        "the plain mean over the batches",
        lambda report: reports.validation_loss(report.epoch or 0, validation_mode(), output, weighted=False),
    )


def _of_batches(reports: Reports, output: int, metric: tuple[str, Mapping[str, Any]]) -> Iterator[Replayed]:
    """What people make of the values that a metric has of single batches."""

    def mean(report: Report) -> float:
        steps = batches_counted(reports.steps_per_epoch, report.step)
        return float(np.mean([reports.metric(metric, output, [step]) for step in steps]))

    yield "epoch_loss_unweighted", "the plain mean of what the batches have", mean
    yield (
        "epoch_loss_last_batch",
        "what the last batch has",
        lambda report: reports.metric(metric, output, [report.step]),
    )


def _replays_of_losses(reports: Reports, name: str) -> Iterator[Replayed]:
    if name == "loss":
        shares = reports.shares
    else:
        output = reports.reading.output_names.index(name.removesuffix("_loss"))
        shares = reports.of_output(output, reports.rules)
    losses = reports.losses(global_losses(shares))
    ways = [*_over_replicas(reports, shares), *_put_together(losses)]
    yield from ways
    yield from _never_updated(losses, ways)
    if name == "loss":
        after = replace(losses, values=_after_update(reports))
        for told, replay in _ways(after):
            yield "loss_reported_after_update", f"losses with the weights after the step, {told}", replay
        if reports.evaluator.twin.penalized or reports.evaluator.regularizes_activity:
            plain = replace(losses, values=sum_of_outputs(reports))
            for told, replay in _ways(plain):
                yield "regularization_omitted", f"losses without penalties, {told}", replay


def _nothing(report: Report) -> float:
    return 0.0


def _never_updated(losses: Losses, ways: Sequence[Replayed]) -> Iterator[Replayed]:
    """What `fit` reports of an epoch is what the model's metrics hold; of a step, what `train_step` returns."""
    returned = [
        ("returns 0", _nothing),
        *((f"returns {told}", replay) for told, replay in _ways(losses)),
        *((f"returns {told}", replay) for _, told, replay in ways),
    ]
    for told, replay in returned:

        def held(report: Report, replay: Callable[[Report], float] = replay) -> float:
            return replay(report) if report.epoch is None else 0.0

        yield "metric_not_updated", f"an epoch's is 0, as of no rows, and a step {told}", held


def sum_of_outputs(reports: Reports) -> Array:
    """Every step's loss without penalties."""
    weighted = [
        loss.weight * global_losses(reports.of_output(index, reports.rules))
        for index, loss in enumerate(reports.evaluator.losses)
    ]
    return np.asarray(np.sum(np.stack(weighted), axis=0))


def _ways(losses: Losses) -> Iterator[tuple[str, Callable[[Report], float]]]:
    yield "weighted with rows", lambda report: reported_loss(losses, report.step)
    yield "the plain mean", lambda report: float(losses.values[losses.epoch(report.step)].mean())
    yield "the last one alone", lambda report: float(losses.values[report.step])


def _put_together(losses: Losses) -> Iterator[Replayed]:
    values, rows = losses.values, losses.rows
    yield (
        "epoch_loss_unweighted",
        "the plain mean over the batches",
        lambda report: float(values[losses.epoch(report.step)].mean()),
    )
    yield "epoch_loss_last_batch", "the loss of the last batch", lambda report: float(values[report.step])

    def running(report: Report) -> float:
        part = slice(0, report.step + 1)
        return float((values[part] * rows[part]).sum() / rows[part].sum())

    yield "metric_not_reset", "the mean over all epochs so far", running
    yield (
        "metric_not_reset",
        "the plain mean over the batches of all epochs so far",
        lambda report: float(values[: report.step + 1].mean()),
    )
    yield (
        "metric_not_reset",
        "the sum over the epochs so far in the place of a mean",
        lambda report: float(values[: report.step + 1].sum()),
    )


def _over_replicas(reports: Reports, shares: Array) -> Iterator[Replayed]:
    if reports.reading.replicas < 2:
        return
    every, replicas = reports.steps_per_epoch, reports.reading.replicas
    counts = np.array([reports.reading.rows(step) for step in reports.reading.steps], np.float64)
    unscaled = shares * replicas

    def by_replicas(report: Report) -> float:
        part = slice(report.step - report.step % every, report.step + 1)
        if report.epoch is not None:
            return float((unscaled[part] * counts[part]).sum() / counts[part].sum())
        held = counts[part].sum(axis=0)
        own = np.divide((unscaled[part] * counts[part]).sum(axis=0), held, where=held > 0, out=np.zeros_like(held))
        return float(own.mean())

    told = "the replicas' running means, each weighted with its own rows, their plain mean during an epoch"
    yield "replica_reported_loss", told, by_replicas

    def with_empty(report: Report) -> float:
        part = slice(report.step - report.step % every, report.step + 1)
        return by_replicas(report) if counts[part].all() else float("nan")

    yield "replica_reported_loss", f"{told}; a replica without rows makes it NaN", with_empty
    for told, values in (
        ("the first replica's share alone", shares[:, 0]),
        ("the first replica's loss alone", unscaled[:, 0]),
        ("the sum of the replicas' losses", unscaled.sum(axis=1)),
        ("the mean of the replicas' shares", shares.mean(axis=1)),
    ):
        for way, replay in _ways(reports.losses(values)):
            yield "replica_reported_loss", f"{told}, {way}", replay


def _after_update(reports: Reports) -> Array:
    after = {**reports.rules, "called": lambda mode: replace(mode, start="after")}
    values = [reports.evaluator.fresh_loss(step, after)["loss"] for step in reports.reading.steps]
    return np.array([sum(float(part) for part in parts) for parts in values], np.float64)
