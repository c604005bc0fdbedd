"""Processes that end with the one that started them; real ones, killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tickstock_assets.defs.parent_watch import UI_PROCESS

# Each says who it is once it watches, and would sleep for longer than the test waits.
RUN_OF_A_SERVER = """
import multiprocessing, os, time
from tickstock_assets.defs.parent_watch import end_with_parent

def run(queue):
    end_with_parent()
    queue.put(os.getpid())
    time.sleep(300)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    context.Process(target=run, args=[queue]).start()
    print(queue.get(), flush=True)
    time.sleep(300)
"""
CHILD = """
import os, time
from tickstock_assets.defs.parent_watch import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
try:
    time.sleep(300)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
PARENT = """
import os, signal, subprocess, sys, time
# As `tickstock ui` does: whoever runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.argv[1] == "ui":
    os.environ[{variable!r}] = str(os.getpid())
with open(sys.argv[2], "w") as said:
    subprocess.Popen([sys.executable, "-c", {child!r}], stdout=said)
print("started", flush=True)
time.sleep(300)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_a_run_ends_with_the_server_that_started_it(tmp_path: Path) -> None:
    program = tmp_path / "server.py"
    program.write_text(RUN_OF_A_SERVER)
    server = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    pid = int(server.stdout.readline())
    assert is_alive(pid)
    server.kill()
    server.communicate()
    assert is_gone(pid)


@pytest.mark.parametrize("kind", ["ui", "another"])
def test_a_child_of_the_ui_is_interrupted_when_it_is_killed_and_no_other_is(kind: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    program = PARENT.format(variable=UI_PROCESS, child=CHILD)
    environment = {name: value for name, value in os.environ.items() if name != UI_PROCESS}
    parent = subprocess.Popen([sys.executable, "-c", program, kind, str(said)], stdout=subprocess.PIPE, env=environment)
    while not (said.exists() and said.read_text().endswith("\n")):
        time.sleep(0.05)
    pid = int(said.read_text())
    parent.kill()
    parent.communicate()
    if kind == "ui":
        assert is_gone(pid)
        assert said.read_text().endswith("interrupted\n")
    else:
        time.sleep(1.5)  # three looks
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)
