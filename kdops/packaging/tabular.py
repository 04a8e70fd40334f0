"""What the folder of a table's model has beside any other's: it takes the table's own rows, not encoded ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mlflow.types import ColSpec, Schema, TensorSpec

from kdops.data.tabular import rows
from kdops.data.tabular.rows import Encoding, Number

EXAMPLE, SERVED = "input_example.json", "serving_input_example.json"


def take_rows(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Let a model's folder take rows: its code, its signature and its example.

    Args:
        folder: the folder, complete for encoded rows.
        description: its ``MLmodel``; the encoding is in its metadata.

    Returns:
        The description to be written; that of images as it is.
    """
    text = description["metadata"].get("table")
    if not text:
        return description
    encoding = Encoding.from_json(text)
    shutil.copy(rows.__file__, folder)
    example = [{column.name: _typical(column) for column in encoding.columns}]
    (folder / EXAMPLE).write_text(json.dumps(example), encoding="utf-8")
    (folder / SERVED).write_text(json.dumps({"inputs": example}), encoding="utf-8")
    kinds: list[ColSpec | TensorSpec] = [
        ColSpec("double" if isinstance(one, Number) else "string", one.name) for one in encoding.columns
    ]
    return {
        **description,
        "signature": {**description["signature"], "inputs": json.dumps(Schema(kinds).to_dict())},
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "serving_input_path": SERVED,
            "type": "json_object",
        },
    }


def _typical(column) -> float | str:
    return column.median if isinstance(column, Number) else column.values[-1]
