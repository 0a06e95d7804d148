"""Does it learn? Runs each task's command as a user would and keeps what it reached.

    python -m benchmarks learning                       every task; hours on a laptop
    python -m benchmarks learning ppo-cartpole ppo-acrobot
    python -m benchmarks learning --study sac-vs-ddpg   the same tasks, steps and seeds for both;
                                                        also rainbow-vs-dqn

Results are kept in benchmarks/results/<device>/learning.json, of a study in a file of its name.
The score is the greedy evaluation return at the end: interquartile mean over seeds. Kept are also
`returns`, that of each seed; `curve`, [environment steps, score] of every evaluation; and
`curve_by_seed`, the returns [points][seeds] behind it. What is kept is drawn, one picture for each
environment, and of a study its profile and the probability of improvement.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import known, parser, quick
from benchmarks.pictures import draw
from benchmarks.quick import Row, run
from benchmarks.records import ROOT, here, keep, provenance
from benchmarks.timing import in_new_process
from purerl.analysis.intervals import iqm
from purerl.engine.record import RESULT, read_config, read_metric
from purerl.errors import UsageError


@dataclass(frozen=True)
class Task:
    """A command, and the least its score may be; None where a curve is only recorded."""

    command: str
    gate: float | None


GYMNAX, BRAX = "experiments/ppo_gymnax.py", "experiments/ppo_brax.py"
LIKE_BRAX = (
    "--n-step 1 --batch-size 512 --hidden-sizes 256 256 --capacity 1048576 --learning-starts 8192"
    " --critic-learning-rate 6e-4 --actor-learning-rate 6e-4 --target-entropy -0.5"
)
TASKS = {
    "ppo-inverted_pendulum": Task(f"{BRAX} --seeds 64", 990),
    "ppo-cartpole": Task(f"{GYMNAX} --env CartPole-v1 --seeds 16", 495),
    "ppo-acrobot": Task(f"{GYMNAX} --env Acrobot-v1 --seeds 16", -86),
    "ppo-pendulum": Task(f"{GYMNAX} --env Pendulum-v1 --seeds 16 --eval-episodes 64", -160),
    "ppo-mountain_car_continuous": Task(f"{GYMNAX} --env MountainCarContinuous-v0 --seeds 16", 90),
    "ppo-breakout": Task(f"{GYMNAX} --env Breakout-MinAtar --seeds 4", 28),
    "ppo-space_invaders": Task(f"{GYMNAX} --env SpaceInvaders-MinAtar --seeds 4", 130),
    "ppo-reacher": Task(f"{BRAX} --env reacher --seeds 16", None),
    "ppo-hopper": Task(f"{BRAX} --env hopper --seeds 16", 1000),
    "ppo-memory_chain-gru": Task(f"{GYMNAX} --env MemoryChain-bsuite --core gru --seeds 16", 0.99),
    "ppo-memory_chain-feedforward": Task(f"{GYMNAX} --env MemoryChain-bsuite --seeds 16", None),
    "dqn-cartpole": Task("experiments/dqn_gymnax.py --seeds 16", 495),
    "c51-cartpole": Task("experiments/c51_gymnax.py --seeds 16", 495),
    "qr_dqn-cartpole": Task("experiments/qr_dqn_gymnax.py --seeds 16", 495),
    "rainbow-cartpole": Task("experiments/rainbow_gymnax.py --seeds 16", 495),
    "pqn-cartpole": Task("experiments/pqn_gymnax.py --seeds 16", 495),
    "dqn-acrobot": Task("experiments/dqn_gymnax.py --env Acrobot-v1 --seeds 16", -90),
    "c51-acrobot": Task("experiments/c51_gymnax.py --env Acrobot-v1 --seeds 16", -90),
    "dqn-mountain_car": Task("experiments/dqn_gymnax.py --env MountainCar-v0 --seeds 16", -140),
    "sac-pendulum": Task("experiments/sac_gymnax.py --seeds 16 --eval-episodes 64", -160),
    "sac-mountain_car_continuous": Task(
        "experiments/sac_gymnax.py --env MountainCarContinuous-v0 --seeds 8", 90
    ),
    # 20 gradient steps an environment step, so few of these.
    **{
        f"{variant}-pendulum": Task(
            f"experiments/{variant}_gymnax.py --seeds 8 --eval-episodes 64", -200
        )
        for variant in ("redq", "droq")
    },
    "sac_discrete-cartpole": Task("experiments/sac_discrete_gymnax.py --seeds 8", 475),
    "td3-pendulum": Task("experiments/td3_gymnax.py --seeds 16 --eval-episodes 64", -170),
    "ddpg-pendulum": Task("experiments/ddpg_gymnax.py --seeds 16 --eval-episodes 64", -200),
    "mpc-pendulum": Task("experiments/mpc.py --seeds 4 --eval-episodes 16", -200),
    "mpc-pendulum-learned": Task("experiments/pets_gymnax.py --seeds 4 --eval-episodes 16", -250),
    "mpc-reacher": Task("experiments/mpc.py --env brax/reacher --seeds 4 --eval-episodes 16", None),
    "td3-inverted_pendulum": Task("experiments/td3_brax.py --seeds 16", None),
    "td3-reacher_misc": Task(
        "experiments/td3_gymnax.py --env Reacher-misc --seeds 8 --total-steps 50000", None
    ),
    "sac-reacher": Task(
        "experiments/sac_brax.py --env reacher --seeds 16 --total-steps 200000", None
    ),
    "td3-mountain_car_continuous": Task(
        "experiments/td3_gymnax.py --env MountainCarContinuous-v0 --seeds 8", 90
    ),
    "ddpg-mountain_car_continuous": Task(
        "experiments/ddpg_gymnax.py --env MountainCarContinuous-v0 --seeds 8", 90
    ),
    "sac-inverted_pendulum": Task("experiments/sac_brax.py --seeds 16", 950),
    "sac-hopper": Task("experiments/sac_brax.py --env hopper --seeds 4", None),
    "sac-halfcheetah": Task("experiments/sac_brax.py --env halfcheetah --seeds 4", None),
    # The same with others' settings, on hopper with four times as many gradient steps, each of
    # several times the work: two seeds. Those of hopper are Brax's, in the notebook training.ipynb
    # of https://github.com/google/brax; for halfcheetah it has none, these are of
    # https://github.com/EMI-Group/evorl, configs/agent/exp/sac/brax.
    "sac-hopper-brax": Task(
        f"experiments/sac_brax.py --env hopper --seeds 2 {LIKE_BRAX}"
        " --num-envs 128 --num-updates 64 --discount 0.997 --reward-scale 30",
        None,
    ),
    "sac-halfcheetah-evorl": Task(
        f"experiments/sac_brax.py --env halfcheetah --seeds 2 {LIKE_BRAX}"
        " --num-envs 256 --num-updates 32 --discount 0.95 --temperature fixed"
        " --initial-temperature 0.2",
        None,
    ),
    "ppo-hopper-million": Task(f"{BRAX} --env hopper --seeds 4 --total-steps 1000000", None),
    "ppo-halfcheetah-million": Task(
        f"{BRAX} --env halfcheetah --seeds 4 --total-steps 1000000", None
    ),
    # Against perfect play 0 is not one loss; of wins 1 and losses -1, 0.6 is four games of five.
    "alphazero-tic_tac_toe": Task("experiments/alphazero.py --eval-episodes 1000", 0.0),
    "alphazero-connect_four": Task(
        "experiments/alphazero.py --env connect_four --eval-episodes 500", 0.6
    ),
    "alphazero-connect_four-random": Task(
        "experiments/alphazero.py --env connect_four --opponent random --eval-episodes 500", 0.9
    ),
    "muzero-cartpole": Task("experiments/muzero_gymnax.py --seeds 8", 475),
    "muzero-tic_tac_toe": Task("experiments/muzero_games.py --eval-episodes 1000", -0.05),
    **{  # at equal steps
        f"{algorithm}-catch": Task(
            f"experiments/{algorithm}_gymnax.py --env Catch-bsuite --seeds 8 --total-steps 6000"
            " --eval-episodes 64",
            None,
        )
        for algorithm in ("muzero", "dqn")
    },
    # DQN after 5M frames in Young and Tian 2019, https://arxiv.org/abs/1903.03176, read off the
    # learning curves of https://github.com/kenjyoung/MinAtar (there with sticky actions).
    "dqn-breakout": Task("experiments/dqn_gymnax.py --env Breakout-MinAtar --seeds 4", 10),
    "pqn-breakout": Task("experiments/pqn_gymnax.py --env Breakout-MinAtar --seeds 4", 10),
}


SAME = {
    "gymnax": ["Pendulum-v1 --total-steps 20000", "Reacher-misc --total-steps 50000"],
    "brax": [
        "inverted_pendulum --total-steps 12500",
        "reacher --total-steps 200000",
        "hopper --total-steps 500000",
        "halfcheetah --total-steps 500000",
    ],
}
STUDIES = {
    "sac-vs-ddpg": {
        f"{algorithm}-{env.split()[0]}": Task(
            f"experiments/{algorithm}_{suite}.py --env {env} --seeds 8 --eval-episodes 32", None
        )
        for suite, envs in SAME.items()
        for env in envs
        for algorithm in ("sac", "ddpg")
    },
    "rainbow-vs-dqn": {
        f"{algorithm}-{env}": Task(
            f"experiments/{algorithm}_gymnax.py --env {env} --total-steps 500000 --seeds 4", None
        )
        for env in (
            "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar",
        )
        for algorithm in ("rainbow", "dqn")
    },
}  # fmt: skip


def compact(x: Any) -> float | None:
    """A return as it is kept: four digits behind the point; none where a seed failed."""
    return round(float(x), 4) if math.isfinite(x) else None


def run_task(name: str, task: Task) -> dict[str, object]:
    """Run one task in its own process. -> its entry in the results."""
    with tempfile.TemporaryDirectory() as scratch:
        run_dir = Path(scratch) / name
        words = [sys.executable, *task.command.split(), "--run-dir", str(run_dir)]
        began = time.perf_counter()
        child = subprocess.Popen(words, cwd=ROOT)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise UsageError(f"task={name!r}: its command ended with status {status}")
        result = json.loads((run_dir / RESULT).read_text())
        settings = read_config(run_dir)
        del settings["versions"]
        steps, values = read_metric(run_dir, "eval/return")
    score = result["greedy"]["iqm"]
    return {
        "command": f"python {task.command}",
        "gate": task.gate,
        "passed": None if task.gate is None else score >= task.gate,
        **result,
        "returns": [compact(x) for x in values[-1]],
        "curve": [[int(n), compact(iqm(x))] for n, x in zip(steps, values, strict=True)],
        "curve_by_seed": [[compact(x) for x in row] for row in values],
        "wall_seconds": round(time.perf_counter() - began, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        **provenance(**settings),
    }


# Short, and with gates that are passed by far where anything is learnt.
QUICK = {
    "ppo-CartPole-v1": Task("experiments/ppo_gymnax.py --seeds 8 --total-steps 250000", 400),
    "sac-Pendulum-v1": Task(
        "experiments/sac_gymnax.py --seeds 2 --total-steps 10000 --eval-episodes 32", -250
    ),
}


def quick_row(task: Task) -> Row:
    """The score of a task against its gate."""
    return Row("score", [in_new_process(task.command, "off")[0]["greedy"]["iqm"]], task.gate)


def chosen(tasks: dict[str, Task], agent: str | None, env: str | None) -> list[str]:
    """Names of the tasks of an agent and an environment, where these are given."""
    agents = {name.split("-")[0] for name in tasks}
    envs = {name.split("-", 1)[1] for name in tasks}
    if agent:
        known("agent", agent, sorted(agents))
    if env:
        known("env", env, sorted(envs))
    # As words between dashes: ppo-memory_chain-gru.
    fits = lambda name: (
        agent in (None, name.split("-")[0]) and (env is None or name.split("-", 1)[1] == env)
    )
    names = [name for name in tasks if fits(name)]
    if not names:
        raise UsageError(f"env={env!r}: {agent} has no task there")
    return names


def main(argv: list[str]) -> int:
    flags = parser("learning", __doc__)
    flags.add_argument("tasks", nargs="*", help="by default all")
    flags.add_argument("--study", help=f"instead of tasks: {', '.join(STUDIES)}")
    flags.add_argument("--agent", help="only tasks of this one")
    flags.add_argument("--env", help="only tasks on this one, as in the tasks' names")
    quick(flags)
    given = flags.parse_args(argv)
    if given.study:
        known("study", given.study, STUDIES)
        if given.quick:
            raise UsageError(f"study={given.study!r}: has no --quick; give tasks, or neither")
    tasks = STUDIES[given.study] if given.study else QUICK if given.quick else TASKS
    for name in given.tasks:
        known("task", name, tasks)
    names = given.tasks or chosen(tasks, given.agent, given.env)
    if given.quick:
        rows = {f"return {name}": lambda name=name: quick_row(QUICK[name]) for name in names}
        return run("learning", rows, given.keep)
    failed = []
    for name in names:
        print(f"== {name}: python {tasks[name].command}", flush=True)
        entry = run_task(name, tasks[name])
        keep(given.study or "learning", name, entry)
        failed += [name] if entry["passed"] is False else []
    draw(here())
    print(f"below their gate: {', '.join(failed)}" if failed else "all at or above their gates")
    return 1 if failed else 0
