"""Other places for the numbers of a run: TensorBoard and Weights & Biases."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from purerl.analysis import iqm
from purerl.errors import UsageError, choose


class Logger(Protocol):
    """Somewhere that metrics go, besides metrics.csv."""

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Take the values [M] of each metric at `step` environment steps of a member."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class TensorBoard:
    """Event files with the interquartile mean over members of every metric."""

    def __init__(self, run_dir: Path):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        for name, value in _over_members(metrics).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """One W&B run with the interquartile mean over members of every metric."""

    def __init__(self, run_dir: Path, config: dict[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(project="purerl", name=run_dir.name, dir=run_dir, config=config)

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        self._run.log(_over_members(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""The package that each logger needs; the extra of the logger's name installs it."""


def check_loggers(names: Sequence[str], saves: bool = True) -> None:
    """Raise UsageError for a logger that is unknown or not installed, or has nowhere to write."""
    for name in names:
        choose("logger", name, LOGGERS)
        if not saves:
            raise UsageError(f"run_dir=None: logger={name!r} needs a run directory")
        try:
            importlib.import_module(LOGGERS[name])
        except ImportError:
            hint = f"pip install 'purerl[{name}]'"
            raise UsageError(f"logger={name!r}: is not installed; {hint}") from None


def open_logger(name: str, run_dir: Path, config: dict[str, Any]) -> Logger:
    """The logger of that name, one of LOGGERS."""
    return TensorBoard(run_dir) if name == "tensorboard" else WeightsAndBiases(run_dir, config)


def _over_members(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    known = {name: values[np.isfinite(values)] for name, values in metrics.items()}
    return {name: float(iqm(values)) for name, values in known.items() if values.size}
