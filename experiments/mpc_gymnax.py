"""MPC on gymnax, planning with the environment: `python experiments/mpc_gymnax.py --seeds 4`.

Without `--env` it swings up Pendulum-v1. Nothing is learnt: what counts are the evaluations.
`--help` shows every flag.
"""

import sys

from purerl.agents import mpc
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(mpc, suite="gymnax", default_env="gymnax/Pendulum-v1"))
