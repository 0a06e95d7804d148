"""How long does a start take? Compile seconds of an experiment, tracing included, as JSON.

    python -m benchmarks compile

Each start is a process of its own: the first with an empty compile cache, the second with what the
first has left there. Medians of several. Results are kept in
benchmarks/results/<device>/compile.json.
"""

import statistics
import tempfile

from benchmarks.arguments import parser
from benchmarks.records import keep, provenance
from benchmarks.timing import in_new_process

STEPS = 8192
TASKS = {
    ("ppo", "gymnax/CartPole-v1"): f"experiments/ppo_gymnax.py --total-steps {STEPS}",
    ("ppo", "brax/inverted_pendulum"): f"experiments/ppo_brax.py --total-steps {STEPS}",
}


def starts(command: str, repeats: int) -> dict[str, list[float]]:
    """Compile seconds of first starts, and of those that find the cache of the first."""
    found: dict[str, list[float]] = {"first": [], "cached": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for seconds in found.values():
                seconds.append(in_new_process(command, cache)[0]["compile_seconds"])
    return found


def main(argv: list[str]) -> int:
    flags = parser("compile", __doc__)
    flags.add_argument("--repeats", type=int, default=3)
    given = flags.parse_args(argv)
    for (agent, env), command in TASKS.items():
        seconds = starts(command, given.repeats)
        row = {f"{k}_seconds": round(statistics.median(v), 2) for k, v in seconds.items()}
        name = f"{agent}-{env.split('/')[1]}"
        about = provenance(agent=agent, env=env, total_steps=STEPS)
        keep("compile", name, about | row | {"seconds": seconds})
        print(f"{name}: {row}", flush=True)
    return 0
