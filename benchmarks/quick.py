"""`--quick`: has something become slower, larger or worse than what was last committed?

    python -m benchmarks throughput --quick         also learning, scaling, compile and memory
    python -m benchmarks throughput --quick --keep  commit what this writes, once it is right

For every change, so short, and on whatever machine CI lends: seconds would say more of it than of
the code. Speed is therefore counted in steps per run of a calibration loop, and compiling in
compilations of a calibration program (CPU seconds over CPU seconds), each in turn with what is
measured, so that a neighbour's load slows both. Memory is in MB; learning has gates, which need no
earlier run.

A row fails where it is worse than the committed one by more than its allowance, and is again when
it is measured a second time. The allowances come from repetitions on a busy machine (see KINDS). On
another kind of machine than the committed run's, ratios differ for other reasons, such as the width
of vectors or the number of cores: there a row fails only beyond a wider allowance, which still
catches what is accidentally quadratic.
"""

import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.records import here, keep, processor, provenance, read


class Kind(NamedTuple):
    """How values of one kind are compared.

    Attributes:
      unit: of a value.
      higher: whether more is better.
      allowance: the factor by which a value may be worse on the same kind of machine.
      elsewhere: likewise on another kind.
    """

    unit: str
    higher: bool
    allowance: float
    elsewhere: float


# Seen of the same code on 2 cores with 5 to 17 processes that wanted them: the medians of three or
# four runs lay within a factor of 1.03 (PPO), 1.22 (SAC) and 1.32 (DQN) in speed, 1.13 in share,
# 1.07 in compiling (of wall time 1.4) and 1.13 in memory. Single repetitions of speed lay up to 3.7
# apart, hence medians and a second try. Between free cores and those, SAC lay 1.39 apart. Between
# an AMD EPYC and an Intel Xeon of two cores each, and 79 commits, speeds lay 1.10 to 1.17 apart.
KINDS = {
    "speed": Kind("steps a calibration loop", True, 1.75, 2.25),
    "share": Kind("of the steps/s alone", True, 1.5, 2.25),
    "compile": Kind("calibration compiles", False, 1.5, 2.25),
    "memory": Kind("MB", False, 1.25, 2.0),
    "score": Kind("return", True, 1.0, 1.0),  # against its gate
}


class Row(NamedTuple):
    """One measured thing.

    Attributes:
      kind: of KINDS.
      repetitions: every value measured; the row's value is their median.
      gate: the least it may be, for what is not compared with an earlier run.
    """

    kind: str
    repetitions: list[float]
    gate: float | None = None

    @property
    def value(self) -> float:
        return statistics.median(self.repetitions)


def number(x: float | None) -> str:
    """Four digits, or all before the point."""
    if x is None:
        return ""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


class Verdict(NamedTuple):
    """What was found of a row: `limit` is the worst it may be; None where nothing is known."""

    name: str
    row: Row
    committed: float | None
    limit: float | None

    @property
    def failed(self) -> bool:
        if self.limit is None:
            return False
        kind, value = KINDS[self.row.kind], self.row.value
        # Not the other way round: NaN is no good value.
        return not (value >= self.limit if kind.higher else value <= self.limit)

    def __str__(self) -> str:
        than = "at least" if KINDS[self.row.kind].higher else "at most"
        was = "" if self.committed is None else f" where {number(self.committed)} is committed"
        assert self.limit is not None
        return (
            f"{self.name}: {number(self.row.value)} {KINDS[self.row.kind].unit}{was};"
            f" must be {than} {number(self.limit)}"
        )


def judge(name: str, row: Row, committed: Mapping[str, Any] | None, same: bool) -> Verdict:
    """Compare a row with the committed entry of its name.

    Args:
      name: of the row.
      row: as measured now.
      committed: its entry, if there is one.
      same: whether that is of the same kind of machine.
    """
    if row.gate is not None:
        return Verdict(name, row, None, row.gate)
    if committed is None:
        return Verdict(name, row, None, None)
    kind, value = KINDS[row.kind], committed["value"]
    allowance = kind.allowance if same else kind.elsewhere
    return Verdict(name, row, value, value / allowance if kind.higher else value * allowance)


def baseline(machine: str) -> tuple[str | None, dict[str, Any], bool]:
    """(whose, entries, whether it is this kind of machine) of the committed run to compare with.

    That of this machine's name; without one, that of any machine of the same platform.
    """
    found = read("quick")
    platform = lambda name: "cpu" if name.startswith("cpu-") else "accelerator"
    like = [name for name in found if platform(name) == platform(machine)]
    whose = machine if machine in found else (like or [None])[0]
    if whose is None:
        return None, {}, False
    entries = found[whose]
    names = {entry["processor"] for entry in entries.values()}
    return whose, entries, whose == machine and names == {processor()}


def table(verdicts: list[Verdict]) -> str:
    """Markdown, for CI's summary."""
    lines = ["| | value | unit | committed | allowed | |"]
    lines += ["| --- | ---: | --- | ---: | ---: | --- |"]
    for verdict in verdicts:
        kind = KINDS[verdict.row.kind]
        sign = "≥" if kind.higher else "≤"
        limit = "not yet" if verdict.limit is None else f"{sign} {number(verdict.limit)}"
        lines.append(
            f"| {verdict.name} | {number(verdict.row.value)} | {kind.unit} |"
            f" {number(verdict.committed)} | {limit} | {'**failed**' if verdict.failed else 'ok'} |"
        )
    return "\n".join(lines)


def run(command: str, measures: Mapping[str, Callable[[], Row]], keeping: bool) -> int:
    """Measure every row, print the table and compare. -> the exit status, 1 after a regression.

    Args:
      command: whose rows these are.
      measures: row name -> what measures it.
      keeping: whether to write the rows as those to compare with from now on.
    """
    whose, entries, same = baseline(here())
    verdicts = []
    for name, measure in measures.items():
        print(f"measuring {name}", file=sys.stderr, flush=True)
        verdict = judge(name, row := measure(), entries.get(name), same)
        if verdict.failed and not keeping:  # a second time, before it counts
            print(f"again, as it failed: {verdict}", file=sys.stderr, flush=True)
            again = judge(name, row := measure(), entries.get(name), same)
            verdict = verdict if again.failed else again
        verdicts.append(verdict)
        if keeping and row.gate is None:
            about = provenance() | {"kind": row.kind}
            found = {"value": row.value, "repetitions": row.repetitions}
            keep("quick", name, about | found)
    kind = "the same kind of machine" if same else "another kind of machine"
    print(f"\n### {command} --quick on {here()}\n")
    print(f"Compared with {whose}, {kind}.\n" if whose else "There is nothing to compare with.\n")
    print(table(verdicts), flush=True)
    failed = [] if keeping else [verdict for verdict in verdicts if verdict.failed]
    for verdict in failed:
        print(f"worse than allowed: {verdict}", file=sys.stderr)
    return 1 if failed else 0
