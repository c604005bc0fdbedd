"""The stack of docker-compose.yml as plain processes on loopback: the same commands, settings, files and health checks.

What a container would give a service is replaced in them: names of services by addresses on loopback, ports by free ones,
folders by folders of the test. Users, limits and networks are Docker's and not part of it.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.compose_file import PRODUCTION, PROJECT, put_in, read
from tests.end_to_end.commands import free_port
from tickstock_assets.storage import placement

LOOPBACK = "127.0.0.1"
# Two cores may have more to do than this.
WAIT_SECONDS = 400.0
STOP_SECONDS = 30.0
DOCKERFILE = PROJECT / "deploy" / "Dockerfile"
# The commands of images that the file leaves at what they are.
COMMANDS = {"proxy": ["nginx", "-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"]}
# In the place of the entry point of PostgreSQL's image: it makes the database once and becomes the server.
ENTRY_POINT = """#!/bin/sh
set -eu
shift
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > "$PGDATA.password"
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile "$PGDATA.password" --auth scram-sha-256 \
        --encoding UTF8 --no-locale --no-sync $POSTGRES_INITDB_ARGS
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -D "$PGDATA" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off "$@"
"""


@dataclass
class Process:
    """A running service, or one of its replicas."""

    service: str
    replica: int
    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it and all that it started at once, as when its machine is switched off."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass
class Stack:
    """The services of the file, started in the order it demands.

    Attributes:
        folder: of everything that they write.
        variables: what `.env` would have.
        settings: what `deploy/settings.env` would have.
        processes: what runs; of those that run once and are done, `completed` has the names.
    """

    folder: Path
    variables: Mapping[str, str]
    settings: Mapping[str, str]
    processes: list[Process] = field(default_factory=list)
    completed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = put_in(read(PRODUCTION), self.variables)["services"]
        self.secrets: dict[str, dict[str, str]] = put_in(read(PRODUCTION), self.variables)["secrets"]
        self.ports = {
            (name, port): free_port() for name, service in self.services.items() for port in _ports_of(service)
        }
        self.account = placement.server_account(self.folder / "timescaledb")
        self.image = self._make_image()
        self._make_entry_point()

    def address(self, service: str) -> str:
        """Return where a service is reached."""
        [port] = [free for (name, _), free in self.ports.items() if name == service]
        return f"{LOOPBACK}:{port}"

    def of(self, service: str) -> list[Process]:
        """Return the running processes of a service, one a replica."""
        return [process for process in self.processes if process.service == service]

    def up(self, *names: str) -> None:
        """Start services and what they depend on, in the order and on the conditions that the file names."""
        for name in names:
            if name in self.completed or self.of(name):
                continue
            for needed, how in self.services[name].get("depends_on", {}).items():
                self.up(needed)
                if how["condition"] == "service_healthy":
                    self.wait_until_healthy(needed)
            if _runs_once(self.services[name]):
                self.run_once(name)
            else:
                for replica in range(int(self.services[name]["deploy"].get("replicas", 1))):
                    self.start(name, replica)

    def start(self, name: str, replica: int = 0) -> Process:
        """Start a service, or one of its replicas."""
        service = self.services[name]
        self._copy_files(name, replica)
        command = service.get("command", COMMANDS.get(name))
        words = shlex.split(command) if isinstance(command, str) else command
        log = self.folder / f"{name}-{replica}.log"
        is_servers_own = name == "timescaledb" and self.account is not None
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [self._here(name, word, replica) for word in words],
                cwd=self.folder / "timescaledb" if is_servers_own else self.image,
                env=self._environment(name, replica),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **({"user": self.account.uid, "group": self.account.gid, "extra_groups": []} if is_servers_own else {}),
            )
        process = Process(name, replica, popen, log)
        self.processes.append(process)
        return process

    def run_once(self, name: str) -> None:
        """Run a service that ends by itself; it must succeed."""
        process = self.start(name)
        self.processes.remove(process)
        assert process.popen.wait(WAIT_SECONDS) == 0, f"{name}: {process.log.read_text()}"
        self.completed.add(name)

    def wait_until_healthy(self, name: str, replica: int = 0) -> None:
        """Ask the service's own health check until it passes."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            said = subprocess.run(
                [self._here(name, word, replica) for word in command],
                cwd=self.image,
                env=self._environment(name, replica),
                capture_output=True,
                text=True,
                check=False,
            )
            if said.returncode == 0:
                return
            logs = "".join(log.read_text()[-3000:] for log in self.folder.glob(f"{name}-*.log"))
            has_ended = any(one.popen.poll() is not None for one in self.of(name))
            assert not has_ended, f"{name} has ended\n{logs}"
            assert time.monotonic() < deadline, f"{name}: {said.stdout}{said.stderr}\n{logs}"
            time.sleep(0.5)

    def down(self) -> None:
        """End what runs, the last first, as Docker does: asked to, and killed when it will not."""
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                # PostgreSQL's image asks for another signal than the others.
                process.popen.send_signal(signal.SIGINT if process.service == "timescaledb" else signal.SIGTERM)
            try:
                process.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.popen.pid, signal.SIGKILL)
                process.popen.wait()

    def environment(self, name: str) -> dict[str, str]:
        """Return what a program sees that is run in a service's container."""
        return self._environment(name, 0)

    def _make_image(self) -> Path:
        """Make the folder that the image's programs start in, from the Dockerfile's own copies."""
        image = self.folder / "image"
        image.mkdir()
        last_stage = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
        for source, target in re.findall(r"^COPY (deploy/\S+) (\S+)$", last_stage, re.MULTILINE):
            shutil.copyfile(PROJECT / source, image / target)
        workspace = yaml.safe_load((image / "workspace.yaml").read_text(encoding="utf-8"))
        for location in workspace["load_from"]:
            server = location["grpc_server"]
            server["port"] = self.ports[server["host"], str(server["port"])]
            server["host"] = LOOPBACK
        (image / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")
        return image

    def _make_entry_point(self) -> None:
        programs = self.folder / "programs"
        programs.mkdir()
        script = programs / "docker-entrypoint.sh"
        script.write_text(ENTRY_POINT)
        script.chmod(0o755)

    def _environment(self, name: str, replica: int) -> dict[str, str]:
        service = self.services[name]
        is_ours = "build" in service
        path = (
            [Path(sys.executable).parent] if is_ours else [self.folder / "programs", placement.binaries(self.account)]
        )
        temporary = self.folder / f"{name}-{replica}"
        temporary.mkdir(exist_ok=True)
        variables = {
            **(_variables_of_the_image() if is_ours else {}),
            **(self.settings if "env_file" in service else {}),
            **{key: str(value) for key, value in service.get("environment", {}).items()},
        }
        own = {"HOME": str(temporary), "TMPDIR": str(temporary), "HOSTNAME": f"{name}-{replica}"}
        if name == "timescaledb":
            own |= {"PGPORT": str(self.ports[name, "5432"]), "PGDATA": str(self._folder_of("timescaledb"))}
        return {
            "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]]),
            "LC_ALL": "C.UTF-8",
            **own,
            **{key: self._here(name, value, replica) for key, value in variables.items()},
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")},
        }

    def _here(self, name: str, text: str, replica: int) -> str:
        """Return a text of a service with what its container would have replaced by what is here."""
        for (service, port), free in self.ports.items():
            text = re.sub(rf"\b{service}:{port}\b", f"{LOOPBACK}:{free}", text)
            if service == name:
                text = re.sub(rf"(?<![\w.]){port}(?![\w.])", str(free), text)
        mounts = self._mounts(name, replica)
        targets = "|".join(re.escape(target) for target in sorted(mounts, key=len, reverse=True))
        if targets:
            text = re.sub(rf"(?<![\w/.])({targets})(?![\w-])", lambda match: str(mounts[match[1]]), text)
        return text.replace("0.0.0.0", LOOPBACK).replace("%h", f"{name}-{replica}")

    def _mounts(self, name: str, replica: int) -> dict[str, Path]:
        """Return the files and folders that stand for what the service's container has mounted, by their paths in it."""
        service = self.services[name]
        found = {"/opt/tickstock": self.image} if "build" in service else {}
        for secret in service.get("secrets", []):
            found[f"/run/secrets/{secret}"] = PROJECT / self.secrets[secret]["file"]
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("."):
                found[target] = self.folder / f"{name}-{Path(source).name}"
            else:
                found[target] = self._folder_of(source)
        if "build" not in service:
            found["/tmp"] = self.folder / f"{name}-{replica}"
        return found

    def _copy_files(self, name: str, replica: int) -> None:
        """Copy the files of ours that the service's container would have mounted, for this place."""
        mounts = self._mounts(name, replica)
        for mount in self.services[name].get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("."):
                text = (PROJECT / source).read_text(encoding="utf-8")
                mounts[target].write_text(self._here(name, text, replica), encoding="utf-8")

    def _folder_of(self, volume: str) -> Path:
        folder = self.folder / volume
        if not folder.exists():
            folder.mkdir()
            if self.account and volume == "timescaledb":
                os.chown(folder, self.account.uid, self.account.gid)
        # PostgreSQL wants a folder of its own inside of what it may write to.
        return folder / "pgdata" if volume == "timescaledb" else folder


@contextlib.contextmanager
def stack(variables: Mapping[str, str], settings: Mapping[str, str]) -> Iterator[Stack]:
    """Give a stack that is not started yet; in the end its processes are ended and its files removed."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    # PostgreSQL and nginx do not work as root.
    folder.chmod(0o755)
    made = Stack(folder, variables, settings)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)


def _ports_of(service: Mapping[str, Any]) -> list[str]:
    return [*service.get("expose", []), *(port.rpartition(":")[2] for port in service.get("ports", []))]


def _runs_once(service: Mapping[str, Any]) -> bool:
    return service["restart"] == "no"


def _variables_of_the_image() -> dict[str, str]:
    last_stage = DOCKERFILE.read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    [said] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", last_stage, re.MULTILINE)
    found = dict(re.findall(r"(\w+)=(\S+)", said))
    del found["PATH"]
    return found
