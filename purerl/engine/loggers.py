"""Other places for the numbers of a run: TensorBoard and Weights & Biases.

Axes: M members, C configurations.
"""

import importlib
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from purerl.analysis import iqm
from purerl.errors import UsageError, choose

MOST_LINES = 100  # of one plot
LONGEST = 240  # letters of a file's name


class Logger(Protocol):
    """Somewhere that metrics go, besides metrics.csv."""

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Take the values [M] of each metric at `step` environment steps of a member."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class Careful:
    """A Logger whose failure ends its logging and not the run; `note` is told of it."""

    def __init__(self, logger: Logger, note: Callable[[str], None]):
        self._logger, self._note = logger, note
        self._failed = False

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        if not self._failed:
            self._try(lambda: self._logger.log(step, metrics))

    def close(self) -> None:
        self._try(self._logger.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # of a package that is not ours, or of a user's own
            reason = " ".join(str(error).split())[:200]
            if not self._failed:
                kind = type(self._logger).__name__
                self._note(f"{kind} logs no further ({type(error).__name__}: {reason})")
            self._failed = True


class TensorBoard:
    """Event files with the interquartile mean over seeds of every metric, one a configuration."""

    def __init__(self, run_dir: Path, labels: Sequence[str] = ("",)):
        from tensorboardX import SummaryWriter

        # TensorBoard draws directories as lines of one plot.
        path = run_dir / "tensorboard"
        # Room for all of a row: where the thread that writes has ended, the next one sees it.
        self._writers = [SummaryWriter(str(path / label), max_queue=10_000) for label in labels]

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        rows = _over_seeds(metrics, len(self._writers))
        for writer, row in zip(self._writers, rows, strict=True):
            if not _writes(writer):
                raise OSError("its thread has ended, as on a full disk")
            for name, value in row.items():
                writer.add_scalar(name, value, step)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class WeightsAndBiases:
    """One W&B run with the interquartile mean over seeds of every metric.

    Of a sweep each configuration's, as `eval/return/learning_rate=0.001`. A resumed run goes on in
    the same W&B run. The project is that of WANDB_PROJECT, or "purerl".
    """

    def __init__(self, run_dir: Path, config: dict[str, Any], labels: Sequence[str] = ("",)):
        import wandb  # pyright: ignore[reportMissingImports]

        kept = run_dir / "wandb.id"
        if not kept.exists():
            kept.write_text(uuid.uuid4().hex[:8])
        self._labels = labels
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "purerl"), name=run_dir.name, dir=run_dir,
            config=config, id=kept.read_text(), resume="allow",
        )  # fmt: skip

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        rows = zip(self._labels, _over_seeds(metrics, len(self._labels)), strict=True)
        named = lambda name, label: f"{name}/{label}" if label else name
        values = {named(name, label): x for label, row in rows for name, x in row.items()}
        self._run.log(values, step=step)

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


def one_line(labels: Sequence[str]) -> bool:
    """Whether configurations of these labels are logged as one, being too many or too long."""
    return len(labels) > MOST_LINES or max(map(len, labels)) > LONGEST


def open_logger(
    name: str, run_dir: Path, config: dict[str, Any], labels: Sequence[str] = ("",)
) -> Logger:
    """The logger of that name, one of LOGGERS; `labels` [C] tell configurations apart.

    More than 100 configurations, or such as no file can be called by, are one line: in TensorBoard
    each has a file of its own, which stays open.

    Raises:
      UsageError: it cannot be opened, such as W&B without a login.
    """
    labels = [""] if one_line(labels) else labels
    try:
        if name == "tensorboard":
            return TensorBoard(run_dir, labels)
        return WeightsAndBiases(run_dir, config, labels)
    except Exception as error:  # of a package that is not ours
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"logger={name!r}: cannot be opened ({reason})") from None


def _writes(writer: Any) -> bool:
    """Whether the thread that writes events lives; without it, adding waits for ever."""
    events = getattr(writer.file_writer, "event_writer", None)
    worker = getattr(events, "_worker", None)
    return worker is None or worker.is_alive()


def _over_seeds(metrics: dict[str, np.ndarray], configurations: int) -> list[dict[str, float]]:
    """The metrics [M] of each configuration [C], without those that have no value."""
    rows: list[dict[str, float]] = [{} for _ in range(configurations)]
    for name, values in metrics.items():
        for row, own in zip(rows, values.reshape(configurations, -1), strict=True):
            if (known := own[np.isfinite(own)]).size:
                row[name] = float(iqm(known))
    return rows
