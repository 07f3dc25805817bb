"""Where a run happened: versions and devices."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from conformance.baseline import CORPUS, Baseline, load_baseline
from conformance.errors import UsageError
from conformance.finding import Environment

TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly", "tf-nightly-cpu")
"""The distributions that hold TensorFlow."""

_NONE = "not installed"


def version(*distributions: str) -> str:
    """The version of the first of these distributions that is installed, or `not installed`."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return _NONE


def distribution(*distributions: str) -> str | None:
    """The first of these distributions that is installed, by its name."""
    return next((name for name in distributions if version(name) != _NONE), None)


def installed() -> dict[str, str]:
    """The versions that findings depend on, by the names of `conformance.versions.DISTRIBUTIONS`."""
    return {"keras": version("keras", "keras-nightly"), "tensorflow": version(*TENSORFLOWS)}


def known_findings(baseline: str | os.PathLike[str] | None) -> Baseline:
    """The known findings that concern the versions that are installed.

    Args:
        baseline: the path of a baseline, or `corpus`: what the corpus records for these versions. None for none.

    Raises:
        UsageError: when it is something else, or cannot be read.
    """
    if baseline is None:
        return Baseline()
    given: object = baseline
    if not isinstance(given, str | os.PathLike) or given == "":
        raise UsageError(f"baseline={given!r} should be the path of a baseline, or {CORPUS!r}")
    if baseline == CORPUS:
        from conformance import cases

        return cases.baseline(*installed().values())
    return load_baseline(Path(baseline)).concerning(installed())


def environment() -> Environment:
    """This process's environment; starts TensorFlow's runtime, so devices must have been set up."""
    import tensorflow as tf

    devices = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    return Environment(
        python=platform.python_version(),
        tensorflow=tf.__version__,
        keras=version("keras", "keras-nightly"),
        numpy=version("numpy"),
        conformance=version("keras-conformance"),
        platform=platform.platform(),
        devices=", ".join(devices),
    )
