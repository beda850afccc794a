"""Stored results of the benchmarks whose rows have an arm and a seed."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def stored(name):
    """(the result file, its rows as arm -> seed -> row)."""
    result, found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")), {}
    for row in result["rows"]:
        found.setdefault(row["arm"], {})[row["seed"]] = row
    return result, found
