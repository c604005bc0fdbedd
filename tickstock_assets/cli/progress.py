"""The progress bar of verbs that go by steps."""

import rich.progress

from tickstock_assets.cli.app import errors


def steps(quiet: bool) -> rich.progress.Progress:
    """Return a bar that counts steps and names the one at work, on a terminal only."""
    return rich.progress.Progress(
        rich.progress.SpinnerColumn(),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.description}"),
        console=errors,
        disable=quiet or not errors.is_terminal,
    )
