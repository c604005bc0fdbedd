"""The built wheel, installed into an environment of its own and used from an empty folder: it needs no checkout."""

import csv
import gzip
import io
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.commands import environment
from tickstock_assets.storage import embedded

PROJECT = Path(__file__).parents[1]
SHIPPED = "tickstock_assets/_project"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a packager would, without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The programs of an environment that has the wheel, and the packages it depends on, but not the checkout."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    folder.chmod(0o755)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, capture_output=True, cwd=folder
    )
    # Dependencies are looked for in our own environment, whose .pth files, the checkout's among them, do not count there.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A folder with nothing in it, as a newcomer's; its server ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    yield folder
    embedded.destroy(folder / ".tickstock")
    shutil.rmtree(folder)


def run(*command: str | Path, folder: Path) -> str:
    """Run a program as in a new shell, and return what it printed."""
    variables = {name: value for name, value in environment(folder).items() if name != "TICKSTOCK_HOME"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_wheel_has_the_schema_the_settings_of_dagster_and_the_sample_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sample = archive.read("tickstock_assets/sample_data/stocks.csv.gz")
    of_the_checkout = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "sql").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert of_the_checkout
    assert {f"{SHIPPED}/{name}" for name in of_the_checkout} <= names
    assert f"{SHIPPED}/dagster.yaml" in names
    assert {"tickstock_assets/sample_data/NOTICE.md", "tickstock_assets/py.typed"} <= names
    assert len(list(csv.DictReader(io.StringIO(gzip.decompress(sample).decode())))) == 12_154


def test_the_wheel_has_no_tests_caches_or_local_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tickstock_assets"}
    assert not [name for name in names if "__pycache__" in name or Path(name).name in {".env", "demo.lock"}]


def test_the_demo_runs_from_the_wheel_in_an_empty_folder(installed: Path, empty_folder: Path) -> None:
    where = (
        "from tickstock_assets import project_files; print(project_files.__file__, project_files.project_file('sql'))"
    )
    package, schema = run(installed / "python", "-c", where, folder=empty_folder).split()
    environment_folder = str(installed.parent)
    assert os.path.commonpath([environment_folder, package, schema]) == environment_folder

    said = json.loads(run(installed / "tickstock", "demo", "--json", folder=empty_folder))
    assert (sum(row["bars"] for row in said["bars"]), said["quarantined"]) == (12_154, 0)
    # Everything is in `.tickstock`, nothing beside it.
    assert [path.name for path in empty_folder.iterdir()] == [".tickstock"]

    status = json.loads(run(installed / "tickstock", "db", "status", "--json", folder=empty_folder))
    assert status["revision"] == status["latest_revision"]
    assert status["rows"]["ohlcv_daily"] == 12_154


def test_the_schema_goes_down_and_up_again_from_the_wheel(installed: Path, empty_folder: Path) -> None:
    run(installed / "tickstock", "db", "migrate", folder=empty_folder)
    down = run(installed / "tickstock", "db", "migrate", "--down", "base", folder=empty_folder)
    assert down.startswith("Schema revision: none\n")
    run(installed / "tickstock", "db", "migrate", folder=empty_folder)
    seeded = json.loads(run(installed / "tickstock", "seed", "--json", folder=empty_folder))
    assert seeded["inserted"] == 756
