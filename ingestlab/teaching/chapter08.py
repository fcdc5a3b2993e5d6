"""Checks of ``08_your_own_pipeline``: a contract, a table in few parts, an aggregate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ingestlab.engine.dry_run import Trial
from ingestlab.pipeline.catalog import Catalog, load
from ingestlab.teaching.checks import Desk, a, a_good_run, doubled, exercise, expect

NAME = "my_weather"
FEW = 12  # parts: one a month
BOUNDS = {"wind_speed": 150, "humid": 100, "hour": 23}


@exercise("08.1")
def contract(answer: Any, desk: Desk) -> str:
    """Accept a dry run whose contract rejects the impossible and little else."""
    trial = a(answer, Trial, "what lab.check() gives")
    expect({*BOUNDS, "pressure"} <= set(trial.rows), f"those are no rows of the weather; try {NAME!r} on its file.")
    expect(load(Catalog.read(desk.settings).named(NAME)).contract is not None, "the pipeline has lost its contract.")
    for column, most in BOUNDS.items():
        largest = trial.rows[column].max()
        text = f"a row with {column} = {largest:g} passes; it should be at most {most}. Is the file saved?"
        expect(largest <= most, text)
    numeric = pd.api.types.is_numeric_dtype(trial.rows["pressure"])
    expect(numeric, 'pressure is still text; make it a "float64" among the columns.')
    expect(trial.tally.rejected, "no row is rejected, and one should be. Does clean drop or change it?")
    share = trial.tally.rejected / trial.tally.rows_in
    rules = ", ".join(trial.rules)
    expect(share < 0.01, f"{share:.0%} of the rows are rejected ({rules}); the contract is too strict now.")
    return f"{trial.tally.rejected} of {trial.tally.rows_in:,} rows rejected, by {rules}. The others are believable."


@exercise("08.2")
def published(answer: Any, desk: Desk) -> str:
    """Accept a run that published the weather in few parts. Every row is there once."""
    result = a_good_run(answer)
    outcome = result.outcomes[0]
    expect(outcome.table == NAME, f"the rows are in the table {outcome.table}; submit with pipeline={NAME!r}.")
    table = desk.lake.table(NAME)
    months = all("/month=" in p.target for p in table.parts)
    expect(months, 'there are no folders of months: partition_by="month", save, and submit with force=True.')
    expect(len(table.parts) <= FEW, f"the table has {len(table.parts)} parts; submit with force=True, to replace them.")
    rows = table.pandas(["_source", "_row", "wind_speed"])
    expect(not doubled(rows), f"{doubled(rows)} rows are there twice.")
    expect(rows["wind_speed"].max() <= BOUNDS["wind_speed"], "the impossible wind is still in the table.")
    kept = len(desk.lake.rejects(NAME))
    expect(len(rows) + kept == outcome.tally.rows_in, f"{len(rows)} rows and {kept} rejects do not add up.")
    return f"{len(rows):,} rows in {len(table.parts)} parts, {kept} kept aside. Every row of the file is accounted for."


@exercise("08.3")
def summarised(answer: Any, desk: Desk) -> str:
    """Accept an aggregate by airport and month that matches the rows."""
    frame = a(answer, pd.DataFrame, "a frame, as lab.aggregate() gives it")
    wanted = ["origin", "month", "hours", "mean_temp", "worst_wind"]
    missing = [name for name in wanted if name not in frame]
    expect(not missing, f"these columns are missing: {', '.join(missing)}.")
    rows = desk.lake.table(NAME).pandas(["origin", "month", "temp", "wind_speed"]).astype({"month": "int64"})
    groups = rows.groupby(["origin", "month"], observed=True)
    truth = groups.agg(hours=("temp", "size"), mean_temp=("temp", "mean"), worst_wind=("wind_speed", "max"))
    mine = frame.astype({"month": "int64"}).set_index(["origin", "month"])
    both = f"by origin and month there are {len(truth)} groups"
    expect(mine.index.is_unique and len(mine) == len(truth), f"{len(mine)} rows; {both}.")
    for name in truth:
        said, true = (part[name].reindex(truth.index).astype(float) for part in (mine, truth))
        expect(np.allclose(said, true, equal_nan=True), f"{name!r} is not what the rows say.")
    return f"Right: {len(truth)} groups, and they say what the {len(rows):,} rows say."
