"""The custom loop as source, with only the branches the case needs.

It mirrors `conformance.trainers.loop` and must give the same bits; the tests hold the two against each other.
"""

from __future__ import annotations

from conformance.case import owner_of
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.reports import repro_case
from conformance.reports.repro_fit import Code, batches, finalized, rows
from conformance.reports.repro_plan import Plan
from conformance.reports.source import call, flat, indented, literal, statement

_PENALTIES = ("kernel_regularizer", "bias_regularizer", "activity_regularizer", "embeddings_regularizer")


def loop(plan: Plan) -> Code:
    """The custom loop of the TensorFlow guide."""
    case = plan.case
    metric, scoped = _loop_metric(plan)
    body = _loop_dataset(plan)
    body += ["dataset = strategy.experimental_distribute_dataset(dataset)"] if plan.mirrored else []
    given = rows(plan)
    if plan.mirrored:
        body += ["", f"def replica_step{given}:", *indented(_loop_step(plan, metric)), ""]
        inner = ["strategy.run(replica_step, args=batch)"]
    else:
        inner = [f"{given[1:-1]} = batch", *_loop_step(plan, metric)]
    executions = plan.executions("loop")
    function = "tf.function(%sinput_signature=[dataset.element_spec]%s)"
    jit = ", jit_compile=True" if executions == ("xla",) else ""
    if len(executions) == 1 and executions != ("eager",):
        body += ["", "@" + function % ("", jit)]
    elif not plan.mirrored:
        body.append("")
    body += ["def step(batch):", *indented(inner), ""]
    if len(executions) > 1:
        jit = ', jit_compile=execution == "xla" or None' if "xla" in executions else ""
        line = "step = " + function % ("step, ", jit)
        body += ['if execution != "eager":', *indented([line])] if "eager" in executions else [line]
    after = [f"reports.append(float({metric}.result()))"] if metric else []
    batches = ["for batch in dataset:", *indented(["step(batch)", *(after if plan.log_steps else [])])]
    epoch = [*([f"{metric}.reset_state()"] if metric else []), *batches, *(after if not plan.log_steps else [])]
    if case.schedule.epochs > 1:
        epoch = [f"for _ in range({case.schedule.epochs}):", *indented(epoch)]
    return Code(scoped, [*(["reports = []"] if metric else []), *body, *epoch, *finalized(plan)])


def _loop_dataset(plan: Plan) -> list[str]:
    case, rows = plan.case, rows(plan)
    if case.data.feed != "generator" or not plan.mirrored:
        return [f"dataset = tf.data.Dataset.from_tensor_slices({rows}).batch({case.data.batch_size})"]
    # How a strategy splits a batch depends on what it knows of the dataset, so the generator stays one.
    spec = f"tf.nest.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), {rows})"
    return [
        "def batches():",
        *indented(batches(plan, "yield ")),
        "",
        f"spec = {spec}",
        "dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)",
    ]


def _loop_metric(plan: Plan) -> tuple[str | None, list[str]]:
    """The name of the metric behind the compared report, and the statement that makes it."""
    if plan.log is None:
        return None, []
    if plan.log == "loss":
        return "mean_loss", ["mean_loss = keras.metrics.Mean()"]
    kind, _ = _metric_of(plan)
    return "metric", [f"metric = keras.metrics.{kind}()"]


def _metric_of(plan: Plan) -> tuple[str, int]:
    """The class of the compared metric and the output it is of."""
    case = plan.case
    alone = len(case.losses) == 1
    nodes = {node.name: node for node in case.model.nodes}
    for index, (output, metrics) in enumerate(zip(case.model.outputs, repro_case.metrics(case), strict=True)):
        prefix = "" if alone else f"{owner_of(case.model, nodes[output]).name}_"
        for name, kind in metrics.items():
            if f"{prefix}{name}" == plan.log:
                return kind, index
    return "Mean", 0


def _loop_step(plan: Plan, metric: str | None) -> list[str]:
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
        terms.append(term if loss.weight is None else f"{term} * {literal(loss.weight)}")
    tape = ["outputs = model(x, training=True)", *_sum(terms)]
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
    if metric == "mean_loss":
        rows = "tf.shape(x)[0]" if len(case.model.inputs) == 1 else "tf.shape(x[0])[0]"
        loss_value = "loss * strategy.num_replicas_in_sync" if plan.mirrored else "loss"
        lines.append(f"mean_loss.update_state({loss_value}, sample_weight={rows})")
    elif metric:
        place = "" if alone else f"[{_metric_of(plan)[1]}]"
        lines.append(f"metric.update_state(y{place}, outputs{place})")
    return lines


def _sum(terms: list[str]) -> list[str]:
    """The loss as a sum, one statement a term, which adds in the same order."""
    return [f"loss = {terms[0]}", *(f"loss += {term}" for term in terms[1:])]


def _regularized(plan: Plan) -> bool:
    return any(
        node.layer == "ActivityRegularization"
        or LAYERS[node.layer or ""].make is not None
        or any(node.config.get(name) is not None for name in _PENALTIES)
        for node in (owner_of(plan.case.model, node) for node in plan.case.model.nodes)
    )


def function_loss(plan: Plan) -> list[str]:
    """The class that reduces what a loss function returns as Keras does, where the loop needs it."""
    case = plan.case
    needed = "loop" in plan.trainers and any(
        LOSSES[loss.name].keras_class is None
        and (LOSSES[loss.name].returns != "scalar" or case.data.sample_weight is not None)
        for loss in case.losses
    )
    if not needed:
        return []
    scalar = any(LOSSES[loss.name].returns == "scalar" for loss in case.losses)
    share = "if value.shape.rank == 0:", "    value = value * (1.0 / tf.distribute.get_strategy().num_replicas_in_sync)"
    body = [
        "value = self.function(y_true, y_pred)",
        *(share if scalar and plan.mirrored else ()),
        "return value",
    ]
    if len(body) == 2:
        body = ["return self.function(y_true, y_pred)"]
    init = ["def __init__(self, function):", *indented(["super().__init__()", "self.function = function"]), ""]
    method = ["def call(self, y_true, y_pred):", *indented(body)]
    return ["", "", "class FunctionLoss(keras.losses.Loss):", *indented([*init, *method])]
