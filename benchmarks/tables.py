"""Render BENCHMARKS.md from benchmarks/results: `python benchmarks/tables.py`."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def learning(results: dict[str, Any]) -> list[str]:
    """One row a task: the score over seeds, its gate and what it took."""
    rows = [
        "| command | steps | seeds | greedy return, IQM (95 %) | gate | min | steps/s |"
        " compile s | wall s | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for entry in results.values():
        g = entry["greedy"]
        gate = "recorded" if entry["gate"] is None else f"{entry['gate']:g}"
        missed = " **missed**" if entry["passed"] is False else ""
        digits = 1 if abs(g["iqm"]) >= 10 else 2
        score = " ".join(f"{g[k]:.{digits}f}" for k in ("iqm", "low", "high")).split()
        rows.append(
            f"| `{entry['command']}` | {entry['steps']:,} | {g['count']} |"
            f" {score[0]} ({score[1]} to {score[2]}) | {gate}{missed} | {g['min']:.{digits}f} |"
            f" {entry['steps_per_second']:,} | {entry['compile_seconds']:.1f} |"
            f" {entry['wall_seconds']:.0f} | {entry['peak_memory_mb']:,} |"
        )
    return rows


def throughput(results: dict[str, Any]) -> list[str]:
    """One row a machine and population size, then compile times and memory."""
    rows = [
        "| machine | members | purerl steps/s | PureJaxRL steps/s | ratio | of the matmul limit |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for device, entry in results.items():
        for name, row in entry.get("throughput", {}).items():
            if not name.startswith("members_"):
                continue
            peer = row.get("purejaxrl_steps_per_second")
            rows.append(
                f"| {device}, {entry['cores']} cores | {name.removeprefix('members_')} |"
                f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else 'not run'} |"
                f" {row.get('ratio', '')} | {row['fraction_of_matmul_limit']:.0%} |"
            )
    for device, entry in results.items():
        if abreast := entry.get("abreast"):
            rates = ", ".join(f"{n}: {rate:,}" for n, rate in abreast.items())
            rows += ["", f"{device}: 64 members, steps/s by members abreast: {rates}."]
    for device, entry in results.items():
        for name, seconds in entry.get("compile_seconds", {}).items():
            rows += ["", f"{device}: compiling PPO on {name}, one seed: {seconds['first']:.1f} s,"]
            rows += [f"from the cache {seconds['second']:.1f} s."]
        if peak := entry.get("peak_mb_by_total_steps"):
            sizes = ", ".join(f"{mb} MB after {int(n):,} steps" for n, mb in peak.items())
            rows += ["", f"{device}: peak memory of 8 seeds on CartPole: {sizes}."]
    return rows


def scaling(results: dict[str, Any]) -> list[str]:
    """One row a machine, population size and number of devices; then what sweeping costs."""
    rows = [
        "| machine | members | devices | steps/s | peak MB of the process |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for device, entry in results.items():
        for row in [*entry.get("members", []), *entry.get("devices", [])]:
            rows.append(
                f"| {device}, {entry['cores']} cores | {row['members']:,} | {row['devices']} |"
                f" {row['steps_per_second']:,} | {row['peak_mb']:,} |"
            )
    for device, entry in results.items():
        if found := entry.get("sweep"):
            rows += ["", f"{device}: 3 learning rates x 3 entropy coefficients x 16 seeds take"]
            rows += [f"{found['ratio']} of the time of 144 seeds of one configuration, with"]
            rows += [f"{found['compilations']} compilation."]
        if found := entry.get("sharding"):
            rows += ["", f"{device}: 64 members on {found['devices']} devices take"]
            rows += [f"{found['ratio']} of the time of the same on one of them"]
            if "ratio_alone" in found:
                rows[-1] += f" ({found['ratio_alone']} of that in a process with one device)"
            rows[-1] += "."
    return rows


def off_policy(results: dict[str, Any]) -> list[str]:
    """DQN by members and capacity, SAC by members, then the replay by itself."""
    rows = [
        "| machine | members | capacity | purerl steps/s | Rejax steps/s | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for device, entry in results.items():
        for name, row in entry.get("dqn", {}).items():
            _, members, _, capacity = name.split("_")
            peer = row.get("rejax_steps_per_second")
            rows.append(
                f"| {device}, {entry['cores']} cores | {members} | {int(capacity):,} |"
                f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else 'not run'} |"
                f" {row.get('ratio', '')} |"
            )
    rows += ["", "SAC on Pendulum, one environment and a gradient step (an update) of 256 rows"]
    rows += ["a step; the limit is a loop of nothing but the matrix products of such updates:", ""]
    rows += ["| machine | members | purerl steps/s | Rejax steps/s | ratio | updates/s |"]
    rows[-1] += " of the matmul limit |"
    rows += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for device, entry in results.items():
        for name, row in entry.get("sac", {}).items():
            peer, share = row.get("rejax_steps_per_second"), row.get("share_of_matmul_limit")
            updates = row.get("updates_per_second")
            rows.append(
                f"| {device}, {entry['cores']} cores | {name.split('_')[1]} |"
                f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else 'not run'} |"
                f" {row.get('ratio', '')} | {f'{updates:,}' if updates else 'not run'} |"
                f" {f'{share:.0%}' if share else 'not run'} |"
            )
    rows += ["", "Microseconds of 16 steps inserted, and of 256 transitions sampled:", ""]
    rows += ["| machine | | capacity | purerl | flashbax | ratio |"]
    rows += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for device, entry in results.items():
        for found in entry.get("replay", []):
            for kind in ("insert", "sample"):
                row = found[kind]
                rows.append(
                    f"| {device}, {entry['cores']} cores | {kind} | {found['capacity']:,} |"
                    f" {row['purerl_us']} | {row['flashbax_us']} | {row['ratio']} |"
                )
    return rows


def planning(results: dict[str, Any]) -> list[str]:
    """One row a machine and number of environments."""
    rows = [
        "| machine | environments | purerl simulations/s | mctx simulations/s | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for device, entry in results.items():
        for name, row in entry.items():
            if name.startswith("envs_"):
                rows.append(
                    f"| {device}, {entry['cores']} cores | {name.removeprefix('envs_')} |"
                    f" {row['purerl_simulations_per_second']:,} |"
                    f" {row['mctx_simulations_per_second']:,} | {row['ratio']} |"
                )
    return rows


def page() -> str:
    """The whole of BENCHMARKS.md."""
    read = lambda name: json.loads((HERE / "results" / name).read_text())
    text = [
        "# Benchmarks",
        "",
        "Written by `python benchmarks/tables.py` from `benchmarks/results`.",
        "",
        "## Learning",
        "",
        "`python benchmarks/learning.py` runs these commands. Greedy evaluation at the end of",
        "training; interquartile mean over seeds with its 95 % bootstrap interval.",
        "",
        *learning(read("learning.json")),
        "",
        "## SAC and DDPG",
        "",
        "`python benchmarks/learning.py --study sac-vs-ddpg`: the same tasks, steps and seeds.",
        "",
        *learning(read("sac-vs-ddpg.json")),
        "",
        "## Speed",
        "",
        "`python benchmarks/throughput.py --purejaxrl DIR`: PPO on CartPole, 64 environments x 128",
        "steps, 4 epochs x 4 minibatches, 64-64 tanh networks; in turn in one process, medians.",
        "",
        *throughput(read("throughput.json")),
        "",
        "## Scaling",
        "",
        "`python benchmarks/scaling.py`: the same PPO. A CPU with 2 cores is 2 devices; 8 devices",
        "are forced on those cores (`JAX_NUM_CPU_DEVICES=8`).",
        "",
        "![steps/s and memory over members and devices](benchmarks/results/scaling.png)",
        "",
        *scaling(read("scaling.json")),
        "",
        "## Replay",
        "",
        "`python benchmarks/off_policy.py --rejax DIR`: DQN on CartPole, 10 environments and a",
        "gradient step of 128 rows for every step of them, double, 64-64 networks with swish; SAC",
        "with the same networks; in turn in one process, medians.",
        "",
        *off_policy(read("off_policy.json")),
        "",
        "## Planning",
        "",
        "`python benchmarks/planning.py`: MuZero acting on CartPole, 16 simulations a step, its",
        "steps kept for replay, beside mctx's search alone with the same network; in turn.",
        "",
        *planning(read("planning.json")),
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    (HERE.parent / "BENCHMARKS.md").write_text(page())


if __name__ == "__main__":
    main()
