"""A model's graph while it is drawn: its calls so far, their names and their shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from conformance.case import Input, Model, Node
from conformance.fields import Shape
from conformance.frozen import FrozenMap
from conformance.layers import LAYERS


def snake(name: str) -> str:
    """A layer's name as Keras writes it in instance names.

    Example:
        >>> snake("GlobalMaxPooling1D"), snake("LSTM"), snake("LeakyReLU")
        ('global_max_pooling1d', 'lstm', 'leaky_re_lu')
    """
    text = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name))
    text = re.sub(r"_+", "_", re.sub(r"[^a-z0-9_]", "", text.lower()))
    return text if text[:1].isalpha() else f"layer_{text.lstrip('_')}"


class Graph:
    """Inputs and nodes in the order they were added, every one with its shape without the batch axis."""

    def __init__(self) -> None:
        self.inputs: dict[str, Input] = {}
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}

    def input(self, shape: Shape, below: int | None = None) -> str:
        """Add an input; its name."""
        name = self._fresh("input")
        self.inputs[name] = Input(name=name, shape=shape, below=below)
        self.shapes[name] = shape
        return name

    def call(self, layer: str, config: Mapping[str, Any], *inputs: str) -> str:
        """Add a call of a new layer; its name."""
        name = self._fresh(snake(layer))
        return self._add(Node(name=name, layer=layer, config=FrozenMap(config), inputs=inputs))

    def call_again(self, owner: str, *inputs: str) -> str:
        """Add another call of the layer that the node `owner` made or shares; its name."""
        made = self.nodes[owner].shares or owner
        return self._add(Node(name=self._fresh(f"{made}_call", 2), inputs=inputs, shares=made))

    def below(self, name: str) -> int | None:
        """The number the indices of an input stay below; None for real values."""
        return self.inputs[name].below if name in self.inputs else None

    def tensors(self) -> Iterator[str]:
        """The names of everything that holds real values, latest first."""
        return (name for name in reversed(self.shapes) if self.below(name) is None)

    @property
    def is_chain(self) -> bool:
        """Whether every node takes the one before it alone, and makes its own layer."""
        names = [*self.inputs, *self.nodes]
        chained = zip(names, self.nodes.values(), strict=False)
        return len(self.inputs) == 1 and all(node.inputs == (name,) and not node.shares for name, node in chained)

    def model(self, kind: str, outputs: Iterable[str]) -> Model:
        """The finished model."""
        nodes = tuple(self.nodes.values())
        return Model(kind=kind, inputs=tuple(self.inputs.values()), nodes=nodes, outputs=tuple(outputs))

    def _add(self, node: Node) -> str:
        owner = self.nodes[node.shares] if node.shares else node
        self.nodes[node.name] = node
        incoming = tuple(self.shapes[name] for name in node.inputs)
        self.shapes[node.name] = tuple(LAYERS[owner.layer or ""].shape(owner.config, incoming))
        return node.name

    def _fresh(self, stem: str, number: int = 1) -> str:
        while f"{stem}_{number}" in self.shapes:
            number += 1
        return f"{stem}_{number}"
