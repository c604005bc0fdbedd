"""The workers' app with a task besides that lasts as long as a file is there."""

import time
from pathlib import Path

from tickstock_assets.defs.celery_worker import app


@app.task(name="hold")  # type: ignore[untyped-decorator]
def hold(path: str) -> None:
    while Path(path).exists():
        time.sleep(0.05)
