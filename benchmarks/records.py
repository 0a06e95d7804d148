"""Files of results: benchmarks/results/<device>/<name>.json, of entries by name.

An entry holds what was measured, with its raw repetitions, and what it was measured with: settings,
versions, device, cores, commit and date. Entries older than this format have no commit. Nothing
here imports JAX before it is measured with, so that tables can be made without it.
"""

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("purerl", "jax", "jaxlib", "flax", "optax", "gymnax", "brax")
STUDIES = ("sac-vs-ddpg", "rainbow-vs-dqn")  # of learning: whose improvement over whom


def slug(kind: str, count: int) -> str:
    """Name of a machine's folder: cpu-2-cores, nvidia-h200, nvidia-h200-x8.

    Args:
      kind: `device_kind` of JAX.
      count: of cores where that is "cpu", of devices otherwise.
    """
    name = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")
    if name == "cpu":
        return f"cpu-{count}-cores"
    return name if count == 1 else f"{name}-x{count}"


def here() -> str:
    """The folder's name for this machine."""
    import jax

    device = jax.devices()[0]
    return slug(device.device_kind, cores() if device.platform == "cpu" else jax.device_count())


def cores() -> int:
    """Those this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The model's name, as far as the system tells: machines of one name can differ in it."""
    about = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", about.read_text()) if about.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit that is checked out, with "+changes" where files differ.

    Without git what PURERL_COMMIT says, or None: of a copy, only who made it knows. The results
    themselves do not count: a command that keeps several would change its own name.
    """
    git = lambda *words: subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("PURERL_COMMIT")


def provenance(**settings: Any) -> dict[str, Any]:
    """What an entry says about how it was measured, here and now."""
    import jax

    from purerl.version import installed

    versions = {name: installed(name) for name in PACKAGES}
    backend = " ".join(jax.devices()[0].client.platform_version.split())
    return {
        "settings": settings,
        "versions": {**versions, "python": platform.python_version(), "backend": backend},
        "device": jax.devices()[0].device_kind,
        "cores": cores(),
        "processor": processor(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def text(content: Any, indent: int = 0) -> str:
    """JSON with a line for each field, and each list of plain values in one."""
    inside = "\n" + " " * (indent + 1)
    if isinstance(content, dict) and content:
        fields = [f"{json.dumps(k)}: {text(v, indent + 1)}" for k, v in content.items()]
        return "{" + ",".join(inside + field for field in fields) + "\n" + " " * indent + "}"
    if isinstance(content, list) and any(isinstance(x, dict | list) for x in content):
        items = [inside + text(x, indent + 1) for x in content]
        return "[" + ",".join(items) + "\n" + " " * indent + "]"
    return json.dumps(content, allow_nan=False)


def keep(file: str, name: str, entry: dict[str, Any]) -> Path:
    """Put an entry into results/<this machine>/<file>.json, for one of that name. -> its path."""
    return put(RESULTS / here() / f"{file}.json", name, entry)


def put(path: Path, name: str, entry: dict[str, Any]) -> Path:
    """Put an entry into a file of results, for one of that name. -> its path."""
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[name] = entry
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text(dict(sorted(entries.items()))) + "\n")
    part.replace(path)
    return path


def read(file: str) -> dict[str, dict[str, Any]]:
    """Machine -> entry name -> entry, of results/*/<file>.json; machines by name, CPUs first."""
    paths = sorted(RESULTS.glob(f"*/{file}.json"), key=lambda p: (p.parent.name[:4] != "cpu-", p))
    return {path.parent.name: json.loads(path.read_text()) for path in paths}
