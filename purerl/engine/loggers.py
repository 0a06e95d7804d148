"""Other places for the numbers of a run: TensorBoard and Weights & Biases."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from purerl.analysis import iqm
from purerl.errors import UsageError


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
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise UsageError(_missing("tensorboard")) from None
        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        for name, value in _over_members(metrics).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """One W&B run with the interquartile mean over members of every metric."""

    def __init__(self, run_dir: Path, config: dict[str, Any]):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError(_missing("wandb")) from None
        self._run = wandb.init(project="purerl", name=run_dir.name, dir=run_dir, config=config)

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        self._run.log(_over_members(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


LOGGERS = ("tensorboard", "wandb")


def open_logger(name: str, run_dir: Path, config: dict[str, Any]) -> Logger:
    """The logger of that name, one of LOGGERS.

    Raises:
      UsageError: the package it needs is not installed.
    """
    return TensorBoard(run_dir) if name == "tensorboard" else WeightsAndBiases(run_dir, config)


def _over_members(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    known = {name: values[np.isfinite(values)] for name, values in metrics.items()}
    return {name: float(iqm(values)) for name, values in known.items() if values.size}


def _missing(name: str) -> str:
    return f"logger={name!r}: is not installed; pip install 'purerl[{name}]'"
