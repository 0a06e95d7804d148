"""MuZero on board games: `python experiments/muzero_games.py --env connect_four --seeds 2`.

Without `--env` it learns tic-tac-toe. `--help` shows every flag.
"""

import sys

from purerl.agents import muzero
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(muzero, suite="game", default_env="game/tic_tac_toe"))
