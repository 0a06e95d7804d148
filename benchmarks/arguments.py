"""The flags of a command; what is wrong with them is one line."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from purerl.errors import UsageError, nearest


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are UsageErrors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the flags")


def parser(command: str, about: str | None) -> Parser:
    """Of `python -m benchmarks <command>`; `about` is the module's docstring."""
    return Parser(
        prog=f"python -m benchmarks {command}",
        description=about,
        formatter_class=argparse.RawTextHelpFormatter,
    )


def subject(parser: Parser) -> None:
    """Add the flags that say what is measured."""
    parser.add_argument("--agent", help="an algorithm or variant, with its tuned settings")
    parser.add_argument("--env", help="a registered environment; by default the agent's usual one")


def quick(parser: Parser) -> None:
    """Add those of benchmarks/quick.py."""
    parser.add_argument("--quick", action="store_true", help="what CI compares with what it was")
    parser.add_argument("--keep", action="store_true", help="with --quick: write it down as that")


def repeats(parser: Parser, default: int) -> None:
    """Add --repeats: how often each thing is measured."""
    parser.add_argument("--repeats", type=_positive, default=default, metavar="N")


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a positive number")
    return int(text)


def checkout_has(field: str, given: Path, inside: str) -> None:
    """Raise UsageError unless the directory `given` has the file `inside`."""
    if not (given / inside).is_file():
        raise UsageError(f"{field}={str(given)!r}: has no {inside}")


def known(field: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UsageError with the nearest names unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        close = " or ".join(nearest(value, allowed)) or f"one of {', '.join(allowed)}"
        raise UsageError(f"{field}={value!r}: is not known; did you mean {close}?")
