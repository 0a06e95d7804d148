"""BENCHMARKS.md and the README's tables from benchmarks/results: `python -m benchmarks tables`.

Nothing but files is read. The table of learning needs neither JAX nor purerl: the site has it too.
"""

from typing import Any

from benchmarks.records import ROOT, STUDIES, read

Results = dict[str, dict[str, Any]]  # machine -> name of an entry -> entry


SHOWN = (  # of learning.json, in the README
    "ppo-inverted_pendulum",
    "ppo-cartpole",
    "ppo-breakout",
    "dqn-cartpole",
    "sac-pendulum",
    "sac-hopper",
    "muzero-cartpole",
)
BESIDE = (  # pairs of `benchmarks peers` that the README shows, with all in which we are slower
    "ppo-cartpole-purejaxrl", "ppo-cartpole-rejax", "ppo-cartpole-sb3", "ppo-breakout-rejax",
    "ppo-hopper-brax", "dqn-cartpole-rejax", "sac-pendulum-rejax", "sac-pendulum-own-sbx",
    "sac-reacher-brax",
)  # fmt: skip
REMARKS = {  # what a study's tables do not show
    "rainbow-vs-dqn": ["On MinAtar Rainbow has returns of one step, and epsilon beside its noise."],
}
BEGIN, END = "<!-- python -m benchmarks tables -->", "<!-- end of tables -->"  # in the README


def rows_of(results: Results, prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    """(machine, entry) of the entries whose name begins so, the fewest members first."""
    size = lambda entry: (entry["settings"].get("members", 0), entry["settings"].get("capacity", 0))
    return [
        (machine, entry)
        for machine, entries in results.items()
        for name, entry in sorted(entries.items(), key=lambda item: size(item[1]))
        if name.startswith(prefix)
    ]


def subject(entry: dict[str, Any]) -> str:
    """Who was measured, and where: ppo, CartPole-v1."""
    return f"{entry['settings']['agent']}, {entry['settings']['env'].split('/')[-1]}"


def learning(results: dict[str, Any]) -> list[str]:
    """One row a task: the score over seeds, its gate and what it took."""
    rows = [
        "| command | steps | seeds | greedy return, IQM (95 %) | gate | min | steps/s |"
        " compile s | wall s | MB | commit |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for entry in results.values():
        g = entry["greedy"]
        gate = "recorded" if entry["gate"] is None else f"{entry['gate']:g}"
        missed = " **missed**" if entry["passed"] is False else ""
        digits = 1 if abs(g["iqm"]) >= 10 else 2
        rows.append(
            f"| `{entry['command']}` | {entry['steps']:,} | {g['count']} |"
            f" {_score(g, digits)} | {gate}{missed} | {g['min']:.{digits}f} |"
            f" {entry['steps_per_second']:,} | {entry['compile_seconds']:.1f} |"
            f" {entry['wall_seconds']:.0f} | {entry['peak_memory_mb']:,} |"
            f" {entry.get('commit') or 'not noted'} |"
        )
    return rows


def _score(greedy: dict[str, Any], digits: int) -> str:
    """The score and its interval, which one seed has not."""
    score, low, high = (f"{greedy[k]:.{digits}f}" for k in ("iqm", "low", "high"))
    return score if greedy["count"] == 1 else f"{score} ({low} to {high})"


def throughput(results: Results) -> list[str]:
    """One row a machine and population size; then how many members abreast are fastest."""
    rows = [
        "| machine | agent | members | purerl steps/s | PureJaxRL steps/s | ratio |"
        " of the matmul limit |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for machine, row in rows_of(results):
        if "purerl_steps_per_second" in row:
            peer, share = row.get("purejaxrl_steps_per_second"), row.get("fraction_of_matmul_limit")
            rows.append(
                f"| {machine} | {subject(row)} | {row['settings']['members']} |"
                f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else ''} |"
                f" {row.get('ratio', '')} | {f'{share:.0%}' if share else ''} |"
            )
    for machine, entries in results.items():
        if abreast := entries.get("ppo-CartPole-v1-abreast"):
            rates = ", ".join(f"{n}: {rate:,}" for n, rate in abreast["steps_per_second"].items())
            rows += ["", f"{machine}: 64 members, steps/s by members abreast: {rates}."]
    return rows


def starts(results: Results) -> list[str]:
    """One row a machine and task."""
    rows = [
        "| machine | agent | environment | first start, s | from the cache, s |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for machine, row in rows_of(results):
        about = row["settings"]
        rows.append(
            f"| {machine} | {about['agent']} | {about['env']} | {row['first_seconds']:.1f} |"
            f" {row['cached_seconds']:.1f} |"
        )
    return rows


def measured(results: Results) -> list[str]:
    """When, on what and of which tree the rows above are."""
    lines = []
    for machine, entries in results.items():
        found = {
            f"{row['date']} on {row.get('processor') or 'a processor not noted'}, "
            f"commit {row.get('commit') or 'not noted'}"
            for row in entries.values()
        }
        lines += ["", f"{machine}, measured: {'; '.join(sorted(found))}."]
    return lines


def memory(results: Results) -> list[str]:
    """One row a machine, task and length."""
    rows = [
        "| machine | agent | environment | members | steps | peak MB |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for machine, row in rows_of(results):
        about = row["settings"]
        rows += [
            f"| {machine} | {about['agent']} | {about['env']} | {about['members']} |"
            f" {int(steps):,} | {mb:,} |"
            for steps, mb in row["peak_mb_by_total_steps"].items()
        ]
    return rows


def scaling(results: Results) -> list[str]:
    """One row a machine, population size and number of devices; then what sweeping costs."""
    rows = [
        "| machine | agent | members | devices | steps/s | peak MB of the process |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for machine, entries in results.items():
        for part in ("members", "devices"):
            for name, entry in entries.items():
                for row in entry["rows"] if name.startswith(part) else []:
                    rows.append(
                        f"| {machine} | {subject(entry)} | {row['members']:,} | {row['devices']} |"
                        f" {row['steps_per_second']:,} | {row['peak_mb']:,} |"
                    )
    for machine, entries in results.items():
        if found := entries.get("sweep"):
            rows += ["", f"{machine}: 3 learning rates x 3 entropy coefficients x 16 seeds take"]
            rows += [f"{found['ratio']} of the time of 144 seeds of one configuration, with"]
            rows += [f"{found['compilations']} compilation."]
        if found := entries.get("sharding"):
            rows += ["", f"{machine}: 64 members on {found['devices']} devices take"]
            rows += [f"{found['ratio']} of the time of the same on one of them"]
            if "ratio_alone" in found:
                rows[-1] += f" ({found['ratio_alone']} of that in a process with one device)"
            rows[-1] += "."
    return rows


def off_policy(results: Results) -> list[str]:
    """DQN by members and capacity, SAC by members, then the replay by itself."""
    rows = [
        "| machine | members | capacity | purerl steps/s | Rejax steps/s | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for machine, row in rows_of(results, "dqn-"):
        peer, about = row.get("rejax_steps_per_second"), row["settings"]
        rows.append(
            f"| {machine} | {about['members']} | {about['capacity']:,} |"
            f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else 'not run'} |"
            f" {row.get('ratio', '')} |"
        )
    rows += ["", "SAC on Pendulum, one environment and a gradient step (an update) of 256 rows"]
    rows += ["a step; the limit is a loop of nothing but the matrix products of such updates:", ""]
    rows += ["| machine | members | purerl steps/s | Rejax steps/s | ratio | updates/s |"]
    rows[-1] += " of the matmul limit |"
    rows += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for machine, row in rows_of(results, "sac-"):
        peer, share = row.get("rejax_steps_per_second"), row.get("share_of_matmul_limit")
        updates = row.get("updates_per_second")
        rows.append(
            f"| {machine} | {row['settings']['members']} |"
            f" {row['purerl_steps_per_second']:,} | {f'{peer:,}' if peer else 'not run'} |"
            f" {row.get('ratio', '')} | {f'{updates:,}' if updates else 'not run'} |"
            f" {f'{share:.0%}' if share else 'not run'} |"
        )
    rows += ["", "Microseconds of 16 steps inserted, of 256 transitions sampled, and of 256 drawn"]
    rows += ["by priority, whose priorities are then set:", ""]
    rows += ["| machine | | capacity | purerl | flashbax | ratio |"]
    rows += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for machine, entry in rows_of(results, "replay-"):
        for kind in ("insert", "sample", "prioritised"):
            if (row := entry.get(kind)) is None:
                continue
            rows.append(
                f"| {machine} | {kind} | {entry['settings']['capacity']:,} |"
                f" {row['purerl_us']} | {row['flashbax_us']} | {row['ratio']} |"
            )
    for machine, entries in results.items():
        by_processor: dict[str, list[str]] = {}
        for name, row in entries.items():
            kind = row.get("processor", "one not noted")
            if "steps" in row and not row.get("apart"):
                kind += ", both sides in one process"
            by_processor.setdefault(kind, []).append(name)
        said = [f"{', '.join(names)} on {kind}" for kind, names in sorted(by_processor.items())]
        rows += ["", f"{machine}, by processor: {'; '.join(said)}."]
    return rows


EXPECTED = (
    "Expected seconds of training to the first evaluation that reaches the score, where",
    "runs are repeated until one does: those of all runs, in whole where one does not, over",
    "the number that do ([average runtime](https://arxiv.org/abs/1605.03560)); warm without",
    "compiling, cold with it. Ratios are of the peer's seconds over ours, with 95 %",
    "bootstrap intervals over pairs, without end where few runs of one side reach it.",
)


def peers(results: Results) -> list[str]:
    """Speed, one row a pair; then seconds to the score; then what is not equal, and versions."""
    pairs = [row for row in rows_of(results) if "repetitions" in row[1]]
    named = lambda machine, row: f"| {machine} | {row['task']} | {row['title']} |"
    rows = [
        "| machine | task | peer | purerl steps/s | its steps/s | ratio (95 %) | purerl is |"
        " purerl compiles, s | it compiles, s |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for machine, row in pairs:
        speed, compiling = row["steps_per_second"], row["compile_seconds"]
        rows.append(
            f"{named(machine, row)} {speed['purerl']:,} | {speed['peer']:,} | {_ratio(speed)} |"
            f" {compiling['purerl']:.1f} | {compiling['peer']:.1f} |"
        )
    rows += ["", *EXPECTED, ""]
    rows += ["| machine | task | peer | score | | purerl s | its s | ratio (95 %) | purerl is |"]
    rows += ["| --- | --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]
    for machine, row in pairs:
        for kind in ("warm", "cold"):
            to, runs = row[f"{kind}_seconds_to_score"], len(row["repetitions"])
            rows.append(
                f"{named(machine, row)} {row['settings']['score']:g} | {kind} |"
                f" {_reached(to, 'purerl', runs)} | {_reached(to, 'peer', runs)} | {_ratio(to)} |"
            )
    unequal, versions, commits, failed = [], [], {}, []
    for machine, row in rows_of(results):
        if "did_not_run" in row:
            what = f"- {machine}, {row['task']}: {row['title']} did not run: `{row['did_not_run']}`"
            failed.append(what)
            continue
        unequal.append(f"- {row['task']}, {row['title']}: {'; '.join(row['settings']['unequal'])}.")
        theirs = ", ".join(f"{name} {found}" for name, found in row["peer_versions"].items())
        versions.append(f"- {machine}, {row['title']}: {theirs}; ours with jax"
                        f" {row['versions']['jax']}.")  # fmt: skip
        where = row["commit"], row.get("processor", "a processor not noted")
        commits.setdefault(where, []).append(f"{row['task']} beside {row['title']}")
    measured = [f"- {at}, {on}: {', '.join(of)}." for (at, on), of in commits.items()]
    for title, lines in (
        ("Did not run:", failed), ("Not equal:", unequal), ("Versions:", versions),
        ("Our commit and the processor:", measured),
    ):  # fmt: skip
        if lines:
            rows += ["", title, "", *dict.fromkeys(lines)]
    return rows


def _ratio(found: dict[str, Any]) -> str:
    """Two cells: a ratio with its interval, and what we are in a word; losses stand out."""
    words = found.get("purerl_is", "")
    words = f"**{words}**" if words in ("slower", "not there") else words
    if "ratio" not in found:
        return f" | {words}"
    high = "∞" if found["high"] is None else f"{found['high']:g}"
    return f"{found['ratio']:g} ({found['low']:g} to {high}) | {words}"


def _reached(found: dict[str, Any], side: str, runs: int) -> str:
    """Seconds, and of how many runs where not of all."""
    times = found[f"{side}_reached"]
    if not times:
        return "not reached"
    return f"{found[side]:.2f}" + (f" ({times} of {runs})" if times < runs else "")


def planning(results: Results) -> list[str]:
    """One row a machine and number of environments."""
    rows = [
        "| machine | environments | purerl simulations/s | mctx simulations/s | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    fewest_first = lambda pair: (pair[0], pair[1]["settings"]["num_envs"])
    for machine, row in sorted(rows_of(results), key=fewest_first):
        rows.append(
            f"| {machine} | {row['settings']['num_envs']} |"
            f" {row['purerl_simulations_per_second']:,} |"
            f" {row['mctx_simulations_per_second']:,} | {row['ratio']} |"
        )
    return rows


def gpu(results: Results) -> list[str]:
    """One row a machine and program, the fastest first; then what stands beside brax's PPO."""
    if not results:
        return ["Not run yet."]
    rows = [
        "| machine | row | members | steps/s | compile s | peak MB of the device | score |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    entries = [
        (machine, name, entry)
        for machine, found in results.items()
        for name, entry in found.items()
        if "steps_per_second" in entry
    ]
    without = [
        f"{machine}: `{name}` {entry['ended']}"
        for machine, found in results.items()
        for name, entry in found.items()
        if entry.get("ended", "done") != "done"
    ]
    without += [
        f"{machine}: `{name}` {said}"
        for machine, found in results.items()
        for name, said in found.get("run", {}).get("rows", {}).items()
        if said.startswith("not run")
    ]
    for machine, name, entry in sorted(entries, key=lambda x: (x[0], -x[2]["steps_per_second"])):
        score, memory = entry.get("score"), entry["peak_device_mb"]
        told = ""
        if score:
            seconds = score["seconds"]
            last = (
                f"not reached in {score['curve'][-1][1]:g} s" if score["curve"] else "not reached"
            )
            told = f"{score['wanted']:g} " + (f"after {seconds:g} s" if seconds else last)
        asked = f" (asked: {entry['asked']:,})" if entry.get("asked") else ""
        rows.append(
            f"| {machine} | `{name}` | {entry['settings']['members']} |"
            f" {entry['steps_per_second']:,}{asked} | {entry['compile_seconds']:.1f} |"
            f" {f'{memory:,}' if memory else 'not told'} | {told} |"
        )
    for machine, _, entry in entries:
        if ratio := entry.get("ratio_to_eight"):
            rows += ["", f"{machine}: {entry['settings']['members']} seeds of ant in one program"]
            rows += [f"take {ratio} of the time of brax's own PPO for 8, one after another, at"]
            rows += [f"{entry['steps_per_seed']:,} steps each ({len(entry['brax_seconds'])} run;"]
            rows += [f"aimed at: at most {entry['aim']:g})."]
    for machine, found in results.items():
        if tests := found.get("tests"):
            failed = ", ".join(tests.get("failures", ())) or "none"
            ended = "" if tests["ended"] == "done" else f" ({tests['ended']})"
            rows += ["", f"{machine}: tests marked gpu: {tests.get('passed', 0)} passed;"]
            rows += [f"failed: {failed}{ended}."]
    rows += ["", "Ended early, or not run:", "", *(f"- {x}" for x in without)] if without else []
    return rows


def by_machine(results: Results) -> list[str]:
    """The learning table of each machine, under its name."""
    tables = [[f"### {machine}", "", *learning(found), ""] for machine, found in results.items()]
    return [line for table in tables for line in table][:-1]


def improvement(results: Results, ours: str, theirs: str) -> list[str]:
    """One row a machine and task: how likely a run of ours is better than one of theirs."""
    from benchmarks.pictures import by_task, improvements

    rows = [
        f"| machine | task | seeds | P({ours} > {theirs}) (95 %) |",
        "| --- | --- | ---: | ---: |",
    ]
    for machine, entries in results.items():
        for task, found in improvements(by_task(entries, ours, theirs)).items():
            rows.append(
                f"| {machine} | {task} | {found.count // 2} |"
                f" {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) |"
            )
    if len(rows) == 2:
        return ["P is of runs that have kept each seed's return, of which there are none yet."]
    return rows


def study(name: str) -> list[str]:
    """The section of two algorithms at equal steps."""
    ours, theirs = name.split("-vs-")
    return [
        f"## `{ours}` and `{theirs}`",
        "",
        f"`python -m benchmarks learning --study {name}`: the same tasks, steps and seeds.",
        *REMARKS.get(name, ()),
        "",
        *by_machine(read(name)),
        "",
        f"How likely a run of {ours} ends better than one of {theirs}, ties counting half, with",
        "its bootstrap interval over seeds (Agarwal et al. 2021,",
        "https://arxiv.org/abs/2108.13264):",
        "",
        *improvement(read(name), ours, theirs),
        "",
        *pictures(f"{name}-improvement.png", f"P({ours} > {theirs})"),
        *pictures(f"{name}-profile.png", "share of runs above a score"),
    ]


def short() -> list[str]:
    """The README's tables: some tasks and what they reach, and speeds beside other libraries."""
    rows = ["| | environment steps | seeds | return, IQM (95 %) | training, s |"]
    rows += ["| --- | ---: | ---: | ---: | ---: |"]
    results = read("learning")
    for task in SHOWN:
        found = [
            (machine, entries[task]) for machine, entries in results.items() if task in entries
        ]
        for _, entry in found[:1]:
            g = entry["greedy"]
            digits = 1 if abs(g["iqm"]) >= 10 else 2
            script = entry["command"].removeprefix("python experiments/")
            rows.append(
                f"| `{script}` | {entry['steps']:,} | {g['count']} | {_score(g, digits)} |"
                f" {entry['train_seconds']:.0f} |"
            )
    rows += [
        "",
        "Beside other libraries, with networks and hyperparameters as equal as they can be",
        "(`-own`: each its own; BENCHMARKS.md says what is not equal): ratios of steps/s, and of",
        "the seconds to a score, compiling included. Above 1 purerl is ahead; with 95 % intervals.",
        "",
        "| | beside | steps/s | purerl is | seconds to a score | purerl is |",
        "| --- | --- | ---: | --- | ---: | --- |",
    ]  # fmt: skip
    pairs = next(iter(read("peers").values()), {}).items()  # of the first machine, as above
    for name, row in sorted(pairs, key=lambda x: BESIDE.index(x[0]) if x[0] in BESIDE else 99):
        if "repetitions" not in row:
            continue
        told = row["steps_per_second"], row["cold_seconds_to_score"]
        if name in BESIDE or any(x.get("purerl_is") in ("slower", "not there") for x in told):
            cells = " | ".join(_ratio(x) for x in told)
            rows.append(f"| {row['task']} | {row['title']} | {cells} |")
    machines = " and ".join(results)
    return [f"On {machines}; all of them are in [BENCHMARKS.md](BENCHMARKS.md).", "", *rows]


def pictures(file: str, caption: str) -> list[str]:
    """A picture of each machine that has one."""
    found = sorted((ROOT / "benchmarks" / "results").glob(f"*/{file}"))
    return [
        f"![{caption}: {p.stem}, {p.parent.name}]({p.relative_to(ROOT).as_posix()})\n"
        for p in found
    ]


def page() -> str:
    """The whole of BENCHMARKS.md."""
    text = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks tables` from `benchmarks/results/<machine>`.",
        "",
        "Machines of one name, such as `cpu-2-cores`, may have other processors: what was measured",
        "at once stands in one row, and that alone compares.",
        "",
        "## Learning",
        "",
        "`python -m benchmarks learning` runs these commands. Greedy evaluation at the end of",
        "training; interquartile mean over seeds with its 95 % bootstrap interval. On brax's",
        "inverted pendulum SAC, TD3 and DDPG hold each action for four of its steps, so that",
        "25,000 are 100,000 of those. `commit` is the tree that was run, with `+changes` if it had",
        "more.",
        "",
        *by_machine(read("learning")),
        "",
        "Of those that have kept their curves:",
        "",
        *pictures("learning-*.png", "return over steps or seconds"),
        *(line for name in STUDIES for line in study(name)),
        "## Speed",
        "",
        "`python -m benchmarks throughput --purejaxrl DIR`: PPO on CartPole, 64 environments x 128",
        "steps, 4 epochs x 4 minibatches, 64-64 tanh networks; in turn in one process, medians.",
        "`--agent` and `--env` measure any other, with its tuned settings and a device for each",
        "core, as in experiments with several members.",
        "",
        *throughput(read("throughput")),
        *measured(read("throughput")),
        "",
        "## Starts",
        "",
        "`python -m benchmarks compile`: compile seconds of one seed, tracing included, each start",
        "a process of its own.",
        "",
        *starts(read("compile")),
        *measured(read("compile")),
        "",
        "## Memory",
        "",
        "`python -m benchmarks memory`: of the whole process.",
        "",
        *memory(read("memory")),
        "",
        "## Scaling",
        "",
        "`python -m benchmarks scaling`: the same PPO. Here, as in experiments with several",
        "members, each of a CPU's cores is a device, where under Speed one device has them all.",
        "8 devices are forced on two cores (`JAX_NUM_CPU_DEVICES=8`).",
        "",
        *pictures("scaling.png", "steps/s and memory over members and devices"),
        *scaling(read("scaling")),
        *measured(read("scaling")),
        "",
        "## Replay",
        "",
        "`python -m benchmarks off_policy --rejax DIR`: DQN on CartPole, 10 environments and a",
        "gradient step of 128 rows for every step of them, double, 64-64 networks with swish; SAC",
        "with the same networks; in turn, each side in a process of its own unless it says",
        "otherwise below, medians.",
        "",
        *off_policy(read("off_policy")),
        "",
        "## Planning",
        "",
        "`python -m benchmarks planning`: MuZero acting on CartPole, 16 simulations a step, its",
        "steps kept for replay, beside the search of mctx that it calls, alone and with the same",
        "network; in turn. More than 1 is what XLA makes of the loop around it.",
        "",
        *planning(read("planning")),
        "",
        "## Accelerators",
        "",
        "`benchmarks/gpu.sh`: in 8 minutes, where nothing is installed but JAX. A row is named by",
        "algorithm, environment, and members x environments of each.",
        "",
        *gpu(read("gpu")),
        *beside_peers(),
    ]
    return "\n".join(text) + "\n"


def readme() -> str:
    """README.md with the short tables between their marks."""
    before, rest = (ROOT / "README.md").read_text().split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, "", *short(), "", END + after])


def beside_peers() -> list[str]:
    """The section on peers, where any were run."""
    if not (found := read("peers")):
        return []
    return [
        "",
        "## Peers",
        "",
        "`python -m benchmarks peers --checkout purejaxrl=DIR --checkout stoix=DIR`: the same",
        "task, networks and hyperparameters, each run a process of its own, ours and the peer's in",
        "turn. Medians; ratios are geometric means over the pairs, with 95 % bootstrap intervals.",
        "Steps/s are of training alone, from a run's third part on: before it, some peers compile",
        "and some do not learn yet.",
        "",
        *pictures("peers.png", "return over seconds with compiling, purerl and its peers"),
        *peers(found),
    ]


def main(argv: list[str]) -> int:
    from benchmarks.arguments import parser
    from benchmarks.pictures import draw

    parser("tables", __doc__).parse_args(argv)
    for machine in read("learning"):
        draw(machine)
    (ROOT / "BENCHMARKS.md").write_text(page())
    (ROOT / "README.md").write_text(readme())
    return 0
