"""AlphaZero on board games: `python experiments/alphazero.py --env connect_four --seeds 2`.

Without `--env` it learns tic-tac-toe; with `--env pgx/othello` one of pgx's games. `--help` shows
every flag.
"""

import sys

from purerl.agents import alphazero
from purerl.experiment import main

if __name__ == "__main__":
    sys.exit(main(alphazero, suite=None, default_env="game/tic_tac_toe"))
