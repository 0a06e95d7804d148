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
import jax.numpy as jnp

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
        env.pop("JAX_COMPILATION_CACHE_DIR", None)  # which would be taken instead
        child = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise UsageError(f"command={command!r}: ended with status {status}")
        return json.loads((run_dir / RESULT).read_text()), usage.ru_maxrss / 1024


def _loop(x: jax.Array, kernels: jax.Array, length: int) -> jax.Array:
    """What updates are made of: products of small matrices forward and back, and what lies between.

    x [256, 64], kernels [3, 64, 64].
    """

    def loss(kernels, x):
        for kernel in kernels:
            x = jnp.tanh(x @ kernel)
        return (x**2).mean()

    def step(kernels, key):
        noise = jax.random.normal(key, x.shape)
        return kernels - 1e-3 * jax.grad(loss)(kernels, x + noise), ()

    return jax.lax.scan(step, kernels, jax.random.split(jax.random.key(0), length))[0]


def calibration(length: int = 300) -> Callable[[], Any]:
    """A call of a fixed program, by which speeds of different machines and moments are divided."""
    args = jnp.ones((256, 64)), jnp.full((3, 64, 64), 0.01)
    compiled = jax.jit(lambda x, kernels: _loop(x, kernels, length)).lower(*args).compile()
    return lambda: compiled(*args)


def calibration_compile() -> float:
    """CPU seconds to trace and compile a fixed program, anew at each call.

    The loop four times over with lengths of their own, so that nothing is shared between them.
    """

    def several(x, kernels):
        for length in range(2, 6):
            kernels = _loop(x, kernels, length)
        return kernels

    args = jnp.ones((256, 64)), jnp.full((3, 64, 64), 0.01)
    began = time.process_time()
    jax.jit(lambda *args: several(*args)).lower(*args).compile()
    return time.process_time() - began
