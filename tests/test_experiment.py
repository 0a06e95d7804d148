"""The command line: flags, wrong input, interrupts, kills, and a disk that is full or gone."""

import dataclasses
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from reinforce_page import source

import purerl
from purerl import experiment
from purerl.agents import dqn, ppo
from purerl.engine.checkpoint import Checkpoints
from purerl.errors import UsageError
from purerl.experiment import main
from purerl.flags import parse
from purerl.presets import preset

ROOT = Path(__file__).parents[1]
GYMNAX, BRAX = ROOT / "experiments" / "ppo_gymnax.py", ROOT / "experiments" / "ppo_brax.py"
UNIT = 32  # environment steps of one iteration of a tiny run
TINY = ["--num-envs", "4", "--unroll-length", "8", "--num-minibatches", "2", "--num-epochs", "1",
        "--hidden-sizes", "4", "--eval-episodes", "1", "--eval-every", "0"]  # fmt: skip
EVERY = ["--checkpoint-every", str(UNIT), "--log-every", str(UNIT)]


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of a subprocess: as a user has it, with a compilation cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    paths = {"PURERL_CACHE": str(cache), "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(cache)}
    return os.environ | paths


def launch(environment, *flags, script=GYMNAX, **options):
    command = [sys.executable, str(script), *map(str, flags)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, **options
    )


def finish(process, timeout=240):
    """(exit code, stdout, stderr) of a process that must end by itself."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def start_of(run_dir, iterations, seeds=2):
    steps = ["--total-steps", iterations * UNIT, "--seeds", seeds]
    return [*TINY, *EVERY, *steps, "--run-dir", run_dir]


def steps_in(run_dir):
    """Iterations of the complete checkpoints."""
    root = run_dir / "checkpoint"
    return sorted(int(p.name) for p in root.iterdir() if p.name.isdigit()) if root.exists() else []


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leaves(run_dir):
    """Every array of the newest checkpoint, on the host."""
    checkpoints = Checkpoints(run_dir / "checkpoint")
    from orbax.checkpoint import v1 as ocp

    tree = ocp.load(run_dir.absolute() / "checkpoint" / str(checkpoints.latest()))
    checkpoints.close()
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    raw = lambda x: (
        jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    )
    return {jax.tree_util.keystr(path): np.asarray(raw(x)) for path, x in flat}


def assert_same_run(a, b):
    assert steps_in(a) == steps_in(b)
    left, right = leaves(a), leaves(b)
    assert left.keys() == right.keys()
    assert len(left) > 10
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    assert different == []
    assert (a / "metrics.csv").read_bytes() == (b / "metrics.csv").read_bytes()


# Flags, in this process.


def test_help_explains_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        main(ppo, "brax", "brax/inverted_pendulum", ["--help"])
    assert left.value.code == 0
    text = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    source = Path(ppo.__file__).read_text()
    fields = [f.name for f in dataclasses.fields(ppo.Config)]
    fields += [name for name in ppo.HParams._fields if name != "env_params"]
    for name in fields:
        assert re.search(rf"--{name.replace('_', '-')}[ ,]", text), name
        # The comment beside the field, or the string under it.
        line, under = rf"^    {name}: [^\n]*?", r'\n    """(.*?)"""'
        (found,) = re.findall(rf"{line}(?:  # ([^\n]*)$|{under})", source, re.M | re.S)
        help_text = "".join(found)
        assert help_text, name
        assert " ".join(help_text.split()) in text, name
    for flag in ("env", "backend", "total-steps", "seeds", "run-dir", "resume", "eval-every",
                 "checkpoint-every", "logger"):  # fmt: skip
        assert re.search(rf"--{flag} \S+ \S+", text), flag


def test_the_environment_chooses_the_preset_and_flags_override_it():
    flags = lambda *argv: parse(ppo, "brax", "brax/inverted_pendulum", list(argv))
    default = preset("ppo", "brax/inverted_pendulum")
    run, config, hparams = flags()
    assert run.env == "brax/inverted_pendulum"
    assert run.total_steps == default["total_steps"]
    settings = dataclasses.asdict(config) | hparams._asdict()
    chosen = {k: v for k, v in default.items() if k in settings}
    assert chosen
    assert {k: settings[k] for k in chosen} == chosen
    run, config, hparams = flags("--num-envs", "32", "--learning-rate", "0.5", "--seeds", "3")
    assert (config.num_envs, hparams.learning_rate, run.seeds) == (32, 0.5, 3)
    assert config.normalize_obs == default["normalize_obs"]
    cartpole = preset("ppo", "gymnax/CartPole-v1")
    for argv in (["--env", "CartPole-v1"], ["--env=gymnax/CartPole-v1"], []):
        run, config, _ = parse(ppo, "gymnax", "gymnax/CartPole-v1", argv)
        assert run.env == "gymnax/CartPole-v1"
        assert config.num_envs == cartpole["num_envs"]
    run, config, _ = parse(ppo, "gymnax", "gymnax/CartPole-v1", ["--env", "Catch-bsuite"])
    assert config.num_envs == preset("ppo", "gymnax/Catch-bsuite").get(
        "num_envs", ppo.Config().num_envs
    )


def test_only_the_environment_that_is_asked_for_is_made(monkeypatch):
    made, make = [], purerl.envs.make
    keep = lambda name, **kwargs: made.append(kwargs["backend"]) or make(name, **kwargs)
    monkeypatch.setattr(purerl.envs, "make", keep)
    flags = ["--env", "inverted_pendulum", "--backend", "generalized"]
    parse(ppo, "brax", "brax/inverted_pendulum", flags)
    assert set(made) == {"generalized"}


def test_a_variant_is_its_algorithm_with_other_settings():
    flags = lambda *argv, **kwargs: parse(dqn, "gymnax", "gymnax/CartPole-v1", [*argv], **kwargs)
    plain, rainbow = flags(), flags(variant="rainbow")
    assert rainbow[0] == plain[0]
    changed = {"distribution": "categorical", "dueling": True, "n_step": 3, "prioritized": True}
    assert rainbow[1] == dataclasses.replace(plain[1], noisy=True, **changed)
    assert flags("--n-step", "5", variant="rainbow")[1].n_step == 5


@pytest.mark.parametrize(
    ("suite", "argv", "words"),
    [
        ("gymnax", ["--env", "CartPol-v1"], ["env='CartPol-v1'", "gymnax/CartPole-v1"]),
        ("brax", ["--env", "brax/antt"], ["env='brax/antt'", "brax/ant"]),
        ("gymnax", ["--env", "brax/ant"], ["env='brax/ant'", "no such gymnax environment"]),
        ("gymnax", ["--learning-rat", "1"], ["--learning-rat", "--learning-rate"]),
        ("gymnax", ["--nonsense"], ["--nonsense"]),
        ("gymnax", ["--backend", "spring"], ["--backend"]),
        ("gymnax", ["--num-envs", "many"], ["num-envs", "many"]),
        ("gymnax", ["--num-envs"], ["num-envs"]),
        ("brax", ["--env", "swimmer", "--backend", "spring"], ["backend='spring'", "generalized"]),
        ("brax", ["--backend", "quantum"], ["backend", "quantum", "spring"]),
        ("brax", ["--episode-length", "0"], ["episode_length=0", "must be positive"]),
        ("brax", ["--episode-length", "-5"], ["episode_length=-5", "must be positive"]),
        ("brax", ["--episode-length", "1e3"], ["--episode-length", "1e3"]),
        ("brax", ["--action_repeat", "0"], ["action_repeat=0", "must be positive"]),
        ("gymnax", ["--seeds", "0"], ["seeds=0", "must be positive"]),
        ("gymnax", ["--total-steps", "-5"], ["total_steps=-5", "at least"]),
        ("gymnax", ["--num-envs", "0"], ["num_envs=0", "must be positive"]),
        ("gymnax", ["--unroll-length", "-8"], ["unroll_length=-8", "must be positive"]),
        ("gymnax", ["--hidden-sizes", "64", "0"], ["hidden_sizes=0", "must be positive"]),
        ("gymnax", ["--eval-episodes", "0"], ["eval_episodes=0", "must be positive"]),
        ("gymnax", ["--eval-every", "-1"], ["eval_every=-1", "must not be negative"]),
        ("gymnax", ["--population-batch", "0"], ["population_batch=0", "must be positive"]),
        ("gymnax", ["--num-minibatches", "7"], ["num_minibatches=7", "must divide", "2048"]),
        ("gymnax", ["--torso", "cnn"], ["torso='cnn'", "[height, width, channels]"]),
        ("gymnax", ["--squash"], ["squash=True", "continuous"]),
        ("gymnax", ["--logger", "abacus"], ["logger", "abacus", "tensorboard"]),
        ("gymnax", ["--resume", "nowhere"], ["nowhere", "is no run"]),
        ("gymnax", ["--sweep", "learing_rate=1"], ["learing_rate", "learning_rate"]),
        ("gymnax", ["--sweep", "grvity=1"], ["grvity", "gravity"]),
        ("gymnax", ["--sweep", "discount="], ["discount=", "an empty value"]),
        ("gymnax", ["--sweep", "discount=log:1"], ["discount=log:1", "log:LOW:HIGH"]),
        ("gymnax", ["--sweep", "discount=log:1e-5:1e-2"], ["--sample"]),
        ("gymnax", ["--sample", "3"], ["sample=3", "--sweep"]),
        ("gymnax", ["--sweep", "num_envs=16,0"], ["num_envs=0", "must be positive"]),
        (
            "gymnax",
            ["--sweep", "num_envs=16,15", "--data-parallel=2", "--devices=2"],
            ["data_parallel=2", "num_envs=15"],
        ),
        (
            "gymnax",
            ["--sweep", "num_envs=8,16", "--sweep", "discount=0.9,1.5"],
            ["discount=1.5", "from 0 to 1"],
        ),
        (
            "gymnax",
            ["--sweep", "num_envs=8,16", "--eval-episodes", "0"],
            ["eval_episodes=0", "must be positive"],
        ),
        (
            "gymnax",
            ["--sweep", "num_envs=8,16", "--logger", "wandb"],
            ["logger='wandb'", "is not installed"],
        ),
        (
            "gymnax",
            ["--sweep", "num_envs=8,16", "--population-batch", "-1"],
            ["population_batch=-1", "must be positive"],
        ),
        ("gymnax", ["--halving"], ["halving=True", "needs a sweep"]),
        ("gymnax", ["--pbt"], ["pbt=True", "needs a sweep"]),
        ("gymnax", ["--halving", "--sweep", "num_envs=8,16"], ["halving=True", "num_envs"]),
        ("gymnax", ["--devices", "99"], ["devices=99", "there are"]),
        ("gymnax", ["--data-parallel", "3", "--devices", "2"], ["data_parallel=3", "devices=2"]),
        ("gymnax", ["--num-envs", "5", "--data-parallel"], ["data_parallel=", "num_envs=5"]),
        ("gymnax", ["--distributed"], ["coordinator=None", "--coordinator HOST:PORT"]),
        ("gymnax", ["--num_processes", "2"], ["num_processes=2", "needs --distributed"]),
        ("gymnax", ["--resume", "a", "--run_dir", "b"], ["run_dir='b'", "stays in its own"]),
        ("gymnax", ["--run-dir", "taken"], ["run_dir='taken'", "exists"]),
    ],
    ids=lambda x: "=".join(x[:2]).strip("-") if isinstance(x, list) else x,
)
def test_wrong_input_is_one_line_before_anything_compiles(
    suite, argv, words, tmp_path, monkeypatch, capsys, nothing_compiles
):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    default = {"brax": "brax/inverted_pendulum", "gymnax": "gymnax/CartPole-v1"}[suite]
    assert main(ppo, suite, default, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert all(word in err for word in words), err
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_the_right_input_does_compile(tmp_path, monkeypatch, nothing_compiles):
    """What the test above relies on: without a mistake, its `compiled` is reached."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="compiled"):
        main(ppo, "gymnax", "gymnax/CartPole-v1", [])
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"ppo-CartPole-v1-\d{8}-\d{6}-\d{6}", run_dir.name)
    # A run that was killed before its first checkpoint can still be gone on with, or refused.
    with pytest.raises(AssertionError, match="compiled"):
        main(ppo, "gymnax", "gymnax/CartPole-v1", ["--resume", str(run_dir)])


@pytest.mark.parametrize(
    ("argv", "field"),
    [
        (["--learning-rate", "0.5"], "hparams.learning_rate=0.5"),
        (["--num-envs", "8"], "config.num_envs=8"),
        (["--seeds", "3"], "seeds=[0, 1, 2]"),
        (["--total-steps", "6400"], "total_steps=6400"),
        (["--eval-every", "64"], "eval_every="),
    ],
)
def test_a_resumed_run_keeps_its_settings(argv, field, tmp_path, capsys, nothing_compiles):
    run_dir = tmp_path / "run"
    go = lambda *flags: main(ppo, "gymnax", "gymnax/CartPole-v1", [str(x) for x in flags])
    with pytest.raises(AssertionError, match="compiled"):
        go(*start_of(run_dir, 10))
    with pytest.raises(AssertionError, match="compiled"):
        go("--resume", run_dir)
    capsys.readouterr()
    assert go("--resume", run_dir, *argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "another configuration" in err
    assert field in err


def test_a_resumed_run_stays_on_its_environment(tmp_path, capsys, nothing_compiles):
    go = lambda *flags: main(ppo, "gymnax", "gymnax/CartPole-v1", [str(x) for x in flags])
    with pytest.raises(AssertionError, match="compiled"):
        go(*start_of(tmp_path / "run", 10))
    capsys.readouterr()
    assert go("--resume", tmp_path / "run", "--env", "Acrobot-v1") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "env='Acrobot-v1': the run in" in err
    assert "is on gymnax/CartPole-v1" in err
    with pytest.raises(AssertionError, match="compiled"):
        go("--resume", tmp_path / "run", "--env", "CartPole-v1")


def test_a_run_of_another_version_is_one_line(tmp_path, capsys, nothing_compiles):
    """One whose settings have other names than here."""
    go = lambda *flags: main(ppo, "gymnax", "gymnax/CartPole-v1", [str(x) for x in flags])
    with pytest.raises(AssertionError, match="compiled"):
        go(*start_of(tmp_path / "run", 10))
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    for changed in (
        stored | {"config": stored["config"] | {"gone": 1}},
        stored | {"hparams": stored["hparams"] | {"gone": 1.0}},
        stored | {"hparams": stored["hparams"] | {"learning_rate": "abc"}},
        {k: v for k, v in stored.items() if k != "log_every"},
    ):
        path.write_text(json.dumps(changed))
        capsys.readouterr()
        assert go("--resume", tmp_path / "run") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "is of another version" in err


def test_of_a_flag_given_twice_the_last_counts_and_chooses_the_preset():
    flags = lambda *argv: parse(ppo, "brax", "brax/inverted_pendulum", list(argv))
    assert flags("--env", "ant", "--env", "hopper") == flags("--env", "hopper")
    assert flags("--env", "ant", "--env=hopper") == flags("--env", "hopper")


def test_runs_that_begin_at_once_have_directories_of_their_own(monkeypatch):
    flags = parse(ppo, "gymnax", "gymnax/CartPole-v1", [])[0]
    names = [experiment._new_run_dir(ppo, "ppo", flags) for _ in range(50)]
    assert len(set(names)) > 40  # of which nothing has been made yet
    own = types.ModuleType("things.my_ppo")  # with PPO's settings: a name of its own
    called = [experiment._new_run_dir(m, "ppo", flags).name for m in (ppo, own)]
    assert [name.split("-")[0] for name in called] == ["ppo", "my_ppo"]


def test_an_algorithm_without_presets_has_a_command_line(tmp_path, monkeypatch, nothing_compiles):
    """As that of docs/agents.md has: what no preset says is the algorithm's default."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reinforce_here.py").write_text(source())
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reinforce_here")
    run, config, _ = parse(module, "gymnax", "gymnax/CartPole-v1", ["--num-envs", "8"])
    assert (run.total_steps, config.num_envs) == (1_000_000, 8)
    with pytest.raises(AssertionError, match="compiled"):
        main(module, "gymnax", "gymnax/CartPole-v1", ["--seeds", "2"])


def test_a_run_that_is_not_of_this_command_is_one_line(tmp_path, capsys, nothing_compiles):
    here = lambda *flags: main(ppo, "gymnax", "gymnax/CartPole-v1", [str(x) for x in flags])
    there = lambda *flags: main(ppo, "brax", "brax/hopper", [str(x) for x in flags])
    with pytest.raises(AssertionError, match="compiled"):
        there("--run-dir", tmp_path / "brax", "--total-steps", "100000")
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), ppo.Config(num_envs=4))
    with pytest.raises(AssertionError, match="compiled"):
        purerl.train(agent, 10_000, run_dir=tmp_path / "api")
    capsys.readouterr()
    for run_dir, said in (("brax", "is a run on brax/hopper"), ("api", "begun by purerl.train")):
        assert here("--resume", tmp_path / run_dir) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert said in err


def test_devices_that_share_a_member_may_be_others_after_a_resume(tmp_path, nothing_compiles):
    go = lambda *flags: main(ppo, "gymnax", "gymnax/CartPole-v1", [str(x) for x in flags])
    with pytest.raises(AssertionError, match="compiled"):
        go(*start_of(tmp_path / "run", 10), "--data-parallel", "4", "--devices", "4")
    with pytest.raises(AssertionError, match="compiled"):
        go("--resume", tmp_path / "run", "--data-parallel", "2", "--devices", "2")


def test_parse_raises_what_main_prints():
    with pytest.raises(UsageError, match="no such gymnax environment"):
        parse(ppo, "gymnax", "gymnax/CartPole-v1", ["--env", "Nowhere"])


# Processes: each costs seconds, so they are few.


def test_a_process_exits_with_2(environment, tmp_path):
    process = launch(environment, "--seeds", "0", cwd=tmp_path, script=BRAX)
    code, out, err = finish(process)
    assert (code, out, err) == (2, "", "error: seeds=0: must be positive\n")


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(environment, tmp_path):
    """kill -9 at random moments while every iteration is saved, then --resume."""
    iterations = 60
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out, err = finish(launch(environment, *start_of(whole, iterations)))
    assert (code, err) == (0, "")
    assert steps_in(whole)[-1] == iterations

    seed = random.randrange(2**32)
    print(f"seed of the kills: {seed}")
    moments = random.Random(seed)
    flags, kills = start_of(killed, iterations), 0
    for attempt in range(3):
        begun = steps_in(killed)
        process = launch(environment, *flags)
        if attempt % 2:
            # In the middle of the writing of a checkpoint.
            writing = lambda: list((killed / "checkpoint").glob("*.orbax-checkpoint-tmp*"))
            wait_for(lambda: steps_in(killed) > begun and writing(), process)
        else:
            wait_for(lambda: steps_in(killed) > begun, process)
            time.sleep(moments.uniform(0.0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        code, _, err = finish(process)
        assert code in (-signal.SIGKILL, 0), err
        flags = ["--resume", killed]
        if code == 0:
            break
    assert kills >= 2, "the run is too short to be killed"
    code, out, err = finish(launch(environment, *flags))
    assert (code, err) == (0, "")
    assert "resumed at step" in out
    assert_same_run(whole, killed)
    names = [p.name for p in (killed / "checkpoint").iterdir()]
    assert all(name.isdigit() for name in names), "something half-written was left"


@pytest.mark.slow
def test_an_interrupt_saves_and_can_be_resumed(environment, tmp_path):
    """That of a person, and that of a scheduler which is about to stop the job."""
    run_dir = tmp_path / "run"
    process = launch(environment, *start_of(run_dir, 20_000))
    wait_for(lambda: steps_in(run_dir), process)
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    stopping = "\nstopping at the end of this chunk; again to stop at once\n"
    assert (code, err) == (130, stopping)
    assert re.search(r"interrupted at step [\d,]+ of 640,000", out)
    assert "return (IQM)" in out
    (done,) = {int(x.replace(",", "")) for x in re.findall(r"interrupted at step ([\d,]+)", out)}
    assert steps_in(run_dir)[-1] == done // UNIT
    process = launch(environment, "--resume", run_dir)
    wait_for(lambda: steps_in(run_dir)[-1] > done // UNIT, process)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (130, stopping)
    assert f"resumed at step {done:,}" in out


def fault(run_dir, process):
    """What a failed run said."""
    code, out, err = finish(process, timeout=60)
    assert code == 1, (out, err)
    assert err.count("\n") == 1, err
    assert err.startswith(f"error: run_dir={str(run_dir)!r}: cannot be written")
    return err


def limiter(directory):
    """A script that runs the experiment with a limit on the size of every file it writes."""
    script = directory / "limited.py"
    script.write_text(
        "import os, resource, runpy\n"
        "size = int(os.environ['LIMIT'])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        f"runpy.run_path({str(GYMNAX)!r}, run_name='__main__')\n"
    )
    return script


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error(environment, tmp_path):
    """No file may grow beyond 40 kB: metrics.csv meets that first, as it would a full disk."""
    run_dir = tmp_path / "run"
    limited = environment | {"PURERL_CACHE": "off", "LIMIT": "40000"}
    err = fault(run_dir, launch(limited, *start_of(run_dir, 60), script=limiter(tmp_path)))
    newest = steps_in(run_dir)[-1]
    assert f"goes on from iteration {newest}" in err
    code, out, err = finish(launch(environment, "--resume", run_dir))
    assert (code, err) == (0, "")
    assert f"resumed at step {newest * UNIT:,}" in out
    assert steps_in(run_dir)[-1] == 60


@pytest.mark.slow
def test_a_removed_directory_is_one_clear_error(environment, tmp_path):
    run_dir = tmp_path / "run"
    process = launch(environment, *start_of(run_dir, 20_000))
    wait_for(lambda: len(steps_in(run_dir)) == 2, process)
    run_dir.rename(tmp_path / "gone")  # what rmtree does, but at once
    err = fault(run_dir, process)
    assert "--resume" not in err, "its config.json is gone, so it cannot go on"
    assert steps_in(tmp_path / "gone")


def test_old_python_is_one_line():
    python = shutil.which("python3.11")
    code = "import purerl"
    works = python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    if not works:
        python = sys.executable
        code = "import sys; sys.version_info = (3, 11, 2, 'final', 0); import purerl"
    done = subprocess.run(
        [python, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "needs Python >= 3.12" in done.stderr


def test_old_jax_is_one_line(tmp_path):
    info = tmp_path / "jax-0.10.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.10.2\n")
    paths = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "import purerl"]
    done = subprocess.run(command, env=paths, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "jax >= 0.11" in done.stderr
    assert "0.10.2" in done.stderr
