"""A model that trains with optimizers of its own, in its `train_step`, as a GAN does with two.

They are given to it by its maker or by its own `compile`.

The key idea is that nobody but the model knows what a step of it is, so that there is no loop to hold it against and no
clause it could break. What can be told is whether it does the same on several replicas, and run in another way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from conformance.errors import UsageError
from conformance.optimizer_config import config_of

Made = Callable[[Any], Any]
"""Makes an optimizer of whatever was given for one."""


def optimizers_of(model: Any) -> dict[str, Any]:
    """The optimizers that a model holds, by the attribute that holds them; several in one are numbered."""
    import keras

    found: dict[str, Any] = {}
    for name, value in vars(model).items():
        if name.startswith("_"):
            continue
        if isinstance(value, Mapping):
            held = {f"{name}[{key!r}]": item for key, item in value.items()}
        elif isinstance(value, list | tuple):
            held = {f"{name}[{index}]": item for index, item in enumerate(value)}
        else:
            held = {name: value}
        found |= {key: item for key, item in held.items() if isinstance(item, keras.optimizers.Optimizer)}
    return found


def compiling(given: Callable[[], dict[str, Any]], optimizers: Mapping[str, Any], made: Made) -> Callable[[Any], None]:
    """A function that compiles a model as its own `compile` takes it.

    Args:
        given: makes by parameter of `keras.Model.compile` what it is to get; what its own `compile` does not take is
            left out, and its loss may be called `loss_fn`.
        optimizers: by parameter of its own `compile` the optimizers, or what makes them.
        made: makes an optimizer of one of those.
    """

    def compile_model(model: Any) -> None:
        takes = inspect.signature(model.compile).parameters
        anything = any(item.kind is item.VAR_KEYWORD for item in takes.values())
        unknown = [name for name in optimizers if name not in takes and not anything]
        if unknown:
            raise UsageError(
                f"compile() of {type(model).__name__} takes no {', '.join(unknown)}; it takes {', '.join(takes)}"
            )
        arguments = given()
        if "loss_fn" in takes and "loss" not in takes and "loss" in arguments:
            arguments["loss_fn"] = arguments.pop("loss")
        arguments = {name: value for name, value in arguments.items() if name in takes or anything}
        model.compile(**arguments, **{name: made(item) for name, item in optimizers.items()})

    return compile_model


class Optimizers:
    """The optimizers of one model, by name.

    Args:
        held: the optimizers, most of them not built yet.
    """

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._held = dict(held)
        # A learning rate that was changed meanwhile would be the new one's.
        self._configs = {name: config_of(item) for name, item in held.items()}

    def variables(self) -> dict[str, list[Any]]:
        """The variables of each that has made a step by now."""
        return {
            name: list(item.variables) for name, item in self._held.items() if item.built and item.iterations.numpy()
        }

    def beginning(self, strategy: Any) -> list[tuple[Any, Any]]:
        """Every variable that there is, with the value that a new optimizer has of it."""
        found: list[tuple[Any, Any]] = []
        for name, item in self._held.items():
            if item.built:
                with strategy.scope():
                    new = type(item).from_config(self._configs[name])
                    new.build(item._trainable_variables)
                found += zip(item.variables, [variable.numpy() for variable in new.variables], strict=True)
        return found
