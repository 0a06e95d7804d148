"""Runs of one side: each a process that prints JSON, alternating with the other side's."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.venvs import PeerError, last_line
from benchmarks.records import ROOT

ADAPTERS = Path(__file__).parent / "adapters"
RUN_SECONDS = 3600
FIELDS = ("compile_seconds", "chunk_steps", "chunk_seconds", "returns")


def ours() -> list[str]:
    """The command of our side, without its task."""
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.ours"]


def theirs(name: str, python: Path) -> list[str]:
    """A peer's. -P keeps the adapters' folder out of what it imports: they have peers' names."""
    return [str(python), "-W", "ignore", "-P", str(ADAPTERS / f"{name}.py")]


def run(command: list[str], task: dict[str, Any]) -> dict[str, Any]:
    """What one process printed last.

    Raises:
      PeerError: it failed, ran too long, or printed something else.
    """
    # No compiled program is kept: neither side is to find one.
    skipped = ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH", "XLA_PYTHON_CLIENT_PREALLOCATE")
    env = {k: v for k, v in os.environ.items() if k not in skipped} | {"PURERL_CACHE": "off"}
    try:
        done = subprocess.run(
            [*command, json.dumps(task)], cwd=ROOT, env=env, capture_output=True, text=True,
            timeout=RUN_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(last_line(str(error))) from None
    if done.returncode:
        raise PeerError(last_line(done.stderr) or f"ended with status {done.returncode}")
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        found = {field: found[field] for field in FIELDS}
        enough = len(found["chunk_seconds"]) == len(found["returns"]) == task["chunks"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise PeerError("printed no result") from None
    if not enough:
        raise PeerError(f"printed {len(found['returns'])} of {task['chunks']} parts")
    if not all(map(math.isfinite, (*found["chunk_seconds"], *found["returns"]))):
        raise PeerError("its returns are not finite")
    return found


def alternate(
    commands: dict[str, list[str]],
    tasks: dict[str, dict[str, Any]],
    repeats: int,
    show: Callable[[int, str, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """[R] pairs of runs by side, with seeds 0, 1, ...; who begins alternates too."""
    pairs = []
    for seed in range(repeats):
        order = list(commands) if seed % 2 == 0 else list(commands)[::-1]
        pair = {}
        for side in order:
            pair[side] = run(commands[side], tasks[side] | {"seed": seed})
            show(seed, side, pair[side])
        pairs.append(pair)
    return pairs
