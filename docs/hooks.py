"""What the site makes of the code and of the results, so that no page can say otherwise.

mkdocs calls the functions named `on_*`. Nothing of purerl is imported: settings are read from the
source, presets and tables from modules that need no others.
"""

import ast
import importlib.util
import json
import logging
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE, RESULTS = ROOT / "purerl", ROOT / "benchmarks" / "results"
AGENTS, RECORDS = PACKAGE / "agents", ROOT / "docs" / "decisions"
PLACED = {  # page -> the file it is made of
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
PAGE_OF = {file: page for page, file in PLACED.items()} | {"BENCHMARKS.md": "benchmarks.md"}


# What is read.


def load(path: Path) -> ModuleType:
    """A module by its file, without the package around it."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rendering(name: str) -> ModuleType:
    """A module of benchmarks that renders results: `tables` or `svg`."""
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"benchmarks.{name}")
    finally:
        sys.path.remove(str(ROOT))


def agents() -> list[str]:
    """The algorithms, one a file."""
    return sorted(path.stem for path in AGENTS.glob("*.py") if path.stem != "__init__")


def docstring(path: Path) -> str:
    """That of a module."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def fields(path: Path, name: str) -> list[tuple[str, str, str, str]]:
    """(field, type, default, comment) of the class `name` in a file."""
    lines = path.read_text().splitlines()
    (found,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    rows = []
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset :]
            default = source(path, node.value) if node.value else ""
            comment = text.strip().removeprefix("#").strip()
            rows.append((node.target.id, source(path, node.annotation), default, comment))
    return rows


def source(path: Path, node: ast.AST) -> str:
    """An expression as it is written."""
    return ast.get_source_segment(path.read_text(), node) or ""


def results(agent: str) -> dict[str, dict[str, Any]]:
    """Learning results of an algorithm and its variants, by the study they belong to."""
    names = {agent, *variants(agent)}
    every = {*agents(), *load(PACKAGE / "presets.py").VARIANTS}

    def of(command: str) -> str:
        (script,) = re.findall(r"experiments/(\w+)\.py", command)
        starts = [n for n in every if script == n or script.startswith(f"{n}_")]
        return max(starts, key=len)

    found = {}
    for study in ("learning", *rendering("records").STUDIES):
        paths = sorted(RESULTS.glob(f"*/{study}.json"))
        entries = [item for path in paths for item in json.loads(path.read_text()).items()]
        found[study] = {k: v for k, v in entries if of(v["command"]) in names}
    return found


def variants(agent: str) -> list[str]:
    """Names of settings of an algorithm."""
    table = load(PACKAGE / "presets.py").VARIANTS
    return [name for name, of in table.items() if of == agent]


def scripts(agent: str) -> list[str]:
    """The experiments that train it."""
    uses = lambda path: f"from purerl.agents import {agent}\n" in path.read_text()
    return sorted(path.name for path in (ROOT / "experiments").glob("*.py") if uses(path))


# What is written.


def cell(text: str) -> str:
    """In a table, a bar would begin a column."""
    return text.replace("|", r"\|")


def settings(agent: str) -> list[str]:
    """Tables of an algorithm's Config and HParams."""
    path, out = AGENTS / f"{agent}.py", []
    for name in ("Config", "HParams"):
        out += ["", f"### {name}", "", "| field | type | default | |", "| --- | --- | --- | --- |"]
        for field, kind, default, comment in fields(path, name):
            row = f"| `{field}` | `{cell(kind)}` | `{default}` | {cell(comment)} |"
            out.append(row)
    return out


def presets(agent: str) -> list[str]:
    """Tables of what `--env` chooses, for an algorithm and its variants."""
    table, out = load(PACKAGE / "presets.py").PRESETS, []
    for name in (agent, *variants(agent)):
        entries = table.get(name, {})
        if not entries:
            continue
        rest = f", and what it does not say as `{agent}`" if name != agent else ""
        out += ["", f"`{name}`{rest}:", "", "| environments | settings |", "| --- | --- |"]
        for pattern, chosen in entries.items():
            row = ", ".join(f"`{k}={v!r}`" for k, v in chosen.items())
            out.append(f"| `{pattern}` | {cell(row)} |")
    return out


def scores(agent: str) -> list[str]:
    """Tables of what was reached, with the commands that reach it."""
    rows = rendering("tables").learning
    found = results(agent)
    learning = found.pop("learning")
    out = [""]
    if learning:
        out += ["Greedy evaluation at the end of training: interquartile mean over seeds with its"]
        out += ["95 % bootstrap interval, and the least it may be (the gate).", "", *rows(learning)]
    else:
        out += ["None of its commands is in `benchmarks/results` yet."]
    for name, study in found.items():
        if study:
            ours, theirs = name.split("-vs-")
            out += ["", f"`{ours}` and `{theirs}`, the same tasks, steps and seeds:", ""]
            out += rows(study)
    drawn = curves(learning | {k: v for study in found.values() for k, v in study.items()})
    if drawn:
        out += ["", "Our curves: greedy evaluation return, the interquartile mean over seeds, and"]
        out += ["faintly each seed where they have been kept.", "", *drawn]
    return out


def curves(results: dict[str, Any]) -> list[str]:
    """The curves of those results that have one, in a block of HTML."""
    draw = rendering("svg").curve
    drawn = [draw(name, entry) for name, entry in results.items() if entry.get("curve")]
    return ['<div class="curves">', *drawn, "</div>"] if drawn else []


def algorithm(agent: str, text: str) -> str:
    """An algorithm's page: what was written by hand, and around it what the code says."""
    title, _, body = text.partition("\n")
    told = docstring(AGENTS / f"{agent}.py")
    told = re.sub(r"(?<!\()https?://[^\s,;)]*[^\s,;).]", r"<\g<0>>", told)
    told = re.sub(r"^(Departures[^:\n]*|Axes):", r"\n**\1:**", told, flags=re.MULTILINE)
    commands = [f"    python experiments/{script} --help" for script in scripts(agent)]
    return "\n".join(
        [
            title, "", told, body.rstrip(), "",
            "## Commands", "", *commands, "",
            "## Settings", "",
            "What decides a shape, a loop length or a branch is `Config`; what only enters",
            "arithmetic is `HParams`, and sweeps without recompiling. Each is a flag.",
            *settings(agent), "",
            "## Settings by environment", "",
            "What `--env` chooses over these defaults; of all patterns that match, the longest",
            "says most. Those with a row under Scores are measured, the others starting points.",
            *presets(agent), "",
            "## Scores", *scores(agent), "",
            "## Source", "",
            f"`purerl/agents/{agent}.py`; its functions are in the",
            f"[reference](../api/agents.md#purerl.agents.{agent}).", "",
        ]
    )  # fmt: skip


def overview() -> list[str]:
    """The table of all algorithms."""
    out = ["| | variants | |", "| --- | --- | --- |"]
    for agent in agents():
        first = docstring(AGENTS / f"{agent}.py").split("\n")[0]
        names = ", ".join(f"`{name}`" for name in variants(agent))
        out.append(f"| [`{agent}`]({agent}.md) | {names} | {cell(first)} |")
    return out


def decisions() -> str:
    """The list of records, by their titles."""
    out = ["# Decisions", "", "What was decided, why, and what was measured.", ""]
    for path in sorted(RECORDS.glob("[0-9]*.md")):
        title = path.read_text().split("\n")[0].removeprefix("# ")
        out.append(f"- [{title}]({path.name})")
    return "\n".join([*out, ""])


def modules() -> dict[str, list[str]]:
    """Room -> its modules, the package itself last: what the reference has a page for."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__init__":
            rooms.setdefault(parts[1], []).append(".".join(parts))
    return rooms


def reference() -> dict[str, str]:
    """Pages of the API: one a room, and a first one of what `import purerl` brings."""
    pages, listed = {}, []
    for room, names in modules().items():
        text = [f"# {room}", "", *own(room)]
        for name in names:
            text += [f"::: {name}", ""]
        pages[f"api/{room}.md"] = "\n".join(text)
        about = PACKAGE / room / "__init__.py" if (PACKAGE / room).is_dir() else None
        first = docstring(about or PACKAGE / f"{room}.py").split("\n")[0]
        listed.append(f"| [`purerl.{room}`]({room}.md) | {cell(first)} |")
    exported = [f"- [`purerl.{name}`][{path}]" for name, path in exports()]
    text = ["# API", "", "`import purerl` brings:", "", *exported, ""]
    text += ["Everything else is in its room:", "", "| | |", "| --- | --- |", *listed, ""]
    pages["api/index.md"] = "\n".join(text)
    return pages


def own(room: str) -> list[str]:
    """What a package defines outside its modules."""
    path = PACKAGE / room / "__init__.py"
    tree = ast.parse(path.read_text() if path.exists() else "")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = ", ".join(name for name in names if not name.startswith("_"))
    block = [f"::: purerl.{room}", f"    options: {{members: [{public}]}}", ""]
    return block if public else []


def exports() -> list[tuple[str, str]]:
    """(name, where it is defined) of all that `purerl` exports."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    return sorted(
        (alias.name, defined(node.module, alias.name))
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    )


def defined(module: str, name: str) -> str:
    """The full name of what a module exports, where it is defined."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("purerl"):
            assert node.module
            if any(alias.name == name for alias in node.names):
                return defined(node.module, name)
    return f"{module}.{name}"


def benchmarks() -> str:
    """The page of BENCHMARKS.md, which a test compares with the results."""
    return (ROOT / "BENCHMARKS.md").read_text().replace("(benchmarks/results/", "(results/")


def placed(file: str) -> str:
    """A document of the top level, its links as they are from docs/; what has no page is a name."""

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        if target.startswith(("http", "#")):
            return match[0]
        if target.rstrip("/") == "docs/decisions":
            return f"[{text}](decisions/index.md)"
        if target in PAGE_OF:
            return f"[{text}]({PAGE_OF[target]})"
        if target.startswith("benchmarks/results/"):
            return f"[{text}]({target.removeprefix('benchmarks/')})"
        inside = target.removeprefix("docs/")
        return f"[{text}]({inside})" if inside != target else f"`{target}`"

    return re.sub(r"\[([^\]]*)\]\(([^)]*)\)", link, (ROOT / file).read_text())


def math(text: str, *_: Any, **__: Any) -> str:
    """An equation as MathML, which browsers draw without a script."""
    from latex2mathml import converter

    drawn = converter.convert(text, display="block")
    if "\\" in drawn or "&#x0005C;" in drawn:  # what it does not know it leaves as it is
        logging.getLogger("mkdocs.hooks").warning("no MathML for the equation %s", text)
    return f'<div class="math">{drawn}</div>'


# What mkdocs calls.


def on_config(config: Any) -> Any:
    """Fill in the parts of the navigation that follow from what is there, and the fence `math`."""
    fence = {"name": "math", "class": "math", "format": math}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    inside = {
        "algorithms/": [f"algorithms/{agent}.md" for agent in agents()],
        "api/": [page for page in sorted(reference()) if page != "api/index.md"],
        "decisions/": [f"decisions/{path.name}" for path in sorted(RECORDS.glob("[0-9]*.md"))],
    }
    for entry in config.nav:
        for title, target in entry.items():
            if isinstance(target, str) and target in inside:
                entry[title] = [f"{target}index.md", *inside[target]]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that no file is."""
    from mkdocs.structure.files import File

    pages = {page: placed(file) for page, file in PLACED.items()}
    pages |= {"benchmarks.md": benchmarks(), "decisions/index.md": decisions(), **reference()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    for picture in sorted(RESULTS.glob("*/*.png")):
        target = f"results/{picture.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what the code says of an algorithm, and of all."""
    name = Path(page.file.src_uri)
    if name.parent == Path("algorithms"):
        if name.stem != "index":
            return algorithm(name.stem, markdown)
        return "\n".join([markdown, "", *overview(), ""])
    return markdown
