"""DroQ on brax, SAC with dropout: `python experiments/droq_brax.py --env hopper`.

Without `--env` it balances inverted_pendulum. `--help` shows every flag.
"""

import sys

from purerl.agents import sac
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(sac, suite="brax", default_env="brax/inverted_pendulum", variant="droq"))
