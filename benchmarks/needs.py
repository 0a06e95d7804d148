"""What must be installed for `benchmarks/gpu.sh`: prints what is missing, one requirement a line.

    python benchmarks/needs.py [DIR]        but for what has a wheel in DIR

It imports nothing but the standard library, as nothing else may be there.
"""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

# Every package that purerl, brax's own PPO or the tests import. What is declared and never imported
# (a web server, of brax) is not here: it need not travel.
IMPORTED = """
absl-py brax chex cloudpickle contourpy cycler docstring-parser etils farama-notifications
filelock flax fonttools glfw gymnasium gymnax humanize iniconfig jax jaxlib jaxopt kiwisolver
markdown-it-py matplotlib mctx mdurl ml-collections ml-dtypes msgpack mujoco mujoco-core
mujoco-mjx numpy opt-einsum optax orbax-checkpoint packaging pandas pillow pluggy protobuf
pygments pyopengl pyparsing pytest python-dateutil pyyaml rich scipy seaborn simplejson six
tensorstore toolz treescope trimesh typeguard typing-extensions tyro uvloop
"""

# Each fits no other than its own version of the other, which the newest need not be.
TOGETHER = {"mujoco": "mujoco==4.0.0", "mujoco-core": "mujoco-core==4.0.0"}

# What others of these ask for; pip is not asked, so that JAX stays as it is.
PINNED = {"gymnasium": "gymnasium>=1.1,<1.4"}


def normal(name: str) -> str:
    """A package's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing(wheels: Path | None = None) -> list[str]:
    """Requirements that are not met and have no wheel; those declared with their versions."""
    ready = {normal(path.name.split("-")[0]) for path in wheels.glob("*.whl")} if wheels else set()
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    wanted = {normal(re.split(r"[^\w.-]", text)[0]): text for text in declared}
    wanted |= TOGETHER | PINNED
    lacks = {name for name in IMPORTED.split() if not _met(name, wanted.get(name, name))}
    lacks |= TOGETHER.keys() if lacks & TOGETHER.keys() else set()
    return [wanted.get(name, name) for name in sorted(lacks - ready)]


def _met(name: str, requirement: str) -> bool:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    least, beyond = (re.search(rf"{sign}([\d.]+)", requirement) for sign in (">=", "<"))
    low = least is None or _numbers(version) >= _numbers(least[1])
    return low and (beyond is None or _numbers(version) < _numbers(beyond[1]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


if __name__ == "__main__":
    print("\n".join(missing(Path(sys.argv[1]) if sys.argv[1:] else None)))
