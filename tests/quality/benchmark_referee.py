"""What the referee costs: judging a ten-step trace of a model with ten layers, against recording it under `fit`.

    python tests/quality/benchmark_referee.py [RUNS]

Prints the medians of interleaved runs, of arms and referees made anew each time, and their ratio; exits with 1 where
judging takes longer than recording. Both begin with the training at hand and end with what they give: recording makes
the model, traces `fit` and trains ten steps; judging makes the twins and judges every stage of every step.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import click

from conformance import devices
from conformance.arm import parse_arm
from conformance.case import Case, Data, Input, Loss, Model, Node, Optimizer
from conformance.frozen import FrozenMap
from conformance.prepare import PreparedArm, release
from conformance.referee.judgement import Referee
from conformance.training import training

LAYERS = (
    ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "same"}),
    ("BatchNormalization", {}),
    ("Activation", {"activation": "relu"}),
    ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "same"}),
    ("LayerNormalization", {}),
    ("Flatten", {}),
    ("Dense", {"units": 4, "activation": "tanh", "kernel_regularizer": {"l2": 0.125}}),
    ("Dropout", {"rate": 0.5}),
    ("Dense", {"units": 3, "activation": "gelu"}),
    ("Dense", {"units": 1}),
)


def case() -> Case:
    """Ten layers, ten steps."""
    names = ["x", *(f"layer_{index}" for index in range(len(LAYERS)))]
    nodes = tuple(
        Node(name=name, layer=layer, config=FrozenMap(config), inputs=(before,))
        for (layer, config), name, before in zip(LAYERS, names[1:], names, strict=False)
    )
    return Case(
        model=Model(inputs=(Input(name="x", shape=(6, 2)),), nodes=nodes, outputs=(names[-1],)),
        losses=(Loss(name="mean_squared_error"),),
        optimizer=Optimizer(name="Adam", config=FrozenMap(learning_rate=0.015625)),
        data=Data(rows=80, batch_size=8),
    )


def main(runs: int) -> int:
    """Print the medians and their ratio."""
    devices.set_up(1, one_thread=True)
    recording, judging = [], []
    for _ in range(runs + 1):
        subject = training(case())
        started = time.perf_counter()
        trace = PreparedArm(parse_arm("fit/single/graph"), subject).run()
        recorded = time.perf_counter()
        judgement = Referee(subject).judge(trace)
        judged = time.perf_counter()
        if trace.steps != 10 or not judgement.conforms:
            raise RuntimeError(f"{trace.steps} steps, {judgement.departures}")
        recording.append(recorded - started)
        judging.append(judged - recorded)
        release()
    # The first run starts TensorFlow.
    medians = statistics.median(recording[1:]), statistics.median(judging[1:])
    click.echo(
        f"recording {medians[0]:.2f} s, judging {medians[1]:.2f} s: {medians[1] / medians[0]:.2f} (of {runs} runs)"
    )
    return int(medians[1] > medians[0])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
