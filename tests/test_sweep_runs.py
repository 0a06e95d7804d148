"""Whole sweeps from the command line: what they print and write, and that they can be resumed."""

import contextlib
import csv
import dataclasses
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys

import jax
import numpy as np
import pytest
from laws import changed

import purerl
from purerl import UsageError
from purerl.agents import ppo
from purerl.engine import memory
from purerl.engine.directory import left
from purerl.engine.load import load
from purerl.engine.record import MetricsFile
from purerl.experiment import main
from purerl.flags import parse

STEPS = 4 * 8 * 8
SMALL = ["--num-envs", "8", "--unroll-length", "8", "--num-epochs", "1", "--num-minibatches", "2",
         "--hidden-sizes", "8", "--eval-episodes", "2", "--total-steps", str(STEPS),
         "--eval-every", "128", "--log-every", "64", "--devices", "2"]  # fmt: skip
PPO = (ppo, "gymnax", "gymnax/CartPole-v1")


def go(*flags):
    return main(*PPO, [*SMALL, *map(str, flags)])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """2 learning rates x 2 gravities x 3 seeds, in one program."""
    path = tmp_path_factory.mktemp("runs") / "traced"
    flags = ["--seeds", "3", "--sweep", "learning_rate=1e-4,0.01", "--sweep", "gravity=9.8,20"]
    assert go(*flags, "--run-dir", path) == 0
    return path


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """2 learning rates x 2 numbers of environments x 2 seeds, two programs: directory and text."""
    path = tmp_path_factory.mktemp("runs") / "grouped"
    flags = ["--seeds", "2", "--sweep", "learning_rate=1e-4,0.01", "--sweep", "num_envs=4,8"]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert go(*flags, "--run-dir", path) == 0
    return path, text.getvalue()


@pytest.fixture
def grouped(printed):
    return printed[0]


def test_a_sweep_writes_tables_and_pictures(traced):
    names = {p.name for p in traced.iterdir()}
    assert names == {
        "config.json", "metrics.csv", "result.json", "checkpoint", "curve.png", "sweep.csv",
        "sensitivity-learning_rate.png", "sensitivity-env_params.gravity.png", "heatmap.png",
    }  # fmt: skip
    for picture in traced.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    table = rows(traced / "sweep.csv")
    assert [int(r["rank"]) for r in table] == [1, 2, 3, 4]
    assert sorted(int(r["configuration"]) for r in table) == [0, 1, 2, 3]
    values = {(float(r["learning_rate"]), float(r["env_params.gravity"])) for r in table}
    assert values == {(a, b) for a in (1e-4, 0.01) for b in (9.8, 20)}
    scores = [float(r["iqm"]) for r in table]
    assert scores == sorted(scores, reverse=True)
    last = [r for r in rows(traced / "metrics.csv")
            if r["metric"] == "eval/return" and int(r["step"]) == STEPS]  # fmt: skip
    assert len(last) == 12
    for row in table:
        of = lambda r, row=row: all(float(r[k]) == float(row[k])
                                    for k in ("learning_rate", "env_params.gravity"))  # fmt: skip
        mean = np.mean([float(r["value"]) for r in last if of(r)])  # of three seeds
        assert float(row["iqm"]) == pytest.approx(mean, rel=1e-5)
        assert (row["seeds"], row["steps"]) == ("3", str(STEPS))
    assert json.loads((traced / "config.json").read_text())["sweep"] == [
        "learning_rate=1e-4,0.01", "gravity=9.8,20"
    ]  # fmt: skip


def test_a_configuration_is_what_it_is_alone(traced, tmp_path):
    """A row of the sweep is the run with its numbers, bit for bit in a population of one size."""
    best = rows(traced / "sweep.csv")[0]
    numbers = ["--learning-rate", best["learning_rate"], "--env-params.gravity",
               best["env_params.gravity"], "--population-batch", "3"]  # fmt: skip
    assert go("--seeds", "12", *numbers, "--run-dir", tmp_path / "run") == 0
    swept, alone = load(traced), load(tmp_path / "run")
    first = 3 * int(best["configuration"])
    for seed in range(3):
        one = jax.tree.map(lambda x, i=first + seed: x[i], swept.state.train.learner)
        two = jax.tree.map(lambda x, i=seed: x[i], alone.state.train.learner)
        assert changed(one, two) == []


def test_the_best_is_a_command_to_paste(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/ppo_gymnax.py"])
    flags = ["--sweep", "learning_rate=1e-4,0.01", "--sweep", "gravity=9.8,20", "--seeds", "2"]
    flags += ["--sweep", "discount=0.9", "--sweep", "activation=relu"]  # one value: no sweep at all
    assert go(*flags, "--run-dir", tmp_path / "run") == 0
    (line,) = re.findall(r"^best: (.*)$", capsys.readouterr().out, re.M)
    words = shlex.split(line)
    assert words[:2] == ["python", "experiments/ppo_gymnax.py"]
    # With its suite, as suites have names in common: connect_four is one of pgx's and one here.
    assert words[words.index("--env") + 1] == "gymnax/CartPole-v1"
    given, wanted = parse(*PPO, words[2:]), parse(*PPO, SMALL)
    best = rows(tmp_path / "run" / "sweep.csv")[0]
    assert given[1] == dataclasses.replace(wanted[1], activation="relu")
    assert given[2].discount == 0.9
    assert given[2].learning_rate == float(best["learning_rate"])
    assert given[2].env_params["gravity"] == float(best["env_params.gravity"])
    assert (given[0].seeds, given[0].total_steps) == (2, STEPS)
    assert given[0].sweep == ()


def test_config_fields_are_groups(grouped):
    groups = ["num_envs=4", "num_envs=8"]
    assert {p.name for p in grouped.iterdir()} == {
        *groups, "config.json", "metrics.csv", "sweep.csv", "heatmap.png",
        "sensitivity-learning_rate.png", "sensitivity-num_envs.png",
    }  # fmt: skip
    table = rows(grouped / "sweep.csv")
    assert {(float(r["learning_rate"]), int(r["num_envs"])) for r in table} == {
        (a, b) for a in (1e-4, 0.01) for b in (4, 8)
    }
    assert [int(r["rank"]) for r in table] == [1, 2, 3, 4]
    metrics = rows(grouped / "metrics.csv")
    assert len(metrics) == sum(len(rows(grouped / g / "metrics.csv")) for g in groups)
    assert {(r["member"], r["num_envs"]) for r in metrics} == {
        (str(m), "4" if m < 4 else "8") for m in range(8)
    }
    assert "hidden" not in metrics[0]
    with pytest.raises(UsageError, match=r"^run_dir='.*a sweep of 2 runs; choose .*num_envs=4 or"):
        load(grouped)
    assert load(grouped / "num_envs=8").population.size == 4


def test_each_group_is_announced(printed):
    _, text = printed
    assert re.findall(r"^group .*$", text, re.M) == [
        "group 1 of 2: num_envs=4", "group 2 of 2: num_envs=8"
    ]  # fmt: skip
    assert "the whole sweep, greedy" in text


def test_a_sweep_of_groups_is_resumed(grouped, tmp_path, capsys):
    """With one group finished and one not begun; the tables are the same bytes."""
    path = tmp_path / "run"
    shutil.copytree(grouped, path)
    shutil.rmtree(path / "num_envs=8")
    (path / "sweep.csv").unlink()
    assert main(*PPO, ["--resume", str(path), "--devices", "2"]) == 0
    assert "resumed at step 256" in capsys.readouterr().out
    for name in ("sweep.csv", "metrics.csv"):
        assert (path / name).read_bytes() == (grouped / name).read_bytes()
    assert main(*PPO, ["--resume", str(path), "--seeds", "3"]) == 2
    assert "is another configuration: seeds=[0, 1, 2] where" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"^run_dir='.*run': is a sweep of 2 runs, not one$"):
        purerl.train(load(path / "num_envs=8").agent, STEPS, run_dir=path, resume=True)


def test_a_group_is_resumed_with_its_sweep(grouped, capsys):
    """Its own settings are not those of the command that began it."""
    assert main(*PPO, ["--resume", str(grouped / "num_envs=4")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith(f"is a group of a sweep; --resume {grouped}\n")
    assert left(grouped / "num_envs=8") == f"--resume {grouped} goes on from iteration 4"
    assert left(grouped) == "no checkpoint is left"


def test_no_group_begins_before_all_have_been_found_to_fit(tmp_path, monkeypatch, capsys):
    """The second needs more memory than there is."""
    monkeypatch.setattr(memory, "memory_limit", lambda where: 10**7)
    flags = ["--sweep", "hidden_sizes=8,2000x2000", "--run-dir", str(tmp_path / "run")]
    assert go(*flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: population=")
    assert not (tmp_path / "run").exists()


def test_a_group_that_is_stopped_has_the_steps_it_came_to(grouped, tmp_path, monkeypatch, capsys):
    """A second group, interrupted at once: its rows do not say that it went on to the end."""
    path = tmp_path / "run"
    shutil.copytree(grouped, path)
    shutil.rmtree(path / "num_envs=8")
    before = (path / "num_envs=4" / "result.json").read_text()
    log = MetricsFile.log

    def log_and_stop(self, step, metrics):
        log(self, step, metrics)
        if step == 64:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(MetricsFile, "log", log_and_stop)
    assert main(*PPO, ["--resume", str(path), "--devices", "2"]) == 130
    steps = {r["num_envs"]: int(r["steps"]) for r in rows(path / "sweep.csv")}
    assert steps["4"] == STEPS
    assert 0 < steps["8"] < STEPS
    assert (path / "num_envs=4" / "result.json").read_text() == before
    assert "the whole sweep" not in capsys.readouterr().out


def test_a_stop_that_comes_too_late_for_a_group_is_none_for_the_sweep(
    tmp_path, monkeypatch, capsys
):
    """Asked for in the last chunk of the first group: it ends, and the second does not begin."""
    log = MetricsFile.log

    def log_and_stop(self, step, metrics):
        log(self, step, metrics)
        if step == STEPS and "eval/return" in metrics:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(MetricsFile, "log", log_and_stop)
    path = tmp_path / "run"
    assert go("--sweep", "num_envs=4,8", "--run-dir", path) == 130
    assert json.loads((path / "num_envs=4" / "result.json").read_text())["steps"] == STEPS
    assert not (path / "num_envs=8").exists()
    assert "1 of 2 groups" in capsys.readouterr().out


def test_a_full_disk_when_groups_are_put_together_is_one_line(grouped, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("purerl.experiment.combine", full)
    assert main(*PPO, ["--resume", str(grouped), "--devices", "2"]) == 1
    assert capsys.readouterr().err == (
        f"error: run_dir={str(grouped)!r}: cannot be written: No space left on device;"
        f" --resume {grouped} goes on from here\n"
    )


def test_each_group_has_the_steps_that_it_was_trained_for(tmp_path):
    """Of other iterations, each is cut to whole ones of its own."""
    flags = ["--sweep", "unroll_length=8,24", "--total-steps", "256"]
    assert go(*flags, "--run-dir", tmp_path / "run") == 0
    for row in rows(tmp_path / "run" / "sweep.csv"):
        group = tmp_path / "run" / f"unroll_length={row['unroll_length']}"
        assert json.loads((group / "result.json").read_text())["steps"] == int(row["steps"])
    assert len({row["steps"] for row in rows(tmp_path / "run" / "sweep.csv")}) == 2


def test_a_sweep_in_one_program_is_resumed(traced, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(traced, path)
    shutil.rmtree(path / "checkpoint" / "4")  # back to iteration 2
    assert main(*PPO, ["--resume", str(path), "--devices", "2"]) == 0
    for name in ("sweep.csv", "metrics.csv"):
        assert (path / name).read_bytes() == (traced / name).read_bytes()
    assert changed(load(path).state, load(traced).state) == []


def test_a_sample_from_the_command_line(tmp_path):
    flags = ["--sample", "5", "--sweep", "learning_rate=log:1e-5:1e-2", "--sweep", "discount=0.9,1"]
    assert go(*flags, "--run-dir", tmp_path / "run") == 0
    table = rows(tmp_path / "run" / "sweep.csv")
    assert len({r["learning_rate"] for r in table}) == 5
    assert all(1e-5 <= float(r["learning_rate"]) <= 1e-2 for r in table)
    assert {float(r["discount"]) for r in table} <= {0.9, 1.0}
    assert not (tmp_path / "run" / "heatmap.png").exists()


@pytest.mark.parametrize("option", ["--halving", "--pbt"])
def test_selection_from_the_command_line(option, tmp_path, capsys):
    flags = ["--sweep", "learning_rate=1e-4,1e-3,1e-2,0.1", option]
    assert go(*flags, "--run-dir", tmp_path / "run") == 0
    out = capsys.readouterr().out
    table = rows(tmp_path / "run" / "sweep.csv")
    # What a member of a population that evolves began with is not what its score is of.
    field = "learning_rate" if option == "--halving" else "initial_learning_rate"
    assert field in table[0]
    assert bool(list((tmp_path / "run").glob("sensitivity-*"))) == (option == "--halving")
    if option == "--halving":
        assert [int(r["steps"]) for r in table] == [256, 128, 64, 64]
        assert re.search(r"^step 64: 2 configurations dropped, 2 left$", out, re.M)
    else:
        assert [int(r["steps"]) for r in table] == [256] * 4
        assert re.search(r"^step 128: 1 members copied from better$", out, re.M)
        metrics = rows(tmp_path / "run" / "metrics.csv")
        seen = {r["step"]: set() for r in metrics if r["metric"] == "hparams/learning_rate"}
        for r in metrics:
            if r["metric"] == "hparams/learning_rate":
                seen[r["step"]].add(float(r["value"]))
        assert seen["128"] == set(np.float32([1e-4, 1e-3, 1e-2, 0.1]).astype(float).round(7))
        assert seen["256"] != seen["128"]
