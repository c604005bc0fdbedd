"""The application that the verbs are registered on, and what they share."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    name="tickstock",
    help="Trustworthy market history: from raw bars to backtests, with every step in between to be looked at.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start with [bold]tickstock demo[/], then [bold]tickstock ui[/]. Settings are variables, see .env.example.",
)
console = Console()
# For what is not the answer: progress.
errors = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def print_json(value: Any) -> None:
    """Write a value as JSON to standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
