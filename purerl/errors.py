"""What can go wrong for a user, and how it is worded."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


class UsageError(ValueError):
    """Something the user asked for cannot be: one line with the field, the value and what may be.

    Raised before anything compiles. Command lines print it and exit with code 2.
    """


class RunError(RuntimeError):
    """A run that could not go on: one line, saying what is left of it."""


def nearest(name: str, allowed: Iterable[str], count: int = 3) -> list[str]:
    """The allowed names most like `name`, best first. A suite before a slash is no likeness."""
    after_suite = lambda name: name.rsplit("/", 1)[-1].lower()
    alike = lambda a, b: difflib.SequenceMatcher(None, a, b).ratio()

    def likeness(one: str) -> tuple[float, float]:
        wanted, found = after_suite(name), after_suite(one)
        part = 0.7 if wanted and wanted in found else 0.0
        return max(alike(wanted, found), part), alike(name.lower(), one.lower())

    close = {one: likeness(one) for one in allowed}
    enough = max(0.5, max((tail for tail, _ in close.values()), default=0.0) - 0.2)
    found = [one for one, (tail, _) in close.items() if tail >= enough]
    return sorted(found, key=lambda one: close[one], reverse=True)[:count]


def choose(field: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise UsageError unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise UsageError(f"{field}={value!r}: must be one of {', '.join(allowed)}")


def positive(field: str, value: float) -> None:
    """Raise UsageError unless `value` is above zero."""
    if not value > 0:
        raise UsageError(f"{field}={value}: must be positive")


def whole(field: str, value: float) -> int:
    """`value` as an int, 1e6 too; raise UsageError unless it is a whole number."""
    try:
        if not isinstance(value, str) and float(value).is_integer():
            return int(value)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{field}={value!r}: must be a whole number")


def check_settings(settings: Any, kind: type) -> None:
    """Check that settings are of that kind, and what the types of its fields say.

    Literals are among theirs, switches bool, counts and sizes positive, or as
    `Annotated[int, least]` says, and numbers finite.

    Raises:
      UsageError: naming the field, its value and what is allowed.
    """
    name = lambda kind: f"{kind.__module__}.{kind.__qualname__}"
    if not isinstance(settings, kind):
        raise UsageError(f"config: is {name(type(settings))}; must be {name(kind)}")
    kinds = get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        kind, value, least = kinds[field.name], getattr(settings, field.name), 1
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            least = next((note for note in notes if type(note) is int), 1)
        if get_origin(kind) is Literal:
            choose(field.name, value, get_args(kind))
        elif kind is int:
            _count(field.name, value, least)
        elif kind == tuple[int, ...]:
            if not isinstance(value, tuple):
                raise UsageError(f"{field.name}={value!r}: must be a tuple of ints")
            for size in value:
                _count(field.name, size, least)
        elif kind is bool and not isinstance(value, bool):
            raise UsageError(f"{field.name}={value!r}: must be True or False")
        elif kind is float and not (isinstance(value, int | float) and math.isfinite(value)):
            raise UsageError(f"{field.name}={value!r}: must be a finite number")


def _count(field: str, value: Any, least: int) -> None:
    if not isinstance(value, int):
        raise UsageError(f"{field}={value!r}: must be an int")
    if value < least:
        allowed = "must be positive" if least == 1 else f"must be at least {least}"
        raise UsageError(f"{field}={value}: {allowed}")


def cached[T](make: Callable[..., T]) -> Callable[..., T]:
    """`make` of an environment, settings and perhaps a network: equal ones give the same object.

    So what is made is compiled once.

    Raises:
      UsageError: an argument that cannot be hashed; by the name of the setting, if it is in one.
    """
    once = functools.cache(make)

    @functools.wraps(make)
    def call(*args: Any) -> T:
        for place, value in enumerate(args):
            if not _hashes(value):
                _refuse_unhashable(place, value)
        return once(*args)

    return call


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _refuse_unhashable(place: int, value: Any) -> None:
    said = "must be hashable: a dataclass is if it is frozen, or has eq=False"
    if place == 0:
        raise UsageError(f"env={getattr(value, 'name', type(value).__name__)!r}: {said}")
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    for field in fields:
        if not _hashes(inner := getattr(value, field.name)):
            raise UsageError(f"{field.name}={inner!r}: must be a tuple")
    raise UsageError(f"{type(value).__name__}: {said}")
