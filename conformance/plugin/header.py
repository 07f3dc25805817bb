"""What a session says at its beginning."""

from __future__ import annotations

from importlib import metadata

from conformance import __version__
from conformance.plugin.options import Settings

TENSORFLOWS = (
    "tensorflow",
    "tensorflow-cpu",
    "tf-nightly",
    "tf-nightly-cpu",
    "tensorflow-intel",
    "tensorflow-macos",
    "tensorflow-rocm",
)
"""The distributions that bring TensorFlow, the usual ones first."""


def header(settings: Settings) -> list[str]:
    """The versions that a verdict depends on, read without importing any, and the arms and devices that are planned."""
    installed = {name: version for name in TENSORFLOWS if (version := _version(name))}
    engine = [f"{name} {version}" for name, version in installed.items()] or ["no TensorFlow installed"]
    others = [f"{name} {version}" for name in ("keras", "hypothesis") if (version := _version(name))]
    return [f"conformance {__version__}: {', '.join([*engine, *others])}", f"conformance arms: {_arms(settings)}"]


def _arms(settings: Settings) -> str:
    defaults = settings.defaults
    placements = ["single" if count == 1 else f"mirrored:{count}" for count in defaults.replicas]
    told = f"{', '.join(placements)} in {', '.join(defaults.executions)} where a test names none"
    if settings.replicas is None:
        return f"{told}; devices are made for the first test that needs them"
    from conformance.devices import AT_LEAST

    devices = max(*defaults.replicas, AT_LEAST)
    return f"{told}; {devices} logical devices, made before test modules are imported"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
