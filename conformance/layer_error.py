"""From an exception to what went wrong in which layer.

The traceback knows more than the message. Its frames hold the layers that were called, outermost first, which gives
the path whatever the version of Keras says of it; the innermost layer's call holds the inputs; the last frame outside
the frameworks is the line somebody wrote; and below it is the operation with what it was given. An operation of a
compiled graph has left no frames; what its message still says of it is read by `conformance.refusal`.

Of tensors shapes and dtypes are read and nothing else, and what is returned is text, so that no frame outlives it.
"""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from conformance.raised import Raised, rewritten_kind, shortened
from conformance.refusal import Refusal, refusal

_OURS = Path(__file__).resolve().parent
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_FRAMEWORKS = ("tensorflow.", "keras.", "tf_keras.", "conformance.", "numpy.")

# The methods of a layer in which what is raised is that layer's; elsewhere a model only hands on.
_CALLS = frozenset({"call", "__call__", "build", "__init__", "compute_output_spec", "compute_output_shape"})

# Functions among the operations that only hand on.
_HANDS_ON = frozenset(
    {"wrapper", "binary_op_wrapper", "_apply_op_helper", "_execute", "quick_execute", "r_binary_op_wrapper"}
    | {"compute_output_spec", "symbolic_call", "error_handler", "op_dispatch_handler", "convert_to_tensor"}
)
_OPERATIONS = ("tensorflow.python.ops.", "keras.src.ops.")
_NO_OPERATIONS = ("keras.src.ops.operation", "keras.src.ops.function", "keras.src.ops.symbolic_arguments")
_COUNTED = re.compile(r"_\d+\Z")
_GENERATED = "__autograph_generated_file"

_HEAD, _TAIL, _WIDTH = 12, 48, 400
"""Lines of a traceback that are kept at its beginning and its end, and characters of each."""


def describe(error: BaseException, layers: Iterable[Any] = ()) -> Raised:
    """An exception in the model's terms.

    Args:
        error: the exception, with its traceback; those it came from are looked at where it has no frames of a layer.
        layers: the model and its layers, for errors of a compiled graph, of which only names are left.

    Returns:
        Plain text of it; no reference to a frame, a layer or a tensor is kept.
    """
    message = _message(error)
    told = refusal(message)
    frames = _telling(error)
    chain = _layers(frames)
    path, kind = _named(chain)
    if path is None and told.node is not None:
        path, kind = _in_graph(told.node, layers)
    operation, operands = _operation(frames, told)
    return Raised(
        _kind(error, message),
        shortened(message),
        path,
        operation,
        _inputs(frames, chain),
        _line(error, frames, told),
        kind,
        operands,
        printed(error),
    )


_AUTOGRAPHS = frozenset({"StagingError", "MultilineMessageKeyError"})
"""What AutoGraph raises where it cannot make the error of a user's function anew with its lines in the message."""


def _kind(error: BaseException, message: str) -> str:
    name = type(error).__name__
    return (rewritten_kind(message) or name).rpartition(".")[2] if name in _AUTOGRAPHS else name


def _message(error: BaseException) -> str:
    """The error's words; `KeyError` shows its argument as Python writes it, and so every end of a line escaped."""
    (argument, *others) = error.args or (None,)
    lone = isinstance(error, KeyError) and isinstance(argument, str) and not others
    return argument if lone and "\n" in argument else str(error)


def printed(error: BaseException) -> str | None:
    """The traceback as Python prints it, if there is one; of a long one the beginning and, more of it, the end."""
    if error.__traceback__ is None:
        return None
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    lines = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}..." for line in lines]
    left = len(lines) - _HEAD - _TAIL
    if left > 0:
        lines = [*lines[:_HEAD], f"  [{left} lines left out]", *lines[-_TAIL:]]
    return "\n".join(lines)


# The frames.

Step = tuple[FrameType, int]


def _telling(error: BaseException) -> list[Step]:
    """The frames of the first exception in the chain that passed a layer; of the first one where none did."""
    chain = list(_chain(error))
    for one in chain:
        frames = _frames(one)
        if _layers(frames):
            return frames
    return _frames(chain[0])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it came from, each once."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)


def _frames(error: BaseException) -> list[Step]:
    found: list[Step] = []
    step: TracebackType | None = error.__traceback__
    while step is not None:
        found.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return found


# The layer.


def _layers(frames: Sequence[Step]) -> list[Any]:
    """The layers that were inside one another when it was raised, outermost first; none where it was in no layer."""
    owners = [(frame.f_locals.get("self"), frame.f_code.co_name) for frame, _ in frames]
    of_layers = [(owner, name) for owner, name in owners if _is_layer(owner)]
    while of_layers and of_layers[-1][1] not in _CALLS:
        of_layers.pop()
    return list({id(owner): owner for owner, _ in of_layers}.values())


def _is_layer(owner: Any) -> bool:
    return any(base.__module__.startswith("keras.") and base.__name__ == "Layer" for base in type(owner).__mro__)


def _named(chain: Sequence[Any]) -> tuple[str | None, str | None]:
    """The path of the innermost of these layers, and its class."""
    if not chain:
        return None, None
    # A Sequential model calls a Functional one within it that nobody has ever seen.
    within = [getattr(layer, "_functional", None) for layer in chain]
    names = [_name(layer) for layer in chain if not any(layer is hidden for hidden in within)]
    # What Keras says may know of models around it that are not on the stack, or of none of them.
    path = str(getattr(chain[-1], "path", None) or "")
    told = path if path.count("/") >= len(names) - 1 and path else "/".join(names)
    return told, type(chain[-1]).__name__


def _name(layer: Any) -> str:
    """A layer's name; its class's where it has none yet."""
    try:
        return str(layer.name)
    except AttributeError:
        return type(layer).__name__


def _in_graph(node: str, layers: Iterable[Any]) -> tuple[str | None, str | None]:
    """The layer in whose scope a node is: the innermost whose path is in the node's name.

    A scope that is opened again is counted, and of a model that is traced twice every one of them is; so of `dense` and
    `dense_1`, either of which a scope `dense_1` may be, the one that is counted as the model is meant.
    """
    scopes, known = node.split("/")[:-1], list(layers)
    counts = [_count(scope, _name(known[0])) for scope in scopes] if known else []
    usual = next((count for count in counts if count is not None), "")
    best: tuple[tuple[int, int, bool], str, str] | None = None
    for layer in known:
        path = str(getattr(layer, "path", None) or _name(layer)).split("/")
        for start in range(len(scopes) - len(path) + 1):
            counts = [_count(scope, name) for scope, name in zip(scopes[start:], path, strict=False)]
            rank = (start + len(path), len(path), counts[-1] == usual)
            if None not in counts and (best is None or rank > best[0]):
                best = rank, "/".join(path), type(layer).__name__
    return (None, None) if best is None else best[1:]


def _count(scope: str, name: str) -> str | None:
    """What a scope is counted with, as `_1`, or nothing; None where it is not this name's."""
    rest = scope.removeprefix(name)
    return rest if scope.startswith(name) and (not rest or _COUNTED.fullmatch(rest)) else None


# The inputs and the operation.


def _inputs(frames: Sequence[Step], chain: Sequence[Any]) -> str | None:
    """Shapes and dtypes of what the innermost layer was called on."""
    if not chain:
        return None
    told = None
    for frame, _ in frames:
        if frame.f_code.co_name in ("call", "__call__") and frame.f_locals.get("self") is chain[-1]:
            # The first that has them: later on they may have been cast, and names bound to something else.
            told = told or _arguments(frame)
    return told


def _arguments(frame: FrameType) -> str | None:
    """Shapes and dtypes of the tensors that a function was called with, in the order of its parameters."""
    names = _parameters(frame.f_code)
    values = [frame.f_locals[name] for name in names if name in frame.f_locals and name != "self"]
    return ", ".join(_tensors(values)) or None


def _parameters(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)
    return code.co_varnames[:count]


def _tensors(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        yield f"{_shape(value.shape)} {getattr(value.dtype, 'name', value.dtype)}"


def _shape(shape: Any) -> str:
    try:
        return str(tuple(shape))
    except (TypeError, ValueError):
        return "(of unknown rank)"


def _operation(frames: Sequence[Step], told: Refusal) -> tuple[str | None, str | None]:
    """The operation that refused, and what met in it."""
    operation, function, operands = told.operation, None, told.operands
    for frame, _ in frames:
        module, name = _module(frame), frame.f_code.co_name
        if module == "tensorflow.python.framework.op_def_library":
            # The kind of operation that a graph was about to be given.
            named = frame.f_locals.get("op_type_name")
            operation = operation or (named if isinstance(named, str) else None)
        if not module.startswith(_OPERATIONS) or module in _NO_OPERATIONS:
            continue
        if name not in _HANDS_ON and not name.startswith("__"):
            function = name.removesuffix("_v2").removesuffix("_eager_fallback").lstrip("_")
        if ".gen_" in module or name == "binary_op_wrapper":
            operands = _arguments(frame) or operands
    return operation or function, operands if operation or function else None


# The line.


def _line(error: BaseException, frames: Sequence[Step], told: Refusal) -> str | None:
    """The innermost line of the user's own, as `file:line: source`; else that of a package they have installed."""
    places = [(frame.f_code.co_filename, number) for frame, number in frames if not _is_framework(frame)]
    places += [(file, number) for file, number in _translated(error) if not _of_a_framework(file)]
    places += [(file, number) for file, number in _below_us(told.made) if not _of_a_framework(file)]
    known = [(file, number) for file, number in places if _GENERATED not in file and _can_be_read(file)]
    own = [(file, number) for file, number in known if not _INSTALLED & set(Path(file).parts)]
    for file, number in reversed(own or known):
        return f"{file}:{number}: {linecache.getline(file, number).strip()}"
    return None


def _below_us(made: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    """Of the stack of a node what stands below the first of our own frames: whoever asked us has not made it."""
    ours = [number for number, (file, _) in enumerate(made) if _OURS in Path(file).resolve().parents]
    return made[ours[0] :] if ours else made


def _translated(error: BaseException) -> list[tuple[str, int]]:
    """The lines of a function that AutoGraph rewrote, as they were before."""
    stack = getattr(getattr(error, "ag_error_metadata", None), "translated_stack", None) or ()
    return [(str(item.filename), int(item.lineno)) for item in reversed(stack) if item.is_converted]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_framework(frame: FrameType) -> bool:
    return f"{_module(frame)}.".startswith(_FRAMEWORKS) or _of_a_framework(frame.f_code.co_filename)


def _of_a_framework(file: str) -> bool:
    """Whether a file is TensorFlow's, Keras's, ours or the standard library's."""
    path = Path(file)
    parts = path.parts
    for number, part in enumerate(parts[:-1]):
        if part in _INSTALLED:
            return f"{parts[number + 1]}.".startswith(_FRAMEWORKS)
    above = path.resolve().parents
    return _OURS in above or any(folder in above for folder in _STANDARD)


def _can_be_read(file: str) -> bool:
    """Whether there is a source; that of a notebook's cell is in Python's own cache alone."""
    return file in linecache.cache or Path(file).is_file()
