"""The loop: its plan, what it refuses before compiling, and what a person sees."""

import contextlib
import dataclasses
import gc
import json
import os
import re
import shutil
import signal
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from purerl import RunError, UsageError
from purerl.agents import ppo
from purerl.engine import checkpoint, cohort, directory, train
from purerl.engine.checkpoint import Checkpoints
from purerl.engine.directory import held
from purerl.engine.display import say
from purerl.engine.load import load
from purerl.engine.plan import Interrupt, Plan
from purerl.engine.record import MetricsFile, algorithm_of, read_metric

AGENT = toys.make()
UNIT = AGENT.steps_per_update


def plan(total=100, evals=None, saves=None, logs=None):
    return Plan.of(AGENT, total * UNIT, evals, saves, logs)


def test_the_plan_by_default():
    assert plan(1000) == (Plan(1000, 100, 100, 10))
    assert plan(1) == Plan(1, 1, 1, 1)
    assert plan(5) == Plan(5, 1, 1, 1)


def test_the_plan_as_asked():
    assert plan(100, 20 * UNIT, 30 * UNIT + 1, 5 * UNIT) == Plan(100, 20, 30, 5)
    assert plan(100, 0, 0, 0) == Plan(100, 100, 100, 100)
    assert plan(100, 20 * UNIT).checkpoint_every == 20
    assert plan(100, 0).checkpoint_every == 10  # or a run without evaluations would have one
    assert plan(100, 1, 1, 1) == Plan(100, 1, 1, 1)


@pytest.mark.parametrize(("evals", "saves", "logs"), [(7, 5, 3), (100, 100, 100), (1, 50, 10)])
def test_every_stop_is_made_and_none_besides(evals, saves, logs):
    asked = plan(100, evals * UNIT, saves * UNIT, logs * UNIT)
    stops, step = [], 0
    while step < 100:
        step = asked.next_stop(step)
        stops.append(step)
    due = {s for every in (evals, saves, logs) for s in range(every, 101, every)} | {100}
    assert stops == sorted(due)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_steps": UNIT - 1}, f"total_steps={UNIT - 1}: must be at least {UNIT}, one"),
        ({"total_steps": -5}, "total_steps=-5: must be at least"),
        ({"seeds": 0}, "seeds=0: must be positive"),
        ({"eval_episodes": 0}, "eval_episodes=0: must be positive"),
        ({"eval_every": -1}, "eval_every=-1: must not be negative"),
        ({"checkpoint_every": -1}, "checkpoint_every=-1: must not be negative"),
        ({"log_every": -1}, "log_every=-1: must not be negative"),
        ({"population_batch": 0}, "population_batch=0: must be positive"),
        (
            {"hparams": toys.HParams(env_params={"bonsu": 1.0})},
            "env.bonsu: no parameter of env='test/countdown'; did you mean bonus?",
        ),
        ({"resume": True}, "run_dir=None: resume needs a run directory"),
        ({"total_steps": 4.5 * 15}, "total_steps=67.5: must be a whole number"),
        ({"eval_every": 7.5}, "eval_every=7.5: must be a whole number"),
        ({"total_steps": float("inf")}, "total_steps=inf: must be a whole number"),
        ({"loggers": ["wandb"]}, "run_dir=None"),
        ({"total_steps": "1e6"}, "total_steps='1e6': must be a whole number"),
        ({"seeds": 2.5}, "seeds=2.5: must be a whole number"),
        ({"devices": 1.5}, "devices=1.5: must be a whole number"),
        ({"data_parallel": "al"}, "data_parallel='al': must be a whole number"),
        ({"population_batch": 2.5}, "population_batch=2.5: must be a whole number"),
        (
            {"hparams": ppo.HParams()},
            "hparams: are purerl.agents.ppo.HParams; those of the agent are toys.HParams",
        ),
        (
            {"hparams": toys.HParams(rate=[0.1, 0.2]), "pbt": True, "eval_every": 0},
            "eval_every=0: pbt=True selects at evaluations, and there is none between",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_compiling(options, message, nothing_compiles):
    with pytest.raises(UsageError, match=re.escape(message)):
        train(AGENT, **({"total_steps": 4 * UNIT} | options))
    with pytest.raises(AssertionError, match="compiled"):
        train(AGENT, 4 * UNIT)


def test_steps_may_be_written_as_floats(tmp_path):
    """1e6, as people do: whole numbers, and files that say so."""
    result = train(
        AGENT, 4.0 * UNIT, eval_every=2.0 * UNIT, checkpoint_every=np.float64(4 * UNIT),
        log_every=2.0 * UNIT, eval_episodes=2.0, run_dir=tmp_path / "run",
    )  # fmt: skip
    assert (result.steps, type(result.steps)) == (4 * UNIT, int)
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["4"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["total_steps"], config["eval_episodes"]) == (4 * UNIT, 2)
    assert "." not in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1].split(",")[0]
    again = train(
        AGENT, 4 * UNIT, eval_every=2 * UNIT, checkpoint_every=4 * UNIT, log_every=2 * UNIT,
        eval_episodes=2, run_dir=tmp_path / "run", resume=True,
    )  # fmt: skip
    np.testing.assert_array_equal(again.returns, result.returns)


def test_of_two_runs_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    """Both saw no such directory: the second leaves the settings of the first."""
    config = tmp_path / "run" / "config.json"

    @contextlib.contextmanager
    def after_the_first(path):
        with held(path):
            config.write_text("of the first")
            yield

    monkeypatch.setattr(directory, "held", after_the_first)
    with pytest.raises(UsageError, match="exists; choose another, or --resume"):
        train(AGENT, 4 * UNIT, run_dir=tmp_path / "run")
    assert config.read_text() == "of the first"
    with held(tmp_path / "run"):  # who looks only does not ask for what another holds
        monkeypatch.undo()
        with pytest.raises(UsageError, match="exists; choose another, or --resume"):
            train(AGENT, 4 * UNIT, run_dir=tmp_path / "run")


@pytest.mark.parametrize("name", ["runs [a]", "[/a]", "[bold]x"])
def test_names_are_printed_as_they_are(name, tmp_path, capsys):
    train(AGENT, 2 * UNIT, run_dir=tmp_path / name, progress=True)
    out = capsys.readouterr().out.replace("\n", "")
    assert f"written to {tmp_path / name}" in out


def test_one_seed_has_no_interval(capsys):
    train(AGENT, 2 * UNIT, progress=True)
    alone = capsys.readouterr().out
    train(AGENT, 2 * UNIT, seeds=2, progress=True)
    assert " to " in capsys.readouterr().out.split("evaluation after")[1]
    assert " to " not in alone.split("evaluation after")[1]


def test_configurations_beyond_the_table_are_where_it_says(tmp_path, capsys):
    rates = toys.HParams(rate=np.linspace(0.1, 0.5, 12))
    train(AGENT, 2 * UNIT, hparams=rates, progress=True)
    assert "and 2 more in result.configurations" in capsys.readouterr().out
    train(AGENT, 2 * UNIT, hparams=rates, progress=True, run_dir=tmp_path / "run")
    assert "and 2 more in sweep.csv" in capsys.readouterr().out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Ten iterations, evaluated at 3, 6, 9 and 10, logged at the even ones."""
    path = tmp_path_factory.mktemp("runs") / "run"
    result = train(
        AGENT, 10 * UNIT + 2, seeds=[4, 2], eval_every=3 * UNIT, eval_episodes=5,
        log_every=2 * UNIT, checkpoint_every=5 * UNIT, run_dir=path,
    )  # fmt: skip
    return path, result


def test_a_run_writes_what_it_says(run):
    path, result = run
    names = {p.name for p in path.iterdir()}
    assert names >= {"config.json", "metrics.csv", "curve.png", "checkpoint"}
    assert {p.name for p in (path / "checkpoint").iterdir()} == {"5", "10"}
    assert (path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"^metric='toy/one': metrics.csv in .* has .*toy/one_sum"):
        read_metric(path, "toy/one")
    steps, sums = read_metric(path, "toy/one_sum")
    assert (steps / UNIT).tolist() == [2, 3, 4, 5, 6, 8, 9, 10]
    assert sums[:, 0].tolist() == np.diff([0, 2, 3, 4, 5, 6, 8, 9, 10]).tolist()
    steps, scores = read_metric(path, "eval/return")
    assert (steps / UNIT).tolist() == [3, 6, 9, 10]
    np.testing.assert_allclose(scores[-1], result.returns, rtol=1e-6)
    assert not {"episode/return_sum", "frozen"} & set((path / "metrics.csv").read_text().split(","))


def test_a_result_has_its_curves(run):
    """Those of a run without a directory, to the digits that metrics.csv has."""
    _, result = run
    options = {"eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT}  # fmt: skip
    alone = train(AGENT, 10 * UNIT + 2, seeds=[4, 2], **options)
    for name in ("eval/return", "episode/return", "toy/one_sum"):
        steps, values = alone.metric(name)
        of_file, same = result.metric(name)
        assert steps.tolist() == of_file.tolist()
        np.testing.assert_allclose(values, same, rtol=1e-6)
    np.testing.assert_allclose(alone.metric("eval/return")[1][-1], alone.returns, rtol=1e-6)
    with pytest.raises(UsageError, match=r"^metric='eval/returns': must be one of "):
        alone.metric("eval/returns")


def test_a_state_that_is_not_wanted_is_not_copied(monkeypatch):
    """Three members in four rows: theirs would be a copy of all, for which there may be no room."""

    def take(*_):
        raise AssertionError("copied")

    monkeypatch.setattr(cohort, "_take", take)
    result = train(AGENT, 2 * UNIT, seeds=3, devices=2, keep_state=False)
    assert result.state is None
    assert np.isfinite(result.returns).all()
    with pytest.raises(AssertionError, match="copied"):
        train(AGENT, 2 * UNIT, seeds=3, devices=2)


def test_what_is_restored_finds_room(tmp_path, monkeypatch):
    """The state that a run begins with is gone by then."""
    options = {"run_dir": tmp_path / "run", "checkpoint_every": UNIT}
    train(AGENT, 2 * UNIT, **options)
    restore, held = Checkpoints.restore, []

    def restored(self, *arguments):
        held.append(len([x for x in jax.live_arrays() if x.shape[1:] == (3,)]))
        return restore(self, *arguments)

    gc.collect()
    before = len([x for x in jax.live_arrays() if x.shape[1:] == (3,)])
    monkeypatch.setattr(Checkpoints, "restore", restored)
    train(AGENT, 2 * UNIT, resume=True, **options)
    assert held == [before]


def test_two_processes_do_not_train_in_one_directory(run, tmp_path):
    """One that was left behind by a lost connection still writes there."""
    path = shutil.copytree(run[0], tmp_path / "run")
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    before = (path / "metrics.csv").read_bytes()
    with held(path), pytest.raises(UsageError) as caught:
        train(AGENT, 10 * UNIT + 2, **options)
    assert str(caught.value) == f"run_dir={str(path)!r}: another process is training in it"
    assert (path / "metrics.csv").read_bytes() == before
    train(AGENT, 10 * UNIT + 2, **options)


def test_of_two_that_begin_in_one_empty_directory_the_second_leaves_it_alone(tmp_path):
    """It is refused, and must not take with it what the first has there."""
    path = tmp_path / "run"
    path.mkdir()

    def both(path, settings, resume):
        (path / "metrics.csv").write_text("of the first")

    with pytest.MonkeyPatch.context() as patch, held(path):
        patch.setattr(sys.modules["purerl.engine.train"], "prepare", both)
        with pytest.raises(UsageError, match="another process is training in it"):
            train(AGENT, 2 * UNIT, run_dir=path)
    assert (path / "metrics.csv").read_text() == "of the first"


def test_a_resumed_run_may_have_other_members_abreast(run, tmp_path):
    path = shutil.copytree(run[0], tmp_path / "run")
    shutil.rmtree(path / "checkpoint" / "10")
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    found = train(AGENT, 10 * UNIT + 2, population_batch=1, devices=1, **options)
    np.testing.assert_allclose(found.returns, run[1].returns, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.int64, float])
def test_counts_may_be_numpy_s_or_floats(kind, tmp_path):
    counts = {"seeds": 2, "devices": 1, "population_batch": 1, "eval_episodes": 2, "eval_every": 15,
              "keep": 1}  # fmt: skip
    counts = {name: kind(value) for name, value in counts.items()}
    result = train(AGENT, kind(2 * UNIT), run_dir=tmp_path / "run", **counts)
    assert result.returns.shape == (2,)
    train(AGENT, 2 * UNIT, run_dir=tmp_path / "run", resume=True, **counts)


def test_the_result_says_what_came_of_it(run):
    path, result = run
    assert (result.steps, result.run_dir, result.interrupted) == (10 * UNIT, path, False)
    assert result.frozen == {}
    assert result.evaluation.greedy.shape == (2, 5)
    np.testing.assert_allclose(result.returns, 11.0 * result.evaluation.greedy_length.mean(1))
    assert result.steps_per_second == pytest.approx(2 * result.steps / result.train_seconds)
    assert jax.tree.leaves(result.state)[0].shape[0] == 2
    assert result.population.seeds.tolist() == [4, 2]


def test_a_directory_is_not_written_twice(run):
    path, _ = run
    before = (path / "metrics.csv").read_bytes()
    with pytest.raises(UsageError, match="exists; choose another, or --resume"):
        train(AGENT, 10 * UNIT, run_dir=path)
    assert (path / "metrics.csv").read_bytes() == before


def test_another_configuration_is_not_resumed(run):
    path, _ = run
    with pytest.raises(UsageError, match=r"another configuration: .*seeds=\[0\] where the run has"):
        train(AGENT, 10 * UNIT, run_dir=path, resume=True)


def shown(capsys, **options):
    train(AGENT, 4 * UNIT, progress=True, **options)
    return capsys.readouterr().out


def test_plain_lines_without_a_terminal(tmp_path, capsys):
    text = shown(capsys, seeds=2, run_dir=tmp_path / "run")
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    header = {line.split()[0]: line for line in lines[:9]}
    device = jax.devices()[0]
    assert "toys on test/countdown" in header["purerl"]
    assert device.platform in header["device"]
    assert header["resets"].split()[1] == "pool"
    assert header["members"].split()[1] == "2"
    assert f"{4 * UNIT:,} each, {8 * UNIT:,} in all" in header["steps"]
    assert header["run"].endswith(str(tmp_path / "run"))
    assert header["parameters"].split()[1:] == ["3", "each"]
    assert re.search(r"[\d.]+ MB state \+ [\d.]+ MB temporary", header["memory"])
    assert re.search(r"compiled +in [\d.]+ s", header["compiled"])
    assert re.search(r"^100%  60 steps  [\d,]+ steps/s  return [\d.]+  0 s left$", text, re.M)
    for word in ("return (IQM)", "95 % interval", "median", "min", "max", "greedy", "sampled"):
        assert word in text
    assert lines[-1] == f"written to {tmp_path / 'run'}"
    assert "compile" in lines[-2]


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = shown(capsys)
    assert "━" in text
    assert "\x1b[" in text
    assert "steps/s" in text


def test_silence_unless_wanted(capsys):
    train(AGENT, 2 * UNIT)
    assert capsys.readouterr() == ("", "")


def test_what_is_interrupted_is_saved_before_it_is_evaluated(tmp_path, monkeypatch):
    """A second interrupt, or a scheduler that kills, costs the evaluation only."""
    module, run_dir = sys.modules["purerl.engine.train"], tmp_path / "run"
    compiled, log = module.compile_programs, MetricsFile.log

    def compile_programs(*settings):
        def evaluate(*arguments):
            raise KeyboardInterrupt

        return compiled(*settings)._replace(evaluate=evaluate)

    def log_and_stop(self, step, metrics):
        log(self, step, metrics)
        if step == 3 * UNIT:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "compile_programs", compile_programs)
    monkeypatch.setattr(MetricsFile, "log", log_and_stop)
    options = {"eval_every": 0, "checkpoint_every": 0, "log_every": UNIT}
    with pytest.raises(KeyboardInterrupt):
        train(AGENT, 10 * UNIT, run_dir=run_dir, **options)
    monkeypatch.undo()
    (saved,) = (run_dir / "checkpoint").iterdir()
    assert 3 <= int(saved.name) < 10
    steps, _ = read_metric(run_dir, "toy/step")
    assert steps[-1] == int(saved.name) * UNIT
    assert train(AGENT, 10 * UNIT, run_dir=run_dir, resume=True, **options).steps == 10 * UNIT


def test_a_result_is_written_again_unless_it_is_of_the_end(run, tmp_path):
    """That of a run that was stopped half-way, then resumed and killed before it wrote its own."""
    path = shutil.copytree(run[0], tmp_path / "run")
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    kept = (path / "result.json").read_text()
    train(AGENT, 10 * UNIT + 2, **options)
    assert (path / "result.json").read_text() == kept, "with the seconds that it took"
    half = json.loads(kept) | {"steps": 5 * UNIT, "interrupted": True}
    (path / "result.json").write_text(json.dumps(half))
    train(AGENT, 10 * UNIT + 2, **options)
    found = json.loads((path / "result.json").read_text())
    assert (found["steps"], found["interrupted"]) == (10 * UNIT, False)
    assert found["greedy"] == json.loads(kept)["greedy"]


def test_an_interrupt_during_an_evaluation_saves_and_evaluates(tmp_path, monkeypatch):
    """Also there the run ends with a checkpoint of where it is, and scores of just that."""
    module = sys.modules["purerl.engine.train"]
    compiled, evaluated = module.compile_programs, []

    def compile_programs(*settings):
        programs = compiled(*settings)

        def evaluate(*arguments):
            if not evaluated:
                signal.raise_signal(signal.SIGINT)
            evaluated.append(int(arguments[-2]))
            return programs.evaluate(*arguments)

        return programs._replace(evaluate=evaluate)

    monkeypatch.setattr(module, "compile_programs", compile_programs)
    options = {"eval_every": 2 * UNIT, "checkpoint_every": 5 * UNIT, "log_every": 3 * UNIT}
    result = train(AGENT, 10 * UNIT, run_dir=tmp_path / "run", **options)
    assert result.interrupted
    done = result.steps // UNIT
    assert 2 <= done < 5
    assert {p.name for p in (tmp_path / "run" / "checkpoint").iterdir()} == {str(done)}
    assert evaluated[-1] == done


def test_result_json_is_json(tmp_path):
    """Also where a score does not exist: its only member is frozen."""
    agent = toys.make(config=toys.Config(bad_step=0))
    run_dir = tmp_path / "run"
    train(agent, 2 * UNIT, hparams=toys.HParams(bad=1.0), run_dir=run_dir)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((run_dir / "result.json").read_text(), parse_constant=refuse)
    assert found["frozen"] == {"0": 0}
    assert found["steps"] == 2 * UNIT


class Closed:
    """An output that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")

    def isatty(self):
        return False

    def fileno(self):
        return self.spare

    def __init__(self):
        self.spare = os.open(os.devnull, os.O_WRONLY)


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
def test_a_run_goes_on_when_nobody_reads_what_it_prints(tmp_path, monkeypatch, error):
    """As after `| head`, or Ctrl-C in `| tee log`, which ends tee too."""
    closed = Closed()
    if error is OSError:
        closed.write = closed.flush = lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error"))
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr("purerl.engine.display.PLAIN_SECONDS", 0.0)
    result = train(AGENT, 4 * UNIT, run_dir=tmp_path / "run", progress=True)
    say("and a line")
    monkeypatch.undo()
    assert result.steps == 4 * UNIT
    assert (tmp_path / "run" / "checkpoint" / "4").is_dir()


def test_what_was_trained_is_saved_where_its_evaluation_fails(tmp_path, monkeypatch):
    options = {"run_dir": tmp_path / "run", "eval_every": 0, "checkpoint_every": 0, "seeds": 2}

    def fails(self, step):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(cohort.Cohort, "evaluate", fails)
    with pytest.raises((RuntimeError, RunError), match="RESOURCE_EXHAUSTED"):
        train(AGENT, 4 * UNIT, **options)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["4"]
    assert read_metric(tmp_path / "run", "toy/one_sum")[0][-1] == 4 * UNIT
    again = train(AGENT, 4 * UNIT, **options, resume=True)
    steps, scores = read_metric(tmp_path / "run", "eval/return")
    assert steps.tolist() == [4 * UNIT]
    np.testing.assert_allclose(scores[0], again.returns, rtol=1e-6)
    rows = (tmp_path / "run" / "metrics.csv").read_text()
    train(AGENT, 4 * UNIT, **options, resume=True)
    assert (tmp_path / "run" / "metrics.csv").read_text() == rows


def test_what_is_to_be_selected_from_is_not_saved_where_its_evaluation_fails(tmp_path, monkeypatch):
    """A run that went on from there would go on with all configurations."""
    options = {"hparams": toys.HParams(rate=np.linspace(0.1, 0.4, 4)), "halving": True,
               "log_every": UNIT, "eval_episodes": 2}  # fmt: skip
    whole = train(AGENT, 8 * UNIT, **options)
    options["run_dir"] = tmp_path / "run"
    evaluate, times = cohort.Cohort.evaluate, []

    def fails(self, step):
        times.append(step)
        if step in whole.dropped.values():
            raise RuntimeError("out of memory")
        return evaluate(self, step)

    monkeypatch.setattr(cohort.Cohort, "evaluate", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(AGENT, 8 * UNIT, **options)
    monkeypatch.undo()
    assert train(AGENT, 8 * UNIT, **options, resume=True).dropped == whole.dropped


def test_a_terminal_that_ends_may_say_so_twice():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_last_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch, number):
    wait, before = Checkpoints.wait, signal.signal(number, signal.SIG_DFL)

    def interrupted(self):
        if self._writing is not None:
            os.kill(os.getpid(), number)
        wait(self)

    monkeypatch.setattr(Checkpoints, "wait", interrupted)
    try:
        result = train(AGENT, 2 * UNIT, run_dir=tmp_path / "run", checkpoint_every=0)
    finally:
        signal.signal(number, before)
    assert result.stop_asked
    assert not result.interrupted
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["2"]


def test_a_signal_that_is_ignored_stays_so(monkeypatch):
    """With nohup a run outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_during_an_evaluation_ends_the_run_after_it(tmp_path, monkeypatch):
    evaluate = cohort.Cohort.evaluate

    def asks(self, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, step)

    monkeypatch.setattr(cohort.Cohort, "evaluate", asks)
    result = train(AGENT, 9 * UNIT, run_dir=tmp_path / "run", eval_every=3 * UNIT)
    assert result.interrupted
    assert result.steps == 3 * UNIT


def test_a_run_without_its_checkpoints_is_not_begun_again_over_its_results(run, tmp_path):
    path = shutil.copytree(run[0], tmp_path / "run")
    shutil.rmtree(path / "checkpoint")
    written = (path / "metrics.csv").read_text()
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    with pytest.raises(UsageError, match=r"has no checkpoint to go on from$"):
        train(AGENT, 10 * UNIT + 2, **options)
    assert (path / "metrics.csv").read_text() == written
    # Killed, it may never have had one; of one that came so far that it had, more would be lost.
    (path / "result.json").unlink()
    with pytest.warns(UserWarning, match="no checkpoint is there yet: from the beginning"):
        assert train(AGENT, 10 * UNIT + 2, **options).steps == 10 * UNIT
    often = {"run_dir": tmp_path / "often", "checkpoint_every": UNIT, "log_every": UNIT}
    train(AGENT, 4 * UNIT, **often)
    shutil.rmtree(tmp_path / "often" / "checkpoint")
    (tmp_path / "often" / "result.json").unlink()
    with pytest.raises(UsageError, match=r"has no checkpoint to go on from$"):
        train(AGENT, 4 * UNIT, **often, resume=True)


@pytest.mark.parametrize(("asked", "kept"), [(None, "all"), (3, 3)])
def test_as_many_checkpoints_stay_on_resume_as_before(tmp_path, asked, kept):
    options = {"run_dir": tmp_path / "run", "checkpoint_every": UNIT}
    train(AGENT, 4 * UNIT, **options, keep=asked)
    names = lambda: sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
    before = names()
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "4")
    train(AGENT, 4 * UNIT, **options, resume=True)
    assert names() == before
    assert json.loads((tmp_path / "run" / "config.json").read_text())["keep"] == kept


def test_other_versions_on_resume_are_said_and_written_down(run, tmp_path, capsys):
    path = shutil.copytree(run[0], tmp_path / "run")
    shutil.rmtree(path / "checkpoint" / "10")
    config = path / "config.json"
    old = json.loads(config.read_text())
    config.write_text(json.dumps(old | {"versions": old["versions"] | {"jax": "0.1.2"}}))
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    for _ in range(2):
        train(AGENT, 10 * UNIT + 2, progress=True, **options)
    assert capsys.readouterr().out.count("begun with jax 0.1.2, whose numbers may differ") == 1
    new = json.loads(config.read_text())
    assert new["versions"] == old["versions"]
    assert [x["jax"] for x in new["versions_before"]] == ["0.1.2"]


@pytest.mark.parametrize("damage", ["no metadata", "cut off", "no manifest", "unreadable"])
def test_a_damaged_checkpoint_is_one_line(run, tmp_path, damage):
    path = shutil.copytree(run[0], tmp_path / "run")
    options = {"seeds": [4, 2], "eval_every": 3 * UNIT, "eval_episodes": 5, "log_every": 2 * UNIT,
               "checkpoint_every": 5 * UNIT, "run_dir": path, "resume": True}  # fmt: skip
    files = [p for p in (path / "checkpoint" / "10").rglob("*") if p.is_file()]
    if damage == "cut off":
        largest = max(files, key=lambda p: p.stat().st_size)
        largest.write_bytes(largest.read_bytes()[:20])
    elif damage == "no manifest":
        for file in (p for p in files if "manifest" in p.name):
            file.unlink()
    else:
        for file in (p for p in files if "METADATA" in p.name.upper()):
            file.unlink()
            if damage == "unreadable":
                file.mkdir()  # as root reads what nobody may
    for again in (lambda: train(AGENT, 10 * UNIT + 2, **options), lambda: load(path, agent=AGENT)):
        said = (
            r"^the checkpoint of iteration 10 (cannot be read|holds another .*damaged).*; "
            rf"with {path}/checkpoint/10 moved elsewhere, that of 5 is the newest$"
        )
        with pytest.raises(UsageError, match=said):
            again()
    shutil.rmtree(path / "checkpoint" / "10")
    assert train(AGENT, 10 * UNIT + 2, **options).steps == 10 * UNIT
    if damage == "no metadata":  # of the only one nothing is before
        shutil.copytree(path / "checkpoint" / "10", tmp_path / "10")
        shutil.rmtree(path / "checkpoint")
        shutil.copytree(tmp_path / "10", path / "checkpoint" / "10")
        for file in (path / "checkpoint").rglob("*METADATA"):
            file.unlink()
        with pytest.raises(UsageError, match=r"is damaged$|cannot be read \(.*\)$"):
            train(AGENT, 10 * UNIT + 2, **options)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(116, "Stale file handle"),
        MemoryError("no room"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_the_checkpoints_fault_does_not_advise_to_do_without_it(
    run, tmp_path, monkeypatch, error
):
    def refused(*_):
        raise error

    path = shutil.copytree(run[0], tmp_path / "run")
    from orbax.checkpoint import v1 as ocp

    monkeypatch.setattr(ocp.training.Checkpointer, "load", refused)
    with pytest.raises(UsageError, match=r"^the checkpoint of iteration 10 cannot .*\)$"):
        load(path, agent=AGENT)


def test_what_cannot_be_read_is_not_said_to_be_written(run, tmp_path, monkeypatch):
    def refused(checkpointer, step):
        raise checkpoint._unread(checkpointer, step, PermissionError(13, "Permission denied"))

    path = shutil.copytree(run[0], tmp_path / "run")
    monkeypatch.setattr(checkpoint, "saved_rows", refused)
    with pytest.raises(UsageError, match=r"10 cannot be read \(.*Permission denied\)$"):
        train(AGENT, 10 * UNIT + 2, seeds=[4, 2], eval_every=3 * UNIT, eval_episodes=5,
              log_every=2 * UNIT, run_dir=path, resume=True)  # fmt: skip


def test_a_resumed_run_is_saved_as_often_as_before(tmp_path):
    """Also one of a version in which the default was another."""
    train(AGENT, 6 * UNIT, run_dir=tmp_path / "run", checkpoint_every=2 * UNIT, keep=None)
    for step in ("4", "6"):
        shutil.rmtree(tmp_path / "run" / "checkpoint" / step)
    train(AGENT, 6 * UNIT, run_dir=tmp_path / "run", resume=True)
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
    assert names == ["2", "4", "6"]


def test_a_metric_that_is_no_scalar_is_one_line():
    wide = lambda *args: (lambda new, m: (new, m | {"toy/wide": jnp.zeros(3)}))(
        *AGENT.update(*args)
    )
    with pytest.raises(UsageError, match=r"^update: metric 'toy/wide' must be a scalar, not of"):
        train(dataclasses.replace(AGENT, update=wide), 2 * UNIT)
    less = lambda *args: (lambda new, m: (new, {"toy/one": m["episode/count"]}))(
        *AGENT.update(*args)
    )
    with pytest.raises(UsageError, match=r"^update: must return the metric 'episode/return_sum'; "):
        train(dataclasses.replace(AGENT, update=less), 2 * UNIT)


def test_a_setting_that_is_no_number_is_one_line():
    agent = dataclasses.replace(AGENT, config=Odd(jnp.tanh))
    with pytest.raises(UsageError, match=r"^activation=<.*>: must be of numbers, texts and tuples"):
        train(agent, 2 * UNIT)


@dataclasses.dataclass(frozen=True)
class Odd:
    activation: object
    num_envs: int = 3


def test_a_run_s_algorithm_is_the_module_of_its_update(monkeypatch):
    """Not that of a Config which it shares; a wrapper in a module that makes nothing is none."""
    module = types.ModuleType("my_ppo")
    monkeypatch.setitem(sys.modules, "my_ppo", module)
    update = lambda *args: AGENT.update(*args)
    update.__module__ = "my_ppo"
    mine = dataclasses.replace(AGENT, update=update)
    assert algorithm_of(mine) == algorithm_of(AGENT) == "toys"
    module.Config, module.HParams, module.make = toys.Config, toys.HParams, toys.make
    assert algorithm_of(mine) == "my_ppo"
    # A module whose `make` is that of another, with a Config of its own, is itself.
    own = type("Own", (toys.Config,), {"__module__": "my_net"})
    monkeypatch.setitem(sys.modules, "my_net", types.ModuleType("my_net"))
    module = sys.modules["my_net"]
    module.Config, module.HParams, module.make = own, toys.HParams, toys.make
    assert algorithm_of(dataclasses.replace(AGENT, config=own())) == "my_net"
