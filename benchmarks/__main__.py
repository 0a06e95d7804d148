"""`python -m benchmarks COMMAND ...`: chooses the command. Without one, lists them.

Each command writes benchmarks/results/<device>/<command>.json; `tables` renders what is there.
"""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {  # each a module of this package, with main(argv) -> exit status
    "learning": "does it learn: each task's command as a user runs it, with gates",
    "throughput": "steps/s of PPO, beside PureJaxRL",
    "compile": "seconds of the first start, and of the next one from the cache",
    "memory": "peak MB of a run, and of one eight times as long",
    "scaling": "steps/s and MB over members and devices; what a sweep costs",
    "off_policy": "steps/s of DQN and SAC beside Rejax; replay beside flashbax",
    "planning": "simulations/s of MuZero, beside mctx",
    "gpu": "on an accelerator, in 8 minutes: PPO, DQN, SAC, MuZero, brax's PPO, the tests",
    "peers": "steps/s and seconds to a score, beside Rejax, Brax, SBX, PyTorch, PureJaxRL, Stoix",
    "tables": "BENCHMARKS.md from the results",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 where something measured is not as it should be, 2 for wrong input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: python -m benchmarks COMMAND ...; COMMAND --help says what each takes\n")
        print("\n".join(f"  {name:{width}}  {about}" for name, about in COMMANDS.items()))
        return 0
    # Here, as it is not quick: what only lists commands should be.
    from benchmarks.arguments import known
    from purerl.errors import UsageError

    try:
        known("command", argv[0], COMMANDS)
        return importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:])
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
