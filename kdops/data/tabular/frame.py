"""The rows of a table as a data frame, as models of others take them: its own columns, not the encoding."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from kdops.config.datasets import DatasetSpec
from kdops.data.tabular.table_file import read_table

if TYPE_CHECKING:
    import pandas as pd


def read_frame(origin: DatasetSpec) -> pd.DataFrame:
    """Return all rows and columns of a table, in their order, with the types that pandas finds in a file of text.

    Args:
        origin: the table; it could be loaded before.

    Raises:
        TableError: it is gone, or is no table any more.
    """
    import pandas as pd

    table = read_table(Path(origin.place).expanduser(), lambda column: column not in origin.ignored)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows(zip(*table.columns.values(), strict=True))
    text.seek(0)
    return pd.read_csv(text)
