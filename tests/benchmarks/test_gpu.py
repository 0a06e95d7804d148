"""`benchmarks/gpu.sh` on a CPU: one row for real, what is missing, and what no longer fits."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from benchmarks import gpu, needs
from benchmarks.__main__ import main
from benchmarks.records import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu.sh"
CARTPOLE = "ppo-CartPole-v1-64x2048"


def test_a_quick_row_is_measured_and_kept(tmp_path, capsys):
    assert main(["gpu", "--quick", "--only", CARTPOLE, "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/gpu.json")
    found = json.loads(path.read_text())
    assert found.keys() == {CARTPOLE, "run"}
    assert found["run"]["rows"] == {CARTPOLE: "done"}
    row = found[CARTPOLE]
    assert row["settings"]["env"] == "gymnax/CartPole-v1"
    assert row["settings"]["num_envs"] < 2048
    assert min(row["seconds"]) > 0
    assert row["compile_seconds"] > 0
    assert row["peak_mb"] > 0
    steps, seconds, score = row["score"]["curve"][-1]
    assert steps == row["score"]["steps"] > 0
    assert seconds > 0
    assert 1 <= score <= 500
    assert f"{CARTPOLE}: done" in capsys.readouterr().out


@pytest.fixture
def at_once(monkeypatch):
    """Rows that take no time, and a clock that each row moves by a minute. -> the rows run."""
    now, asked = [0.0], []

    def measure(name, quick, seconds, profile):
        asked.append((name, seconds))
        now[0] += 60
        return {"ended": "failed: x" if name in ("tests",) else "done", "wall_seconds": 60.0}

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "device", lambda: ("nvidia-made-up", "gpu", {"commit": "made-up"}))
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    return asked


def test_rows_that_no_longer_fit_are_listed(at_once, tmp_path):
    assert main(["gpu", "--minutes", "2.5", "--results", str(tmp_path)]) == 1  # tests failed
    found = json.loads((tmp_path / "nvidia-made-up" / "gpu.json").read_text())
    names = list(gpu.ROWS)
    assert [name for name, _ in at_once] == names[:3]
    assert at_once[-1][1] == 30, "the last has what is left"
    assert at_once[0][1] == gpu.ROWS[names[0]].limit
    assert found["run"]["rows"] == {
        names[0]: "done",
        names[1]: "done",
        "tests": "failed: x",
        **dict.fromkeys(names[3:], "not run: no time left"),
    }
    assert found.keys() == {*names[:3], "run"}
    assert all(entry["commit"] == "made-up" for entry in found.values())


def test_a_row_that_is_cut_off_keeps_whole_lines():
    text = 'warning from a library\n{"a": 1}\n3\n{"a": 2, "b": [1]}\n{"c": 1, "d'
    assert gpu.merge(text) == {"a": 2, "b": [1]}


def test_a_row_past_its_time_ends_and_says_so(monkeypatch):
    monkeypatch.setitem(gpu.ROWS, "long", gpu.Row("ppo", gpu.CARTPOLE, 1, {}))
    entry = gpu.measure("long", True, 0.2, None)
    assert entry["ended"] == "cut off after 0 s"
    assert entry["wall_seconds"] < 20


def test_a_row_that_fails_says_why(monkeypatch):
    monkeypatch.setitem(gpu.ROWS, "wrong", gpu.Row("ppo", "gymnax/CartPol-v1", 1, {}))
    entry = gpu.measure("wrong", True, 120, None)
    assert entry["ended"].startswith("failed: ")
    assert "CartPol-v1" in entry["ended"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "jax: sees no accelerator; --quick"),
        (["--only", "ppo-ant-1x409"], "ppo-ant-1x4096"),
        (["--quick", "--profile", "x"], "needs --only with one row"),
        (["--minutes", "0"], "minutes=0: must be more than 0"),
    ],
)
def test_what_cannot_be_is_one_line(words, said, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "device", lambda: ("cpu-2-cores", "cpu", {}))
    assert main(["gpu", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_every_row_is_of_an_agent_that_exists():
    trained = [row for row in gpu.ROWS.values() if row.what != "tests"]
    assert {row.agent for row in trained} == {"ppo", "dqn", "sac", "muzero"}
    for members in (1, 16, 64, 256):
        assert any(row.members == members for row in trained)
    for row in trained:
        assert (ROOT / "purerl" / "agents" / f"{row.agent}.py").exists()


IMPORTS = """
import importlib.metadata, sys
import purerl, purerl.presets, purerl.engine.checkpoint
from purerl.agents import dqn, muzero, ppo, sac
purerl.make("brax/ant"); purerl.make("gymnax/Breakout-MinAtar")
import brax.training.agents.ppo.train, laws
packages = importlib.metadata.packages_distributions()
tops = {module.partition(".")[0] for module in sys.modules}
print(*{name for top in tops for name in packages.get(top, ())})
"""


def test_nothing_else_is_imported_than_is_asked_for():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS], cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    imported = {needs.normal(name) for name in done.stdout.splitlines()[-1].split()}
    # mujoco's viewer shares mujoco's name; NumPy takes charset-normalizer where there is one; and
    # the last is this package itself, where installed.
    unasked = {"mujoco-studio", "charset-normalizer", "purerl"}
    assert imported - unasked <= set(needs.IMPORTED.split())
    assert needs.missing() == []


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment without any package, and a folder that claims to hold JAX."""
    where = tmp_path_factory.mktemp("bare")
    venv.create(where / "venv", with_pip=False, symlinks=True)
    for name in ("jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum"):
        info = where / "site" / f"{name}-0.11.2.dist-info"
        info.mkdir(parents=True)
        version = "0.11.2" if name.startswith("jax") else "99.0"
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        )
    return where


def gpu_sh(bare: Path, *words: str, site: str = "") -> tuple[int, str]:
    """(status, stderr) of the script with that environment's Python."""
    env = {"PYTHON": str(bare / "venv" / "bin" / "python"), "PATH": "/usr/bin:/bin"}
    env["PYTHONPATH"] = site
    done = subprocess.run(
        ["bash", str(SCRIPT), *words], env=env, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def test_a_machine_without_jax_is_told_to_install_it(bare):
    code, said = gpu_sh(bare)
    assert code == 2
    assert said.count("\n") == 1
    assert "needs jax >= 0.11" in said


@pytest.mark.skipif((ROOT / "build" / "gpu").exists(), reason="build/gpu has them")
def test_missing_wheels_are_named_in_one_line(bare, tmp_path):
    site = str(bare / "site")
    code, said = gpu_sh(bare, site=site)
    assert code == 2
    assert said.count("\n") == 1
    assert "missing wheels: absl-py brax>=0.14.2,<0.15" in said
    assert "--wheels DIR" in said
    for name in ("brax-0.14.2", "absl_py-2.3"):
        (tmp_path / f"{name}-py3-none-any.whl").touch()
    code, said = gpu_sh(bare, "--wheels", str(tmp_path), site=site)
    assert code == 2
    assert said.startswith(f"gpu.sh: missing wheels in {tmp_path}: chex>=")
    assert "brax" not in said
    assert gpu_sh(bare, "--wheels", str(tmp_path / "none"), site=site)[0] == 2
