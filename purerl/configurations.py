"""From `--sweep` flags to groups that share one compilation each, and back to flags."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from purerl.errors import UsageError, choose, nearest
from purerl.sweeps import LogUniform, Uniform, batched, draw, parse_axis, plain, product


class Group(NamedTuple):
    """Configurations that one compiled program trains.

    Attributes:
      name: what tells it from the other groups, `num_envs=16`; empty if it is the only one.
      config: the algorithm's Config.
      hparams: HParams, with leaves [C] where they sweep.
      fields: the swept fields of Config, and their values here.
    """

    name: str
    config: Any
    hparams: Any
    fields: dict[str, Any]


def expand(texts: Sequence[str], sample: int | None, config: Any, hparams: Any) -> list[Group]:
    """The groups that `--sweep` and `--sample` ask for, in the order in which they first appear.

    Args:
      texts: of `--sweep`, each as `parse_axis` reads it.
      sample: how many random combinations, or None for all.
      config: what the fields of Config are where they do not sweep.
      hparams: likewise; `hparams.env_params` holds all of the environment's.

    Raises:
      UsageError: an unknown field, one given twice, or values that it cannot take.
    """
    axes: dict[str, Any] = {}
    for text in texts:
        given, axis = parse_axis(text)
        name = _resolve(given, config, hparams)
        if name in axes:
            raise UsageError(f"sweep: {given} is given twice")
        kind = get_type_hints(type(config)).get(name, float)
        if isinstance(axis, Uniform | LogUniform):
            if kind is not float:
                raise UsageError(f"sweep={text!r}: {given} is not a real number; list its values")
            axes[name] = axis
        else:
            axes[name] = [_read(given, kind, value) for value in axis]
    if sample is not None and not axes:
        raise UsageError(f"sample={sample}: needs --sweep FIELD=...")
    columns = product(axes) if sample is None else draw(axes, sample)
    if not columns:
        return [Group("", config, hparams, {})]

    static = {f.name for f in dataclasses.fields(config)} & set(columns)
    members: dict[tuple, list[int]] = {}
    for i in range(len(next(iter(columns.values())))):
        members.setdefault(
            tuple(columns[name][i] for name in columns if name in static), []
        ).append(i)
    groups = []
    for values, rows in members.items():
        fields = dict(zip((name for name in columns if name in static), values, strict=True))
        traced = {k: [v[i] for i in rows] for k, v in columns.items() if k not in static}
        name = ",".join(f"{k}={plain(v)}" for k, v in fields.items()) if len(members) > 1 else ""
        configured = dataclasses.replace(config, **fields)
        groups.append(Group(name, configured, batched(hparams, traced), fields))
    return groups


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """What to type for these settings; None is left out."""
    words = []
    for name, value in settings.items():
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, tuple | list):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


def _resolve(name: str, config: Any, hparams: Any) -> str:
    """The field that is meant; the environment's parameters by their name alone, too."""
    static = [f.name for f in dataclasses.fields(config)]
    traced = [f for f in hparams._fields if f != "env_params"]
    if name in static or name in traced:
        return name
    inner = name.removeprefix("env_params.")
    if inner in hparams.env_params:
        return f"env_params.{inner}"
    known = [*traced, *static, *hparams.env_params]
    close = " or ".join(nearest(name, known)) or ", ".join(known)
    raise UsageError(f"sweep: {name}: no such field; did you mean {close}?")


def _read(name: str, kind: Any, text: str) -> Any:
    """A value as the field's type wants it."""
    if get_origin(kind) is Literal:
        choose(name, text, get_args(kind))
        return text
    if kind is bool:
        choose(name, text.lower(), ("true", "false"))
        return text.lower() == "true"
    if kind == tuple[int, ...]:
        if not re.fullmatch(r"\(?\d+([x,]\s*\d+)*,?\)?", text):
            raise UsageError(f"sweep: {name}={text!r}: must be sizes, as 64x64")
        return tuple(int(size) for size in re.findall(r"\d+", text))
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        wanted = "an integer" if kind is int else "a number"
        raise UsageError(f"sweep: {name}={text!r}: must be {wanted}") from None
