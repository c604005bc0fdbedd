"""`tickstock seed`: a small invented market."""

from tickstock_assets.cli.app import JsonOption, app, console, print_json


@app.command()
def seed(*, as_json: JsonOption = False) -> None:
    """Write a small synthetic set: AAPL, SPY and TSLA over the 252 sessions of 2024, marked source = 'synthetic'.

    The bars are invented and the same on every machine; tests and tutorials use them. Doing it twice changes nothing.
    """
    from tickstock_assets.cli.database import engine
    from tickstock_assets.loading.everything import load_everything
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.providers.synthetic import SyntheticProvider
    from tickstock_assets.settings import settings

    counts = load_everything(Lineup([SyntheticProvider()]), engine(), settings().landing_path)
    if as_json:
        print_json({"inserted": counts.inserted, "corrected": counts.corrected, "unchanged": counts.unchanged})
        return
    console.print(
        f"Synthetic bars of 2024: {counts.inserted:,} inserted, {counts.unchanged:,} unchanged. "
        "Next: [bold]tickstock coverage[/]"
    )
