"""`tickstock metrics` as people type it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import tickstock
from tests.storage.servers import wait_until
from tickstock_assets.storage import embedded


def test_it_prints_them_once_or_serves_them_until_it_is_stopped(module_home: Path) -> None:
    embedded.acquire(module_home)
    assert tickstock("db", "migrate", home=module_home).returncode == 0
    printed = tickstock("metrics", "--once", home=module_home)
    assert printed.returncode == 0, printed.stderr
    names = {family.name for family in text_string_to_metric_families(printed.stdout)}
    assert {"tickstock_up", "tickstock_table_rows", "tickstock_runs_under_way"} <= names
    assert not re.search(r"^tickstock_collection_errors_total\{.*\} [1-9]", printed.stdout, re.MULTILINE)

    command = [str(Path(sys.executable).parent / "tickstock"), "metrics", "--port", "0"]
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TICKSTOCK_HOME": str(module_home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", process.stdout.readline())
            assert found
            address = f"http://127.0.0.1:{found[1]}"

            def ask(path: str) -> urllib3.BaseHTTPResponse:
                return urllib3.request("GET", f"{address}{path}", retries=False, timeout=60)

            # The first answers may come before all of it is collected, and say so.
            wait_until(
                lambda: {one.name for one in text_string_to_metric_families(ask("/metrics").data.decode())} == names
            )
            wait_until(lambda: ask("/health/db").status == 200)
            assert ask("/health/db").json()["reachable"] is True
            # Another on the same port is told so.
            taken = tickstock("metrics", "--port", found[1], home=module_home)
            assert taken.returncode == 2
            assert (
                "expected an address and port that are free, found Address already in use; choose another"
                in taken.stderr
            )
            process.send_signal(signal.SIGINT)
            _, complaint = process.communicate(timeout=60)
            assert "Traceback" not in complaint
        finally:
            process.kill()
