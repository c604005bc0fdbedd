"""The documents say what is there: their paths, verbs, settings, targets and numbers are held against the project."""

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.conftest import Demo
from tickstock_assets.cli.command import app
from tickstock_assets.definitions import defs
from tickstock_assets.settings import ENV_PREFIX, Settings

PROJECT = Path(__file__).parent.parent
DECISIONS = sorted((PROJECT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [
    *sorted(PROJECT.glob("*.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    *DECISIONS,
    PROJECT / "sql" / "README.md",
]
README = (PROJECT / "README.md").read_text(encoding="utf-8")

LONGEST_LINE = 160
LONGEST_DECISION = 40
# Where a name without its folder may be: what a reader of the tree sees, and no environment or cache.
FOLDERS = ("tickstock_assets", "tests", "sql", "docs", "benchmarks", "ops", ".ci", ".github")
FILE_TYPES = (".py", ".md", ".sql", ".toml", ".yaml", ".yml", ".png", ".mako")
MADE_WHEN_RUNNING = {".tickstock/"}
# The one folder outside the home that the program itself makes, and the home in the containers of the production stack.
KNOWN_TO_EVERY_MACHINE = {"/var/lib/tickstock", "/srv/tickstock"}
# Of the exporter.
ENDPOINTS = {"/health/db"}

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))


def code_in(text: str) -> list[str]:
    """Return what stands in fences and in backticks."""
    fences = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*fences, *re.findall(r"`([^`\n]+)`", prose)]


def broken_links(document: Path, text: str) -> list[str]:
    """Return the relative link targets that lead nowhere."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    relative = [target.partition("#")[0] for target in targets if "://" not in target]
    return [target for target in relative if not (document.parent / target).exists()]


def missing_paths(text: str) -> list[str]:
    """Return the files and folders that are named in backticks and stand nowhere in the tree."""
    entries = [path for folder in FOLDERS for path in (PROJECT / folder).rglob("*")]
    ends = {f"/{path.relative_to(PROJECT)}" + ("/" if path.is_dir() else "") for path in entries}
    ends |= {f"/{path.name}" + ("/" if path.is_dir() else "") for path in PROJECT.iterdir()}
    named = {span for span in code_in(text) if re.fullmatch(r"[\w.*/-]+", span) and span.endswith(("/", *FILE_TYPES))}
    # A name such as `.up.sql` is an ending.
    wanted = {name: name if re.fullmatch(r"\.\w+\.\w+", name) else f"/{name}" for name in named - MADE_WHEN_RUNNING}
    return sorted(name for name, end in wanted.items() if not any(path.endswith(end) for path in ends))


def machine_paths(text: str) -> set[str]:
    """Return the absolute paths, in which a machine could show."""
    return set(re.findall(r"(?<![\w.:/)>])/[A-Za-z][\w.-]*(?:/[\w.-]*\w)+", text)) - KNOWN_TO_EVERY_MACHINE - ENDPOINTS


def verbs() -> dict[str, Any]:
    """Return every verb of the command with its path, such as `db status`."""

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            # `tickstock backfill` is a verb, and so is `tickstock backfill list`.
            if command.invoke_without_command and path:
                yield " ".join(path), command
            for name, child in command.commands.items():
                yield from below(child, (*path, name))
        else:
            yield " ".join(path), command

    return dict(below(typer.main.get_command(app), ()))


def verbs_named_in(text: str) -> set[str]:
    """Return what follows the word tickstock in code."""
    found = re.findall(
        r"(?<![\w./-])(?:\.venv/bin/)?tickstock ((?:alerts|backfill|db|quarantine|rollups|sessions|splits) [a-z][a-z-]*|[a-z]+)",
        "\n".join(code_in(text)),
    )
    return set(found)


def targets() -> set[str]:
    """Return the targets that the Makefile has."""
    return set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def arrows_of_the_picture() -> set[tuple[str, str]]:
    """Return the arrows of the README's mermaid diagram; a box with several names in it stands for each of them."""
    (picture,) = re.findall(r"^```mermaid\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    boxes = {box: names.split(", ") for box, names in re.findall(r'^ +(\w+)\["([\w, ]+)"\]$', picture, re.MULTILINE)}
    arrows = set()
    for line in picture.splitlines():
        stations = [[part.strip() for part in station.split("&")] for station in line.split("-->")]
        named = [[name for part in station for name in boxes.get(part, [part])] for station in stations]
        for left, right in pairwise(named):
            arrows |= {(one, other) for one in left for other in right}
    return arrows


def as_written(default: object) -> str:
    """Return a default as it stands in .env.example."""
    return "" if default is None else str(default)


# --- paths


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document, document.read_text(encoding="utf-8")) == []


@every_document
def test_files_and_folders_that_are_named_exist(document: Path) -> None:
    assert missing_paths(document.read_text(encoding="utf-8")) == []


@every_document
def test_no_path_of_a_machine_and_no_package_index_is_named(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert machine_paths(text) == set()
    assert not re.search(r"index-url|pypi\.org|pythonhosted|/simple\b|find-links", text, re.IGNORECASE)


def test_the_lock_names_no_package_index() -> None:
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert not re.search(r"://|^--?(?:i|index|extra|find)", lock, re.MULTILINE)


def test_wrong_paths_are_found() -> None:
    readme = PROJECT / "README.md"
    assert broken_links(readme, "[a](LICENSE) [b](docs/none.md#x) [c](https://example.org)") == ["docs/none.md"]
    assert missing_paths("`domain/none.py` `schemas.py` `sql/` `nowhere/` `a / b.py`") == ["domain/none.py", "nowhere/"]
    assert machine_paths("in `/home/me/x` or /tmp/y, 5/20, https://a.org/b/c, a/b/c, /var/lib/tickstock") == {
        "/home/me/x",
        "/tmp/y",
    }


# --- the command


def test_the_readme_has_a_row_for_every_verb_and_none_besides() -> None:
    rows = re.findall(r"^\| `tickstock ([a-z -]+)`", README, re.MULTILINE)
    assert sorted(rows) == sorted(verbs())


def test_options_in_a_verbs_row_are_the_verbs_and_a_star_means_json() -> None:
    for row in re.findall(r"^\| `tickstock .*$", README, re.MULTILINE):
        verb, cell, text = re.fullmatch(r"\| `tickstock ([a-z -]+)`(.*?)\| (.*) \|", row).groups()  # type: ignore[union-attr]
        options = {option for parameter in verbs()[verb].params for option in parameter.opts}
        assert set(re.findall(r"`(--[a-z-]+)", text)) <= options, verb
        assert ("*" in cell) == ("--json" in options), verb


@every_document
def test_verbs_that_are_named_exist(document: Path) -> None:
    assert verbs_named_in(document.read_text(encoding="utf-8")) <= verbs().keys()


def test_a_verb_that_is_not_there_is_found() -> None:
    assert verbs_named_in(
        "`tickstock db vacuum` ```x``` the tickstock graph\n```sh\n.venv/bin/tickstock up\n```\n"
    ) == {
        "db vacuum",
        "up",
    }


# --- settings


def test_every_setting_is_in_the_example_with_its_default_and_its_description() -> None:
    lines = (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines()
    example = {
        name: (value, above.removeprefix("# ").removesuffix("."))
        for above, (name, found, value) in zip(lines, (line.partition("=") for line in lines[1:]), strict=False)
        if found and not name.startswith("#")
    }
    assert example == {
        ENV_PREFIX + name.upper(): (as_written(field.default), field.description)
        for name, field in Settings.model_fields.items()
    }


@every_document
def test_settings_that_are_named_exist(document: Path) -> None:
    settings = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    of_tests = set(re.findall(r"TICKSTOCK_TEST_\w+", (PROJECT / "tests" / "conftest.py").read_text(encoding="utf-8")))
    named = set(re.findall(rf"\b{ENV_PREFIX}[A-Z_]+[A-Z]\b", document.read_text(encoding="utf-8")))
    assert named <= settings | of_tests


# --- make


def test_make_help_lists_every_target_of_a_newcomer_with_a_line() -> None:
    listed = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    lines = dict(re.findall(r"^\s+make (\w+)\s+(\S.*)$", listed, re.MULTILINE))
    assert lines.keys() == {"help", "demo", "ui", "test", "lint", "bench", "clean"}


def test_contributing_explains_every_target_and_none_besides() -> None:
    contributing = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `make (\w+)`", contributing, re.MULTILINE)) == targets()


@every_document
def test_targets_that_are_named_exist(document: Path) -> None:
    code = "\n".join(code_in(document.read_text(encoding="utf-8")))
    assert set(re.findall(r"(?<![\w-])make ([a-z]+)", code)) <= targets()


# --- what is said


def test_the_picture_is_the_graph() -> None:
    graph = defs.resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert arrows_of_the_picture() == {
        (parent.to_user_string(), name) for name, node in nodes.items() for parent in node.parent_keys
    }
    assert set(re.findall(r"^ +subgraph (?:\w+\[\")?(\w+)", README, re.MULTILINE)) == {
        node.group_name for node in nodes.values()
    }


def test_the_output_in_the_readme_is_the_demos(demo: Demo) -> None:
    bars = [
        [row["symbol"], row["first"], row["last"], f"{row['bars']:,}", str(row["quarantined"]), str(row["missing"])]
        for row in demo.summary["bars"]
    ]
    strategies = {
        row["strategy_name"]: [
            f"{row['signals']:,}",
            f"{row['win_rate']:.1%}",
            f"{row['roi']:+.1%}",
            f"{row['sharpe']:.2f}",
            f"{row['max_drawdown']:.1%}",
        ]
        for row in demo.summary["backtest"]
        if row["signals"]
    }
    counts = {row["pattern"]: f"{row['count']:,}" for row in demo.summary["detections"] if not row["variant"]}
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in README.splitlines() if line.startswith("│")]
    assert [row for row in cells if len(row) == len(bars[0]) and row[0] in {name for name, *_ in bars}] == bars
    shown = [row for row in cells if row[0] in strategies and len(row) > 2]
    assert shown
    assert [strategies[name] for name, *_ in shown] == [figures for _, *figures in shown]
    found = [row for row in cells if len(row) == 2]
    assert found
    assert [counts[name] for name, _ in found] == [count for _, count in found]
    total = sum(row["count"] for row in demo.summary["detections"])
    assert f"{total:,} detections of {len(demo.summary['detections'])} patterns" in README
    stored = sum(row["bars"] for row in demo.summary["bars"])
    assert f"{stored:,} bars stored over {len(bars)} symbols, {demo.summary['quarantined']} quarantined." in README


def test_the_terms_of_the_backtest_are_the_defaults() -> None:
    default = {name: field.default for name, field in Settings.model_fields.items()}
    assert f"commission {default['backtest_commission_bps']:g} bp" in README
    assert f"slippage {default['backtest_slippage_bps']:g} bp" in README
    assert f"*Capital*: {default['backtest_capital']:,.0f} for each strategy" in README
    assert f"in excess of {default['risk_free_rate']:.0%} a year" in " ".join(README.split())
    assert (default["backtest_holding_bars"], "at the close of the fifth bar" in README) == (5, True)


@every_document
def test_lines_are_not_too_long(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    # A row of a table cannot be broken.
    assert [line for line in lines if len(line) > LONGEST_LINE and not line.startswith("|")] == []


def test_decisions_are_numbered_short_and_reached_from_the_architecture() -> None:
    assert [path.name[:5] for path in DECISIONS] == [f"{number:04}-" for number in range(1, len(DECISIONS) + 1)]
    architecture = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in DECISIONS:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST_DECISION
        assert text.startswith(f"# {path.name[:4]}: ")
        assert "## What the alternatives cost" in text
        assert f"docs/decisions/{path.name}" in architecture
