"""The custom loop as source, with only the branches the case needs.

It mirrors `conformance.trainers.loop` and must give the same bits; the tests hold the two against each other.
"""

from __future__ import annotations

from conformance.case import owner_of
from conformance.errors import UnsupportedError
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.reports import repro_case
from conformance.reports.repro_fit import Code, batches, finalized, rows
from conformance.reports.repro_plan import Plan
from conformance.reports.repro_quantity import each_step, passing
from conformance.reports.source import Expression, call, flat, indented, literal, statement
from conformance.stage import Stage

_PENALTIES = ("kernel_regularizer", "bias_regularizer", "activity_regularizer", "embeddings_regularizer")


def loop(plan: Plan) -> Code:
    """The custom loop of the TensorFlow guide."""
    case = plan.case
    metric, scoped = _loop_metric(plan)
    body = [*(["reports = []"] if metric else []), *_dataset(plan), "", *_step(plan, metric), ""]
    report = [f"reports.append(float({metric}.result()))"] if metric else []
    each = ["for batch in dataset:", *indented(["step(batch)", *(report if plan.log_steps else []), *each_step(plan)])]
    epoch = [*([f"{metric}.reset_state()"] if metric else []), *each, *(report if plan.log_epochs else [])]
    if case.schedule.epochs > 1:
        epoch = [f"for _ in range({case.schedule.epochs}):", *indented(epoch)]
    return Code(scoped, [*body, *epoch, *finalized(plan)])


def _dataset(plan: Plan) -> list[str]:
    case, all_rows = plan.case, rows(plan)
    lines = [f"dataset = tf.data.Dataset.from_tensor_slices({all_rows}).batch({case.data.batch_size})"]
    if case.data.feed == "generator" and plan.mirrored:
        # How a strategy splits a batch depends on what it knows of the dataset, so the generator stays one.
        spec = f"tf.nest.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), {all_rows})"
        lines = ["", "def batches():", *indented(batches(plan, "yield ")), "", f"spec = {spec}"]
        lines.append("dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)")
    if plan.mirrored:
        lines.append("dataset = strategy.experimental_distribute_dataset(dataset)")
    return lines


def _step(plan: Plan, metric: str | None) -> list[str]:
    """The definition of `step(batch)`, compiled as the arms ask for."""
    given, before = rows(plan), []
    if plan.mirrored:
        before = [f"def replica_step{given}:", *indented(_replica_step(plan, metric)), ""]
        step = ["def step(batch):", *indented(["strategy.run(replica_step, args=batch)"])]
    else:
        step = ["def step(batch):", *indented([f"{given[1:-1]} = batch", *_replica_step(plan, metric)])]
    # One signature for full and partial batches, so that the step is traced once.
    signature = "input_signature=[dataset.element_spec]"
    executions = plan.executions("loop")
    if len(executions) == 1:
        jit = ", jit_compile=True" if executions == ("xla",) else ""
        compiled = [] if executions == ("eager",) else [f"@tf.function({signature}{jit})"]
        return [*before, *compiled, *step]
    options: dict[str, Expression] = {"input_signature": "[dataset.element_spec]"}
    options |= {"jit_compile": 'execution == "xla" or None'} if "xla" in executions else {}
    guarded = "eager" in executions
    compiled = statement("step = ", call("tf.function", "step", **options), depth=2 if guarded else 1)
    if guarded:
        compiled = ['if execution != "eager":', *indented(compiled)]
    return [*before, *step, "", *compiled]


def _loop_metric(plan: Plan) -> tuple[str | None, list[str]]:
    """The name of the metric behind the compared report, and the statement that makes it."""
    if plan.log is None:
        return None, []
    kind, _ = _metric_of(plan)
    name = "mean_loss" if kind == "Mean" else "metric"
    return name, [f"{name} = keras.metrics.{kind}()"]


def _metric_of(plan: Plan) -> tuple[str, int | None]:
    """The class of the metric behind the compared report, and the output it is of; None for the total loss."""
    case = plan.case
    if plan.log == "loss":
        return "Mean", None
    alone = len(case.losses) == 1
    nodes = {node.name: node for node in case.model.nodes}
    for index, (output, metrics) in enumerate(zip(case.model.outputs, repro_case.metrics(case), strict=True)):
        prefix = "" if alone else f"{owner_of(case.model, nodes[output]).name}_"
        for name, kind in {**({} if alone else {"loss": "Mean"}), **metrics}.items():
            if f"{prefix}{name}" == plan.log:
                return kind, index
    raise UnsupportedError(f"{plan.log!r} is not a report of a custom loop, so no script can compare it")


def _replica_step(plan: Plan, metric: str | None) -> list[str]:
    case = plan.case
    alone = len(case.losses) == 1
    made = repro_case.losses(case)
    terms = []
    for index, loss in enumerate(case.losses):
        place = "" if alone else f"[{index}]"
        args = [f"y{place}", f"outputs{place}", *([f"w{place}"] if case.data.sample_weight else [])]
        entry = LOSSES[loss.name]
        if entry.keras_class is None and entry.returns == "scalar" and not case.data.sample_weight:
            # Already reduced over this replica's rows, so nobody else divides it by the replicas.
            term = f"{loss.name}({', '.join(args)})"
            term += " * (1.0 / strategy.num_replicas_in_sync)" if plan.mirrored else ""
        elif entry.keras_class is None:
            term = f"FunctionLoss({loss.name})({', '.join(args)})"
        else:
            term = f"{flat(made[index])}({', '.join(args)})"
        terms.append(term)
    kind, output = ("", None) if metric is None else _metric_of(plan)
    tape = ["outputs = model(x, training=True)"]
    if kind == "Mean" and output is not None:
        tape.append(f"part = {terms[output]}")
        terms[output] = "part"
    weights = ["" if loss.weight is None else f" * {literal(loss.weight)}" for loss in case.losses]
    # A statement a term, which adds in the same order.
    tape += [
        f"loss {'+=' if index else '='} {term}{weight}"
        for index, (term, weight) in enumerate(zip(terms, weights, strict=True))
    ]
    if _regularized(plan):
        share = " * (1.0 / strategy.num_replicas_in_sync)" if plan.mirrored else ""
        penalties = f"*(term{share} for term in model.losses)" if share else "*model.losses"
        tape += statement("loss = ", call("tf.reduce_sum", call("tf.stack", f"[loss, {penalties}]")), depth=3)
    lines = [
        "with tf.GradientTape() as tape:",
        *indented(tape),
        "gradients = tape.gradient(loss, model.trainable_variables)",
        "optimizer.apply(gradients, model.trainable_variables)",
    ]
    if plan.tapped in (Stage.OUTPUTS, Stage.LOSS):
        lines.append(f"kept.assign({passing(plan)})")
    if metric == "mean_loss":
        rows = "tf.shape(x)[0]" if len(case.model.inputs) == 1 else "tf.shape(x[0])[0]"
        reported = "loss" if output is None else "part"
        reported += " * strategy.num_replicas_in_sync" if plan.mirrored else ""
        lines += statement("", call("mean_loss.update_state", reported, sample_weight=rows), depth=2)
    elif metric:
        place = "" if alone else f"[{output}]"
        lines.append(f"metric.update_state(y{place}, outputs{place})")
    return lines


def _regularized(plan: Plan) -> bool:
    return any(
        node.layer == "ActivityRegularization"
        or LAYERS[node.layer or ""].make is not None
        or any(node.config.get(name) is not None for name in _PENALTIES)
        for node in (owner_of(plan.case.model, node) for node in plan.case.model.nodes)
    )
