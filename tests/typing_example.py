"""What a user writes, for the type checker: this file is checked and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import conformance
from conformance.plugin import Judge

x = np.zeros((43, 4), np.float32)
y = np.zeros((43, 1), np.float32)


def build_model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def train_step(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any) -> Any:
    with tf.GradientTape() as tape:
        loss = loss_fn(y, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def train(
    model: Any, optimizer: Any, loss_fn: Any, dataset: tf.data.Dataset, epochs: int, strategy: Any
) -> dict[str, list[float]]:
    losses = [float(train_step(model, optimizer, loss_fn, x, y)) for _ in range(epochs) for x, y in dataset]
    return {"loss": losses}


def train_arrays(model: Any, optimizer: Any, loss_fn: Any, x: Any, y: Any, batch_size: int, epochs: int) -> None:
    for _ in range(epochs):
        for start in range(0, len(x), batch_size):
            train_step(model, optimizer, loss_fn, x[start : start + batch_size], y[start : start + batch_size])


def whole_loops_are_on_trial_too() -> list[conformance.Verdict]:
    return [
        conformance.check(
            train,
            model=build_model,
            loss="mse",
            optimizer="sgd",
            data=(x, y),
            class_weight={0: 1.0, 1: 3.0},
            validation_data=(x, y),
        ),
        conformance.check(train_arrays, model=build_model, loss="mse", optimizer="sgd", data=(x, y)),
    ]


def a_check_gives_a_verdict() -> str:
    verdict: conformance.Verdict = conformance.check(
        train_step,
        model=build_model,
        loss="mse",
        optimizer=lambda: keras.optimizers.Adam(1e-3),
        data=(x, y),
        batch_size=16,
        epochs=2,
        metrics=("mae",),
        replicas=(1, 2),
        executions=("graph",),
    )
    conforms: bool = verdict.conforms
    if verdict.divergence is not None and verdict.cause is not None and not conforms:
        magnitude: float = verdict.divergence.magnitude
        step: int | None = verdict.divergence.step
        wrong: str | None = verdict.wrong_arm
        return f"{verdict.cause.name} {magnitude} {step} {wrong} {verdict}"
    return conformance.__version__


def fit_alone_is_on_trial() -> None:
    try:
        conformance.assert_conforms(model=build_model, loss="mse", optimizer="sgd", data=(x, y), batch_size=16)
    except conformance.DivergenceError as error:
        assertion: AssertionError = error
        raise assertion from None


def a_case_goes_to_a_file_and_back(path: Path) -> conformance.Case:
    case: conformance.Case = conformance.load_case(path)
    conformance.save_case(case, str(path))
    conformance.check(train_step, case=case)
    return case


def strategies_draw_cases() -> object:
    return conformance.strategies.cases()


@pytest.mark.conformance
def the_fixture_judges(conformance: Judge) -> None:
    verdict = conformance.check(train_step, model=build_model, loss="mse", optimizer="sgd", data=(x, y))
    assert verdict.conforms


@conformance.given(loop=train_step, max_layers=2, replicas=(1, 2), optimizers=["SGD"])
def test_over_drawn_cases(case: conformance.Case, verdict: conformance.Verdict) -> None:
    assert verdict.conforms or case.data.sample_weight
