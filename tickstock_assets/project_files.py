"""Where the files beside the package are: in a checkout next to it, in an installed wheel inside it."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def project_file(name: str) -> Path:
    """Return the path of a top-level file or folder of the project, such as `sql` or `dagster.yaml`."""
    shipped = PACKAGE / "_project" / name
    return shipped if shipped.exists() else PACKAGE.parent / name
