"""What the plugin costs a project that does not use it: `pytest --collect-only` with and without it.

Run as a script. Runs of the two kinds alternate, each a process of its own, so that whatever else the machine does
falls on both; what is told is their medians. `without` keeps pytest from loading any plugin that is installed, and
both then name the same others, for `-p no:conformance` would still have imported ours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 40
FILES, TESTS = 20, 25
OTHERS = ("-pxdist", "-p_hypothesis_pytestplugin")
KINDS = {"without": (*OTHERS,), "with": (*OTHERS, "-pconformance.plugin")}


def seconds(project: Path, *options: str) -> float:
    """One run of a project's collection."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    # As where a wheel was installed; a checkout may have no caches, and an environment may not write them.
    environment |= {"PYTHONPYCACHEPREFIX": str(project / "caches")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-pno:cacheprovider", *options]
    start = time.perf_counter()
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "pytest.ini").write_text("[pytest]\n", "utf-8")
        body = "\n".join(f"def test_{number}():\n    pass\n" for number in range(TESTS))
        for number in range(FILES):
            (project / f"test_file_{number}.py").write_text(body, "utf-8")
        taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(RUNS + 2):
            for kind, options in KINDS.items():
                measured = seconds(project, *options)
                # The first two write the caches of bytecode.
                if number >= 2:
                    taken[kind].append(measured)
    medians = {kind: statistics.median(times) for kind, times in taken.items()}
    for kind, median in medians.items():
        print(f"{kind}: {1000 * median:.1f} ms, of {RUNS} runs the fastest {1000 * min(taken[kind]):.1f} ms")  # noqa: T201
    print(f"more: {100 * (medians['with'] / medians['without'] - 1):.1f} %")  # noqa: T201


if __name__ == "__main__":
    main()
