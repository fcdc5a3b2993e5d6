# %% [markdown]
# # Exactly once
#
# **You will learn** what happens when a worker dies in the middle of its work, why no row is lost and none is published twice, and what lies on the disk at each moment.
#
# Networks lose answers and machines lose power. Who is not sure whether something was done has two choices: not to do it again (*at most once*: rows are lost), or to do it again (*at least once*: rows are doubled). The way out is to make doing it again harmless.

# %%
from ingestlab import Lab
from ingestlab.teaching import alarm_files, check, start_worker, unsolved

lab = Lab()
lab

# %% [markdown]
# ## A pipeline that takes its time
#
# To kill a worker in the middle, we need a middle. This pipeline sleeps for three seconds in `clean`, and *replaces* the rows of a file when the file has changed.

# %%
import tempfile
from pathlib import Path

PIPELINE = '''"""Alarms, cleaned slowly."""

import time

from ingestlab import Csv, Pipeline


def clean(df):
    time.sleep(3)
    return df


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
    write_disposition="replace",
)
'''
(Path(lab.settings.pipelines[0]) / "slow_alarms.py").write_text(PIPELINE)

# a new folder each time: you may run this notebook twice
folder = Path(tempfile.mkdtemp(prefix="alarms-"))
files = alarm_files(folder, files=4, rows=500, start="2018-05-01").files

# %% [markdown]
# ## Kill it
#
# The worker is our own, so that nobody else is hurt. It says every second that it is alive (`beat=1`), so that its death is noticed soon; the workers of the stack say so every five seconds.

# %%
import time

victim = start_worker("crash", name="victim", beat=1, lock_ttl=5)
run = lab.submit(f"{folder}/*.csv", pipeline="slow_alarms", queue="crash")

while run.progress().state in ("queued", "fetching"):
    time.sleep(0.05)
victim.kill()  # not "please stop": the process is gone, in the middle of a word
run

# %% [markdown]
# What is on the disk? The files were downloaded, so the raw zone has them. Nothing was published, so a reader of the table sees nothing of this run:

# %%
there = "slow_alarms" in set(lab.tables()["table"])
print("rows that a reader sees:", lab.table("slow_alarms").rows if there else 0)
sorted(lab.ls("raw/default/slow_alarms", "staging", "intents"))[-8:]

# %% [markdown]
# The queue still has the job: it is noted as *started*, by a worker that no longer speaks. Another worker finds that out when three beats are missing, and takes the job over from its beginning.

# %%
rescuer = start_worker("crash", name="rescuer", beat=1, lock_ttl=5)
run.watch()
run.files[["file", "status", "rows", "published", "rejected"]]

# %%
run.jobs

# %%
sorted(lab.ls("tables/default/slow_alarms", "staging", "intents"))[-8:]

# %% [markdown]
# ### Exercise 05.1
#
# Two workers were at it. Is anything there twice? A source row is known by its file and its number, the columns `_source` and `_row`. How often does the most frequent pair occur in the table? Your answer is that number.

# %% tags=["exercise"]
# solution: Read the two columns, group by both, size(), max().
rows = lab.table("slow_alarms").pandas(["_source", "_row"])
answer = rows.groupby(["_source", "_row"], observed=True).size().max()
# end
check("05.1", answer)

# %% [markdown]
# ## What happens underneath
#
# ![The steps of a commit: stage, intent, publish by rename, manifest, clean up; before the manifest a crash rolls back, after it a crash rolls forward](images/05_commit.svg)
#
# 1. Tasks write to *staging*. The names of the parts are made from the contents that go in, so a task that runs twice writes the same file twice, not two files.
# 2. An *intent* names every file that is about to be published.
# 3. The parts are *renamed* into the table. A rename is one step: a file is there or it is not.
# 4. The *manifest* is written, also by a rename. **This is the moment.** With it, all of the commit counts; without it, nothing does.
# 5. Old parts and the intent go.
#
# Whoever finds an intent later knows what to do: is there a manifest? Then finish. Is there none? Then take the parts out again. It can be done by any worker, at any time, and twice. Here is the manifest of our run:

# %%
manifest = lab.table("slow_alarms").manifests[-1]
parts = [part.target for part in manifest.parts]
{"batch": manifest.batch, "run": manifest.run, "parts": parts}

# %% [markdown]
# ## Submit again, and replace
#
# The same files again: nothing to do.

# %%
again = lab.submit(f"{folder}/*.csv", pipeline="slow_alarms", queue="crash").watch()
again.files["status"].value_counts()

# %% [markdown]
# ### Exercise 05.2
#
# The publisher finds out that the first file ends too early, and adds lines to it. Do that: append five lines of your own to `files[0]` (copies of its last line will do). Then submit the whole folder once more, with the same pipeline, on the queue `"crash"`, and wait. Your answer is the run.

# %% tags=["exercise"]
# solution: with files[0].open("a") as file: file.write(last_line * 5); then submit f"{folder}/*.csv" as above.
last_line = files[0].read_text().splitlines()[-1] + "\n"
with files[0].open("a") as file:
    file.write(last_line * 5)
longer = lab.submit(f"{folder}/*.csv", pipeline="slow_alarms", queue="crash")
answer = longer.watch()
# end
check("05.2", answer)

# %%
rescuer.stop()

# %% [markdown]
# A Parquet file is never changed. `replace` writes new parts for what is left of the old ones, and the manifest says which old parts it *replaced*. So a reader that goes by the manifests (`lab.table` does) sees the old version or the new one, and nothing in between.
#
# ### Exercise 05.3
#
# What would a reader see who knows nothing of manifests, and reads all files of the folder? Your answer is the number of rows of all Parquet files in `lab.table("slow_alarms").path`, counted by pandas.

# %% tags=["exercise"]
# solution: pandas.read_parquet() takes a folder; len() counts.
import pandas as pd

answer = len(pd.read_parquet(lab.table("slow_alarms").path))
# end
check("05.3", answer)

# %% [markdown]
# ## What a production system does differently
#
# Often it uses a *table format*: Apache Iceberg and Delta Lake have manifests, too, and do the same trick with one more level. Then several writers agree by an atomic swap of one pointer. Message brokers such as Kafka offer transactions, and "exactly once" there means the same as here: done at least once, and made harmless to repeat (*idempotent*). And somebody does pull the plug, on purpose and often, before the customers do (*chaos engineering*).
#
# `ingestlab reconcile` goes through the whole lake and finishes or rolls back whatever a crash has left; run it when you are curious.
#
# ## Further reading
#
# - [Delta Lake: the transaction log protocol](https://github.com/delta-io/delta/blob/master/PROTOCOL.md)
# - [Apache Iceberg: table specification](https://iceberg.apache.org/spec/)
# - Pat Helland, [*Idempotence Is Not a Medical Condition*](https://queue.acm.org/detail.cfm?id=2187821), ACM Queue 2012
# - Martin Kleppmann, *Designing Data-Intensive Applications*, the chapters on distributed systems and on stream processing
#
# Next: [embeddings and Milvus](06_embeddings_and_milvus.ipynb).
