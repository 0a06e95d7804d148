"""Hyperparameters in the plural: grids, random samples, and how the command line writes them.

Axes: C configurations.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purerl.errors import UsageError, nearest, positive, whole

SEED = 0  # of every random sample: the same call gives the same configurations


class Uniform(NamedTuple):
    """Evenly distributed between two ends."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, n: int) -> list[Any]:
        """n numbers."""
        return rng.uniform(self.low, self.high, n).tolist()


class LogUniform(NamedTuple):
    """Whose logarithm is evenly distributed between those of two ends."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, n: int) -> list[Any]:
        """n numbers."""
        return np.exp(rng.uniform(math.log(self.low), math.log(self.high), n)).tolist()


class Choice(NamedTuple):
    """One of several values, each as likely."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator, n: int) -> list[Any]:
        """n values."""
        return [self.values[i] for i in rng.integers(len(self.values), size=n)]


type Distribution = Uniform | LogUniform | Choice


def uniform(low: float, high: float) -> Uniform:
    """Evenly distributed from `low` to `high`.

    Raises:
      UsageError: the ends are not numbers in this order.
    """
    _ends("uniform", low, high)
    return Uniform(low, high)


def log_uniform(low: float, high: float) -> LogUniform:
    """From `low` to `high`, every decade as likely.

    Raises:
      UsageError: the ends are not positive numbers in this order.
    """
    _ends("log_uniform", low, high)
    if low <= 0:
        raise UsageError(f"log_uniform: from {low:g} to {high:g}: both must be positive")
    return LogUniform(low, high)


def choice(*values: Any) -> Choice:
    """One of `values`.

    Raises:
      UsageError: there are none.
    """
    if not values:
        raise UsageError("choice: an empty list; give at least one value")
    return Choice(values)


def grid(hparams: Any, **fields: Any) -> Any:
    """Every combination of the values given, the last field changing fastest.

    Args:
      hparams: an algorithm's HParams.
      **fields: name=[values]; of the environment's, `env_params={"gravity": [...]}`.

    Returns:
      hparams with leaves [C] where a field was given.

    Raises:
      UsageError: no such field, or what is no list of values.
    """
    return batched(hparams, product(_flat(hparams, fields)))


def sample(hparams: Any, n: int, *, seed: int = SEED, **fields: Any) -> Any:
    """n random configurations.

    Args:
      hparams: an algorithm's HParams.
      n: how many.
      seed: of the draw.
      **fields: name=distribution (`uniform`, `log_uniform`, `choice`) or a list to choose from; of
        the environment's, `env_params={"gravity": uniform(8, 12)}`.

    Returns:
      hparams with leaves [n] where a field was given.

    Raises:
      UsageError: no such field, none at all, no configurations, or what is neither a distribution
        nor a list of values.
    """
    if not fields:
        raise UsageError(f"sample={n}: needs a field to draw, such as learning_rate=[1e-4, 1e-3]")
    return batched(hparams, draw(_flat(hparams, fields), n, seed))


def product(axes: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns [C] of every combination.

    Raises:
      UsageError: an axis without values.
    """
    for name, values in axes.items():
        if isinstance(values, Uniform | LogUniform):
            said = "say how many with --sample, or purerl.sample"
            raise UsageError(f"sweep: {name} is drawn at random; {said}")
        if len(values) == 0:
            raise UsageError(f"sweep: {name}=[]: an empty list; give at least one value")
    lists = [v.values if isinstance(v, Choice) else v for v in axes.values()]
    rows = list(itertools.product(*lists))
    return {name: [row[i] for row in rows] for i, name in enumerate(axes)}


def draw(axes: Mapping[str, Any], n: int, seed: int = SEED) -> dict[str, list[Any]]:
    """Columns [n] of random combinations; an axis draws the same whatever the others are.

    Raises:
      UsageError: `n` is not positive, or an axis without values.
    """
    n = whole("sample", n)
    positive("sample", n)
    columns = {}
    for name, axis in axes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        of = axis if isinstance(axis, Uniform | LogUniform | Choice) else choice(*axis)
        columns[name] = of.draw(rng, n)
    return columns


def batched(hparams: Any, columns: Mapping[str, Sequence[float]]) -> Any:
    """hparams with the columns [C] in their fields; `env_params.gravity` names one inside."""
    params = dict(hparams.env_params)
    own = {}
    for name, values in columns.items():
        field, _, inner = name.partition(".")
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"sweep: {name}={list(values)}: must be numbers") from None
        if inner:
            params[inner] = array
        else:
            own[field] = array
    return hparams._replace(**own, env_params=params)


def parse_axis(text: str) -> tuple[str, Any]:
    """(field, values or distribution) of `field=1,2,3`, `field=log:1e-5:1e-2`, `field=uniform:0:1`.

    Values stay text.

    Raises:
      UsageError: it is none of these.
    """
    name, equals, body = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name:
        raise UsageError(f"sweep={text!r}: must be FIELD=VALUE,VALUE,... or FIELD=log:LOW:HIGH")
    kind, colon, ends = body.partition(":")
    if not colon:
        values = [v.strip() for v in _split(body)]
        if not all(values):
            raise UsageError(f"sweep={text!r}: an empty value; write FIELD=VALUE,VALUE,...")
        return name, values
    make = {"log": log_uniform, "uniform": uniform}.get(kind)
    if make is None:
        raise UsageError(f"sweep={text!r}: a range is log:LOW:HIGH or uniform:LOW:HIGH")
    try:
        low, high = (float(end) for end in ends.split(":"))
    except ValueError:
        raise UsageError(f"sweep={text!r}: a range is {kind}:LOW:HIGH, two numbers") from None
    return name, make(low, high)


def _split(body: str) -> list[str]:
    """At commas outside parentheses: `(64,64),(128,128)` are two values."""
    depth, parts = 0, [""]
    for character in body:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _flat(hparams: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One level: the environment's parameters as `env_params.name`."""
    flat = {}
    for name, value in fields.items():
        if name.split(".")[0] not in hparams._fields:
            close = " or ".join(nearest(name, hparams._fields)) or ", ".join(hparams._fields)
            raise UsageError(f"{name}: no such hyperparameter; did you mean {close}?")
        if name != "env_params":
            flat[name] = value
        elif isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": values for inner, values in value.items()}
        else:
            raise UsageError(f"env_params={value!r}: must be a dict of parameters and their values")
    for name, value in flat.items():
        _check_axis(name, value)
    return flat


def _check_axis(name: str, axis: Any) -> None:
    """Raise UsageError unless it is a distribution, or values in one dimension."""
    if isinstance(axis, Uniform | LogUniform):
        return
    values = axis.values if isinstance(axis, Choice) else axis
    is_list = isinstance(values, list | tuple | range) or getattr(values, "ndim", 0) == 1
    if not is_list or any(np.ndim(value) for value in values):
        said = "must be a list of numbers, or uniform, log_uniform or choice"
        raise UsageError(f"{name}={values!r}: {said}")


def _ends(kind: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{kind}: from {low:g} to {high:g}: must be two numbers, the lower first")


def plain(value: Any) -> str:
    """A setting in a word: sizes as 64x64."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
