"""The directory of a run: made, held by one process, and what is left in it."""

import contextlib
import fcntl
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from purerl.engine.record import (
    CHECKPOINTS,
    CONFIG,
    differences,
    read_config,
    sweep_of,
    write_json,
)
from purerl.errors import UsageError


def prepare(path: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the run directory of a new run, or see that an old one is of the same settings.

    Raises:
      UsageError: it exists and is not to be resumed, or it is to be and is no run or another one.
    """
    if resume:
        # Devices may be others than before, how many share a member, and how many members each has.
        free = ("data_parallel", "keep", "population_batch")
        before = read_config(path)
        if "keep" not in before and "network" in settings:  # older, and did not say so
            before["network"] = settings["network"]
        before |= {name: settings[name] for name in free}
        if wrong := differences(before, settings):
            raise UsageError(f"resume={str(path)!r}: is another configuration: {'; '.join(wrong)}")
        return
    taken = UsageError(f"run_dir={str(path)!r}: exists; choose another, or --resume {quoted(path)}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise taken
        path.mkdir(parents=True, exist_ok=True)
        with held(path):  # of two runs at once that ask for it, one is refused
            if any(path.iterdir()):
                raise taken
            write_json(path / CONFIG, settings)
    except OSError as error:
        raise UsageError(f"run_dir={str(path)!r}: cannot be written: {error.strerror}") from None


def note(path: Path, **settings: Any) -> None:
    """Put into config.json what a resumed run has changed, for when it is resumed again.

    Raises:
      UsageError: it cannot be written.
    """
    before = read_config(path)
    if before | settings != before:
        try:
            write_json(path / CONFIG, before | settings)
        except OSError as error:
            said = f"cannot be written: {error.strerror}"
            raise UsageError(f"run_dir={str(path)!r}: {said}") from None


def note_versions(path: Path, versions: dict[str, str | None]) -> str:
    """Put into config.json that a run goes on with these; what it was begun with, if it differs."""
    config = read_config(path)
    before = config.get("versions", {})
    if not before or before == versions:
        return ""
    note(path, versions=versions, versions_before=[*config.get("versions_before", []), before])
    return ", ".join(f"{k} {v}" for k, v in before.items() if v != versions.get(k))


def is_disk(error: Exception) -> bool:
    """Whether it is a disk that failed."""
    # Orbax and TensorStore report a failed write as ValueError, with the system's words inside.
    words = (
        "No space left",
        "No such file",
        "ENOSPC",
        "NOT_FOUND",
        "Permission denied",
        "RESOURCE",
    )
    return isinstance(error, OSError) or any(word in str(error) for word in words)


def disk_error(path: Path, error: Exception) -> str:
    """That the directory cannot be written, and what is left of the run."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    return f"run_dir={str(path)!r}: cannot be written: {reason}; {left(path)}"


def undo(path: Path) -> None:
    """Leave nothing of a run directory in which nothing happened; it was new or empty, and ours."""
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes out of a run directory, as long as this one trains in it.

    Raises:
      UsageError: another process does.
    """
    try:
        directory = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"run_dir={str(path)!r}: cannot be read: {error.strerror}") from None
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        raise UsageError(f"run_dir={str(path)!r}: another process is training in it") from None
    except OSError:  # a disk that knows no locks
        pass
    try:
        yield
    finally:
        os.close(directory)


def gone(path: Path | None, error: Exception) -> str:
    """That another process is gone, and what is left of the run."""
    reason = " ".join(str(error).split())[:160]
    return f"distributed: another process is gone ({reason}); {left(path)}"


def left(path: Path | None) -> str:
    """What can be gone on from."""
    # By name, as Orbax would wait for processes that may be gone: complete ones are numbers.
    try:
        config = path is not None and (path / CONFIG).exists()
        names = [one.name for one in (path / CHECKPOINTS).iterdir()] if path and config else []
    except OSError:  # whatever is wrong with the disk must not hide what was
        names = []
    newest = max((int(name) for name in names if name.isdigit()), default=None)
    if newest is None or path is None:
        return "no checkpoint is left"
    return f"--resume {quoted(sweep_of(path) or path)} goes on from iteration {newest}"


def quoted(path: Path) -> str:
    """As it is typed on a command line."""
    return shlex.quote(str(path))
