"""Which functions TensorFlow traces while an arm runs, and which argument made it trace one again.

TensorFlow calls a list of callbacks with every function that it has traced, which its own debugger uses too. Listening
there changes nothing: no function is wrapped, looked up or called, and a loop that keeps its `tf.function` in a closure
is seen as well. The traced function has the types of its arguments; what it was traced from is read off the frame that
called. Where this TensorFlow has no such list, or a frame looks otherwise, the answer is that nothing was counted.

Functions are told apart by their code, as TensorFlow's own warning does it, so that one that a loop makes anew for each
batch is one function that was traced many times. What is traced inside of another trace is part of that, and what
`tf.data` traces is no part of a step.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from conformance.costs import (
    CONTEXT,
    DTYPE,
    FUNCTION,
    MOST_CHANGES,
    OBJECT,
    REPLICA,
    SHAPE,
    STRUCTURE,
    VALUE,
    VARIABLES,
    Change,
    Traced,
)
from conformance.place import Place

_FRAMEWORKS = frozenset({"tensorflow", "keras"})
_PACKAGES = frozenset({"site-packages", "dist-packages"})
_OURS = Path(__file__).resolve().parent
_LONGEST, _FRAMES = 60, 12
_DATA, _PIPELINE = "_tf_data_function", "tensorflow/python/data/"


@dataclass(frozen=True)
class Leaf:
    """The type of an argument, or of a part of one, as TensorFlow tells traces apart by it.

    Attributes:
        kind: `tensor`, `value`, `object` or `other`.
        told: the value, the object's class, or the type as it is written.
        shape: a tensor's shape, None for one of unknown rank.
        raw: the type itself; two are one if they are equal.
    """

    kind: str
    told: str
    shape: tuple[int | None, ...] | None = None
    raw: Any = None


Leaves = dict[str, Leaf]
"""By place, as in `batch[0]`, the type there."""


@dataclass
class _Seen:
    """One function: its traces so far."""

    name: str
    file: str | None
    line: int | None
    traces: int = 0
    partial: int = 0
    replicas: int = 0
    makes: bool = False
    leaves: Leaves = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)


class Retracing:
    """Counts while it is entered.

    Args:
        own: where a user's step is written that is traced as part of a function of ours; that one is then told as it.

    Attributes:
        graphs: the graphs of what was traced.
    """

    def __init__(self, own: Place | None = None) -> None:
        self._own = own
        self.graphs: list[Any] = []
        self._seen: dict[Any, _Seen] = {}
        self._callbacks = _callbacks()

    def __enter__(self) -> Retracing:
        if self._callbacks is not None:
            self._callbacks.append(self._traced)
        return self

    def __exit__(self, *_: object) -> None:
        if self._callbacks is not None and self._traced in self._callbacks:
            self._callbacks.remove(self._traced)

    @property
    def functions(self) -> tuple[Traced, ...] | None:
        """What was traced, in the order of the first traces; None where that is not told."""
        if self._callbacks is None:
            return None
        return tuple(
            Traced(
                function=item.name,
                file=item.file,
                line=item.line,
                traces=item.traces,
                partial=item.partial,
                replicas=item.replicas,
                changes=tuple(item.changes.values())[:MOST_CHANGES],
            )
            for item in self._seen.values()
        )

    def _traced(self, concrete: Any) -> None:
        try:
            self._note(concrete)
        except Exception:  # noqa: BLE001 - it runs inside of the user's training, which it must not end
            self._callbacks = None

    def _note(self, concrete: Any) -> None:
        import tensorflow as tf

        if tf.inside_function():
            return
        options, context = _caller()
        if options is None:
            raise LookupError("no frame of TensorFlow's says what was traced")
        if _DATA in (options.attributes or {}):
            return
        function = unwrapped(options.python_function)
        code = getattr(function, "__code__", None)
        if code is not None and _PIPELINE in Path(code.co_filename).as_posix():
            return
        self.graphs.append(concrete.graph)
        known = self._seen.get(code or id(function))
        if known is None:
            known = self._seen[code or id(function)] = _Seen(*self._named(function, code, options.name))
        leaves = {
            path: leaf
            for name, parameter in concrete.function_type.parameters.items()
            for path, leaf in _leaves(name, parameter.type_constraint)
        }
        # TensorFlow has traces in which variables may be made, and others; this version may not tell them apart.
        scope = getattr(getattr(options, "scope_type", None), "name", "")
        if known.traces:
            anew = options.function_cache is not None and not len(options.function_cache)
            uses = known.makes and scope == "NO_VARIABLE_CREATION"
            self._compare(known, leaves, context, anew=anew, uses=uses)
        known.traces += 1
        known.makes = scope == "VARIABLE_CREATION"
        known.leaves = leaves
        known.contexts.append(context)

    def _compare(self, known: _Seen, leaves: Leaves, context: Any, *, anew: bool, uses: bool) -> None:
        found = list(changes(known.leaves, leaves))
        if anew:
            # A function of its own would have been traced whatever its arguments are.
            found = [Change(kind=FUNCTION)]
        elif not found and uses:
            found = [Change(kind=VARIABLES)]
        elif not found:
            found = [Change(kind=REPLICA if _only_devices(context, known.contexts) else CONTEXT)]
        if found[0].kind == REPLICA:
            known.replicas += 1
        elif is_partial(known.leaves, leaves) and not known.partial and not anew:
            known.partial += 1
        for change in found:
            known.changes.setdefault((change.kind, change.argument), change)

    def _named(self, function: Any, code: CodeType | None, name: str) -> tuple[str, str | None, int | None]:
        """The function's name, file and line; no file of what is no user's."""
        if code is None:
            return printable(name), None, None
        # The innermost name says most.
        qualified = str(getattr(function, "__qualname__", code.co_name)).replace("<locals>.", "")[-_LONGEST:]
        path = Path(code.co_filename)
        if _OURS in path.resolve().parents:
            if self._own is None:
                return printable(qualified), None, None
            return printable(self._own.name), printable(self._own.file), self._own.line
        if _PACKAGES & set(path.parts) and _FRAMEWORKS & set(path.parts):
            return printable(qualified), None, None
        return printable(qualified), printable(code.co_filename, 500), code.co_firstlineno


def changes(before: Leaves, after: Leaves) -> Iterator[Change]:
    """What differs between the arguments of two traces, in the order of the arguments."""
    for path in {**before, **after}:
        first, second = before.get(path), after.get(path)
        if first is None or second is None:
            told = [leaf.told if leaf is not None else "nothing" for leaf in (first, second)]
            yield Change(kind=STRUCTURE, argument=path, before=told[0], after=told[1])
        elif first.raw != second.raw:
            yield _change(path, first, second)


def _change(path: str, first: Leaf, second: Leaf) -> Change:
    if first.kind == second.kind == "tensor":
        if first.told != second.told:
            return Change(kind=DTYPE, argument=path, before=first.told, after=second.told)
        shapes = [str(leaf.shape) if leaf.shape is not None else "unknown" for leaf in (first, second)]
        return Change(kind=SHAPE, argument=path, before=shapes[0], after=shapes[1])
    if first.kind == second.kind == "object":
        return Change(kind=OBJECT, argument=path, before=first.told, after=f"another {second.told}")
    kind = VALUE if {first.kind, second.kind} == {"value"} else STRUCTURE
    return Change(kind=kind, argument=path, before=first.told, after=second.told)


def is_partial(before: Leaves, after: Leaves) -> bool:
    """Whether nothing has changed but that tensors have fewer rows: a last, partial batch."""
    changed = [(before[path], after[path]) for path in before if path in after and before[path].raw != after[path].raw]
    if before.keys() != after.keys() or not changed:
        return False
    return all(_fewer_rows(first, second) for first, second in changed)


def _fewer_rows(first: Leaf, second: Leaf) -> bool:
    if not first.shape or not second.shape or first.told != second.told or first.shape[1:] != second.shape[1:]:
        return False
    rows = first.shape[0], second.shape[0]
    # The rows of a batch that is traced for any number of them.
    return rows[1] is None or (rows[0] is not None and rows[1] < rows[0])


def _leaves(path: str, kind: Any) -> Iterator[tuple[str, Leaf]]:
    """A type's leaves, by their places."""
    if kind is None:
        return
    parts = _parts(kind)
    if parts is not None:
        for name, part in parts:
            yield from _leaves(f"{path}[{name}]", part)
        return
    name = type(kind).__name__
    if name == "Literal":
        yield path, Leaf("value", printable(repr(kind.value)), raw=kind)
    elif name == "Weakref":
        target = getattr(kind, "_ref", lambda: None)()
        yield path, Leaf("object", printable(type(target).__name__), raw=kind)
    elif name == "TensorSpec":
        shape = None if kind.shape.rank is None else tuple(kind.shape.as_list())
        yield path, Leaf("tensor", kind.dtype.name, shape, raw=kind)
    else:
        yield path, Leaf("other", printable(kind), raw=kind)


def _parts(kind: Any) -> list[tuple[str, Any]] | None:
    """The parts of a tuple, list, dictionary or of what a strategy made for its replicas; None of anything else."""
    for attribute in ("components", "components_tuple", "_value_specs"):
        held = getattr(kind, attribute, None)
        held = getattr(held, "components", held)
        if isinstance(held, tuple | list):
            return [(str(index), part) for index, part in enumerate(held)]
    mapping = getattr(kind, "mapping", None)
    if isinstance(mapping, dict):
        return [(printable(repr(key)), part) for key, part in mapping.items()]
    return None


def _only_devices(context: Any, known: list[Any]) -> bool:
    """Whether a context is one that was known, on a device of its own that was not."""
    devices = [getattr(getattr(one, "context", None), "device_functions", None) for one in (context, *known)]
    return bool(devices[0]) and devices[0] not in devices[1:]


def _caller() -> tuple[Any, Any]:
    """The options and the context of the trace that has just ended, from the frames of TensorFlow's that made it."""
    frame: Any = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            break
        if frame.f_code.co_name == "_maybe_define_function":
            return frame.f_locals.get("tracing_options"), frame.f_locals.get("current_func_context")
        frame = frame.f_back
    return None, None


def unwrapped(function: Any) -> Any:
    """The function that somebody wrote, below what TensorFlow, AutoGraph and functools put around it."""
    for _ in range(100):
        names = ("func",) if isinstance(function, functools.partial) else ("__wrapped__", "python_function", "__func__")
        found = [held for name in names if (held := getattr(function, name, None)) is not None]
        if not found:
            break
        function = found[0]
    return function


def printable(text: object, most: int = _LONGEST) -> str:
    """One line of at most so many characters, in which nothing does anything to a terminal."""
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return line if len(line) <= most else line[: most - 3] + "..."


def _callbacks() -> list[Any] | None:
    """TensorFlow's list of who is told of every function that was traced; None where there is none."""
    try:
        from tensorflow.python.eager.polymorphic_function import transform

        found = transform.CONCRETE_FUNCTION_CALLBACKS
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, list) else None
