"""Processes of Dagster's that end with the one that started them, however that ends.

A killed process tells its children nothing. A run's process would go on while Dagster, which takes the run for lost, does it
again in another; and those of `tickstock ui` would keep its port.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

# Set by `tickstock ui` to its own process, whose children are the web server and the daemon.
UI_PROCESS = "TICKSTOCK_UI_PROCESS"
LOOK_SECONDS = 0.5
_started = threading.Event()


def end_with_parent() -> None:
    """Start to watch, in the process of a run or one of `tickstock ui`; elsewhere, and when called again, do nothing."""
    of_run = multiprocessing.parent_process()
    if of_run is not None:
        _watch_once(of_run.pid or 0, _end_at_once)
    elif os.environ.get(UI_PROCESS) == str(os.getppid()):
        _watch_once(os.getppid(), _interrupt)


def _watch_once(parent: int, end: Callable[[], object]) -> None:
    if not _started.is_set():
        _started.set()
        threading.Thread(target=_watch, args=(parent, end), name="parent watch", daemon=True).start()


def _watch(parent: int, end: Callable[[], object]) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    end()


def _end_at_once() -> None:
    """End as if killed too: what the run has finished is kept, and Dagster does it again."""
    os._exit(1)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
