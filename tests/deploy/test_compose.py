"""What matters of the compose files and of what they mount, read as Docker would read them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.compose_file import (
    DATABASE,
    PRODUCTION,
    PROJECT,
    MissingVariableError,
    interpolated,
    put_in,
    read,
    texts,
    variables_used,
)
from tickstock_assets.defs.celery_runs import FINISHED_WITHIN_SECONDS
from tickstock_assets.defs.launching import dagster_environment
from tickstock_assets.settings import Settings

DEPLOY = PROJECT / "deploy"
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
EXAMPLE = DEPLOY / "env.example"
SERVICES: dict[str, dict[str, Any]] = read(PRODUCTION)["services"]
ONCE = {"roles", "migrate"}
LONG_RUNNING = SERVICES.keys() - ONCE
OURS = {name for name, service in SERVICES.items() if "build" in service}
PASSWORDS = {
    "POSTGRES_PASSWORD",
    "TICKSTOCK_OWNER_PASSWORD",
    "TICKSTOCK_APP_PASSWORD",
    "TICKSTOCK_READER_PASSWORD",
    "REDIS_PASSWORD",
}
SET = dict.fromkeys(PASSWORDS, "a-password")

every_service = pytest.mark.parametrize("name", sorted(SERVICES))
every_long_running_service = pytest.mark.parametrize("name", sorted(LONG_RUNNING))


def example() -> dict[str, str]:
    """Return the variables of the example, with their values."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def check_schema(schema: str, *files: Path) -> None:
    command = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", schema, *files]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


# --- the files


def test_the_compose_files_keep_to_the_published_schema() -> None:
    check_schema("vendor.compose-spec", PRODUCTION, DATABASE)


def test_the_workflows_keep_to_the_published_schema() -> None:
    check_schema("vendor.github-workflows", *WORKFLOWS)


def test_a_compose_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("services: {one: {image: 'x:1', restrat: always}}")
    with pytest.raises(AssertionError, match="restrat"):
        check_schema("vendor.compose-spec", wrong)


def test_variables_are_put_in_as_compose_does() -> None:
    variables = {"A": "1", "EMPTY": ""}
    for text, expected in {
        "${A}-${B}-$$A": "1--$A",
        "${B:-${A}}": "1",
        "${EMPTY:-x}": "x",
        "${A:+on ${A}}${B:+off}": "on 1",
        "${A:?no}": "1",
    }.items():
        assert interpolated(text, variables) == expected
    with pytest.raises(MissingVariableError, match="name it"):
        interpolated("${EMPTY:?name it}", variables)


# --- secrets


@pytest.mark.parametrize("missing", sorted(PASSWORDS - {"REDIS_PASSWORD"}))
def test_without_a_password_nothing_starts(missing: str) -> None:
    with pytest.raises(MissingVariableError, match=f"set {missing}"):
        put_in(read(PRODUCTION), {**SET, missing: ""})


def test_with_the_passwords_alone_everything_else_has_a_default() -> None:
    stack = put_in(read(PRODUCTION), SET)
    assert not [text for text in texts(stack["services"]["code"]["command"]) if "$" in text]
    assert stack["services"]["worker"]["deploy"]["replicas"] == "2"
    assert stack["services"]["code"]["environment"]["TICKSTOCK_BROKER_URL"] == ""


def test_no_password_has_a_default_anywhere() -> None:
    for file in (PRODUCTION, DATABASE):
        secret = {name: uses for name, uses in variables_used(file).items() if "PASSWORD" in name}
        assert secret
        for name, uses in secret.items():
            assert not {use for use in uses if use not in {"", ":-"} and not use.startswith(":?")}, (file.name, name)
    assert {name: value for name, value in example().items() if "PASSWORD" in name} == dict.fromkeys(PASSWORDS, "")


def test_a_redis_without_a_password_refuses_to_start() -> None:
    [shell, option, script] = put_in(SERVICES["redis"]["command"], SET)
    assert (shell, option) == ("sh", "-c")
    said = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=False)
    assert said.returncode != 0
    assert "set REDIS_PASSWORD in .env" in said.stderr


def test_only_those_who_need_it_see_a_password() -> None:
    stack = put_in(read(PRODUCTION), {name: name for name in PASSWORDS} | {"COMPOSE_PROFILES": "celery"})
    seen = {
        name: {password for password in PASSWORDS if password in " ".join(texts(service.get("environment", {})))}
        for name, service in stack["services"].items()
    }
    works = {"TICKSTOCK_APP_PASSWORD", "REDIS_PASSWORD"}
    assert seen == {
        "timescaledb": {"POSTGRES_PASSWORD"},
        "roles": PASSWORDS - {"REDIS_PASSWORD"},
        "migrate": {"TICKSTOCK_OWNER_PASSWORD"},
        **dict.fromkeys(("code", "webserver", "daemon", "metrics", "worker"), works),
        "redis": {"REDIS_PASSWORD"},
        "proxy": set(),
    }


def test_keys_of_providers_reach_only_what_runs_the_projects_code() -> None:
    assert {name for name, service in SERVICES.items() if "env_file" in service} == {
        "migrate",
        "code",
        "worker",
        "metrics",
    }


def test_settings_do_not_move_what_the_services_share() -> None:
    """What stands under `environment` goes before `env_file`; of two services that share something both have it there."""
    fixed = {"TICKSTOCK_HOME", "TICKSTOCK_DATABASE_URL"}
    for name, service in SERVICES.items():
        if "env_file" in service:
            assert fixed <= service["environment"].keys(), name
        if name in {"code", "worker", "metrics", "webserver", "daemon"}:
            assert service["environment"]["TICKSTOCK_DAGSTER_DATABASE"] == Settings().dagster_database


def test_what_holds_secrets_is_not_committed_and_not_in_the_image() -> None:
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "deploy/settings.env", "deploy/ui_users"} <= set(ignored)
    assert (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"


# --- services


@every_long_running_service
def test_a_long_running_service_has_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@every_service
def test_a_service_has_limits_and_a_log_that_does_not_grow_for_ever(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


@every_service
def test_a_service_has_no_rights_and_cannot_write_but_to_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & service.keys()
    # Ours and the proxy's images name a user of theirs; those of the others begin as root.
    assert "user" in service or name in OURS | {"proxy"}


def test_the_schema_is_there_before_anything_starts() -> None:
    done = "service_completed_successfully"
    assert SERVICES["roles"]["depends_on"] == {"timescaledb": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["depends_on"] == {"roles": {"condition": done}}
    for name in OURS - ONCE:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": done}, name
    assert {name for name, service in SERVICES.items() if service["restart"] == "no"} == ONCE


def test_the_stack_works_as_the_roles_with_the_fewest_rights() -> None:
    role = {
        name: service["environment"]["TICKSTOCK_DATABASE_URL"].removeprefix("postgresql://").partition("@")[0]
        for name, service in SERVICES.items()
        if name in OURS
    }
    assert role == dict.fromkeys(OURS, "tickstock_app") | {"roles": "postgres", "migrate": "tickstock_owner"}


def test_nothing_is_published_but_the_proxy_and_the_metrics_and_both_on_loopback() -> None:
    stack = put_in(read(PRODUCTION), SET)["services"]
    published = {name: service["ports"] for name, service in stack.items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:3000:8080"], "metrics": ["127.0.0.1:9464:9464"]}
    assert put_in(read(DATABASE), SET)["services"]["timescaledb"]["ports"] == ["127.0.0.1:5432:5432"]


def test_the_database_and_the_broker_are_on_a_network_without_a_way_out() -> None:
    assert read(PRODUCTION)["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if service["networks"] == ["inside"]} >= {"timescaledb", "redis"}
    # Who asks providers needs one.
    assert {name for name, service in SERVICES.items() if "vendors" in service["networks"]} == {"code", "worker"}


def test_one_variable_makes_the_web_ui_one_to_look_at() -> None:
    command = SERVICES["webserver"]["command"]
    assert "--read-only" not in interpolated(command, SET)
    assert "--read-only" in interpolated(command, {**SET, "READ_ONLY": "1"}).split()


def test_workers_come_with_their_profile_and_the_broker_with_them() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["celery"]} == {"redis", "worker"}
    with_workers = put_in(read(PRODUCTION), {**SET, "COMPOSE_PROFILES": "celery", "WORKERS": "7"})["services"]
    for name in ("code", "webserver", "daemon", "worker"):
        environment = with_workers[name]["environment"]
        assert environment["TICKSTOCK_BROKER_URL"] == "redis://:a-password@redis:6379/0"
        # As many runs at once as there are workers: one that waits in the broker for too long would be failed.
        assert environment["TICKSTOCK_MAX_CONCURRENT_RUNS"] == with_workers["worker"]["deploy"]["replicas"] == "7"


# --- images


def test_images_have_a_version() -> None:
    for file in (PRODUCTION, DATABASE):
        for name, service in put_in(read(file), SET)["services"].items():
            image, _, tag = service["image"].rpartition(":")
            assert image, name
            assert tag == "local" if "build" in service else re.match(r"\d+\.\d+", tag), name


def test_the_database_is_the_same_in_every_file() -> None:
    image = SERVICES["timescaledb"]["image"]
    assert read(DATABASE)["services"]["timescaledb"]["image"] == image
    used = {
        found
        for workflow in WORKFLOWS
        for found in re.findall(r"timescale/timescaledb:\S+", workflow.read_text(encoding="utf-8"))
    }
    assert used == {image}


def test_the_image_is_of_the_projects_python() -> None:
    version = (PROJECT / ".python-version").read_text(encoding="utf-8").strip()
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {f"python:{version}-slim-bookworm"}


def test_the_image_has_nothing_to_complain_about() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is packaged for Linux on x86-64 only")
    said = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_the_image_ends_as_a_user_without_rights() -> None:
    last_stage = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", last_stage, re.MULTILINE) == ["10001:10001"]
    assert not re.search(r"^ADD ", last_stage, re.MULTILINE)


def test_everything_the_image_is_made_of_is_let_through() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        source for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for source in sources.split()
    }
    let_through = {
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    assert copied == let_through
    assert not [path for path in copied if not (PROJECT / path).exists()]


# --- variables, and what is mounted


def test_every_variable_is_in_the_example_with_the_default_it_has() -> None:
    used = variables_used(PRODUCTION)
    assert used.keys() == example().keys()
    for name, uses in used.items():
        for default in (use.removeprefix(":-") for use in uses if use.startswith(":-")):
            # What a default is made of stands in the middle of another one.
            assert default in {"", example()[name]}, name


def test_the_documents_name_every_variable() -> None:
    text = (PROJECT / "docs" / "production.md").read_text(encoding="utf-8") + EXAMPLE.read_text(encoding="utf-8")
    assert not [name for name in variables_used(PRODUCTION) if name not in text]


def test_files_that_are_mounted_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (PROJECT / source).is_file()


def test_the_instance_of_the_stack_is_the_one_of_a_checkout_but_for_its_files_and_patience() -> None:
    production = yaml.safe_load((DEPLOY / "dagster.production.yaml").read_text(encoding="utf-8"))
    checkout = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    for name in ("local_artifact_storage", "compute_logs"):
        assert production.pop(name)["config"] == {"base_dir": {"env": "DAGSTER_FILES"}}
    assert production["run_monitoring"].pop("start_timeout_seconds") > checkout["run_monitoring"].pop(
        "start_timeout_seconds"
    )
    assert production == checkout


def test_the_stack_is_as_patient_as_the_command(tmp_path: Path) -> None:
    of_command = dagster_environment(tmp_path)
    names = ("DAGSTER_EVENT_BATCH_SIZE", "DAGSTER_GRPC_TIMEOUT_SECONDS")
    for name in ("code", "webserver", "daemon", "worker"):
        assert [SERVICES[name]["environment"][variable] for variable in names] == [of_command[one] for one in names]


def test_a_worker_has_the_time_that_it_says_it_has() -> None:
    assert SERVICES["worker"]["stop_grace_period"] == f"{FINISHED_WITHIN_SECONDS / 60:.0f}m"


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [
        # By hand: a quarter, three quarters, a 256th but 4 at least, a 16th but 2048 at most.
        ("512", ["shared_buffers=128MB", "effective_cache_size=384MB", "work_mem=4MB", "maintenance_work_mem=32MB"]),
        (
            "4096",
            ["shared_buffers=1024MB", "effective_cache_size=3072MB", "work_mem=16MB", "maintenance_work_mem=256MB"],
        ),
        (
            "65536",
            ["shared_buffers=16384MB", "effective_cache_size=49152MB", "work_mem=256MB", "maintenance_work_mem=2048MB"],
        ),
    ],
)
def test_one_variable_sizes_postgresql(tmp_path: Path, megabytes: str, expected: list[str]) -> None:
    said = start_postgresql(tmp_path, megabytes)
    assert said.stdout.split()[:9] == ["postgres", *[word for setting in expected for word in ("-c", setting)]]


@pytest.mark.parametrize("megabytes", ["4GB", "511", "4.5"])
def test_a_size_that_is_none_is_refused_in_a_sentence(tmp_path: Path, megabytes: str) -> None:
    said = start_postgresql(tmp_path, megabytes)
    assert said.returncode == 2
    assert re.fullmatch(rf"POSTGRES_MEMORY_MB: expected .+, found {re.escape(megabytes)}\n", said.stderr)


def start_postgresql(folder: Path, megabytes: str) -> subprocess.CompletedProcess[str]:
    """Run the script that starts the server, with an entry point that says what it was told."""
    entry_point = folder / "docker-entrypoint.sh"
    entry_point.write_text('#!/bin/sh\necho "$@"\n')
    entry_point.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "POSTGRES_MEMORY_MB": megabytes}
    command = ["sh", DEPLOY / "postgresql.sh"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
