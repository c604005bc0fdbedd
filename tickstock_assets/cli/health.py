"""`tickstock health`: how the database is."""

import sys

from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json

EXIT_UNREACHABLE = 2


@app.command()
def health(*, as_json: JsonOption = False) -> None:
    """Say whether the database answers, how fast, and what room and connections it has; exit code 2 if it does not."""
    from tickstock_assets.cli.database import limits, server_url
    from tickstock_assets.settings import settings
    from tickstock_assets.storage.health import BYTES_PER_GB, check_health

    chosen = settings()
    found = check_health(chosen.home_path, server_url(), chosen.low_disk_gb, limits())
    if as_json:
        print_json(found.as_dict())
    elif found.reachable:
        table = Table(show_header=False, box=None)
        table.add_row("Status", found.status)
        table.add_row("Latency", f"{found.latency_ms:.2f} ms")
        table.add_row("Tier", f"{found.tier} {found.timescaledb or ''}".strip())
        free = found.disk.free_bytes
        table.add_row(
            "Free disk", f"unknown: {found.disk.reason}" if free is None else f"{free / BYTES_PER_GB:,.1f} GB"
        )
        if found.pool:
            table.add_row(
                "Connections", f"{found.pool.in_use} in use, {found.pool.size} kept, {found.pool.max} at most"
            )
        for warning in found.warnings:
            table.add_row("Warning", warning)
        console.print(table)
    if not found.reachable:
        sys.stderr.write(f"tickstock: {found.reason}\n")
        sys.exit(EXIT_UNREACHABLE)
