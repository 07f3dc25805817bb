"""Modules of a user's own that are imported by name, for the layers, losses and optimizers that they register.

The command line starts with nothing registered, and each of its workers does. So what `--import` names is imported
wherever cases are drawn, loaded or trained, and what a process has imported is kept here for the findings that it
makes: their cases name parts that nobody else knows.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from conformance.case import Case
from conformance.errors import UsageError
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import OPTIMIZERS
from conformance.strategies.register_layer import REGISTERED
from conformance.strategies.register_loss import REGISTERED_LOSSES
from conformance.strategies.register_optimizer import REGISTERED_OPTIMIZERS

_TABLES: tuple[dict[str, Any], ...] = (REGISTERED, REGISTERED_LOSSES, REGISTERED_OPTIMIZERS)
_REGISTERING = "register_layer, register_loss or register_optimizer of conformance.strategies"

_imported: dict[str, None] = {}


def import_modules(names: Iterable[str]) -> None:
    """Import modules that register parts, in their order; the current directory is searched too.

    Raises:
        UsageError: when a name is that of no module, the module cannot be imported, or it registers nothing.
    """
    for name in names:
        if name.endswith(".py"):
            raise UsageError(f"--import {name!r} is a file; name the module, as in {name.removesuffix('.py')!r}")
        if not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"--import {name!r} is no name of a module, as my_package.my_layers is")
        find_here()
        before, new = _registered(), name not in sys.modules
        try:
            # What a command prints is its own, and may be JSON.
            with contextlib.redirect_stdout(sys.stderr):
                importlib.import_module(name)
        except (Exception, SystemExit) as error:  # The user's module may raise anything.
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"--import {name!r} cannot be imported: {said}") from error
        if new and _registered() == before:
            raise UsageError(f"--import {name!r} registers nothing; it should call {_REGISTERING}")
        _imported[name] = None


def imported() -> tuple[str, ...]:
    """What this process was told to import."""
    return tuple(_imported)


def find_here() -> None:
    """Let modules be found from the current directory, as `python -m` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def own_parts(case: Case) -> dict[str, Any]:
    """By name what makes the registered layers, losses and optimizers of a case."""
    entries: list[Any] = [
        *(LAYERS[node.layer] for node in case.model.nodes if node.layer is not None),
        *(LOSSES[loss.name] for loss in case.losses),
        OPTIMIZERS[case.optimizer.name],
    ]
    return {entry.name: entry.make for entry in entries if entry.make is not None}


def folders_of(case: Case) -> tuple[Path, ...]:
    """Where the modules of a case's own parts are imported from."""
    return tuple(dict.fromkeys(_folders(own_parts(case).values())))


def _folders(parts: Iterable[Any]) -> Iterator[Path]:
    for part in parts:
        module = getattr(part, "__module__", None) or ""
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None:
            place = Path(file).resolve()
            # A module lies as many folders below as its name has dots, and a package's file one more.
            yield place.parents[module.count(".") + (place.stem == "__init__")]


def _registered() -> list[dict[str, Any]]:
    return [dict(table) for table in _TABLES]
