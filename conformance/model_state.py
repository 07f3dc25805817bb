"""Every variable of a model, those included that it carries from batch to batch and Keras does not list.

The states of a stateful recurrent layer are variables that `model.variables` leaves out. A run that does not begin
with them as they were begins where the last one ended, and a step that is judged without them is judged as another one.
"""

from __future__ import annotations

from typing import Any

CARRIED = "rnn_state"
"""What Keras calls the states of a recurrent layer, each of them."""


def carried_states(model: Any) -> list[tuple[str, Any]]:
    """By path the states that recurrent layers of a model carry on, each once."""
    known, found = {id(variable) for variable in model.variables}, list[tuple[str, Any]]()
    for layer in model._flatten_layers():
        states = getattr(layer, "states", None) if getattr(layer, "stateful", False) else None
        for index, state in enumerate(states if isinstance(states, list | tuple) else []):
            if hasattr(state, "assign") and id(state) not in known:
                known.add(id(state))
                found.append((f"{layer.path}/{CARRIED}_{index}", state))
    return found


def variables_of(model: Any) -> list[Any]:
    """All variables of a model, in one order for every model that is made alike."""
    return [*model.variables, *(state for _, state in carried_states(model))]


def paths_of(model: Any) -> list[str]:
    """The paths of `variables_of`."""
    return [*(variable.path for variable in model.variables), *(path for path, _ in carried_states(model))]


def is_state(variable: Any) -> bool:
    """Whether a variable is a moving statistic, a random state or what a recurrent layer carries on."""
    name: str = variable.name
    return name.startswith(("moving_", "seed_", CARRIED))
