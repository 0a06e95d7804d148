"""What every test runs under. The environment is set before JAX is first imported."""

import gc
import os
import sys
from pathlib import Path

# Nothing a test compiles is read from, or left in, the user's cache.
os.environ["PURERL_CACHE"] = "off"
# More threads than cores: programs on several simulated devices wait for each other inside.
os.environ.setdefault("NPROC", "16")
# Tests compile much and compute little. Without LLVM's passes a PPO update compiles in a quarter
# of the time; XLA's own passes, and so what is computed, stay. Set XLA_FLAGS= to test without.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest

from purerl.engine.programs import compile_programs

jax.config.update("jax_num_cpu_devices", 8)
# Tracing makes objects by the million, few of them garbage: look for it seldom.
gc.set_threshold(100_000, 20, 20)


def pytest_addoption(parser):
    parser.addoption("--on-cpu", action="store_true", help="run the tests marked gpu on a CPU too")


def pytest_runtest_setup(item):
    """Tests marked gpu are skipped where JAX has none. Asked here: asking starts JAX's backends."""
    asks = item.get_closest_marker("gpu") and not item.config.getoption("--on-cpu")
    if asks and jax.default_backend() == "cpu":
        pytest.skip("needs an accelerator; --on-cpu runs it all the same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share what one of them compiled run in one process: those of a file, of the laws
    those of an agent."""
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        group = getattr(case, "name", None) or item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


MAPPINGS = Path("/proc/self/maps")
MANY = 40_000  # memory mappings; Linux allows a process 65,530
_compiled = 0  # programs, since they were last counted


def _count(event: str, duration: float, **details: object) -> None:
    global _compiled
    _compiled += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture(autouse=True)
def _few_programs():
    """Forget compiled programs when there are many: each maps memory of its own, and when no more
    can be mapped the compiler crashes."""
    yield
    global _compiled
    if _compiled < 50:
        return
    _compiled = 0
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MANY:
        compile_programs.cache_clear()
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def optimised(monkeypatch):
    """The programs of a test that learns for long are optimised as a user's are.

    XLA has read XLA_FLAGS long ago; `cpu_options` finds nothing in it now that it must leave alone.
    """
    monkeypatch.setenv("XLA_FLAGS", "")


@pytest.fixture
def nothing_compiles(monkeypatch):
    """Where `train` would compile, it raises AssertionError("compiled")."""

    def compiled(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(sys.modules["purerl.engine.train"], "compile_programs", compiled)


@pytest.fixture
def strict_ranks():
    """No broadcasting of arrays of different rank, which hides mistaken axes.

    Not for all tests: brax relies on it.
    """
    with jax.numpy_rank_promotion("raise"):
        yield
