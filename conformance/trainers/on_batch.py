"""`model.train_on_batch`, called for every batch as a user does who wants the loop but not the step."""

from __future__ import annotations

from typing import Any

from conformance.data import Arrays
from conformance.trainers.fit import compile_model
from conformance.training import Logbook, Run, Setup


def prepare(setup: Setup) -> Run:
    """Compile, and give the function that trains batch by batch.

    Its reports are of one batch each, where `fit` reports running means, so they are kept out of the logs.
    """
    compile_model(setup)
    training = setup.training
    class_weight = None if training.class_weight is None else dict(training.class_weight)

    def run(data: Arrays, logbook: Logbook) -> None:
        for _ in range(training.epochs):
            for batch in data.batches(training.batch_size):
                parts: list[Any] = [list(part) if isinstance(part, tuple) else part for part in batch]
                x, y, sample_weight = (*parts, None)[:3]
                setup.recorder.begin()
                with logbook.timed():
                    setup.model.train_on_batch(x, y, sample_weight=sample_weight, class_weight=class_weight)
                setup.recorder.end_step()
        setup.optimizer.finalize_variable_values(setup.model.trainable_variables)

    return run
