# %% [markdown]
# # How fast, how far
#
# **You will learn** to say how fast a pipeline is and why, what partitions and workers have to do with it, how much memory it takes, and how to read the Dask dashboard.

# %%
from ingestlab import Lab
from ingestlab.teaching import alarm_files, check, start_worker, unsolved

lab = Lab()
lab

# %% [markdown]
# ## One big file
#
# 150,000 alarms in one file of 11.5 MB. (Big is relative: everything below works the same way with 100 GB, only you would have more time for coffee.)

# %%
import tempfile
from pathlib import Path

# a new folder each time: you may run this notebook twice
folder = Path(tempfile.mkdtemp(prefix="big-"))
big = alarm_files(folder, files=1, rows=150_000, start="2018-06-01").files[0]
f"{big.stat().st_size:,} bytes"

# %%
# force: also if you run this cell twice
whole = lab.submit(str(big), pipeline="bts_alarms", force=True).watch()
whole.result().seconds

# %% [markdown]
# `seconds` says where the time went: *fetching* is the copy into the raw zone, *processing* is reading, cleaning, checking and writing, *committing* is the publication. The time in the queue is not in it.
#
# ### Exercise 07.1
#
# A speed is a number of rows (or bytes) in a time. How many rows a second did this run process, counting all stages? Your answer is the pair of the run and that number.

# %% tags=["exercise"]
# solution: whole.result() has tally.rows_in, and seconds is a dict: sum its values.
result = whole.result()
answer = (whole, result.tally.rows_in / sum(result.seconds.values()))
# end
check("07.1", answer)

# %% [markdown]
# ## Partitions
#
# A file is cut between records into partitions of about `partition_bytes`, 32 MB by default. So our file was one partition, one Dask task, one busy core; the others had a holiday. Smaller partitions can be processed at the same time:
#
# ![One partition keeps one process busy; four partitions keep four busy; four thousand keep the scheduler busy](images/07_partitions.svg)
#
# Partitions are cut by the RQ worker that has the job. So we need one with another setting. In a terminal: `INGESTLAB_PARTITION_BYTES=3000000 ingestlab worker cut`.

# %%
print("partition_bytes of the stack:", f"{lab.settings.partition_bytes:,}")
mine = start_worker("cut", name="cutter", partition_bytes=3_000_000)

# force: the file is unchanged
cut = lab.submit(str(big), pipeline="bts_alarms", queue="cut", force=True).watch()
cut.result().seconds

# %% [markdown]
# Look at the pane *Task Stream*: each row is a process, each coloured bar is a task. The first run was one long bar, the second one several short bars in parallel rows. White gaps mean that a process had nothing to do.
#
# ### Exercise 07.2
#
# Each partition becomes at least one Parquet part. Ingest the file once more, with *at least eight* partitions. You need a worker of your own on a queue of your own: `start_worker("tiny", partition_bytes=…)`; stop it afterwards. Your answer is the run.

# %% tags=["exercise"]
# solution: The file has 11.5 MB, so a million bytes a partition will do; submit with queue="tiny" and force=True.
tiny = start_worker("tiny", name="tiny", partition_bytes=1_000_000)
small = lab.submit(str(big), pipeline="bts_alarms", queue="tiny", force=True)
answer = small.watch()
tiny.stop()
# end
check("07.2", answer)

# %%
import pandas as pd

runs = {"one partition": whole, "3 MB each": cut, "your own": answer}
seconds = pd.DataFrame({name: run.result().seconds for name, run in runs.items()}).T
seconds.assign(all=seconds.sum(axis=1)).round(2)

# %%
mine.stop()

# %% [markdown]
# Your numbers will differ from your neighbour's: timings depend on the machine, on what else it does, and on luck. Measure several times, take the median, and be suspicious of a single number. Also, `force` replaces the rows of before, which is extra work for the second and third run.
#
# ## How far: Amdahl's law
#
# If a share *p* of the work can be spread over *n* processes, and the rest cannot, the whole is at most `1 / ((1 - p) + p / n)` times as fast:

# %%
def speedup(p, n):
    return round(1 / ((1 - p) + p / n), 1)


shares = [0.5, 0.9, 0.99]
pd.DataFrame(
    {f"{n} processes": [speedup(p, n) for p in shares] for n in (2, 4, 16, 1000)},
    index=shares,
)

# %% [markdown]
# With *p* = 0.9 a thousand machines are hardly better than sixteen. Here, fetching and committing are the rest. It helps to have many jobs: while one is committed, another one is processed.
#
# ## Memory
#
# A partition must fit into the memory of the process that works on it, several times: the bytes, the frame, what `clean` makes of it, the Parquet file. How much bigger is a frame than its CSV?
#
# ### Exercise 07.3
#
# Read `big` with `pandas.read_csv` (some lines are broken: `on_bad_lines="skip"`), and divide the bytes of the frame (`memory_usage(deep=True)`, without its index) by the bytes of the file. Your answer is the pair of the file's path and this ratio.

# %% tags=["exercise"]
# solution: memory_usage(deep=True, index=False).sum() divided by big.stat().st_size.
frame = pd.read_csv(big, on_bad_lines="skip", low_memory=False)
in_memory = frame.memory_usage(deep=True, index=False).sum()
answer = (big, in_memory / big.stat().st_size)
# end
check("07.3", answer)

# %% [markdown]
# Texts and mixed columns are what makes a frame large. With declared types on Arrow memory, as ingestlab reads them, the rows that were published take less than the file:

# %%
columns = list(pd.read_csv(big, nrows=0).columns)
rows = lab.table("bts_alarms").pandas(["_source", *columns])
rows = rows[rows["_source"] == big.as_uri()].drop(columns="_source")
rows.memory_usage(deep=True, index=False).sum() / big.stat().st_size

# %% [markdown]
# ## The dashboard, read closely
#
# | what you see | what it means | what to do |
# |---|---|---|
# | *Task Stream*: white gaps | processes wait: too few partitions, or the RQ worker is fetching | smaller partitions, more jobs at once |
# | *Task Stream*: very many very short bars | the scheduler needs about a millisecond for each task | larger partitions |
# | one bar much longer than all others | one partition is larger, or one process slower | look which file it is |
# | *Bytes stored*: orange, then red | memory runs out: data is spilled to disk, then the process is paused | smaller partitions, fewer threads |
# | red bars | data moves between processes | here: hardly any; tasks give back names and counts |
#
# ## What a production system does differently
#
# It measures all the time, and compares with last week. Machines are added when the queue grows, not when Dask is busy: a cluster that is 100 % busy is what you paid for. Before anyone makes code faster, someone finds out what the limit is: the network, the disk, or the processor? `make bench` does that here: it measures this system against DuckDB, Polars and others on the same work in the same run; [`benchmarks/`](../benchmarks/README.md) says how.
#
# ## Further reading
#
# - [Dask: diagnosing performance](https://distributed.dask.org/en/stable/diagnosing-performance.html) and [best practices](https://docs.dask.org/en/stable/best-practices.html)
# - Frank McSherry et al., *Scalability! But at what COST?*, HotOS 2015: always compare with one good thread
# - Brendan Gregg, [The USE method](https://www.brendangregg.com/usemethod.html)
#
# Next: [your own pipeline](08_your_own_pipeline.ipynb).
