"""MPC with the environment itself as the model: `python experiments/mpc.py --env brax/reacher`.

Without `--env` it swings up gymnax/Pendulum-v1. Nothing is learnt: what counts are the evaluations.
`--help` shows every flag.
"""

import sys

from purerl.agents import mpc
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(mpc, suite=None, default_env="gymnax/Pendulum-v1"))
