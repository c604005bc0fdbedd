"""Dependencies point one way; the environment has one reader; vendors have one module each."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tickstock_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "domain": {"domain"},
    "providers": {"providers", "domain"},
    "storage": {"storage", "domain", "project_files"},
    "simulator": {"simulator", "domain"},
    "loading": {"loading", "domain", "providers", "storage", "settings"},
    # Of providers: Retry-After, and what keeps secrets out of messages and logs.
    "alerting": {"alerting", "domain", "providers", "storage", "settings"},
    "metrics": {"metrics", "defs", "domain", "loading", "providers", "storage", "settings"},
    "defs": {"defs", "alerting", "domain", "loading", "providers", "storage", "settings", "project_files"},
    "definitions": {"defs", "settings"},
    "settings": {"domain"},
    "project_files": set(),
    "cli": {
        "alerting",
        "cli",
        "defs",
        "definitions",
        "domain",
        "loading",
        "metrics",
        "project_files",
        "providers",
        "settings",
        "simulator",
        "storage",
    },
    "__init__": set(),
}
# No I/O, no Dagster, no clock in the kernel; of Arrow, what computes on columns.
KERNEL_MAY_USE = {"numpy", "pandas", "pandera", "pyarrow", "exchange_calendars", "talib", "numba"}
KERNEL_MAY_NOT_USE_OF_THE_STANDARD_LIBRARY = {
    "os",
    "pathlib",
    "io",
    "socket",
    "subprocess",
    "time",
    "random",
    "logging",
}


def layer(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names if str(node.module) == "tickstock_assets"}
    return names


def wrong_arrows(module: Path) -> set[str]:
    own = {name.split(".")[1] for name in imported(module) if name.startswith("tickstock_assets.")}
    return own - MAY_IMPORT[layer(module)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(module: Path) -> None:
    assert wrong_arrows(module) == set()


def test_an_arrow_that_points_the_wrong_way_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_architecture.PACKAGE", tmp_path)
    (tmp_path / "storage").mkdir()
    module = tmp_path / "storage" / "bars.py"
    module.write_text("def read():\n    from tickstock_assets.providers import sample\n")
    assert wrong_arrows(module) == {"providers"}


@pytest.mark.parametrize("module", [path for path in MODULES if layer(path) == "domain"], ids=lambda path: path.name)
def test_the_kernel_has_no_io_no_dagster_and_no_clock(module: Path) -> None:
    import sys

    outside = {name.split(".")[0] for name in imported(module)} - {"tickstock_assets"}
    assert outside - set(sys.stdlib_module_names) <= KERNEL_MAY_USE
    assert not outside & KERNEL_MAY_NOT_USE_OF_THE_STANDARD_LIBRARY


def test_only_settings_reads_the_environment() -> None:
    # Launching hands the environment on to Dagster's processes, and so do we to pg_dump with a password in it; starting a
    # server needs a clean one for its children. Dagster's processes are told by it whose children they are.
    readers = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    assert readers <= {"defs/launching.py", "storage/embedded.py", "storage/placement.py", "storage/keeper.py"} | {
        "storage/client_programs.py",
        "defs/parent_watch.py",
    }


def test_every_module_states_its_border() -> None:
    silent = [
        str(path) for path in MODULES if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
