"""Several processes as one run: two real ones on this machine, each with two CPU devices."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from laws import changed, furthest

from purerl import UsageError, experiment
from purerl.agents import ppo
from purerl.engine import hosts
from purerl.engine.load import load
from purerl.experiment import main

SCRIPT = Path(__file__).parents[1] / "experiments" / "ppo_gymnax.py"
SMALL = ["--num-envs", "8", "--unroll-length", "8", "--num-epochs", "1", "--num-minibatches", "2",
         "--hidden-sizes", "16", "--eval-episodes", "2"]  # fmt: skip
GONE = r"^error: distributed: another process is gone"


def start(flags, *, process=None, port=0, devices=2):
    """One process; `process` is its number among two, None for a run of its own."""
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *SMALL, *flags]
    if process is not None:
        command += ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2",
                    "--process-id", str(process)]  # fmt: skip
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pair(*flags, others=None):
    """Two processes that belong together; `others` are the flags of the second."""
    port = free_port()
    return [
        start(own, process=i, port=port)
        for i, own in enumerate((list(flags), list(flags if others is None else others)))
    ]


def ended(processes, seconds=240):
    """[(exit code, stdout, stderr)] when all have ended."""
    try:
        return [(p.returncode, *out) for p, out in
                [(p, p.communicate(timeout=seconds)) for p in processes]]  # fmt: skip
    finally:
        for process in processes:
            process.kill()


def both_ended_well(processes):
    found = ended(processes)
    assert [code for code, _, _ in found] == [0, 0], found
    return found


def alone(*flags):
    return ended([start(flags, devices=4)])[0]


@pytest.mark.slow
def test_two_processes_train_a_population_and_survive_a_kill(tmp_path):
    """As one process does; killed in the middle, the other ends at once, and --resume goes on."""
    flags = ["--seeds", "8", "--total-steps", "76800", "--checkpoint-every", "6400",
             "--eval-every", "0"]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    processes = pair(*flags, "--run-dir", str(two))
    deadline = time.monotonic() + 200
    while not any(path.name.isdigit() for path in two.glob("checkpoint/*")):
        assert time.monotonic() < deadline
        assert all(p.poll() is None for p in processes), ended(processes)
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (code, _, err), _ = ended(processes)
    assert time.monotonic() - killed < 60
    assert code == 1
    assert len(re.findall(GONE, err, re.M)) == 1, err
    assert "Traceback" not in err

    (_, out, _), (_, other, _) = both_ended_well(pair("--resume", str(two)))
    assert re.search(r"^resumed at step [\d,]+$", out, re.M)
    assert "4 x cpu in 2 processes" in out
    assert "evaluation after 76,800 steps" in out
    assert "evaluation" not in other  # the first alone prints and writes
    code, _, err = alone(*flags, "--run-dir", str(one))
    assert code == 0, err
    found, expected = load(two), load(one)
    assert found.step == expected.step
    assert changed(found.state.train.learner, expected.state.train.learner) == []
    assert (two / "metrics.csv").read_text() == (one / "metrics.csv").read_text()
    scores = lambda path: json.loads((path / "result.json").read_text())["greedy"]
    assert scores(one) == scores(two)


@pytest.mark.slow
def test_two_processes_share_one_agent(tmp_path):
    """Data-parallel over both: to rounding what one device computes."""
    flags = ["--seeds", "1", "--total-steps", "640", "--data-parallel"]
    both_ended_well(pair(*flags, "4", "--run-dir", str(tmp_path / "two")))
    code, _, err = alone(*flags, "1", "--devices", "1", "--run-dir", str(tmp_path / "one"))
    assert code == 0, err
    found, expected = load(tmp_path / "two"), load(tmp_path / "one")
    assert found.env_steps == expected.env_steps == 640
    params = lambda loaded: loaded.state.train.learner.params
    assert furthest(params(found), params(expected)) < 1e-5


@pytest.mark.slow
def test_processes_with_different_flags(tmp_path):
    run = ["--total-steps", "6400", "--run-dir", str(tmp_path / "run")]
    found = ended(pair("--seeds", "4", *run, others=["--seeds", "6", "--clip-eps", "0.3", *run]))
    for code, _, err in found:
        assert code == 2
        assert "Traceback" not in err
        line = err.strip().splitlines()[-1]
        assert line.startswith("error: distributed: process 1 has hparams.clip_eps=0.3 where")
        assert "seeds=[0, 1, 2, 3, 4, 5] where process 0 has [0, 1, 2, 3]" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_directory_that_exists_is_refused_by_both(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    found = ended(pair("--total-steps", "6400", "--run-dir", str(tmp_path / "run")))
    for code, _, err in found:
        assert code == 2
        assert "exists; choose another" in err.strip().splitlines()[-1]
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--distributed"], "coordinator=None: --distributed needs --coordinator HOST:PORT"),
        (["--distributed", "--coordinator", "host:1"], "num_processes=None: --distributed needs"),
        (["--coordinator", "host:1"], "coordinator='host:1': needs --distributed"),
        (["--distributed", "--num-processes", "two"], "num_processes='two': must be a number"),
        (["--distributed", "--coordinator", "host", "--num-processes", "2", "--process-id", "0"],
         "coordinator='host': must be HOST:PORT"),
        (["--distributed", "--coordinator", "host:1", "--num-processes", "2", "--process-id", "2"],
         "process_id=2: must be below num_processes=2"),
    ],
)  # fmt: skip
def test_wrong_flags(flags, message, capsys):
    assert main(ppo, "gymnax", "gymnax/CartPole-v1", flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # the batch script itself, not srun
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_clusters_are_recognised(variables, several, monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES",
                 "JOB_COMPLETION_INDEX", "KUBERNETES_SERVICE_HOST"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.in_cluster() == several


@pytest.mark.parametrize(
    ("words", "devices", "threads"),
    [
        ("", 1, "3"),
        ("--seeds=1", 1, "3"),
        ("--env gymnax/Acrobot-v1", 1, "3"),
        ("--seeds 2", 4, None),
        ("--sweep clip=0.1,0.2", 4, None),
        ("--devices 1 --data-parallel=1", 1, "3"),
        ("--devices 2", 4, None),
        ("--distributed", 4, None),
        ("--data_parallel=2", 4, None),
        ("--env Breakout-MinAtar", 4, None),  # there PPO gains from a second thread
        ("--resume {lone}", 1, "3"),
        ("--resume {several}", 4, None),
        ("--resume {split}", 4, None),
        ("--resume {swept}", 4, None),
        ("--resume {broken}", 4, None),
        ("--resume {lone} --devices 2", 4, None),
        ("--resume {images}", 4, None),
        ("--resume {none}", 4, None),
    ],
)
def test_a_member_alone_has_one_device_and_leaves_a_core_to_its_caller(
    words, devices, threads, tmp_path, monkeypatch
):
    whole = {"agent": "ppo", "env": {"name": "gymnax/CartPole-v1"}, "config": {}, "hparams": {}}
    whole |= {"seeds": [0], "versions": {}, "total_steps": 1, "sweep": [], "data_parallel": 1}
    runs: dict[str, dict] = {
        "lone": {},
        "several": {"seeds": [0, 1]},
        "split": {"data_parallel": 2},
        "swept": {"sweep": ["num_envs=8,16"]},
        "broken": {"seeds": 5},
        "images": {"env": {"name": "gymnax/Asterix-MinAtar"}},
    }
    for name, own in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(whole | own))
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("NPROC", "")  # so that it is as it was afterwards
    monkeypatch.setenv("PJRT_NPROC", "")
    monkeypatch.delenv("NPROC")
    monkeypatch.delenv("PJRT_NPROC")
    monkeypatch.setattr(hosts, "initialize", lambda *_: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    given = {}
    update = lambda config, name, value: given.update({name: value})
    monkeypatch.setattr(type(jax.config), "update", update)
    paths = {name: tmp_path / name for name in [*runs, "none"]}
    experiment._start(words.format(**paths).split(), "gymnax/CartPole-v1")
    assert given == {"jax_num_cpu_devices": devices}
    assert os.environ.get("PJRT_NPROC") == threads


def test_what_a_user_says_of_threads_and_devices_is_kept(monkeypatch):
    given = {}
    update = lambda config, name, value: given.update({name: value})
    monkeypatch.setattr(type(jax.config), "update", update)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("NPROC", "7")
    hosts.use_cores(alone_on="gymnax/CartPole-v1")
    assert os.environ["NPROC"] == "7"
    assert given == {"jax_num_cpu_devices": 1}
    assert "PJRT_NPROC" not in os.environ
    given.clear()
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    hosts.use_cores(alone_on="gymnax/CartPole-v1")
    assert given == {}


def test_xla_has_a_thread_fewer_than_there_are_cores():
    code = (
        "import os; os.sched_getaffinity = lambda _: range(4)\n"
        "import jax; from purerl.engine import hosts\n"
        "hosts.use_cores(alone_on='gymnax/CartPole-v1'); jax.devices()\n"
        "tasks = '/proc/self/task'\n"
        "names = [open(f'{tasks}/{task}/comm').read() for task in os.listdir(tasks)]\n"
        "print(jax.device_count(), sum('XLAEigen' in name for name in names))"
    )
    left = ("NPROC", "PJRT_NPROC", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    env = {k: v for k, v in os.environ.items() if k not in left} | {"JAX_PLATFORMS": "cpu"}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, check=True
    )
    assert out.stdout.split() == [b"1", b"3"]


def test_a_cluster_needs_no_flags(monkeypatch):
    asked = []
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: asked.append(a))
    monkeypatch.setattr(hosts, "_explain_abort", lambda: None)
    hosts.initialize(False, None, None, None)
    assert asked == [(None, None, None)]


@pytest.mark.parametrize(("variables", "seen"), [
    ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "all"),
    ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, "0"),
    ({"SLURM_STEP_TASKS_PER_NODE": "1,2"}, "0"),
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "all"),
    # mpirun in a SLURM job: a step of one task a node, which starts the processes.
    ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "0"),
    ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "JAX_CUDA_VISIBLE_DEVICES": "2,3"}, "2,3"),
    ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "JAX_LOCAL_DEVICE_IDS": "0"}, "0"),
])  # fmt: skip
def test_a_process_that_is_alone_on_its_host_sees_all_of_its_gpus(variables, seen, monkeypatch):
    """JAX shows a process of SLURM or Open MPI one GPU, that of its number on the host."""
    for name in ("SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = {}
    update = lambda config, name, value: settings.update({name: value})
    monkeypatch.setattr(type(jax.config), "update", update)
    one = lambda *_, **__: jax.config.update("jax_cuda_visible_devices", "0")
    monkeypatch.setattr(jax.distributed, "initialize", one)
    monkeypatch.setattr(hosts, "_explain_abort", lambda: None)
    hosts.initialize(True, "host:1", 2, 0)
    assert settings["jax_cuda_visible_devices"] == seen


def test_others_that_do_not_come_are_one_line(monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("Barrier timed out.\n Id: start")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UsageError, match=r"did not come together \(Barrier timed out. Id: start\)"):
        hosts.initialize(True, "host:1", 2, 0)


def test_one_process_agrees_with_itself():
    assert hosts.gather("text") == ["text"]
    assert hosts.first()
    assert not hosts.any_of(False)
    assert hosts.any_of(True)
    done = []
    hosts.by_first(lambda: done.append(1))
    assert done == [1]

    def wrong():
        raise UsageError("wrong")

    with pytest.raises(UsageError, match="wrong"):
        hosts.by_first(wrong)
