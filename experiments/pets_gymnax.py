"""PETS on gymnax, MPC with a learnt ensemble of networks: `python experiments/pets_gymnax.py`.

Without `--env` it swings up Pendulum-v1. `--help` shows every flag.
"""

import sys

from purerl.agents import mpc
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(mpc, suite="gymnax", default_env="gymnax/Pendulum-v1", variant="pets"))
