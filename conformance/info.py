"""What this installation is, what the generator can draw, and what a run has drawn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from conformance.arm import EXECUTIONS, TRAINERS
from conformance.case import FEEDS, METRICS, PATTERNS
from conformance.causes import CAUSES
from conformance.environment import environment
from conformance.errors import UsageError
from conformance.events import CaseStarted, WorkerSpent, from_line
from conformance.layers import LAYERS
from conformance.losses import LOSSES
from conformance.optimizers import CLIPPING, COMMON, OPTIMIZERS
from conformance.referee.dispute_deviations import DISPUTE_SENTENCES


def can_draw() -> dict[str, list[str]]:
    """What the generator can draw, with what is registered by now."""
    return {
        "layers": list(LAYERS),
        "losses": list(LOSSES),
        "optimizers": list(OPTIMIZERS),
        "optimizer options": [name for name in COMMON if name != "learning_rate"],
        "clipping": list(CLIPPING),
        "metrics": list(METRICS),
        "feeds": list(FEEDS),
        "patterns": list(PATTERNS),
    }


def gather(report: str | None = None) -> dict[str, Any]:
    """Versions, devices, arms, what can be drawn, which causes can be named; and what a report's run has drawn.

    Raises:
        UsageError: when the report holds no run.
    """
    data: dict[str, Any] = {
        "environment": msgspec.to_builtins(environment()),
        "trainers": list(TRAINERS),
        "placements": ["single", "mirrored:N"],
        "executions": list(EXECUTIONS),
        "can draw": can_draw(),
        "causes": [*CAUSES, *DISPUTE_SENTENCES],
    }
    if report is not None:
        data["has drawn"] = drawn(Path(report))
    return data


def drawn(report: Path) -> dict[str, dict[str, int]]:
    """How often a run drew each layer, loss, optimizer and feed, by the cases it says it started.

    Raises:
        UsageError: when there is no `events.jsonl`.
    """
    path = report / "events.jsonl"
    if not path.is_file():
        raise UsageError(f"{report} holds no run: {path} is missing")
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("layers", "losses", "optimizers", "feeds")}
    started: list[str] = []
    for line in path.read_bytes().splitlines():
        event = from_line(line)
        if isinstance(event, CaseStarted):
            started.append(event.case)
        elif isinstance(event, WorkerSpent) and event.case is not None:
            # It is told to start again.
            started.remove(event.case)
    for text in started:
        case = json.loads(text)
        counts["layers"].update({node["layer"] for node in case["model"]["nodes"] if "layer" in node})
        counts["losses"].update({loss["name"] for loss in case["losses"]})
        counts["optimizers"].update([case["optimizer"]["name"]])
        counts["feeds"].update([case["data"].get("feed", "arrays")])
    return {name: dict(counter.most_common()) for name, counter in counts.items()}
