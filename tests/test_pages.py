"""What documents show is so: examples run and print what stands there, commands are accepted."""

import contextlib
import importlib.util
import io
import json
import re
import runpy
import shlex
import sys
import types
from pathlib import Path

import pytest

import purerl
from purerl import experiment

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
RECORDS = ROOT / "docs" / "decisions"  # which say what was run once
ELSEWHERE = {"agents.md", "environments.md", "README.md"}  # examples with tests of their own
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"python (experiments/\w+\.py[^`\n|]*)")


def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name(path):
    return str(path.relative_to(ROOT))


def examples(path):
    """[(code, what it must print or None)] of a page."""
    blocks = BLOCK.findall(path.read_text())
    after = [*blocks, ("", "")][1:]
    return [
        (code, text if kind == "text" else None)
        for (language, code), (kind, text) in zip(blocks, after, strict=False)
        if language == "python"
    ]


def commands(path):
    """Script and flags of every experiment that a page starts, but for those with a gap to fill."""
    if path.parent == RECORDS:
        return []
    found = [shlex.split(line, comments=True) for line in COMMAND.findall(path.read_text())]
    return [words for words in found if not {"...", "runs/...", "RUN_DIR", "N"} & set(words)]


@pytest.mark.parametrize(
    "path", [p for p in PAGES if p.name not in ELSEWHERE and examples(p)], ids=name
)
def test_examples_print_what_the_page_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, expected in examples(path):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(path), "exec"), names)
        if expected is not None:
            assert printed.getvalue() == expected, code


def test_examples_of_the_readme_run(tmp_path, monkeypatch):
    """With fewer steps, seeds and configurations."""
    train, sample = purerl.train, purerl.sample

    def short(agent, steps, seeds=1, **options):
        return train(agent, steps // 50, seeds=min(seeds, 2), devices=1, **options)

    monkeypatch.setattr(purerl, "train", short)
    monkeypatch.setattr(purerl, "sample", lambda h, n, **fields: sample(h, n // 16, **fields))
    names = {}
    for code, _ in examples(ROOT / "README.md"):
        exec(compile(code, "README.md", "exec"), names)
    assert len(names["result"].dropped) == 3


WORLDS = ROOT / "docs" / "environments.md"


class Accepted(BaseException):
    """A command came as far as training."""


@pytest.mark.parametrize("path", [p for p in PAGES if commands(p)], ids=name)
def test_commands_are_accepted(path, monkeypatch):
    def train(algorithm, flags, config, hparams, run_dir):
        env = experiment.envs.make(flags.env, **experiment.env_kwargs(flags))
        for group in experiment.expand(flags.sweep, flags.sample, config, hparams):
            algorithm.make(env, group.config)
        raise Accepted

    walks = types.ModuleType("walks")  # where the page says that its environment lies
    (code,) = re.findall(r"```python\n(.*?class Walk.*?)```", WORLDS.read_text(), re.DOTALL)
    exec(code, walks.__dict__)
    monkeypatch.setitem(sys.modules, "walks", walks)
    monkeypatch.setattr(experiment, "_train", train)
    monkeypatch.setattr(experiment, "_start", lambda argv, default_env: None)
    for words in commands(path):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises((Accepted, SystemExit)) as stopped:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        helped = "--help" in words and stopped.value.code == 0
        assert helped or stopped.type is Accepted, words


def test_every_algorithm_has_a_page():
    pages = {path.stem for path in (ROOT / "docs" / "algorithms").glob("*.md")}
    assert pages == {"index", *hooks().agents()}


def test_every_setting_is_explained():
    site = hooks()
    for agent in site.agents():
        for kind in ("Config", "HParams"):
            rows = site.fields(site.AGENTS / f"{agent}.py", kind)
            assert rows
            assert all(default and comment for _, _, default, comment in rows), (agent, rows)


def test_every_result_is_on_a_page():
    site = hooks()
    for study in site.results("ppo"):
        shown = [key for agent in site.agents() for key in site.results(agent)[study]]
        paths = site.RESULTS.glob(f"*/{study}.json")
        results = {name for path in paths for name in json.loads(path.read_text())}
        assert set(shown) == results
        assert results
