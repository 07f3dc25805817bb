"""The layers a case may be made of: one entry each, and no Keras here.

An entry says what the layer's configuration may hold, which inputs it takes, and the shape it gives, so that a model
can be drawn valid by construction and a case file checked, both before TensorFlow is imported. Shapes are without the
batch axis throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.errors import CaseError
from conformance.fields import (
    Field,
    Shape,
    choice,
    constraint,
    flag,
    penalty,
    real,
    size,
    whole,
    wholes,
)

Config = Mapping[str, Any]


@dataclass(frozen=True)
class LayerEntry:
    """What a case needs to know of one layer.

    Attributes:
        name: the class name, in `keras.layers` unless `make` is given.
        fields: its options.
        shape: (config, input shapes) to output shape, all without the batch axis.
        ranks: the ranks of input it takes, without the batch axis.
        takes: the input's kind: `float`, or `index` for whole numbers below `input_dim`.
        merges: whether it takes several inputs (of one shape, but for `Concatenate`'s axis).
        random: whether it draws random numbers, and so takes a `seed`.
        weights: whether it has weights of its own.
        samples: whether it treats the rows of a batch separately, so that a replica's part of a batch gives what the
            whole batch gives.
        make: builds the layer of a registered class; None for those of `keras.layers`.
    """

    name: str
    fields: Mapping[str, Field]
    shape: Callable[[Config, tuple[Shape, ...]], Shape]
    ranks: tuple[int, ...]
    takes: str = "float"
    merges: bool = False
    random: bool = False
    weights: bool = False
    samples: bool = True
    make: Callable[..., Any] | None = field(default=None, compare=False)


# Softmax belongs at the head, beside the loss that wants it: over one unit it is constant and hides every gradient.
_ACTIVATION = choice(None, "relu", "tanh", "sigmoid", "softplus", "gelu", also=("softmax",))
_COMMON = {"trainable": flag(first=True)}
_KERNEL = {
    "use_bias": flag(first=True),
    "kernel_regularizer": penalty(),
    "bias_regularizer": penalty(),
    "activity_regularizer": penalty(),
    "kernel_constraint": constraint(),
    **_COMMON,
}


def _same(config: Config, shapes: tuple[Shape, ...]) -> Shape:
    return shapes[0]


def _spatial(shapes: tuple[Shape, ...]) -> int:
    return min(shapes[0][:-1])


def _windowed(config: Config, shapes: tuple[Shape, ...], window: str, channels: int) -> Shape:
    # Keras's windows move by one in a convolution and, where nothing is said, by their own width in a pooling.
    width = config[window]
    stride = config.get("strides", width if window == "pool_size" else 1)
    if config.get("padding", "valid") == "same":
        spatial = tuple(-(-length // stride) for length in shapes[0][:-1])
    else:
        spatial = tuple((length - width) // stride + 1 for length in shapes[0][:-1])
    return (*spatial, channels)


def _convolution(name: str, rank: int) -> LayerEntry:
    fields = {
        "filters": whole(1, 2, 3, required=True),
        "kernel_size": size(_spatial),
        "padding": choice("valid", "same"),
        "strides": whole(1, 2),
        "activation": _ACTIVATION,
        **_KERNEL,
    }
    return LayerEntry(name, fields, lambda c, s: _windowed(c, s, "kernel_size", c["filters"]), (rank,), weights=True)


def _pooling(name: str, rank: int) -> LayerEntry:
    fields = {"pool_size": size(_spatial), "padding": choice("valid", "same"), "strides": whole(1, 2)}
    return LayerEntry(name, fields, lambda c, s: _windowed(c, s, "pool_size", s[0][-1]), (rank,))


def _global_pooling(name: str, rank: int) -> LayerEntry:
    return LayerEntry(name, {}, lambda c, s: (s[0][-1],), (rank,))


def _recurrent(name: str) -> LayerEntry:
    fields = {
        "units": whole(1, 2, 3, required=True),
        "return_sequences": flag(),
        "go_backwards": flag(),
        "kernel_regularizer": penalty(),
        **_COMMON,
    }

    def shape(config: Config, shapes: tuple[Shape, ...]) -> Shape:
        steps = (shapes[0][0],) if config.get("return_sequences", False) else ()
        return (*steps, config["units"])

    return LayerEntry(name, fields, shape, (2,), weights=True)


def _merge(name: str) -> LayerEntry:
    return LayerEntry(name, {}, _same, (1, 2, 3), merges=True)


def _plain(name: str, ranks: tuple[int, ...], **options: Any) -> LayerEntry:
    fields = options.pop("fields", {})
    return LayerEntry(name, fields, _same, ranks, **options)


def _factorizations(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    total = math.prod(shapes[0])
    pairs = tuple((total // d, d) for d in range(1, total + 1) if total % d == 0)
    return ((total,), *pairs)


def _concatenated(config: Config, shapes: tuple[Shape, ...]) -> Shape:
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


_RATE = {"rate": real(0.5, 0.25, low=0.0, high=0.95, required=True)}

_ENTRIES = (
    LayerEntry(
        "Dense",
        {"units": whole(1, 2, 3, 4, required=True), "activation": _ACTIVATION, **_KERNEL},
        lambda c, s: (*s[0][:-1], c["units"]),
        (1, 2, 3),
        weights=True,
    ),
    _convolution("Conv1D", 2),
    _convolution("Conv2D", 3),
    LayerEntry(
        "DepthwiseConv2D",
        {
            "kernel_size": size(_spatial),
            "padding": choice("valid", "same"),
            "use_bias": flag(first=True),
            "activation": _ACTIVATION,
            **_COMMON,
        },
        lambda c, s: _windowed(c, s, "kernel_size", s[0][-1]),
        (3,),
        weights=True,
    ),
    _pooling("MaxPooling1D", 2),
    _pooling("AveragePooling1D", 2),
    _pooling("MaxPooling2D", 3),
    _pooling("AveragePooling2D", 3),
    _global_pooling("GlobalAveragePooling1D", 2),
    _global_pooling("GlobalMaxPooling1D", 2),
    _global_pooling("GlobalAveragePooling2D", 3),
    _global_pooling("GlobalMaxPooling2D", 3),
    _plain(
        "BatchNormalization",
        (1, 2, 3),
        fields={
            "momentum": real(0.5, 0.75, 0.99, low=0.0, high=1.0),
            "epsilon": real(0.125, 0.001, low=0.0),
            "center": flag(first=True),
            "scale": flag(first=True),
            "synchronized": flag(),
            **_COMMON,
        },
        weights=True,
        samples=False,
    ),
    _plain(
        "LayerNormalization",
        (1, 2, 3),
        fields={
            "epsilon": real(0.125, 0.001, low=0.0),
            "center": flag(first=True),
            "scale": flag(first=True),
            **_COMMON,
        },
        weights=True,
    ),
    _plain("Dropout", (1, 2, 3), fields=_RATE, random=True),
    _plain("SpatialDropout1D", (2,), fields=_RATE, random=True),
    _plain("GaussianNoise", (1, 2, 3), fields={"stddev": real(0.5, low=0.0, required=True)}, random=True),
    LayerEntry(
        "Embedding",
        {
            "input_dim": whole(2, 3, 5, required=True),
            "output_dim": whole(1, 2, 3, required=True),
            "embeddings_regularizer": penalty(),
            **_COMMON,
        },
        lambda c, s: (*s[0], c["output_dim"]),
        (1,),
        takes="index",
        weights=True,
    ),
    _recurrent("SimpleRNN"),
    _recurrent("GRU"),
    _recurrent("LSTM"),
    _merge("Add"),
    _merge("Subtract"),
    _merge("Multiply"),
    _merge("Average"),
    _merge("Maximum"),
    LayerEntry("Concatenate", {}, _concatenated, (1, 2, 3), merges=True),
    LayerEntry("Flatten", {}, lambda c, s: (math.prod(s[0]),), (1, 2, 3)),
    LayerEntry("Reshape", {"target_shape": wholes(_factorizations)}, lambda c, s: tuple(c["target_shape"]), (1, 2, 3)),
    LayerEntry("Permute", {"dims": wholes(lambda s: ((2, 1),))}, lambda c, s: (s[0][1], s[0][0]), (2,)),
    LayerEntry(
        "ZeroPadding1D",
        {"padding": whole(1, 2, required=True)},
        lambda c, s: (s[0][0] + 2 * c["padding"], s[0][1]),
        (2,),
    ),
    LayerEntry("UpSampling1D", {"size": whole(1, 2, required=True)}, lambda c, s: (s[0][0] * c["size"], s[0][1]), (2,)),
    LayerEntry("RepeatVector", {"n": whole(1, 2, 3, required=True)}, lambda c, s: (c["n"], s[0][0]), (1,)),
    _plain("Activation", (1, 2, 3), fields={"activation": choice("relu", "tanh", "sigmoid", "gelu", required=True)}),
    _plain("LeakyReLU", (1, 2, 3), fields={"negative_slope": real(0.25, low=0.0)}),
    _plain("Softmax", (1, 2)),
    _plain(
        "ActivityRegularization",
        (1, 2, 3),
        fields={"l1": real(0.0, 0.125, low=0.0), "l2": real(0.125, low=0.0)},
    ),
)

LAYERS: dict[str, LayerEntry] = {entry.name: entry for entry in _ENTRIES}


def layer_entry(name: str, path: str) -> LayerEntry:
    """The entry of a layer.

    Raises:
        CaseError: when no such layer is known or registered.
    """
    if name not in LAYERS:
        raise CaseError(
            f"{name!r} is not a known layer - at `{path}`; the layers are {', '.join(sorted(LAYERS))}"
            " (conformance.strategies.register_layer adds one's own, in a module that a command is given by --import)"
        )
    return LAYERS[name]
