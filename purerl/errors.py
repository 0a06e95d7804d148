"""The one error a user can cause, and how it is worded."""

import difflib
from collections.abc import Iterable
from typing import Any


class UsageError(ValueError):
    """Something the user asked for cannot be: one line with the field, the value and what may be.

    Raised before anything compiles. Command lines print it and exit with code 2.
    """


def nearest(name: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """The allowed names most like `name`, best first."""
    allowed = list(allowed)
    tail = name.rsplit("/", 1)[-1].lower()
    by_tail = {a.rsplit("/", 1)[-1].lower(): a for a in reversed(allowed)}
    close = difflib.get_close_matches(name, allowed, count, 0.5)
    close += [by_tail[t] for t in difflib.get_close_matches(tail, by_tail, count, 0.5)]
    close += [a for t, a in by_tail.items() if tail and tail in t]
    return list(dict.fromkeys(close))[:count]


def choose(field: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise UsageError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise UsageError(f"{field}={value!r}: must be one of {', '.join(allowed)}")


def positive(field: str, value: float) -> None:
    """Raise UsageError unless `value` is above zero."""
    if not value > 0:
        raise UsageError(f"{field}={value}: must be positive")
