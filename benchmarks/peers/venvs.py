"""A virtual environment for every peer, built from PyPI once and kept.

They lie in ~/.cache/purerl/peers, or where PURERL_PEERS or --cache says.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from purerl.errors import UsageError

CPU_TORCH = "https://download.pytorch.org/whl/cpu"
INSTALL_SECONDS = 3600
# What Stoix imports for these tasks; tensorboard-logger needs the old protobuf. Its checkout asks
# for jax before 0.6, with which it is slower.
STOIX = (
    "stoa-env", "flashbax", "rlax>=0.1.9", "gymnax<1", "hydra-core", "colorama", "neptune",
    "wandb", "tensorboard-logger", "protobuf==3.20.3", "jax{accelerator}>=0.11,<0.12",
)  # fmt: skip


class PeerError(RuntimeError):
    """A peer could not be installed or run: one line that says why."""


@dataclass(frozen=True)
class Peer:
    """What is installed for a peer.

    Attributes:
      title: its name in tables.
      requirements: of pip; `{accelerator}` becomes the extra of jax that ours runs with.
      versions: packages whose versions the results name.
      torch: whether it needs torch, of which the build for CPUs is tried first.
      checkout: a file that its checkout has, where it is not on PyPI.
    """

    title: str
    requirements: tuple[str, ...]
    versions: tuple[str, ...]
    torch: bool = False
    checkout: str | None = None


PEERS = {
    "rejax": Peer(
        "Rejax",
        ("rejax", "gymnax<1", "jax{accelerator}>=0.11,<0.12"),
        ("rejax", "gymnax", "jax", "flax"),
    ),
    # Its PyPI release asks for functions that jax 0.10 has removed.
    "brax": Peer("Brax", ("brax>=0.14.2,<0.15", "jax{accelerator}<0.10"), ("brax", "jax", "flax")),
    "sbx": Peer(
        "SBX",
        ("sbx-rl", "jax{accelerator}>=0.11,<0.12"),
        ("sbx-rl", "stable-baselines3", "gymnasium", "jax"),
        torch=True,
    ),
    "sb3": Peer(
        "Stable-Baselines3 (PyTorch)",
        ("stable-baselines3",),
        ("stable-baselines3", "torch", "gymnasium"),
        torch=True,
    ),
    "purejaxrl": Peer(
        "PureJaxRL",
        ("gymnax<1", "distrax", "flax", "optax", "brax", "navix", "jax{accelerator}>=0.11,<0.12"),
        ("gymnax", "jax", "flax"),
        checkout="purejaxrl/ppo.py",
    ),
    "stoix": Peer(
        "Stoix",
        STOIX,
        ("stoa-env", "flashbax", "gymnax", "jax", "flax"),
        checkout="stoix/systems/ppo/anakin/ff_ppo.py",
    ),
}


def folder(given: Path | None) -> Path:
    """Where the environments are kept."""
    if given is not None:
        return given.expanduser()
    if named := os.environ.get("PURERL_PEERS"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "purerl" / "peers"


def accelerator() -> str:
    """The extra of jax that is installed here: "[cuda13]", or "" for a CPU alone."""
    installed = {found.metadata["Name"] for found in importlib.metadata.distributions()}
    return next((f"[{k}]" for k in ("cuda13", "cuda12") if f"jax-{k}-plugin" in installed), "")


def build(name: str, where: Path) -> Path:
    """The python of a peer's environment, which is made if it is not there or asks for others.

    Raises:
      PeerError: it could not be installed.
    """
    peer, place = PEERS[name], where / name
    wanted = [line.format(accelerator=accelerator()) for line in peer.requirements]
    python, mark = place / "bin" / "python", place / "installed.json"
    if mark.exists() and json.loads(mark.read_text()) == wanted:
        return python
    print(f"{name}: installing {', '.join(wanted)} into {place}", flush=True)
    _call([sys.executable, "-m", "venv", str(place)])
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if peer.torch and not accelerator():
        try:
            _call([*pip, "--retries", "0", "--index-url", CPU_TORCH, "torch"])
        except PeerError:
            print(f"{name}: torch's build for CPUs is out of reach; PyPI's takes 5 GB", flush=True)
    _call([*pip, *wanted])
    mark.write_text(json.dumps(wanted))
    return python


def versions(name: str, python: Path, checkout: Path | None) -> dict[str, str]:
    """Of what the peer runs with, and the commit of its checkout."""
    code = "import importlib.metadata as m, json, sys\n"
    code += "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found = json.loads(_call([str(python), "-c", code, *PEERS[name].versions]))
    found["python"] = _call([str(python), "-V"]).split()[-1]
    if checkout is not None:
        try:
            found[name] = _call(["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"])
        except PeerError:
            found[name] = "unknown commit"
    return found


def checkouts(given: list[str]) -> dict[str, Path]:
    """NAME=DIR of the command line -> directory by name.

    Raises:
      UsageError: no such peer, one that needs none, or a directory without its files.
    """
    from benchmarks.arguments import known

    found = {}
    for text in given:
        name, given_dir, path = text.partition("=")
        if not given_dir or not path:
            raise UsageError(f"checkout={text!r}: must be PEER=DIR")
        known("checkout", name, [peer for peer, about in PEERS.items() if about.checkout])
        inside = Path(path).expanduser() / str(PEERS[name].checkout)
        if not inside.is_file():
            raise UsageError(f"checkout={text!r}: has no {PEERS[name].checkout}")
        found[name] = Path(path).expanduser().resolve()
    return found


def _call(words: list[str]) -> str:
    """What it printed; its last line of error in a PeerError."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(last_line(str(error))) from None
    if done.returncode:
        raise PeerError(last_line(done.stderr) or f"ended with status {done.returncode}")
    return done.stdout.strip()


def last_line(text: str) -> str:
    """What went wrong: the last line that names an error, else the last; at most 200 characters.

    JAX adds lines about its traceback below the error.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(error|exception|interrupt)\b", line, re.I)]
    return (named or lines or [""])[-1][:200]
