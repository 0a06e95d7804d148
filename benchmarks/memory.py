"""How much memory does a run take? Peak MB of it, and of one eight times as long, as JSON.

    python -m benchmarks memory

Each run is a process of its own, without evaluations while it trains. Results are kept in
benchmarks/results/<device>/memory.json.
"""

from benchmarks.arguments import parser
from benchmarks.records import keep, provenance
from benchmarks.timing import in_new_process

COMMAND = "experiments/ppo_gymnax.py --seeds 8 --eval-every 0 --total-steps {}"
STEPS = (10**5, 8 * 10**5)


def main(argv: list[str]) -> int:
    parser("memory", __doc__).parse_args(argv)
    peak = {str(n): round(in_new_process(COMMAND.format(n), "off")[1]) for n in STEPS}
    about = provenance(agent="ppo", env="gymnax/CartPole-v1", members=8)
    keep("memory", "ppo-CartPole-v1", about | {"peak_mb_by_total_steps": peak})
    print(f"peak MB by total_steps: {peak}")
    return 0
