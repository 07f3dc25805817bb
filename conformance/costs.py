"""What training costs, beside what it computes: the time of a step, the functions that were traced and why, the data.

A loop may be right and slow. The commonest reason is a `tf.function` that is traced anew at every batch, which
TensorFlow mentions in a log that nobody reads and without the argument that changed. It is said here, and is no
divergence: an assertion fails by it only where it was asked to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

MOST_CHANGES = 3
"""Of a function that is traced anew many times, the changes of so many arguments are kept."""

SHAPE, DTYPE, VALUE, OBJECT, STRUCTURE, FUNCTION, REPLICA, VARIABLES, CONTEXT = (
    "shape",
    "dtype",
    "value",
    "object",
    "structure",
    "function",
    "replica",
    "variables",
    "context",
)

ADVICE = {
    SHAPE: "batch to one shape, or `tf.function(..., reduce_retracing=True)`",
    DTYPE: "cast it to one dtype before the call",
    VALUE: "each Python value has a trace of its own; pass a tensor, as in `tf.constant(step)`",
    OBJECT: "another object at each call; make it once, outside of the loop",
    STRUCTURE: "pass the same structure at each call",
    FUNCTION: "the `tf.function` itself is made anew; make it once, outside of the loop",
    REPLICA: "each replica has a trace of its own",
    VARIABLES: "its first trace made them, an optimizer's as a rule; build it before,"
    " `optimizer.build(model.trainable_variables)`",
    CONTEXT: "it is called from another context: another graph, strategy or device",
}
"""By kind of a change, what to make of it."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Why a function was traced once more.

    Attributes:
        kind: a key of `ADVICE`.
        argument: the argument that changed, with the place in it, as in `batch[0]`; empty where it is none.
        before: what it was in the trace before, a shape, a dtype, a Python value.
        after: what it was in this one.
    """

    kind: str
    argument: str = ""
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        if self.kind == VARIABLES:
            return "new variables"
        return f"{self.argument} {self.before} -> {self.after}" if self.argument else f"another {self.kind}"


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """One function that TensorFlow traced while an arm ran, with all that are made of the same code.

    Attributes:
        function: its qualified name.
        file: the file it is written in; None where that is not the user's but TensorFlow's, Keras's or ours.
        line: its first line there.
        traces: how often it was traced.
        partial: the traces among them that a smaller last batch alone accounts for: no fault of the loop.
        replicas: those that another replica accounts for.
        changes: why it was traced again, the first of each argument.
    """

    function: str
    file: str | None
    line: int | None
    traces: int
    partial: int = 0
    replicas: int = 0
    changes: tuple[Change, ...] = ()

    @property
    def retraces(self) -> int:
        """How often it was traced beyond the first time, each replica's first one left out."""
        return self.traces - 1 - self.replicas

    @property
    def needless(self) -> int:
        """The retraces that no smaller last batch accounts for."""
        return self.retraces - self.partial

    @property
    def name(self) -> str:
        """What messages call it: its name, and where it is written if that is the user's."""
        if self.file is None:
            return self.function
        return f"{self.function} ({self.file.replace(chr(92), '/').rpartition('/')[2]}:{self.line})"


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What the first run of one arm cost, watching included.

    Attributes:
        arm: the arm.
        prepare: seconds to make and watch its model.
        first_step: seconds of the first step, which is mostly tracing; None where steps cannot be timed.
        step: the median of the seconds of the steps after it; None where steps cannot be timed or there are no others.
        functions: what was traced; None where this TensorFlow does not tell.
        reading: the median of the seconds that the user's data took to give a batch, when it was read before the
            training; None for arrays.
    """

    arm: str
    prepare: float
    first_step: float | None = None
    step: float | None = None
    functions: tuple[Traced, ...] | None = ()
    reading: float | None = None

    @property
    def traces(self) -> int | None:
        """How many functions were traced, each as often as it was; None where that was not counted."""
        return None if self.functions is None else sum(item.traces for item in self.functions)

    @property
    def retraces(self) -> int:
        """How often functions of the user's were traced beyond the first time; 0 where that was not counted."""
        return sum(item.retraces for item in self.functions or () if item.file is not None)

    @property
    def waiting(self) -> float | None:
        """The share of a step's time that goes into its data, where nothing is read ahead; None where not measured."""
        if self.reading is None or self.step is None or not self.reading + self.step:
            return None
        return self.reading / (self.reading + self.step)

    def __str__(self) -> str:
        told = [f"prepared in {seconds(self.prepare)}", f"a step {seconds(self.step)}"]
        if self.first_step is not None:
            told[1:1] = [f"first step {seconds(self.first_step)}"]
        told.append("traces not counted" if self.traces is None else f"traces {self.traces}")
        if self.reading is not None:
            share = "" if self.waiting is None else f", {self.waiting:.0%} of a step that reads nothing ahead"
            told.append(f"a batch of the data {seconds(self.reading)}{share}")
        return f"{self.arm}: {', '.join(told)}"


def seconds(value: float | None) -> str:
    """Seconds as people read them.

    Example:
        >>> seconds(0.00213), seconds(1.5), seconds(None)
        ('2.13 ms', '1.5 s', 'not measured')
    """
    if value is None:
        return "not measured"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def retraced(costs: Iterable[Costs]) -> Iterator[str]:
    """A line for every function of the user's that was traced again for no good reason."""
    for item in costs:
        for traced in item.functions or ():
            if traced.file is not None and traced.needless > 0:
                yield f"{item.arm} traces {traced.name} {traced.traces} times: {_why(traced)}"


def partial(costs: Iterable[Costs]) -> Iterator[str]:
    """A line for every function of the user's whose last, smaller batch has a trace of its own."""
    for item in costs:
        for traced in item.functions or ():
            if traced.file is not None and traced.partial and not traced.needless:
                yield f"{item.arm} traces {traced.name} once more for its last, partial batch ({traced.changes[0]})"


def beyond(costs: Iterable[Costs], most: int | None) -> str | None:
    """What is said where an arm of the user's loop has more retraces than `most`; None where none has."""
    if most is None:
        return None
    over = [item for item in costs if item.retraces > most and item.arm.startswith("trial/")]
    if not over:
        return None
    told = []
    for item in over:
        told.append(f"retraces: {item.retraces} beyond the first trace, at most {most} allowed [{item.arm}]")
        told += [
            f"  {traced.name} is traced {traced.traces} times: {_why(traced)}"
            for traced in item.functions or ()
            if traced.file is not None and traced.retraces
        ]
    return "\n".join(told)


def _why(traced: Traced) -> str:
    if not traced.needless and traced.partial:
        return f"{traced.changes[0]}, its last, partial batch"
    # Where something else changes as well, the smaller last batch is not what to look at.
    telling = [change for change in traced.changes if change.kind != SHAPE] or traced.changes
    return "; ".join(f"{change}, {ADVICE.get(change.kind, change.kind)}" for change in telling) or "unknown"


__all__ = ["ADVICE", "MOST_CHANGES", "Change", "Costs", "Traced", "beyond", "partial", "retraced", "seconds"]
