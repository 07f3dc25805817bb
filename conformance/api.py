"""`check` and `assert_conforms`: a user's own parts, or a case, on trial."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from conformance import devices
from conformance.arm import MAX_REPLICAS, Placement, parse_execution
from conformance.asked import refuse_beside_case, refuse_unusable, whole
from conformance.build import Parts
from conformance.case import Case
from conformance.defaults import settle, with_known
from conformance.environment import known_findings
from conformance.errors import UsageError
from conformance.judge import Judge, judge_case
from conformance.plan import Plan
from conformance.prepare import release
from conformance.reports.text import shown
from conformance.trainers.forms import STEP, loop_of
from conformance.training import Training
from conformance.user_callbacks import maker
from conformance.user_data import class_weights, read, validation
from conformance.user_metrics import check_metrics
from conformance.user_outputs import check_names, made_model
from conformance.user_parts import (
    asked,
    check_optimizers,
    has_own_loss,
    made_optimizer,
    own_parts,
    refuse_single_rows,
    trains_itself,
)
from conformance.verdict import RAISES, UNSUPPORTED, Verdict

SEVERAL_FOR_A_WHOLE_LOOP = (
    "several optimizers in a whole loop, whose steps nobody can tell apart; give a step of it instead, as"
    " train_step(model, optimizer, loss_fn, x, y), which is held against the train_step of the model"
)

NOTHING_BESIDE = (
    "only the train_step of the model says what a step of it is, for {own}, and nothing is there to hold one fit"
    " against; ask for others beside it, as in replicas=(1, 2) or executions=('graph', 'eager')"
)


def check(
    train_step: Callable[..., Any] | None = None,
    *,
    case: Case | None = None,
    model: Callable[[], Any] | None = None,
    loss: Any = None,
    optimizer: Any = None,
    data: Any = None,
    batch_size: int = 32,
    epochs: int = 1,
    metrics: Sequence[Any] | Mapping[str, Any] = (),
    loss_weights: float | Sequence[float] | Mapping[str, float] | None = None,
    class_weight: Mapping[int, float] | None = None,
    validation_data: Any = None,
    callbacks: Any = None,
    replicas: Sequence[int] = (1,),
    executions: Sequence[str] = ("graph",),
    baseline: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Train the same thing in several ways and judge whether they agree.

    Args:
        train_step: the loop on trial, told by the names of its parameters, a subset of one of these. Left out, `fit`
            alone is on trial, and with it the `train_step` of a model that has its own.

            `train_step(model, optimizer, loss_fn, x, y[, sample_weight])` trains one batch and returns its loss, a
            tuple that begins with it, a dictionary with `loss`, or nothing.

            `train(model, optimizer, loss_fn, dataset, epochs[, strategy])` trains on a `tf.data.Dataset` of global
            batches, `train_arrays(model, optimizer, loss_fn, x, y, batch_size, epochs[, strategy][, sample_weight])`
            on arrays, once and as it is written. They return a loss an epoch or a step, a dictionary of such lists
            by the names that `fit` reports, or nothing. Under replicas they have to take the strategy. They may take
            `class_weight` and `validation_data` as well, and a step `class_weight`; a step or a loop over arrays
            that takes `sample_weight` alone is given class weights as that.
        case: a drawn or loaded case, instead of all that follows but `replicas` and `executions`.
        model: makes the uncompiled `keras.Model`; called once for every way of training.
        loss: what `compile` takes: a name, a `keras.losses.Loss` or a function, for every output; or one for each, as a
            list in the outputs' order or a dictionary by their names. Left out where the model has a `train_step` of
            its own that knows its loss: it is then held against itself, and a step on trial against it.
        optimizer: a name, a `keras.optimizers.Optimizer` (its configuration is used), or makes one. Of a model that
            trains with several in its own `train_step`, a dictionary of them by the parameters of its own `compile`;
            left out where the model makes them itself. A step on trial is given a dictionary of them then, by the
            model's attributes, and held against that `train_step`.
        data: `(x, y)` or `(x, y, sample_weight)` of arrays (rows, ...), several inputs or outputs as tuples of them
            or as dictionaries by the names of the model's inputs and outputs; a `tf.data.Dataset` or
            `keras.utils.PyDataset` of batches; or a function that gives a generator of batches. Batches are read twice:
            where the second reading differs, the verdict has a remark, and every arm is given the first.
        batch_size: the global batch size, for arrays.
        epochs: how many epochs.
        metrics: names, functions of targets and outputs, classes of `keras.metrics.Metric`, functions without arguments
            that make one, or metrics, whose configuration is used. Of several outputs, as `compile` takes them, a list
            with an entry for each, or a dictionary by their names; an entry is a metric, a list of them or None. One
            metric in a list is computed on every output.
        loss_weights: the losses' factors, in a list or by the outputs' names; of one output a number.
        class_weight: the weight of each class by its number, for one output of labels, one-hot rows or 0 and 1.
        validation_data: what is evaluated after every epoch, in every form of `data`. Arrays are cut into batches of
            `batch_size`; batches of a dataset, `PyDataset` or generator stay as they are, and may have a size each. A
            whole loop that takes `validation_data` is given arrays as arrays, and all else as a dataset.
        callbacks: a list of `keras.callbacks.Callback`, copied for every run, or better a function that makes it. `fit`
            and the loops of the harness call them, around a step on trial too; a whole loop may take `callbacks`.
        replicas: numbers of replicas; 1 is one device, N is `MirroredStrategy` over N.
        executions: names among `graph`, `eager`, `xla`.
        baseline: known findings, by signature: the path of a file as `--baseline` takes it, or `corpus` for what the
            project has recorded. A divergence that it knows makes the verdict `known`, which conforms.

    Returns:
        The verdict; `str()` tells it.

    Raises:
        UsageError: when an argument cannot be used, or devices cannot be had.

    Example:
        >>> import numpy as np, keras, conformance
        >>> def build():
        ...     return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> x = np.ones((8, 3), "float32")
        >>> verdict = conformance.check(model=build, loss="mse", optimizer="sgd", data=(x, x[:, :1]), batch_size=4)
        >>> verdict.conforms
        True
    """
    import keras

    parts_of = {
        "model": model,
        "loss": loss,
        "optimizer": optimizer,
        "data": data,
        "metrics": metrics or None,
        "loss_weights": loss_weights,
        "class_weight": class_weight,
        "validation_data": validation_data,
        "callbacks": callbacks,
    }
    given_parts = {name: value for name, value in parts_of.items() if value is not None}
    on_trial = {} if train_step is None else {"train_step": train_step}
    refuse_unusable({**on_trial, **given_parts, "executions": executions})
    if train_step is not None:
        loop_of(train_step)
    if case is not None:
        refuse_beside_case(case, given_parts)
    plan = plan_of(train_step, replicas, executions)
    known = known_findings(baseline).signatures
    devices.set_up(plan.replicas)
    if case is not None:
        return with_known(judge_case(case, plan, train_step), known)
    batch_size, epochs, metrics = whole("batch_size", batch_size), whole("epochs", epochs), metrics or ()
    # With one optimizer a loop is on trial against `fit` with that one, whatever else the model holds.
    one = train_step is not None and optimizer is not None and not isinstance(optimizer, Mapping)
    step = train_step is None or loop_of(train_step).form == STEP
    own_loss = model is not None and step and has_own_loss(model, loss, optimizer)
    own = own_loss or (model is not None and not one and trains_itself(model, optimizer))
    if own and not step:
        return Verdict(case=None, verdict=UNSUPPORTED, reason=SEVERAL_FOR_A_WHOLE_LOOP)
    needed = {"model": model, **({} if own else {"loss": loss, "optimizer": optimizer}), "data": data}
    missing = [name for name, value in needed.items() if value is None]
    if missing or model is None:
        raise UsageError(f"check() misses {', '.join(missing)}; give them, or a case")
    check_optimizers(optimizer)
    check_names("loss", loss)
    check_metrics(metrics)
    given = read(data, batch_size)
    rows, failed = given.rows, None
    if own:
        plan = dataclasses.replace(plan, trainers=("fit",)) if train_step is None else plan
        if len(plan.arms) == 1:
            why = "no loss was given" if own_loss else "it trains with optimizers of its own"
            return Verdict(case=None, verdict=UNSUPPORTED, reason=NOTHING_BESIDE.format(own=why))
        parts = own_parts(model, optimizer, {"loss": loss, "loss_weights": loss_weights}, metrics, rows)
    else:
        by_output = asked(model, rows, loss, loss_weights, metrics)
        rows, failed = by_output.rows, by_output.failed
        parts = Parts(
            lambda: made_model(model, rows),
            lambda: made_optimizer(optimizer),
            lambda: list(by_output.losses),
            by_output.weights,
            by_output.metrics.made,
            built_first=False,
        )
    if class_weight is not None and given.feed == "generator":
        reason = "class_weight with a generator: fit refuses it; give arrays or a dataset"
        return Verdict(case=None, verdict=UNSUPPORTED, reason=reason, remarks=given.remarks)
    held_out, of_validation = validation(validation_data, rows, given.batch_size)
    training = Training(
        parts,
        rows,
        given.batch_size,
        epochs,
        1,
        given.feed,
        seed=0,
        trial=train_step,
        precision=str(keras.config.dtype_policy().name),
        class_weight=class_weights(class_weight, rows),
        validation=held_out,
        callbacks=maker(callbacks),
        reading=given.seconds,
    )
    remarks = (*given.remarks, *of_validation, *_of_callbacks(training))
    try:
        verdict = Judge(training, plan).verdict()
    finally:
        release()
    if failed is not None and verdict.verdict != RAISES:
        raise failed
    if verdict.verdict == RAISES and given.feed != "arrays":
        refuse_single_rows(model, rows)
    return with_known(replace(verdict, remarks=(*remarks, *verdict.remarks)), known)


def assert_conforms(train_step: Callable[..., Any] | None = None, **arguments: Any) -> Verdict:
    """`check`, raising where the verdict is not that everything conforms.

    In a session of pytest whose plugin is on, what `--conformance-baseline` knows conforms as well, and the verdict is
    kept as one of the fixture `conformance` is.

    Args:
        train_step: as for `check`.
        **arguments: as for `check`.

    Returns:
        The verdict, which conforms.

    Raises:
        DivergenceError: when it does not; an `AssertionError` that says what is wrong, where, why and what cures it in
            at most 25 lines, with the whole verdict as its attribute.
        RetracedError: when it does, and pytest was told by `--conformance-max-retraces` how often a loop may trace its
            functions anew, and it does so more often; an `AssertionError` too.
        UsageError: as `check` does.
    """
    __tracebackhide__ = True
    return settle(check(train_step, **arguments), train_step, arguments)


def _of_callbacks(training: Training) -> list[str]:
    """What is said where callbacks are called by `fit` alone."""
    if training.callbacks is None or training.trial is None:
        return []
    loop = loop_of(training.trial)
    if loop.form == STEP or "callbacks" in loop.parameters:
        return []
    return [f"the callbacks are called by fit alone: {loop.name} takes no parameter `callbacks`"]


def plan_of(train_step: Any, replicas: Any, executions: Sequence[str]) -> Plan:
    """The arms that arguments of `check` ask for.

    Raises:
        UsageError: when there are no such arms.
    """
    try:
        counts = [whole("replicas", n) for n in replicas] if isinstance(replicas, Sequence) else []
    except UsageError:
        counts = []
    if not counts or max(counts) > MAX_REPLICAS:
        raise UsageError(f"replicas={shown(replicas)} should be whole numbers from 1 to {MAX_REPLICAS}, as in (1, 2)")
    if isinstance(executions, str) or not executions:
        raise UsageError(f"executions={shown(executions)} should be a list of names, as in ('graph',)")
    placements = tuple(Placement(n, True) if n > 1 else Placement() for n in dict.fromkeys(counts))
    trainers = ("fit", "loop") if train_step is None else ("trial", "fit")
    return Plan(trainers, placements, tuple(parse_execution(name) for name in executions))
