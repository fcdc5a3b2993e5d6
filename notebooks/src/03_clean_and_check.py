# %% [markdown]
# # Clean and check with Dask
#
# **You will learn** how one pandas function cleans any amount of data on a cluster, how a *contract* decides which rows are published, and what to do when the contract was wrong.

# %%
from ingestlab import Lab
from ingestlab.teaching import alarm_files, check, unsolved

lab = Lab()
lab

# %% [markdown]
# ## One function, many partitions
#
# A pipeline's `clean` is a function: a frame in, a frame out. Dask never sees the whole table. It cuts the data into *partitions*, and calls the function once for each of them, on whichever process is free. Let us do that by hand, with the very cluster of the stack:

# %%
import pandas as pd
from distributed import Client

alarms = pd.read_csv(
    lab.samples("bts")[0],
    on_bad_lines="skip",
    parse_dates=["start_time"],
    date_format="%Y-%m-%d %H:%M:%S",
)
pieces = [alarms.iloc[:50], alarms.iloc[50:100], alarms.iloc[100:]]


def hot(df):
    """Rows with a value of 28 and more, the placeholder left out."""
    values = pd.to_numeric(df["value"], errors="coerce")
    return df[(values >= 28) & (values < 999_990)]


with Client(lab.settings.dask_scheduler) as client:
    results = client.gather(client.map(hot, pieces))

[len(result) for result in results]

# %%
assert pd.concat(results).equals(hot(alarms))  # cut or whole, the same rows

# %% [markdown]
# ![A file is cut between records into partitions; read, clean and check run on each; good rows and rejects are written side by side](images/03_partitions.svg)
#
# That only works since `hot` looks at each row by itself. A function such as "above the average of the frame" gives other rows for other cuts:

# %%
def above_average(df):
    values = pd.to_numeric(df["value"], errors="coerce")
    values = values.mask(values > 999_990)
    return df[values > values.mean()]


whole = above_average(alarms)
cut = pd.concat(above_average(piece) for piece in pieces)
len(whole), len(cut), whole.equals(cut)

# %% [markdown]
# The *index* matters, too. It is how ingestlab knows which source row a result came from. So `clean` keeps it: no `reset_index`, no `merge` (use `join`). A row that `clean` drops is not lost either, it is recorded as a reject with the rule `clean`.
#
# ### Exercise 03.1
#
# Write a `clean` for the alarms. It makes a column `duration_s`, the seconds between `start_time` and `end_time` (nothing if there is no end), and empties `value` where it is 999999. It keeps the index, and does not change its argument.

# %% tags=["exercise"]
# solution: df.assign() makes a new frame; mask() empties where a condition holds; .dt.total_seconds() of a difference of times.
def clean(df):
    return df.assign(
        value=df["value"].mask(df["value"] == 999_999),
        duration_s=(df["end_time"] - df["start_time"]).dt.total_seconds(),
    )


# end
check("03.1", clean)

# %% [markdown]
# ## The contract
#
# A contract says what every published row keeps to. Here is a pipeline with one; the cell writes it to your folder of pipelines. An edited pipeline takes effect on the next job, so you never restart anything.

# %%
from pathlib import Path

PIPELINE = '''"""Alarms again; whoever wrote the contract has not seen the data."""

from typing import Any

import pandera.pandas as pa

from ingestlab import Csv, Pipeline


def clean(df):
    return df.assign(
        value=df["value"].mask(df["value"] >= 999_990),
        duration_s=(df["end_time"] - df["start_time"]).dt.total_seconds(),
    )


class Alarm(pa.DataFrameModel):
    station_id: Any  # null is not allowed, unless said so
    value: Any = pa.Field(ge=-60, le=240, nullable=True)
    duration_s: Any = pa.Field(ge=0, nullable=True)


PIPELINE = Pipeline(
    reader=Csv(
        columns={
            "id": "int64",
            "station_id": "int64",
            "alarm_id": "int32",
            "parameter_id": "int32",
            "start_time": "timestamp[s]",
            "end_time": "timestamp[s]",
            "value": "float64",
            "threshold": "float64",
        },
    ),
    clean=clean,
    contract=Alarm,
)
'''

file = Path(lab.settings.pipelines[0]) / "my_alarms.py"
file.write_text(PIPELINE)
file

# %%
import tempfile

# a new folder each time: you may run this notebook twice
folder = Path(tempfile.mkdtemp(prefix="alarms-"))
alarm_files(folder, files=6, rows=200, start="2018-04-01")

run = lab.submit(f"{folder}/*.csv", pipeline="my_alarms").watch()
run.result().rules

# %% [markdown]
# One rule rejects far more than all others. That is either very bad data or a bad rule. Look at the rows before you decide:

# %%
rejects = lab.rejects("my_alarms", run=run.id)
rejects[rejects["column"] == "value"]["value"].value_counts()

# %% [markdown]
# Hundreds of values between 240 and 250, and at the end of the list a text and a -5000. The first are the voltage of the grid, and it is *why* the stations raise an alarm. The rule was wrong, and the data is right.
#
# ## Mend and replay
#
# Rejects keep a reference to their source row, and the raw zone keeps the file. So when the pipeline is mended, exactly these rows can be fed through it again, by `lab.replay(table)`, or `ingestlab replay` in a terminal. What passes now is published once and leaves the rejects.
#
# ### Exercise 03.2
#
# Mend the contract: a value may be up to 100,000, and as low as -10,000 (let us say that the -5000 are somebody else's problem). Write the file anew, replay, and wait. Your answer is the run of the replay.

# %% tags=["exercise"]
# solution: PIPELINE.replace(old, new) gives the mended text; file.write_text() it; lab.replay("my_alarms").watch().
file.write_text(PIPELINE.replace("ge=-60, le=240", "ge=-10_000, le=100_000"))
answer = lab.replay("my_alarms").watch()
# end
check("03.2", answer)

# %% [markdown]
# What is left has other reasons:

# %%
left = lab.rejects("my_alarms").groupby(["column", "rule"], dropna=False)
left.size().rename("rows").reset_index()

# %% [markdown]
# ## Look before, not after
#
# Every run also leaves a small *profile* of each column: nulls, extremes, mean, the commonest values. A column that suddenly looks different often tells you of trouble before any rule does.

# %%
lab.profile("my_alarms")

# %% [markdown]
# ## What a production system does differently
#
# Contracts are agreed with whoever sends the data (*data contracts*), and live in version control with tests of their own. A limit on the share of rejects (`max_reject_ratio=0.05` in a `Pipeline`) stops a file that is bad as a whole before half of it is published. And somebody owns each rule: one that nobody can explain is deleted.
#
# ## Further reading
#
# - [Dask: map_partitions](https://docs.dask.org/en/stable/generated/dask.dataframe.DataFrame.map_partitions.html) and [best practices](https://docs.dask.org/en/stable/best-practices.html)
# - [pandera: DataFrame models](https://pandera.readthedocs.io/en/stable/dataframe_models.html)
# - Sebastian Schelter et al., *Automating Large-Scale Data Quality Verification*, VLDB 2018
#
# Next: [aggregate](04_aggregate.ipynb).
