"""`check` and `assert_conforms`: a user's own parts, or a case, on trial."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance import devices
from conformance.arm import MAX_REPLICAS, Placement, parse_execution
from conformance.build import Parts
from conformance.case import Case
from conformance.data import Array, Arrays
from conformance.defaults import hold
from conformance.errors import ConformanceError, UsageError
from conformance.failure import divergence_error
from conformance.judge import Judge, Plan, judge_case
from conformance.prepare import release
from conformance.several import compiling, optimizers_of
from conformance.trainers.fit import has_own_step
from conformance.trainers.forms import loop_of
from conformance.training import Training
from conformance.verdict import RAISES, UNSUPPORTED, Verdict

MOST_BATCHES = 10_000
"""A dataset with more batches than this is taken for an endless one."""

SEVERAL_FOR_A_LOOP = (
    "several optimizers for a loop on trial, which is watched with one; train all of the model with one `optimizer`, or"
    " put the step into the train_step of a keras.Model, and give what makes that as check(model=...), without a loop"
)

NOTHING_BESIDE = (
    "the model trains with optimizers of its own, so only its train_step says what a step of it is, and nothing is"
    " there to hold one fit against; ask for others beside it, as in replicas=(1, 2) or executions=('graph', 'eager')"
)

ACCURACIES = ("accuracy", "acc")
"""The names that mean another metric for every kind of target."""


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
    metrics: Sequence[Any] = (),
    loss_weights: Sequence[float] | Mapping[str, float] | None = None,
    class_weight: Mapping[int, float] | None = None,
    validation_data: Any = None,
    callbacks: Any = None,
    replicas: Sequence[int] = (1,),
    executions: Sequence[str] = ("graph",),
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
        loss: what `compile` takes: a name, a `keras.losses.Loss`, a function, a list or dictionary of them by output.
        optimizer: a name, a `keras.optimizers.Optimizer` (its configuration is used), or makes one. Of a model that
            trains with several in its own `train_step`, a dictionary of them by the parameters of its own `compile`;
            left out where the model makes them itself.
        data: `(x, y)` or `(x, y, sample_weight)` of arrays (rows, ...), several inputs or outputs as tuples of them;
            a `tf.data.Dataset` or `keras.utils.PyDataset` of batches; or a function that gives a generator of batches.
        batch_size: the global batch size, for arrays.
        epochs: how many epochs.
        metrics: names or `keras.metrics` classes, computed on every output.
        loss_weights: the losses' factors.
        class_weight: the weight of each class by its number, for one output of labels, one-hot rows or 0 and 1.
        validation_data: `(x, y)` or `(x, y, sample_weight)` of arrays, evaluated after every epoch.
        callbacks: not supported yet; the verdict says so.
        replicas: numbers of replicas; 1 is one device, N is `MirroredStrategy` over N.
        executions: names among `graph`, `eager`, `xla`.

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

    if train_step is not None:
        loop_of(train_step)
    plan = _plan(train_step, replicas, executions)
    devices.set_up(plan.replicas)
    if case is not None:
        return judge_case(case, plan, train_step)
    if callbacks is not None:
        reason = "callbacks is not judged yet; leave it out to judge the rest"
        return Verdict(case=None, verdict=UNSUPPORTED, reason=reason)
    _check_counts(batch_size, epochs)
    if isinstance(optimizer, Mapping) and train_step is not None:
        return Verdict(case=None, verdict=UNSUPPORTED, reason=SEVERAL_FOR_A_LOOP)
    own = callable(model) and train_step is None and _trains_itself(model, optimizer)
    needed = (("model", model), ("data", data), *(() if own else (("loss", loss), ("optimizer", optimizer))))
    missing = [name for name, value in needed if value is None]
    if missing or model is None:
        raise UsageError(f"check() misses {', '.join(missing)}; give them, or a case")
    if not callable(model):
        raise UsageError(f"model={model!r} should be a function without arguments that makes the model")
    _check_optimizers(optimizer)
    _check_names("loss", loss)
    _check_names("metric", [name for name in metrics if name not in ACCURACIES])
    rows, size, feed, reading = _rows(data, batch_size)
    weights, failed = (None, None) if own else _weights(loss_weights, model)
    if own:
        plan = replace(plan, trainers=("fit",))
        if len(plan.arms) == 1:
            return Verdict(case=None, verdict=UNSUPPORTED, reason=NOTHING_BESIDE)
        given = {"loss": loss, "loss_weights": loss_weights}
        parts = _own_parts(model, optimizer, given, metrics, rows)
    else:
        parts = Parts(
            lambda: _made_model(model, rows),
            lambda: _made_optimizer(optimizer),
            lambda: _by_output(loss, model),
            weights,
            lambda: _made_metrics(metrics, rows, model),
            built_first=False,
        )
    if class_weight is not None and feed == "generator":
        reason = "class_weight with a generator: fit refuses it; give arrays or a dataset"
        return Verdict(case=None, verdict=UNSUPPORTED, reason=reason)
    training = Training(
        parts,
        rows,
        size,
        epochs,
        1,
        feed,
        seed=0,
        trial=train_step,
        precision=str(keras.config.dtype_policy().name),
        class_weight=_class_weights(class_weight, rows),
        validation=_validation(validation_data, rows),
        reading=reading,
    )
    try:
        verdict = Judge(training, plan).verdict()
    finally:
        release()
    if failed is not None and verdict.verdict != RAISES:
        raise failed
    return verdict


def assert_conforms(train_step: Callable[..., Any] | None = None, **arguments: Any) -> Verdict:
    """`check`, raising where the verdict is not that everything conforms.

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
    verdict = check(train_step, **arguments)
    if not verdict.conforms:
        raise divergence_error(verdict)
    hold(verdict)
    return verdict


def _plan(train_step: Any, replicas: Any, executions: Sequence[str]) -> Plan:
    counts: list[Any] = list(replicas) if isinstance(replicas, Sequence) else []
    if not counts or any(not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_REPLICAS for n in counts):
        raise UsageError(f"replicas={replicas!r} should be whole numbers from 1 to {MAX_REPLICAS}, as in (1, 2)")
    if isinstance(executions, str) or not executions:
        raise UsageError(f"executions={executions!r} should be a list of names, as in ('graph',)")
    placements = tuple(Placement(n, True) if n > 1 else Placement() for n in dict.fromkeys(counts))
    trainers = ("fit", "loop") if train_step is None else ("trial", "fit")
    return Plan(trainers, placements, tuple(parse_execution(name) for name in executions))


def _check_names(kind: str, given: Any) -> None:
    """Refuse the names that Keras does not know, before anything is trained: no arm can be blamed for them."""
    import keras

    if isinstance(given, Mapping):
        given = list(given.values())
    for name in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(name, str):
            continue
        module = {"loss": keras.losses, "metric": keras.metrics, "optimizer": keras.optimizers}[kind]
        try:
            module.get(name)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name!r} is no {kind} that Keras knows") from error


def _check_optimizers(given: Any) -> None:
    for item in given.values() if isinstance(given, Mapping) else [given]:
        if item is not None and not (callable(item) or isinstance(item, str) or hasattr(item, "get_config")):
            raise UsageError(f"optimizer={item!r} should be a name, a keras.optimizers.Optimizer or make one")
        _check_names("optimizer", item)


def _trains_itself(make: Callable[[], Any], optimizer: Any) -> bool:
    """Whether a model trains with optimizers of its own: those of its own `compile`, or of its own making."""
    if isinstance(optimizer, Mapping):
        return True
    import keras

    try:
        made = make()
    except Exception:  # noqa: BLE001 - what a user's function raises is seen in every arm, and judged there
        return False
    return isinstance(made, keras.Model) and has_own_step(made) and bool(optimizers_of(made))


def _own_parts(
    make: Callable[[], Any], optimizer: Any, given: Mapping[str, Any], metrics: Sequence[Any], rows: Arrays
) -> Parts:
    """The parts of a model that trains with optimizers of its own, and may have no `call`."""
    import keras

    def made() -> Any:
        model = make()
        if not isinstance(model, keras.Model) or not has_own_step(model):
            raise UsageError(
                "several optimizers are for a keras.Model with a train_step of its own; give one optimizer, or such a"
                " model"
            )
        return model if model.variables else _made_model(lambda: model, rows)

    def arguments() -> dict[str, Any]:
        found = {name: value for name, value in given.items() if value is not None}
        return found | ({"metrics": [_made_metric(item, rows.y[0]) for item in metrics]} if metrics else {})

    several = optimizer if isinstance(optimizer, Mapping) else {"optimizer": optimizer} if optimizer else {}
    # Nothing trains with the optimizer that the arms know of.
    return Parts(
        made, keras.optimizers.SGD, list, built_first=False, compile=compiling(arguments, several, _made_optimizer)
    )


def _check_counts(batch_size: Any, epochs: Any) -> None:
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name}={value!r} should be a whole number of at least 1")


def _made_model(make: Callable[[], Any], rows: Arrays) -> Any:
    import keras

    model = make()
    if not isinstance(model, keras.Model):
        raise UsageError(f"model() gave {type(model).__name__}, which is no keras.Model")
    if not model.built or not model.variables:
        model(rows.map(lambda array: array[:1]).structure()[0])
    return model


def _made_optimizer(given: Any) -> Any:
    import keras

    if isinstance(given, keras.optimizers.Optimizer):
        return type(given).from_config(given.get_config())
    made = keras.optimizers.get(given) if isinstance(given, str) else given()
    if not isinstance(made, keras.optimizers.Optimizer):
        raise UsageError(f"optimizer gave {type(made).__name__}, which is no keras.optimizers.Optimizer")
    return made


def _by_output(given: Any, make: Callable[[], Any]) -> list[Any]:
    """What was given for each output, in the outputs' order."""
    if isinstance(given, Mapping):
        from conformance.recording import output_names

        names = output_names(make())
        if set(names) != set(given):
            raise UsageError(f"{sorted(given)} are not the model's outputs {names}")
        return [given[name] for name in names]
    return list(given) if isinstance(given, list | tuple) else [given]


def _weights(given: Any, make: Callable[[], Any]) -> tuple[tuple[float, ...] | None, Exception | None]:
    """The losses' factors in the outputs' order; or what making the model raised, which is an arm's to tell."""
    if given is None:
        return None, None
    try:
        items = _by_output(given, make)
    except ConformanceError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises is an observation
        return None, error
    return tuple(float(item) for item in items), None


def _made_metrics(given: Sequence[Any], rows: Arrays, make: Callable[[], Any]) -> list[list[Any]]:
    return [[_made_metric(item, target) for item in given] for target in rows.y]


def _made_metric(given: Any, target: Array) -> Any:
    import keras

    if given in ACCURACIES:
        if target.dtype.kind in "iu" or target.ndim == 1:
            return keras.metrics.SparseCategoricalAccuracy(name=given)
        one = target.shape[-1] == 1
        return (keras.metrics.BinaryAccuracy if one else keras.metrics.CategoricalAccuracy)(name=given)
    if isinstance(given, keras.metrics.Metric):
        return type(given).from_config(given.get_config())
    if isinstance(given, type):
        return given()
    found = keras.metrics.get(given)
    if isinstance(found, keras.metrics.Metric):
        # Reported by the name that was asked for, as `compile` has it.
        found.name = given if isinstance(given, str) else found.name
        return found
    name = given if isinstance(given, str) else getattr(given, "__name__", "metric")
    return keras.metrics.MeanMetricWrapper(found, name=name)


def _rows(data: Any, batch_size: int) -> tuple[Arrays, int, str, float | None]:
    """The rows of one epoch, the batch size, the feed, and the seconds that a batch took to be read."""
    if isinstance(data, tuple) and 2 <= len(data) <= 3:
        return _arrays(data), batch_size, "arrays", None
    feed = "dataset"
    if callable(data) and not hasattr(data, "element_spec"):
        data, feed = data(), "generator"
    batches, reading = _batches(data)
    sizes = [batch.rows for batch in batches]
    if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
        raise UsageError(f"the data's batches have {sizes[:8]} rows; all but the last should have the same")
    joined = Arrays(
        tuple(map(np.concatenate, zip(*(batch.x for batch in batches), strict=True))),
        tuple(map(np.concatenate, zip(*(batch.y for batch in batches), strict=True))),
        None
        if batches[0].sample_weight is None
        else tuple(map(np.concatenate, zip(*(batch.sample_weight or () for batch in batches), strict=True))),
    )
    return joined, sizes[0], feed, reading


def _class_weights(given: Any, rows: Arrays) -> dict[int, float] | None:
    if given is None:
        return None
    try:
        weights = {int(number): float(weight) for number, weight in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"class_weight={given!r} should give a number for a class's, as in {{0: 1.0, 1: 3.0}}"
        ) from error
    if not weights or min(weights) < 0:
        raise UsageError(f"class_weight={given!r} should have the numbers of classes, from 0, as keys")
    if rows.sample_weight is not None:
        raise UsageError("class_weight beside sample weights: fit takes one of the two")
    if len(rows.y) != 1 or rows.y[0].ndim > 2:
        shapes = ", ".join(str(array.shape) for array in rows.y)
        raise UsageError(f"class_weight for targets of shape {shapes}: it takes one output, (rows,) or (rows, classes)")
    return weights


def _validation(given: Any, rows: Arrays) -> Arrays | None:
    if given is None:
        return None
    if not isinstance(given, tuple) or not 2 <= len(given) <= 3:
        raise UsageError(f"validation_data={type(given).__name__} is not (x, y[, sample_weight]) of arrays")
    validation = _arrays(given)
    for name, ours, theirs in (("x", validation.x, rows.x), ("y", validation.y, rows.y)):
        if [array.shape[1:] for array in ours] != [array.shape[1:] for array in theirs]:
            shapes = ", ".join(str(array.shape) for array in ours)
            raise UsageError(f"validation_data with {name} of shape {shapes}; rows should be as in data")
    return validation


def _batches(data: Any) -> tuple[list[Arrays], float]:
    """The batches of one epoch, and the median of the seconds that one took."""
    length = getattr(data, "__len__", None)
    try:
        items: Iterable[Any] = (data[i] for i in range(length())) if length and not hasattr(data, "unbatch") else data
        found, taken = [], []
        started = time.perf_counter()
        for item in itertools.islice(items, MOST_BATCHES + 1):
            taken.append(time.perf_counter() - started)
            found.append(_arrays(tuple(item)))
            started = time.perf_counter()
    except TypeError as error:
        raise UsageError(
            f"data={type(data).__name__} is neither (x, y[, sample_weight]), a dataset of batches nor a function that"
            " gives a generator of them"
        ) from error
    if not found:
        raise UsageError("the data has no batches")
    if len(found) > MOST_BATCHES:
        raise UsageError(f"the data has more than {MOST_BATCHES} batches; limit an endless dataset with take(n)")
    return found, statistics.median(taken)


def _arrays(parts: tuple[Any, ...]) -> Arrays:
    if len(parts) not in (2, 3):
        raise UsageError(f"a batch of {len(parts)} parts; it should be (x, y) or (x, y, sample_weight)")
    x, y, weights = (*parts, None)[:3]
    rows = Arrays(_leaves(x), _leaves(y), None if weights is None else _leaves(weights))
    counts = {len(array) for array in (*rows.x, *rows.y, *(rows.sample_weight or ()))}
    if len(counts) != 1:
        raise UsageError(f"data with {sorted(counts)} rows; every array should have the same number")
    if 0 in counts:
        raise UsageError("data with 0 rows; give at least one")
    return rows


def _leaves(part: Any) -> tuple[Array, ...]:
    items = part if isinstance(part, list | tuple) else (part,)
    if isinstance(part, Mapping):
        raise UsageError("a dictionary of inputs or targets; give them as a tuple in the model's order")
    arrays = tuple(np.asarray(item) for item in items)
    # Keras computes in float32; float64 arrays, NumPy's default, are what users pass without meaning to.
    return tuple(array.astype(np.float32) if array.dtype == np.float64 else array for array in arrays)
