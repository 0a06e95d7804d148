"""How does it scale? Members from 1 to 1024, devices from 1 to N, and what a sweep costs, as JSON.

    python -m benchmarks scaling
    python -m benchmarks scaling --only members | devices | sweep | sharding
    python -m benchmarks scaling --agent dqn            members and devices, with its tuned settings
    python -m benchmarks scaling --quick                8 members against one

Without --agent or --env: PPO on CartPole, 64 environments x 128 steps, 4 epochs x 4 minibatches,
64-64 tanh networks. Every point of `members` and `devices` is a process of its own, so that its
memory can be told; what is compared (`sweep`, `sharding`, both of PPO) runs in one process,
alternating, medians of several. Results are kept in benchmarks/results/<device>/scaling.json and
drawn as scaling.png beside it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

import purerl
from benchmarks import subjects
from benchmarks.arguments import known, parser, quick, repeats, subject
from benchmarks.peers.venvs import last_line
from benchmarks.quick import Row, run
from benchmarks.records import ROOT, keep, provenance
from benchmarks.throughput import CONFIG, STEPS, WORK, ours
from benchmarks.timing import alternate
from purerl.agents import ppo
from purerl.engine.cohort import Cohort
from purerl.engine.hosts import use_cores
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs
from purerl.errors import UsageError

PARTS = ("members", "devices", "sweep", "sharding")
SELF = [sys.executable, "-m", "benchmarks", "scaling"]
MEMBERS = [4**n for n in range(6)]  # 1 to 1024
FORCED = 8  # devices that a CPU is made to have, for `sharding`


def point(
    members: int, devices: int, updates: int, repeats: int, subject: tuple[str, str] | None = None
) -> dict[str, Any]:
    """One population on so many devices, in this process; of PPO on CartPole, or of `subject`."""
    iterations = max(2, updates // members)
    if subject:
        made = subjects.make(*subject)
        call, steps = subjects.training(
            made, members, iterations * made.steps_per_update, min(devices, members)
        )
    else:
        call = ours("gymnax/CartPole-v1", members, iterations, devices=devices)
        steps = members * iterations * STEPS
    seconds = alternate({"ours": call}, repeats)["ours"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "members": members,
        "devices": min(devices, members),
        "steps_per_second": round(steps / statistics.median(seconds)),
        "seconds": [round(t, 4) for t in seconds],
        "iterations": iterations,
        "peak_mb": round(peak),
        "peak_device_mb": round(stats.get("peak_bytes_in_use", 0) / 1e6),
    }


def _measured(command: list[str], env: dict[str, str] | None = None) -> dict[str, Any]:
    """What a process of this module prints last."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    if done.returncode:
        raise UsageError(last_line(done.stderr).removeprefix("error: "))
    return json.loads(done.stdout.splitlines()[-1])


def points(pairs: list[tuple[int, int]], given: Any) -> list[dict[str, Any]]:
    """Each (members, devices) in a process of its own."""
    found = []
    for members, devices in pairs:
        words = [*SELF, "--point", str(members), str(devices)]
        words += ["--updates", str(given.updates), "--repeats", str(given.repeats)]
        words += ["--agent", given.agent] if given.agent else []
        words += ["--env", given.env] if given.env else []
        found.append(_measured(words))
        row = found[-1]
        print(
            f"{row['members']} members, {row['devices']} devices:"
            f" {row['steps_per_second']:,} steps/s, {row['peak_mb']:,} MB",
            flush=True,
        )
    return found


def sweep(updates: int, repeats: int) -> dict[str, Any]:
    """3 learning rates x 3 entropy coefficients x 16 seeds, against 144 seeds of one of them."""
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), CONFIG)
    grid = purerl.grid(
        agent.hparams, learning_rate=[1e-4, 3e-4, 1e-3], entropy_coef=[0.0, 0.01, 0.02]
    )
    where = place(144)
    before = compile_programs.cache_info().misses
    iterations = max(2, updates // 144)
    cohorts = {
        "swept": Cohort(population(grid, 16), where, compile_programs(agent, where, 1, 1)),
        "seeds": Cohort(
            population(agent.hparams, 144), where, compile_programs(agent, where, 1, 1)
        ),
    }
    compilations = compile_programs.cache_info().misses - before
    calls = {name: lambda c=c: c.advance(0, iterations, 1000) for name, c in cohorts.items()}
    seconds = alternate(calls, repeats)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    out = {
        "seconds": {name: [round(t, 3) for t in times] for name, times in seconds.items()},
        "ratio": round(medians["swept"] / medians["seeds"], 3),
        "compilations": compilations,
        "devices": where.mesh.size,
    }
    print(f"sweep of 9 x 16: {out['ratio']} of the time of 144 seeds, {compilations} compilation")
    return out


def sharding(updates: int, repeats: int) -> dict[str, Any]:
    """64 members on all devices against the same on one, in turn in this process."""
    count, iterations = jax.device_count(), max(2, updates // 64)
    calls = {
        "sharded": ours("gymnax/CartPole-v1", 64, iterations, batch=4, devices=count),
        "one_device": ours("gymnax/CartPole-v1", 64, iterations, batch=4, devices=1),
    }
    seconds = alternate(calls, repeats)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "devices": count,
        "seconds": {name: [round(t, 3) for t in times] for name, times in seconds.items()},
        "ratio": round(medians["sharded"] / medians["one_device"], 3),
    }


def forced_sharding(given: Any) -> dict[str, Any]:
    """`sharding` in a process whose CPU has FORCED devices, and in another that has just one.

    A device among several has fewer threads than one that is alone; the second process is the
    faster of the two ways not to shard.
    """
    repeat = ["--updates", str(given.updates), "--repeats", str(given.repeats)]

    def apart(devices: int, *words: str) -> dict[str, Any]:
        env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
        command = [*SELF, *words, *repeat]
        return _measured(command, env)

    found = apart(FORCED, "--sharding-here")
    alone = apart(1, "--point", "64", "1")["seconds"]
    sharded = statistics.median(found["seconds"]["sharded"])
    found["seconds"]["alone"] = [round(t, 3) for t in alone]
    found["ratio_alone"] = round(sharded / statistics.median(alone), 3)
    print(
        f"64 members on {found['devices']} devices: {found['ratio']} of the time on one of them,"
        f" {found['ratio_alone']} of that in a process with one device"
    )
    return found


def quick_row(repeats: int = 7) -> Row:
    """Steps/s of 8 members of PPO over those of one, on one device, in turn."""
    agent = subjects.make("ppo", "gymnax/CartPole-v1")
    (one, few), (eight, many) = (subjects.training(agent, n, 65_536 // n) for n in (1, 8))
    seconds = alternate({"one": one, "eight": eight}, repeats)
    pairs = zip(seconds["one"], seconds["eight"], strict=True)
    return Row("share", [round(many / b / (few / a), 3) for a, b in pairs])


def draw(entries: dict[str, Any], path: Path) -> None:
    """Steps/s and memory over members; steps/s over devices."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    column = lambda rows, name: [row[name] for row in rows]
    by_members, by_devices = entries["members"]["rows"], entries["devices"]["rows"]
    shown = [
        (by_members, "members", "steps_per_second", "environment steps/s", 1e-3, "thousand "),
        (by_members, "members", "peak_mb", "peak MB of the process", 1, ""),
        (by_devices, "devices", "steps_per_second", "environment steps/s", 1e-3, "thousand "),
    ]
    for axes, (rows, x, y, label, unit, prefix) in zip(panels, shown, strict=True):
        axes.plot(column(rows, x), [v * unit for v in column(rows, y)], "o-", color="#1f5fa8")
        axes.set_xscale("log", base=2)
        axes.set_xticks(column(rows, x), [str(v) for v in column(rows, x)])
        axes.minorticks_off()
        axes.set(xlabel=x, ylabel=f"{prefix}{label}")
        axes.set_ylim(0, 1.1 * unit * max(column(rows, y)))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4")
    panels[2].set_title(f"{by_devices[0]['members']} members", fontsize=10)
    entry = entries["members"]
    figure.suptitle(f"PPO on CartPole, {entry['device']}, {entry['cores']} cores", fontsize=11)
    figure.savefig(path)


def main(argv: list[str]) -> int:
    flags = parser("scaling", __doc__)
    subject(flags)
    flags.add_argument("--only", help=", ".join(PARTS))
    flags.add_argument("--most", type=int, default=1024, help="members")
    flags.add_argument("--updates", type=int, default=128, help="iterations a repeat, over members")
    repeats(flags, 5)
    flags.add_argument("--point", type=int, nargs=2, help=argparse.SUPPRESS)
    flags.add_argument("--sharding-here", action="store_true", help=argparse.SUPPRESS)
    quick(flags)
    given = flags.parse_args(argv)
    other = bool(given.agent or given.env)
    parts = PARTS[:2] if other else PARTS
    if given.only:
        known("only", given.only, parts)
    env = subjects.check(given.agent or "ppo", given.env)
    chosen = (given.agent or "ppo", env) if other else None
    if given.quick:
        if other and chosen != ("ppo", "gymnax/CartPole-v1"):
            raise UsageError("agent: --quick is of ppo on gymnax/CartPole-v1")
        return run("scaling", {"8 members of ppo-CartPole-v1": quick_row}, given.keep)
    use_cores()
    if given.point:
        members, devices = given.point
        print(json.dumps(point(members, devices, given.updates, given.repeats, chosen)))
        return 0
    if given.sharding_here:
        print(json.dumps(sharding(given.updates, given.repeats)))
        return 0
    device, count = jax.devices()[0], jax.device_count()
    for part in [given.only] if given.only else parts:
        if part == "members":
            found = {"rows": points([(n, count) for n in MEMBERS if n <= given.most], given)}
        elif part == "devices":
            several = {2**n for n in range(count.bit_length()) if 2**n <= count} | {count}
            found = {"rows": points([(64, n) for n in sorted(several)], given)}
        elif part == "sweep":
            found = sweep(given.updates, given.repeats)
        elif device.platform == "cpu":
            found = forced_sharding(given)
        else:
            found = sharding(given.updates, given.repeats)
        name = f"{part}-{subjects.name_of(*chosen)}" if chosen else part
        about = dict(zip(("agent", "env"), chosen, strict=True)) if chosen else WORK
        path = keep("scaling", name, provenance(**about) | found)
    known_parts = json.loads(path.read_text())
    if {"members", "devices"} <= known_parts.keys():
        draw(known_parts, path.with_suffix(".png"))
    return 0
