"""How much memory does a run take? Peak MB of it, and of one eight times as long, as JSON.

    python -m benchmarks memory
    python -m benchmarks memory --agent dqn
    python -m benchmarks memory --quick                 compared with the committed run

Each run is a process of its own, of 8 members, without evaluations while it trains. Results are
kept in benchmarks/results/<device>/memory.json.
"""

import functools

from benchmarks import subjects
from benchmarks.arguments import parser, quick, subject
from benchmarks.quick import Row, run
from benchmarks.records import keep, provenance
from benchmarks.timing import in_new_process

MEMBERS, STEPS = 8, 100_000
QUICK = {"ppo": STEPS}


def peak(agent: str, env: str, steps: int) -> float:
    """MB of the whole process."""
    command = f"{subjects.experiment(agent, env)} --seeds {MEMBERS} --eval-every 0"
    return round(in_new_process(f"{command} --total-steps {steps}", "off")[1])


def quick_row(agent: str, env: str) -> Row:
    """Peak MB of a short run; it hardly varies, so one is enough."""
    return Row("memory", [peak(agent, env, QUICK[agent])])


def main(argv: list[str]) -> int:
    flags = parser("memory", __doc__)
    subject(flags)
    flags.add_argument("--steps", type=int, default=STEPS, help="of the shorter run, each member")
    quick(flags)
    given = flags.parse_args(argv)
    if given.quick:
        rows = {
            f"memory {subjects.name_of(*pair)}": functools.partial(quick_row, *pair)
            for pair in subjects.quick_ones(QUICK, given.agent, given.env)
        }
        return run("memory", rows, given.keep)
    agent = given.agent or "ppo"
    env = subjects.check(agent, given.env)
    found = {str(n): peak(agent, env, n) for n in (given.steps, 8 * given.steps)}
    about = provenance(agent=agent, env=env, members=MEMBERS)
    keep("memory", subjects.name_of(agent, env), about | {"peak_mb_by_total_steps": found})
    print(f"peak MB by total_steps: {found}")
    return 0
