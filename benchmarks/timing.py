"""How things are timed: in turn in one process, and apart in processes of their own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.records import ROOT
from purerl.engine.record import RESULT
from purerl.errors import UsageError


def alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, `repeats` times in turn, after one call of each to warm up."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - began)
    return seconds


def in_new_process(command: str, cache: str) -> tuple[dict[str, Any], float]:
    """(result.json, peak MB) of an experiment in a process of its own, with that compile cache."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch) / "run"
        words = [sys.executable, *command.split(), "--run-dir", str(run_dir)]
        env = os.environ | {"PURERL_CACHE": cache}
        child = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise UsageError(f"command={command!r}: ended with status {status}")
        return json.loads((run_dir / RESULT).read_text()), usage.ru_maxrss / 1024
