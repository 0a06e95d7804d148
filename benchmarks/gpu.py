"""What an accelerator does, in minutes: rows by worth, each a process of its own, as JSON.

    python -m benchmarks gpu                        what fits in 8 minutes
    python -m benchmarks gpu --quick                the same path, tiny, on whatever device there is
    python -m benchmarks gpu --only dqn-CartPole-v1-64 --minutes 2
    python -m benchmarks gpu --only ppo-ant-1x4096 --profile DIR       with a jax.profiler trace

`benchmarks/gpu.sh` calls this on a machine where nothing is installed but JAX. Results are kept in
benchmarks/results/<device>/gpu.json after each row, of --quick in build/results; a row that is cut
off keeps what it had. The entry `run` says which rows were run and which no longer fitted.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import records
from benchmarks.arguments import known, parser
from benchmarks.peers.venvs import last_line
from benchmarks.records import ROOT, put
from purerl.errors import UsageError

QUICK_RESULTS = ROOT / "build" / "results"
BEGAN = "PURERL_GPU_BEGAN"  # when gpu.sh did, in seconds of the epoch
LEAST = 25  # seconds: a row that has fewer is not begun, as it would be cut off while it compiles


@dataclass(frozen=True)
class Row:
    """One row of the results.

    Attributes:
      agent, env, members: what is trained.
      settings: over those of `purerl.presets`.
      score: greedy return (IQM) to reach; the seconds of training until then are kept.
      asked: steps/s of all members together that are aimed at.
      flags: added to XLA_FLAGS.
      limit: seconds, after which the row is cut off.
      what: "train", "brax" (beside brax's own PPO) or "tests" (those marked gpu).
      quick: whether --quick runs it: one row of each kind.
    """

    agent: str = ""
    env: str = ""
    members: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    asked: int | None = None
    flags: str = ""
    limit: int = 60
    what: Literal["train", "brax", "tests"] = "train"
    quick: bool = False


CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
BREAKOUT, ANT = "gymnax/Breakout-MinAtar", "brax/ant"
# Short rollouts of very many environments: as many steps in a batch as the presets' long ones of
# few. Networks and the other numbers are those of the presets, but for ant, which has those of
# brax's notebook (4,096 environments, batches of 327,680 steps, 128 gradient steps on each).
WIDE = {
    CARTPOLE: {"unroll_length": 32, "total_steps": 5_000_000},
    BREAKOUT: {"unroll_length": 16, "total_steps": 10_000_000},
    ANT: {
        "unroll_length": 80, "num_minibatches": 32, "num_epochs": 4, "hidden_sizes": (256, 256),
        "activation": "swish", "normalize_obs": True, "normalize_reward": False, "discount": 0.97,
        "learning_rate": 3e-4, "entropy_coef": 0.01, "clip_eps": 0.3, "reward_scale": 10.0,
        "initial_log_std": 0.0, "squash": True, "schedule": "constant", "max_grad_norm": 1e9,
        "total_steps": 25_000_000,
    },
}  # fmt: skip
GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONDITIONAL,WHILE,DYNAMIC_SLICE_FUSION"


def ppo(env: str, members: int, num_envs: int, **more: Any) -> dict[str, Row]:
    """A row of PPO, under its name."""
    name = f"ppo-{env.split('/')[1]}-{members}x{num_envs}"
    return {name: Row("ppo", env, members, {"num_envs": num_envs, **WIDE[env]}, **more)}


# One of each kind first, whose limits together are within the 8 minutes; then what still fits.
ROWS: dict[str, Row] = {
    **ppo(CARTPOLE, 64, 2048, score=475, asked=50_000_000, limit=50, quick=True),
    "ppo-ant-beside-brax": Row(
        "ppo", ANT, 64, {"num_envs": 4096, **WIDE[ANT]}, limit=100, what="brax", quick=True
    ),
    "dqn-CartPole-v1-64": Row("dqn", CARTPOLE, 64, {}, score=475, limit=40, quick=True),
    "sac-Pendulum-v1-16": Row("sac", PENDULUM, 16, {}, score=-160, limit=40, quick=True),
    "muzero-CartPole-v1-16": Row("muzero", CARTPOLE, 16, {}, score=475, limit=50, quick=True),
    **ppo(BREAKOUT, 16, 2048, score=28, limit=40, quick=True),
    **ppo(ANT, 1, 4096, score=5800, limit=60, quick=True),
    "tests": Row(what="tests", limit=70, quick=True),
    # What the members of one program cost, and whether the loops are better kept on the device.
    "ppo-CartPole-v1-64x2048-graphs": Row(
        "ppo", CARTPOLE, 64, {"num_envs": 2048, **WIDE[CARTPOLE]},
        flags=f"--xla_gpu_enable_command_buffer={GRAPHS}",
    ),
    **ppo(CARTPOLE, 1, 2048),
    **ppo(CARTPOLE, 256, 2048),
    **ppo(CARTPOLE, 16, 2048),
    **ppo(BREAKOUT, 64, 2048),
    **ppo(BREAKOUT, 1, 2048),
    **ppo(ANT, 16, 2048, limit=90),
    **ppo(ANT, 64, 2048, limit=90),
    "sac-ant-16": Row("sac", ANT, 16, {}, limit=90),
    "dqn-Breakout-MinAtar-16": Row("dqn", BREAKOUT, 16, {}),
    **ppo(CARTPOLE, 64, 8192),
    **ppo(BREAKOUT, 16, 8192),
    **ppo(ANT, 1, 8192, limit=90),
    **ppo(CARTPOLE, 1, 8192),
    **ppo(BREAKOUT, 256, 2048),
    **ppo(ANT, 256, 2048, limit=120),
}  # fmt: skip


def device() -> tuple[str, str, dict[str, Any]]:
    """(machine, platform, provenance) of JAX, asked in a process that gives the device back."""
    ask = (
        "import json, jax; from benchmarks.records import here, provenance; "
        "print(json.dumps([here(), jax.default_backend(), provenance()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise UsageError(f"jax: {last_line(done.stderr)}")
    machine, platform, about = json.loads(done.stdout.splitlines()[-1])
    return machine, platform, about


def measure(name: str, quick: bool, seconds: float, profile: Path | None) -> dict[str, Any]:
    """Run one row for so many seconds at most. -> its entry, whole or as far as it came."""
    row, began = ROWS[name], time.perf_counter()
    job = {**asdict(row), "quick": quick, "profile": profile and str(profile.resolve())}
    flags = os.environ.get("XLA_FLAGS", "")
    env = os.environ | {"PURERL_CACHE": "off", "XLA_FLAGS": f"{flags} {row.flags}".strip()}
    if row.what == "tests":
        # One of them starts a process, which needs memory of its own.
        env.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if quick and not flags:
            del env["XLA_FLAGS"]  # then they compile as tests do: sooner, to slower code
    env.pop("JAX_COMPILATION_CACHE_DIR", None)  # compiling is timed
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in env:  # the old name; XLA takes one of them
        env.setdefault("XLA_CLIENT_MEM_FRACTION", "0.92")
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.measure", json.dumps(job)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            words, cwd=ROOT, env=env, stdout=out, stderr=err, start_new_session=True
        )
        try:
            status = child.wait(seconds)
            ended = "done" if status == 0 else ""
        except subprocess.TimeoutExpired:
            ended = f"cut off after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and what it has started
            child.wait()
        out.seek(0)
        err.seek(0)
        entry = merge(out.read())
        if not ended:
            said = err.read()
            ended = f"failed: {last_line(said).replace(';', ',') or 'without a word'}"
            entry["stderr"] = said[-2000:].splitlines()
    entry |= {"asked": row.asked} if row.asked else {}
    return entry | {"ended": ended, "wall_seconds": round(time.perf_counter() - began, 1)}


def merge(text: str) -> dict[str, Any]:
    """The lines of a row's output that are whole JSON objects, as one."""
    entry: dict[str, Any] = {}
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # what some library printed, or a line that was cut off
        entry |= found if isinstance(found, dict) else {}
    return entry


def in_time(
    names: Sequence[str],
    deadline: float,
    quick: bool,
    profile: Path | None,
    path: Path,
    about: dict[str, Any],
) -> dict[str, str]:
    """Run the rows that still fit, in order, and keep each. -> name -> how it ended.

    `about` is the provenance of a row that ends before it has told its own.
    """
    ends: dict[str, str] = {}
    minutes = (deadline - time.monotonic()) / 60
    for name in names:
        left, said = deadline - time.monotonic(), "not run: no time left"
        if left >= LEAST:
            entry = measure(name, quick, min(left, ROWS[name].limit), profile)
            try:
                put(path, name, about | entry)
                said = _told(entry)
            except ValueError as error:  # a number that JSON does not have
                said = f"failed: {error}"
                put(path, name, about | {"ended": said})
        ends[name] = said.partition(";")[0]
        print(f"{name}: {said}", flush=True)
        run = {"minutes": round(minutes, 1), "quick": quick, "rows": ends}
        put(path, "run", about | run)
    return ends


def _told(entry: dict[str, Any]) -> str:
    shown = ("steps_per_second", "compile_seconds", "peak_device_mb", "ratio_to_eight", "passed")
    parts = [f"{k} {entry[k]:,}" for k in shown if isinstance(entry.get(k), int | float)]
    if score := entry.get("score"):
        seconds = score["seconds"]
        parts.append(f"{score['wanted']:g} " + (f"after {seconds} s" if seconds else "not reached"))
    return f"{entry['ended']}; {', '.join(parts)}; {entry['wall_seconds']} s in all"


def main(argv: list[str]) -> int:
    # Installing, before this, counts too.
    began = time.monotonic() - max(0.0, time.time() - float(os.environ.get(BEGAN, time.time())))
    flags = parser("gpu", __doc__)
    flags.add_argument("--quick", action="store_true", help="tiny sizes, one row of each kind")
    flags.add_argument("--minutes", type=float, default=8.0, help="for everything")
    flags.add_argument("--only", nargs="+", metavar="ROW", help="these rows, in this order")
    flags.add_argument("--profile", type=Path, metavar="DIR", help="trace the one row of --only")
    flags.add_argument("--results", type=Path, metavar="DIR", help="where to keep results")
    given = flags.parse_args(argv)
    for name in given.only or ():
        known("only", name, ROWS)
    if given.profile and len(given.only or ()) != 1:
        raise UsageError(f"profile={str(given.profile)!r}: needs --only with one row")
    if given.minutes <= 0:
        raise UsageError(f"minutes={given.minutes:g}: must be more than 0")
    for number in (signal.SIGTERM, signal.SIGHUP):  # a row ends with what measures it
        signal.signal(number, lambda *_: sys.exit(143))
    machine, platform, about = device()
    if platform == "cpu" and not given.quick:
        raise UsageError("jax: sees no accelerator; --quick runs the same path, tiny, on a CPU")
    path = (
        (given.results or (QUICK_RESULTS if given.quick else records.RESULTS))
        / machine
        / "gpu.json"
    )
    names = given.only or [name for name, row in ROWS.items() if row.quick or not given.quick]
    ends = in_time(names, began + 60 * given.minutes, given.quick, given.profile, path, about)
    print(f"kept in {path}")
    return 1 if any(end.startswith("failed") for end in ends.values()) else 0
