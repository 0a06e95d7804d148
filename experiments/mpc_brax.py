"""MPC on brax, planning with the environment itself: `python experiments/mpc_brax.py --seeds 4`.

Without `--env` it reaches with reacher. Nothing is learnt: what counts are the evaluations.
`--help` shows every flag.
"""

import sys

from purerl.agents import mpc
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(mpc, suite="brax", default_env="brax/reacher"))
