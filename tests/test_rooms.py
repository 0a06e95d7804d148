"""Imports point one way only: each room sees the rooms below it, and never a sibling agent."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "purerl").rglob("*.py"))

BASE = {"types", "errors", "spaces"}
# Room -> the rooms it may import, besides itself. Those not named here are the command line, which
# may import any.
ALLOWED = {
    "types": set(),
    "errors": set(),
    "spaces": {"types", "errors"},
    "ops": {"types"},
    "envs": BASE | {"ops", "replay"},
    "distributions": BASE | {"ops"},
    "networks": BASE | {"ops", "distributions"},
    "replay": BASE | {"ops"},
    "rollout": BASE | {"ops", "envs", "distributions", "networks"},
    "experience": BASE | {"envs", "replay", "rollout"},
    "agents": BASE
    | {"ops", "envs", "distributions", "networks", "replay", "rollout", "experience"},
    "analysis": BASE,
    "version": set(),
    "presets": set(),
    "sweeps": {"errors"},
    "engine": BASE | {"ops", "envs", "replay", "analysis", "sweeps", "version"},
    "rendering": BASE | {"envs", "engine"},
}
ROOMS = {path.stem for path in (ROOT / "purerl").iterdir()} - {"__init__"}
NEVER = {"experiments", "benchmarks", "tests"}
WITHOUT_TOPIC = {"utils", "util", "common", "helpers", "misc"}


def module_of(path):
    """purerl/ops/batching.py -> ("purerl", "ops", "batching")."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(source, module, is_package):
    """Every module that the source imports, as tuples of names, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module[: len(module) - node.level + is_package] if node.level else ()
            base = (*above, *(node.module.split(".") if node.module else ()))
            yield from ((*base, alias.name) for alias in node.names)


def violations(source, module, is_package=False):
    """The imports of a module that point the wrong way."""
    room = module[1] if len(module) > 1 else None
    bad = []
    for name in imported(source, module, is_package):
        if name[0] in NEVER:
            bad.append(name)
        if name[0] != "purerl" or len(name) < 2 or room is None or name[1] == room != "agents":
            continue
        if room == "agents":
            sibling = name[1] == "agents" and name[2:3] != module[2:3] and len(module) > 2
            if sibling or name[1] not in ALLOWED["agents"] | {"agents"}:
                bad.append(name)
        elif room in ALLOWED and name[1] in ROOMS and name[1] not in ALLOWED[room]:
            bad.append(name)
    return [".".join(name) for name in bad]


@pytest.mark.parametrize("path", FILES, ids=lambda p: ".".join(module_of(p)[1:]))
def test_imports_point_down(path):
    assert violations(path.read_text(), module_of(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("purerl.ops.returns", "from purerl.envs import make"),
        ("purerl.ops.returns", "from purerl import rollout"),
        ("purerl.ops.returns", "def f():\n  from ..envs import make"),
        ("purerl.engine.train", "import purerl.agents.ppo"),
        ("purerl.engine.report", "from purerl.flags import parse"),
        ("purerl.rendering.brax", "from purerl.agents import ppo"),
        ("purerl.sweeps", "from purerl.engine import train"),
        ("purerl.agents.dqn", "from purerl.agents import ppo"),
        ("purerl.agents.dqn", "from purerl.agents.ppo import loss"),
        ("purerl.agents.dqn", "from purerl.engine import train"),
        ("purerl.envs.gymnax", "from purerl.networks import Policy"),
        ("purerl.engine.train", "import benchmarks.throughput"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert violations(source, tuple(module.split(".")))


def test_every_module_has_a_topic():
    names = {part for path in FILES for part in module_of(path)}
    assert not names & WITHOUT_TOPIC
