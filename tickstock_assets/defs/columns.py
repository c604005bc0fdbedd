"""The columns of each table, as the web UI shows them beside its asset: type, what they mean, and their unit.

They are what the schema's own comments say. `sql/columns.csv` lists those, so that no database is asked when definitions
are loaded; docs/build_schema.py writes it from a migrated database, and a test holds it against one.
"""

import csv
import functools
from collections import defaultdict
from collections.abc import Mapping

import dagster as dg

from tickstock_assets.project_files import project_file


def column_schema(table: str) -> dg.TableSchema:
    """Return the columns of a table of the market database.

    Raises:
        KeyError: there is no such table.
    """
    return _schemas()[table]


@functools.cache
def _schemas() -> Mapping[str, dg.TableSchema]:
    columns: dict[str, list[dg.TableColumn]] = defaultdict(list)
    with (project_file("sql") / "columns.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            columns[row["table"]].append(
                dg.TableColumn(
                    row["column"],
                    row["type"],
                    description=row["meaning"],
                    constraints=dg.TableColumnConstraints(nullable=row["required"] == "False"),
                    tags={"primary_key": ""} if row["in_key"] == "True" else None,
                )
            )
    return {table: dg.TableSchema(of_table) for table, of_table in columns.items()}
