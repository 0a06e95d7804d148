"""TensorBoard and Weights & Biases get the interquartile mean over members."""

import struct
import sys
import types

import numpy as np
import pytest
import toys

from purerl import UsageError
from purerl.analysis import iqm
from purerl.engine import cohort, train
from purerl.engine.loggers import LOGGERS, Careful, open_logger
from purerl.engine.record import METRICS

VALUES = {
    "loss/total": np.array([1.0, 2.0, 3.0, 400.0]),
    "eval/return": np.array([np.nan, 5.0, np.nan, 7.0]),
    "episode/return": np.full(4, np.nan),
}


def records(path):
    """The payloads of a TFRecord file."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 12 + length + 4


def scalars(directory):
    """{(tag, step): value} of all event files."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in directory.glob("events*"):
        for record in records(path):
            event = proto.Event.FromString(record)
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
    return found


def test_tensorboard_writes_events(tmp_path):
    logger = open_logger("tensorboard", tmp_path, {})
    logger.log(100, VALUES)
    logger.close()
    found = scalars(tmp_path / "tensorboard")
    assert found.keys() == {("loss/total", 100), ("eval/return", 100)}
    assert found["loss/total", 100] == pytest.approx(iqm(VALUES["loss/total"]))
    assert found["eval/return", 100] == 6.0


def test_tensorboard_has_a_line_for_each_configuration(tmp_path):
    """An average over hyperparameters would be of nothing."""
    labels = ["rate=0.1", "rate=0.2"]
    logger = open_logger("tensorboard", tmp_path, {}, labels)
    logger.log(100, VALUES)
    logger.close()
    found = [scalars(tmp_path / "tensorboard" / label) for label in labels]
    assert [x["loss/total", 100] for x in found] == [1.5, 201.5]
    assert [x["eval/return", 100] for x in found] == [5.0, 7.0]


class FakeWandb(types.ModuleType):
    """Remembers what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.told = []

    def init(self, **kwargs):
        self.told.append(("init", kwargs))
        return types.SimpleNamespace(
            log=lambda values, step: self.told.append(("log", step, values)),
            finish=lambda: self.told.append(("finish",)),
        )


def test_wandb_is_told(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    (tmp_path / "name").mkdir()
    logger = open_logger("wandb", tmp_path / "name", {"seeds": [0]})
    logger.log(7, VALUES)
    logger.close()
    (_, init), (_, step, values), end = fake.told
    assert (init["name"], init["config"], step) == ("name", {"seeds": [0]}, 7)
    assert (init["project"], init["resume"]) == ("purerl", "allow")
    assert values == {"loss/total": pytest.approx(2.5), "eval/return": 6.0}
    assert end == ("finish",)


def test_wandb_goes_on_in_the_same_run_and_tells_configurations_apart(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for _ in range(2):
        logger = open_logger("wandb", tmp_path, {}, ["rate=0.1", "rate=0.2"])
    logger.log(7, VALUES)
    (_, first), (_, again), (_, _, values) = fake.told
    assert first["id"] == again["id"]
    assert first["project"] == "mine"
    assert values == {
        "loss/total/rate=0.1": 1.5, "loss/total/rate=0.2": 201.5,
        "eval/return/rate=0.1": 5.0, "eval/return/rate=0.2": 7.0,
    }  # fmt: skip


def test_a_run_s_configurations_are_told_apart(tmp_path, monkeypatch):
    """But not those of population-based training, which do not stay what they were."""
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    agent = toys.make()
    unit = agent.steps_per_update
    options = {"hparams": toys.HParams(rate=[0.25, 0.5]), "seeds": 2, "loggers": ["wandb"]}
    for pbt, names in ((False, {"eval/return/rate=0.25", "eval/return/rate=0.5"}),
                       (True, {"eval/return"})):  # fmt: skip
        train(agent, 4 * unit, pbt=pbt, run_dir=tmp_path / str(pbt), **options)
        *_, (_, _, values), _ = fake.told
        assert {name for name in values if name.startswith("eval/return")} - {
            name for name in values if name.startswith("eval/return_sampled")
        } == names


def test_a_logger_that_cannot_be_opened_is_one_line(tmp_path, monkeypatch):
    """W&B without a login, say; and nothing is left, also of the logger that was opened before."""

    class LoggedOut(FakeWandb):
        def init(self, **_):
            raise RuntimeError("api_key not configured\n(no-tty). call wandb.login()")

    monkeypatch.setitem(sys.modules, "wandb", LoggedOut())
    with pytest.raises(UsageError) as caught:
        train(toys.make(), 100, run_dir=tmp_path / "run", loggers=["tensorboard", "wandb"])
    assert str(caught.value) == (
        "logger='wandb': cannot be opened (api_key not configured (no-tty). call wandb.login())"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as caught:
        train(toys.make(), 100, run_dir=tmp_path / "run", loggers=[name])
    assert not (tmp_path / "run").exists()
    assert str(caught.value) == f"logger={name!r}: is not installed; pip install 'purerl[{name}]'"


def test_a_run_is_logged_and_closed(tmp_path, monkeypatch):
    """All rows of metrics.csv arrive, and close comes last."""
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    agent = toys.make()
    unit = agent.steps_per_update
    train(agent, 4 * unit, log_every=2 * unit, run_dir=tmp_path / "run", loggers=["wandb"])
    assert [entry[0] for entry in fake.told] == ["init", *["log"] * (len(fake.told) - 2), "finish"]
    assert [entry[1] for entry in fake.told[1:-1]][-1] == 4 * unit
    assert "eval/return" in fake.told[-2][2]
    assert fake.told[0][1]["config"]["total_steps"] == 4 * unit
    rows = (tmp_path / "run" / METRICS).read_text().splitlines()[1:]
    assert {entry[1] for entry in fake.told[1:-1]} == {int(row.split(",")[0]) for row in rows}


def test_a_logger_is_closed_after_a_fault(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def fails(*_):
        raise KeyError("of nobody's")

    monkeypatch.setattr(cohort.Cohort, "advance", fails)
    with pytest.raises(KeyError):
        train(toys.make(), 100, run_dir=tmp_path / "run", loggers=["wandb"])
    assert [entry[0] for entry in fake.told] == ["init", "finish"]


def test_a_logger_of_one_s_own_gets_every_member_and_needs_no_directory():
    told = []

    class Own:
        def log(self, step, metrics):
            told.append((step, metrics["eval/return"].copy() if "eval/return" in metrics else None))

        def close(self):
            told.append("closed")

    agent = toys.make()
    unit = agent.steps_per_update
    result = train(agent, 4 * unit, seeds=3, log_every=unit, eval_every=2 * unit, loggers=[Own()])
    assert told.pop() == "closed"
    assert [step for step, _ in told] == [unit, 2 * unit, 3 * unit, 4 * unit]
    np.testing.assert_allclose(told[-1][1], result.returns)


def test_unknown_loggers_are_refused(tmp_path):
    agent = toys.make()
    with pytest.raises(UsageError, match=r"logger='csv': must be one of tensorboard, wandb"):
        train(agent, 100, run_dir=tmp_path / "run", loggers=["csv"])
    assert list(LOGGERS) == ["tensorboard", "wandb"]
    assert not (tmp_path / "run").exists()


class Failing:
    """Fails at its third entry, and when it is closed."""

    def __init__(self):
        self.steps, self.closed = [], 0

    def log(self, step, metrics):
        if len(self.steps) == 2:
            raise ConnectionError("no route to host")
        self.steps.append(step)

    def close(self):
        self.closed += 1
        raise OSError("no space left")


def test_a_logger_that_fails_ends_its_logging_and_not_the_run(tmp_path, capsys):
    agent, failing = toys.make(), Failing()
    unit = agent.steps_per_update
    result = train(
        agent, 6 * unit, log_every=unit, loggers=[failing], run_dir=tmp_path / "run", progress=True
    )
    assert result.steps == 6 * unit
    assert len(failing.steps) == 2
    assert failing.closed == 1
    said = "Failing logs no further (ConnectionError: no route to host)"
    assert capsys.readouterr().out.count(said) == 1
    with pytest.warns(UserWarning, match="logs no further") as heard:  # where nothing is printed
        train(agent, 6 * unit, log_every=unit, loggers=[Failing()])
    assert [str(one.message) for one in heard] == [said]
    assert heard[0].filename == __file__


def test_tensorboard_does_not_wait_for_a_thread_that_has_ended(tmp_path):
    """Which ends on a full disk; then adding to its queue would wait for ever."""
    logger = open_logger("tensorboard", tmp_path, {})
    worker = logger._writers[0].file_writer.event_writer._worker
    worker.stop()
    worker.join()
    notes = []
    careful = Careful(logger, notes.append)
    for step in range(30):  # its queue holds ten
        careful.log(step, VALUES)
    assert notes == [
        "TensorBoard logs no further (OSError: its thread has ended, as on a full disk)"
    ]
