"""A population that does not fit is refused in one line, with one that does."""

import re
import sys

import jax
import numpy as np
import pytest
import toys

from purerl import UsageError
from purerl.engine import train
from purerl.engine.memory import check_memory, memory_limit
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.train import planned

AGENT = toys.make()
UNIT = AGENT.steps_per_update
module = sys.modules["purerl.engine.memory"]


def limited(monkeypatch, limit):
    monkeypatch.setattr(module, "memory_limit", lambda where: limit)


def fits(members, temporary=0, devices=1, batch=None):
    where = place(members, devices, batch=batch)
    try:
        check_memory(where, AGENT, population(AGENT.hparams, members), temporary)
    except UsageError as error:
        return int(re.search(r"fits is (\d+)", str(error))[1])
    return None


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("batch", [None, 1])
def test_the_largest_that_fits_is_the_largest_that_fits(monkeypatch, devices, batch):
    """Of exactly that many nothing is said; of more, that number."""
    limited(monkeypatch, 20_000)
    most = fits(10_000 * devices, devices=devices, batch=batch)
    assert most % devices == 0
    assert 10 < most < 10_000 * devices
    assert fits(most, devices=devices, batch=1) is None
    assert fits(most + devices, devices=devices, batch=1) == most


def test_slices_are_proposed_when_they_help(monkeypatch):
    limited(monkeypatch, 20_000)
    members = population(AGENT.hparams, 100)
    where = place(100, 1, batch=100)
    with pytest.raises(UsageError) as caught:
        check_memory(where, AGENT, members, temporary=19_000)
    said = str(caught.value)
    assert "\n" not in said
    assert re.search(
        r"population=100: needs [\d.]+e?-?\d* GB on each device, which has 2e-05", said
    )
    abreast = int(re.search(r"with --population-batch (\d+) this one does", said)[1])
    check_memory(place(100, 1, batch=abreast), AGENT, members, temporary=190 * abreast)


def test_a_copy_that_is_saved_is_counted_on_several_processes(monkeypatch):
    """Each copies its part on its devices, whatever they are; one process copies to the host."""
    options = {
        "seeds": 1, "hparams": None, "halving": False, "pbt": False, "eval_every": None,
        "eval_episodes": 1, "checkpoint_every": None, "keep": 2, "log_every": None, "devices": None,
        "data_parallel": 1, "population_batch": None, "loggers": (),
    }  # fmt: skip
    copies = lambda saves: planned(AGENT, UNIT, saves=saves, **options).copies
    assert (copies(True), copies(False)) == (2, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert copies(True) == 1
    where = place(1)
    monkeypatch.setattr(sys.modules["purerl.engine.train"], "place", lambda *_: where)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert (copies(True), copies(False)) == (2, 1)


def test_no_limit_known_is_no_limit(monkeypatch):
    limited(monkeypatch, None)
    assert fits(10**6) is None


def test_refused_before_compiling(monkeypatch, tmp_path):
    def compiled(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(sys.modules["purerl.engine.train"], "compile_programs", compiled)
    limited(monkeypatch, 10)
    with pytest.raises(UsageError, match="the largest population that fits is 0"):
        train(AGENT, UNIT, seeds=8, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_room_for_a_copy_is_counted_where_there_will_be_one(monkeypatch, tmp_path):
    """For a checkpoint on a CPU, and where members change places."""

    def compiled(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(sys.modules["purerl.engine.train"], "compile_programs", compiled)
    limited(monkeypatch, 10_000)
    most = fits(10_000)
    go = lambda **options: train(AGENT, 4 * UNIT, devices=1, population_batch=1, **options)
    with pytest.raises(AssertionError, match="compiled"):
        go(seeds=most)
    two = toys.HParams(rate=np.array([0.1, 0.2]))
    for options in ({"seeds": most, "run_dir": tmp_path / "run"},
                    {"seeds": most // 2, "hparams": two, "halving": True}):  # fmt: skip
        with pytest.raises(UsageError, match=f"the largest population that fits is {most // 2}"):
            go(**options)


def test_refused_after_compiling_leaves_nothing(monkeypatch, tmp_path):
    """The state fits; what the compiled program needs besides does not."""
    state = 8 * 1000
    limited(monkeypatch, state)
    with pytest.raises(UsageError, match="population=8"):
        train(AGENT, UNIT, seeds=8, run_dir=tmp_path / "run", devices=1, population_batch=8)
    assert not (tmp_path / "run").exists()


def test_files_that_are_only_cached_leave_room(monkeypatch, tmp_path):
    """In a container they count as used until something else wants their place."""
    monkeypatch.setattr(module, "GROUP", tmp_path)
    assert module._free_in_group() is None
    for name, text in (
        ("memory.max", "4000000\n"),
        ("memory.current", "3900000\n"),
        ("memory.stat", "anon 500000\nfile 3400000\ninactive_file 3000000\nactive_file 4\n"),
    ):
        (tmp_path / name).write_text(text)
    assert module._free_in_group() == 3_100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert module._free_in_group() is None


def test_what_is_in_use_on_an_accelerator_is_not_free(monkeypatch):
    class Device:
        platform = "gpu"

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": 300}

    monkeypatch.setattr(module.jax, "local_devices", lambda: [Device()])
    assert memory_limit(None) == 700


def test_the_machine_tells_its_memory():
    one, all_ = memory_limit(place(8, 1)), memory_limit(place(8))
    assert one is None or one > all_ > 1_000_000
