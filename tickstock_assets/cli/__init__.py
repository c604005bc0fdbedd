"""The `tickstock` command: thin verbs, one module a group. Heavy imports wait until a verb needs them."""

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command; Ctrl-C ends it without a word, also while modules are still imported."""
    try:
        from tickstock_assets.cli.command import run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
