"""`benchmarks/gpu.sh` on a CPU: one row for real, what is missing, and what no longer fits."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
import types
import venv
from pathlib import Path

import numpy as np
import pytest
import test_accelerator

from benchmarks import gpu, measure, needs, tables
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
        failed = name == "dqn-CartPole-v1-64"
        return {"ended": "failed: x" if failed else "done", "wall_seconds": 60.0}

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "device", lambda: ("nvidia-made-up", "gpu", {"commit": "made-up"}))
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    return asked


def test_rows_that_no_longer_fit_are_listed(at_once, tmp_path):
    assert main(["gpu", "--minutes", "2.5", "--results", str(tmp_path)]) == 1  # one failed
    found = json.loads((tmp_path / "nvidia-made-up" / "gpu.json").read_text())
    names = list(gpu.ROWS)
    assert [name for name, _ in at_once] == names[:3]
    assert at_once[-1][1] == 30, "the last has what is left"
    assert at_once[0][1] == gpu.ROWS[names[0]].limit
    assert found["run"]["rows"] == {
        names[0]: "done",
        names[1]: "done",
        names[2]: "failed: x",
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
    assert any("Traceback" in line for line in entry["stderr"])
    table = "\n".join(tables.gpu({"made-up": {"wrong": entry, "run": {"rows": {
        "wrong": "failed: x", "late": "not run: no time left"}}}}))  # fmt: skip
    assert f"- made-up: `wrong` {entry['ended']}" in table
    assert "- made-up: `late` not run: no time left" in table


def test_what_is_asked_of_a_row_stands_beside_what_it_does(monkeypatch):
    assert gpu.ROWS["ppo-CartPole-v1-64x2048"].asked == 50_000_000
    monkeypatch.setitem(gpu.ROWS, "asked", gpu.Row("ppo", "gymnax/CartPol-v1", asked=7_000))
    entry = gpu.measure("asked", True, 120, None)
    found = {"steps_per_second": 9_000, "compile_seconds": 1.0, "peak_device_mb": 5,
             "settings": {"members": 1}}  # fmt: skip
    assert "| 9,000 (asked: 7,000) |" in "\n".join(tables.gpu({"m": {"asked": entry | found}}))


def test_one_of_each_kind_is_within_the_time():
    """Cut off at their limits, all of them; so that none is left out for the others."""
    quick = [row for row in gpu.ROWS.values() if row.quick]
    assert sum(row.limit for row in quick) <= 450
    assert {row.agent for row in quick} == {"ppo", "dqn", "sac", "muzero", ""}
    assert {row.env for row in quick if row.agent == "ppo"} == {gpu.CARTPOLE, gpu.BREAKOUT, gpu.ANT}
    assert all(row.quick for row in list(gpu.ROWS.values())[: len(quick)]), "first"


def test_what_a_row_has_started_ends_with_it(monkeypatch, tmp_path):
    """A test marked gpu starts a process; left behind, it would be timed with the next row."""
    told, module = tmp_path / "pid", tmp_path / "sleeps.py"
    module.write_text(
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(told)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    popen = subprocess.Popen
    sleeps = lambda words, **options: popen([sys.executable, str(module)], **options)
    monkeypatch.setattr(gpu.subprocess, "Popen", sleeps)
    assert gpu.measure(CARTPOLE, True, 3, None)["ended"] == "cut off after 3 s"
    state, until = Path(f"/proc/{told.read_text()}/status"), time.monotonic() + 20
    running = lambda: state.exists() and "State:\tZ" not in state.read_text()
    while running() and time.monotonic() < until:
        time.sleep(0.1)
    assert not running()


def test_what_the_caller_has_set_does_not_break_a_row(monkeypatch):
    """XLA refuses both names of one number; and a cache would be found instead of compiled."""
    given = {}

    class Popen:
        pid = -1

        def __init__(self, words, env, **_):
            given.update(env)
            raise KeyboardInterrupt

    monkeypatch.setattr(gpu.subprocess, "Popen", Popen)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(CARTPOLE, True, 3, None)
    assert "XLA_CLIENT_MEM_FRACTION" not in given
    assert "JAX_COMPILATION_CACHE_DIR" not in given
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
    with pytest.raises(KeyboardInterrupt):
        gpu.measure(CARTPOLE, True, 3, None)
    assert given["XLA_CLIENT_MEM_FRACTION"] == "0.92"


def test_one_number_that_json_lacks_costs_one_row(at_once, monkeypatch, tmp_path):
    nan = {"ended": "done", "wall_seconds": 1.0, "score": {"curve": [[1, 1.0, float("nan")]]}}
    measure = gpu.measure
    monkeypatch.setattr(
        gpu, "measure", lambda name, *rest: nan if name == CARTPOLE else measure(name, *rest)
    )
    main(["gpu", "--minutes", "2.5", "--results", str(tmp_path)])
    rows = json.loads((tmp_path / "nvidia-made-up" / "gpu.json").read_text())["run"]["rows"]
    assert rows[CARTPOLE].startswith("failed: ")
    assert list(rows.values()).count("done") >= 1


class Cohort:
    """Returns of its own, one an evaluation; remembers what it was asked for."""

    def __init__(self, returns):
        self.returns, self.asked = list(returns), []

    def advance(self, step, count, total):
        self.asked.append((step, count, total))
        return ()

    def evaluate(self, step):
        return types.SimpleNamespace(greedy=np.full((2, 1), self.returns.pop(0)))


def test_the_way_to_a_score_is_told_step_by_step():
    """A row may be cut off; and a return may be no number."""
    cohort = Cohort([1.0, np.nan, 7.0])
    scores = list(measure.to_score(cohort, 5.0, 305, 1))
    assert [score["seconds"] is None for score in scores] == [True, True, False]
    assert [len(score["curve"]) for score in scores] == [1, 2, 3]
    assert [row[2] for row in scores[-1]["curve"]] == [1.0, None, 7.0]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_run_to_a_score_ends_with_its_schedule():
    """Beyond it a linear learning rate is below zero."""
    cohort = Cohort([0.0] * 100)
    scores = list(measure.to_score(cohort, 5.0, 305, 1))
    assert scores[-1]["steps"] == 305
    assert all(step + count <= total == 305 for step, count, total in cohort.asked)


def test_versions_that_are_too_new_are_missing(monkeypatch):
    known = importlib.metadata.version
    newer = {"jax": "0.12.0", "gymnasium": "1.4.0", "brax": "0.15.1"}
    monkeypatch.setattr(
        needs.importlib.metadata, "version", lambda name: newer.get(name) or known(name)
    )
    found = " ".join(needs.missing())
    assert re.fullmatch(r"brax>=\S+ gymnasium>=1.1,<1.4 jax>=\S+", found)


def test_the_process_that_peaks_finds_what_this_one_does(monkeypatch):
    """On a machine where all but JAX lies in a folder of its own."""
    given = {}

    def run(*_, env, **__):
        given.update(env)
        return types.SimpleNamespace(returncode=0, stdout="[1, 1, 1]", stderr="")

    monkeypatch.syspath_prepend("/somewhere/else")
    monkeypatch.setattr(test_accelerator.subprocess, "run", run)
    test_accelerator.test_64_members_take_no_more_memory_than_is_printed()
    assert {"/somewhere/else", str(ROOT)} <= set(given["PYTHONPATH"].split(os.pathsep))


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
