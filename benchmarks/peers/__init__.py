"""Peers beside us: the same task in turn, each run a process of its own.

    python -m benchmarks peers                                   every pair there is
    python -m benchmarks peers --peer rejax --task sac-pendulum  of these peers and tasks
    python -m benchmarks peers --quick                           only shows that it works
    python -m benchmarks peers --checkout stoix=DIR              a peer that is not on PyPI

Every peer has a virtual environment of its own, built from PyPI when it is first wanted. A task
gives both sides the same environment, networks and hyperparameters; what could not be made equal is
in the row. Measured are steps/s, compiling apart, and the seconds until an evaluation reaches the
task's score, without compiling (warm) and with it (cold). A peer that does not install or run is
one line, and the others go on. Results go to benchmarks/results/<machine>/peers.json.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.tasks import Pair, Task


def main(argv: list[str]) -> int:
    """0, or 1 where a peer did not install or run."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the runs need the memory
    from benchmarks.arguments import known, parser
    from benchmarks.peers import venvs
    from benchmarks.peers.tasks import PAIRS, TASKS
    from purerl.errors import UsageError, positive

    flags = parser("peers", __doc__)
    flags.add_argument("--peer", nargs="+", default=[], help=f"of {', '.join(PAIRS)}")
    flags.add_argument("--task", nargs="+", default=[], help=f"of {', '.join(TASKS)}")
    flags.add_argument("--repeats", type=int, help="pairs of runs of a row; by default 5")
    flags.add_argument("--quick", action="store_true", help="few steps, and one pair; not kept")
    flags.add_argument("--checkout", action="append", default=[], metavar="PEER=DIR")
    flags.add_argument("--cache", type=Path, help="of the environments; also PURERL_PEERS=DIR")
    given = flags.parse_args(argv)
    for name in given.peer:
        known("peer", name, PAIRS)
    for name in given.task:
        known("task", name, TASKS)
    repeats = (1 if given.quick else 5) if given.repeats is None else given.repeats
    positive("repeats", repeats)
    checkouts = venvs.checkouts(given.checkout)
    rows = [
        (peer, task)
        for peer, tasks in PAIRS.items()
        for task in tasks
        if (not given.peer or peer in given.peer) and (not given.task or task in given.task)
    ]
    if not rows:
        pairs = "; ".join(f"{peer}: {', '.join(PAIRS[peer])}" for peer in given.peer or PAIRS)
        raise UsageError(f"task={given.task}: there is no such pair; {pairs}")
    return compare_all(rows, repeats, given.quick, checkouts, venvs.folder(given.cache))


def compare_all(
    rows: list[tuple[str, str]],
    repeats: int,
    quick: bool,
    checkouts: dict[str, Path],
    cache: Path,
) -> int:
    """Every row in turn, (peer, task); what fails is said and kept. -> as `main`."""
    from benchmarks import pictures, records
    from benchmarks.peers import venvs
    from benchmarks.peers.pictures import draw
    from benchmarks.peers.tasks import PAIRS, TASKS

    broken: dict[str, str] = {}
    failed = 0
    for peer, task in rows:
        if peer not in broken:
            try:
                if venvs.PEERS[peer].checkout and peer not in checkouts:
                    raise venvs.PeerError(f"is not on PyPI; give --checkout {peer}=DIR")
                venvs.build(peer, cache)
            except venvs.PeerError as error:
                broken[peer] = f"did not install: {error}"
        about = settings(TASKS[task], PAIRS[peer][task], repeats, quick)
        try:
            if peer in broken:
                raise venvs.PeerError(broken[peer])
            found = compare_one(peer, task, about, checkouts.get(peer), cache)
        except venvs.PeerError as error:
            failed = 1
            found = {"did_not_run": str(error)}
            print(f"{peer} on {task}: did not run: {error}", flush=True)
        if quick:
            continue
        before = records.read("peers").get(records.here(), {}).get(f"{task}-{peer}", {})
        if "did_not_run" in found and "repetitions" in before:
            continue  # what was measured is not lost to a failure
        named = {"task": task, "peer": peer, "title": venvs.PEERS[peer].title}
        entry = records.provenance(**about) | named | found
        path = records.keep("peers", f"{task}-{peer}", entry)
        draw(path)
        path.with_name(pictures.SOURCES).write_text(pictures.sources(path.parent.name))
    return failed


def settings(task: "Task", pair: "Pair", repeats: int, quick: bool) -> dict[str, Any]:
    """Of a row: what both sides have in common, and what each has of its own."""
    return {
        "algorithm": task.algorithm,
        "env": task.env,
        "steps": task.quick if quick else task.steps,
        "chunks": min(task.chunks, 5) if quick else task.chunks,
        "episodes": task.episodes,
        "score": task.score,
        "greedy": pair.greedy,
        "repeats": repeats,
        "shared": task.settings,
        "purerl": pair.ours,
        "peer": pair.theirs,
        "unequal": list(pair.unequal),
    }


def compare_one(
    peer: str, task: str, about: dict[str, Any], checkout: Path | None, cache: Path
) -> dict[str, Any]:
    """Both sides of a row, alternating: versions, raw repetitions, and their summary."""
    from benchmarks.peers import compare, runs, venvs

    python = venvs.build(peer, cache)
    common = {key: about[key] for key in ("algorithm", "env", "steps", "chunks", "episodes")}
    common |= {"greedy": about["greedy"], "checkout": str(checkout) if checkout else None}
    tasks = {
        side: common | {"settings": about["shared"] | about[side]} for side in ("purerl", "peer")
    }
    commands = {"purerl": runs.ours(), "peer": runs.theirs(peer, python)}

    def show(seed: int, side: str, run: dict[str, Any]) -> None:
        at = compare.timeline(run)
        name = peer if side == "peer" else side
        reached = compare.seconds_to(about["score"], at.cold, at.returns)
        to = f"{reached:.1f} s to {about['score']:g}" if reached else f"not at {about['score']:g}"
        print(
            f"{task} {seed} {name}: {at.steps_per_second:,.0f} steps/s,"
            f" compile {at.compile_seconds:.1f} s, {to}, last {at.returns[-1]:.1f}",
            flush=True,
        )

    pairs = runs.alternate(commands, tasks, about["repeats"], show)
    found = compare.summary(pairs, about["score"])
    speed = found["steps_per_second"]
    print(
        f"{peer} on {task}: {speed['ratio']} times its steps/s ({speed['low']} to"
        f" {speed['high']}): {speed['purerl_is']}",
        flush=True,
    )
    versions = venvs.versions(peer, python, checkout)
    return {"peer_versions": versions, **found, "repetitions": pairs}
