"""What a loop of the guide reports: the mean of the losses, weighted with the rows, and the metrics."""

from __future__ import annotations

from typing import Any

from conformance.data import leaves
from conformance.training import Setup


class Tally:
    """Means and metrics by the names that `fit` reports them by.

    Args:
        setup: the arm; its metrics are used, and what is added is made under its strategy.
        output_losses: whether the losses of the outputs are reported too, where there are several, as in `fit`.
    """

    def __init__(self, setup: Setup, *, output_losses: bool = True) -> None:
        import keras

        self._replicas = setup.strategy.num_replicas_in_sync
        # A user's step need not return its loss, nor call its model: what was never told is not reported.
        self._told: set[str] = set()
        names = setup.recorder.output_names
        self._targets = setup.training.data.y_names
        alone = len(names) == 1
        with setup.scope():
            self._means = [("loss", keras.metrics.Mean(name="loss"))]
            if output_losses and len(setup.losses) > 1:
                self._means += [(f"{name}_loss", keras.metrics.Mean(name=f"{name}_loss")) for name in names]
        self._metrics = setup.metrics or [[] for _ in names]
        # Prefixed with the output's name where there are several.
        self._named = [
            (metric.name if alone else f"{output}_{metric.name}", metric)
            for output, metrics in zip(names, self._metrics, strict=True)
            for metric in metrics
        ]

    def reset(self) -> None:
        """Begin an epoch."""
        for _, metric in (*self._means, *self._named):
            metric.reset_state()

    def outputs(self, y: Any, outputs: Any) -> None:
        """Take a replica's targets and outputs."""
        import tensorflow as tf

        self._told.add("outputs")
        pairs = zip(leaves(y, self._targets), tf.nest.flatten(outputs), self._metrics, strict=True)
        for target, output, metrics in pairs:
            for metric in metrics:
                metric.update_state(target, output)

    def loss(self, loss: Any, parts: list[Any], rows: Any) -> None:
        """Take a replica's share of the loss, the losses of its outputs, and the number of its rows."""
        self._told.add("loss")
        for (_, mean), value in zip(self._means, [loss, *parts], strict=False):
            # What is a share of the global loss here is reported as the loss of this replica's rows.
            mean.update_state(value * self._replicas if self._replicas > 1 else value, sample_weight=rows)

    def results(self) -> dict[str, Any]:
        """What is reported now."""
        told = (self._means if "loss" in self._told else []) + (self._named if "outputs" in self._told else [])
        return {name: metric.result() for name, metric in told}
