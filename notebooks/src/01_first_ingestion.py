# %% [markdown]
# # First ingestion
#
# **You will learn** how a file that somebody announces on a queue becomes rows of a table: the *producer* asks, the *queue* keeps the request, a *worker* takes it up, a *Dask cluster* does the work, and the *result* is published once, however often you ask.
#
# You need nothing but this notebook. Run the cells from top to bottom; each takes a second or two.

# %% [markdown]
# ## The lab
#
# `Lab()` connects to the servers that your environment names (`REDIS_URL`, …). If it names none, it starts real ones on this machine: a Redis server (Valkey), a Dask cluster, two workers, and a small HTTP server with sample data. Keep an eye on the live panes at the right, or on the pages that the card links to.

# %%
from ingestlab import Lab
from ingestlab.teaching import check, unsolved

lab = Lab()
lab

# %% [markdown]
# ## The data
#
# Base stations of a mobile network raise alarms: the grid's voltage is too high, a door is open, a battery is hot. Every hour they are written to one CSV file. Here are the files of one day, on a file server, as they would be in real life.

# %%
files = lab.samples("bts")
print(len(files), "files, the first one:", files[0])

# %%
import pandas as pd

pd.read_csv(files[0], on_bad_lines="skip").head()

# %% [markdown]
# Look closely: `999999` is not a measurement, it means *not set*. Some alarms have no end. And some lines are plainly broken, as in every real feed. What to do about all that is written down in a **pipeline**, one Python file: [`pipelines/bts_alarms.py`](../pipelines/bts_alarms.py). Read it now; it is short. It says how to *read* (columns and types), how to *clean* (a pandas function), and what every published row keeps to (the *contract*).
#
# You can try a pipeline on a file right here, without queue or cluster:

# %%
trial = lab.check("bts_alarms", files[0])
print(trial.tally)
trial.rows.head()

# %%
trial.rejects[["row", "rule", "column", "value", "raw"]]

# %% [markdown]
# ## The producer
#
# Now for real. A producer does not process anything; it puts a *request* on the queue and goes home. The same can be said in a terminal: `ingestlab submit URI`, or in the words of the original tutorial: `ingestlab produce --queuename ingest --uri URI`.

# %%
run = lab.submit(files[0])
run

# %% [markdown]
# ## The worker
#
# One of the workers has it by now. It downloads the file, plans the work, hands it to Dask, and commits what comes back. `watch()` follows it; you may interrupt the cell, the run goes on without you.

# %%
run.watch()
run.files

# %% [markdown]
# ## The result
#
# The rows that kept the contract are in a table. Each says where it came from: `_source` is the file, `_row` the number of its record in that file.

# %%
alarms = lab.table("bts_alarms")
print(alarms)
alarms.pandas().head()

# %% [markdown]
# The rows that broke it are not lost. They are kept aside, each with the rule it broke and its raw text, so that you can mend the pipeline or tell the publisher.

# %%
lab.rejects("bts_alarms")[["source", "row", "rule", "column", "value", "raw"]]

# %% [markdown]
# Every source row is published or rejected, never both and never neither. Count for yourself:

# %%
tally = run.result().tally
assert tally.rows_in == tally.accepted + tally.rejected
tally

# %% [markdown]
# ### Exercise 01.1
#
# Ingest the second file, `files[1]`. Your answer is the run, when it has ended.

# %% tags=["exercise"]
# solution: lab.submit() gives a run, and its watch() waits for the end.
answer = lab.submit(files[1]).watch()
# end
check("01.1", answer)

# %% [markdown]
# ## What happens underneath
#
# ![The stages of a run, and where its data is meanwhile: at the source, in the raw zone, in staging, then in the table and among the rejects](images/01_request.svg)
#
# The request is a small JSON text in Redis: which files, which pipeline, whose table. It contains no code and no data. The worker keeps a copy of what it downloads in the *raw zone* of the lake, named by its hash. Dask tasks write Parquet files to a *staging* folder, where no reader looks. Only when all of them are done are they renamed into the table's folder. You see a file of a table when it is finished, or not at all.

# %%
lab.ls("bts_alarms")

# %% [markdown]
# ### Exercise 01.2
#
# Which rules are broken how often? Your answer is a pandas Series: the number of rejected rows for each `rule`, the largest first.

# %% tags=["exercise"]
# solution: Take the column "rule" of lab.rejects("bts_alarms"), and count its values.
answer = lab.rejects("bts_alarms")["rule"].value_counts()
# end
check("01.2", answer)

# %% [markdown]
# ### Exercise 01.3
#
# A reject is only useful if you can find its source. Take any one reject; download its file (`source`), and find the line that it came from (`row` counts records from 0, and the header is not a record). Your answer is that line.

# %% tags=["exercise"]
# solution: Open the source with fsspec.open(), read all lines, and remember the header.
import fsspec

reject = lab.rejects("bts_alarms").iloc[0]
with fsspec.open(reject["source"], "rt") as file:
    lines = file.read().splitlines()
answer = lines[reject["row"] + 1]
# end
check("01.3", answer)

# %% [markdown]
# ## Twice is once
#
# What happens if the producer asks again, by mistake or because it was not sure? The file has not changed, so there is nothing to do:

# %%
before = lab.table("bts_alarms").rows
again = lab.submit(files[0]).watch()
rows = lab.table("bts_alarms").rows
print(again.files["status"].to_list(), "- rows in the table:", rows)
assert rows == before

# %% [markdown]
# And no tool needs ingestlab to read the table. Its folder holds finished parts and nothing else:

# %%
print(alarms.path)
options = lab.settings.storage_options.get("s3")  # for a lake on S3
len(pd.read_parquet(alarms.path, storage_options=options))

# %% [markdown]
# ## What a production system does differently
#
# Not much. The servers are on other machines (`REDIS_URL`, `DASK_SCHEDULER_ADDRESS`, `INGESTLAB_LAKE=s3://…`), the code is the same. Somebody looks at the rejects every morning.
#
# When you are done, `lab.stop()` stops the servers that `Lab()` started; tables and queued jobs stay. So does the list of runs: after a restart of this kernel, `lab.run(id)` brings any of them back.

# %%
lab.runs()

# %% [markdown]
# ## Further reading
#
# - [RQ: jobs and queues](https://python-rq.org/docs/)
# - [Redis: lists](https://redis.io/docs/latest/develop/data-types/lists/), on which queues are built
# - [pandas on Arrow memory](https://pandas.pydata.org/docs/user_guide/pyarrow.html)
# - [pandera](https://pandera.readthedocs.io/), the library of the contracts
#
# Next: [many files and many workers](02_many_files.ipynb).
