# %% [markdown]
# # Many files and many workers
#
# **You will learn** how thousands of files become a few jobs, how several workers share them, how something urgent goes first, and what to do when a job fails.

# %%
from ingestlab import Lab
from ingestlab.teaching import alarm_files, check, start_worker, unsolved

lab = Lab()
lab

# %% [markdown]
# ## Small files travel together
#
# A queue is good at thousands of jobs, and each of them costs a little: to be stored, taken, downloaded, committed. So `submit` packs small files into one request, and a request is one job.

# %%
files = lab.samples("bts")
run = lab.submit(files)
print(len(files), "files,", len(run.jobs), "job")
run.watch()

# %% [markdown]
# ![Files are packed into requests; several workers each take one from the queue; the cluster shares their partitions](images/02_packing.svg)
#
# Two settings decide how much goes into one request, and a request is closed when it has reached either of them:

# %%
lab.settings.request_files, lab.settings.request_bytes

# %% [markdown]
# ### Exercise 02.1
#
# Here is a folder with 200 small files. How many jobs will they make? Say a number first, then submit them. Your answer is the run, when it has ended.

# %%
import tempfile
from pathlib import Path

# a new folder each time: you may run this notebook twice
folder = Path(tempfile.mkdtemp(prefix="alarms-"))
small = alarm_files(folder, files=200, rows=10, start="2018-01-01").files
len(small), small[0].name

# %% tags=["exercise"]
# solution: lab.submit() takes a list of paths as text, or one pattern: f"{folder}/*.csv".
answer = lab.submit(f"{folder}/*.csv").watch()
# end
check("02.1", answer)

# %% [markdown]
# ## Many workers
#
# Each worker takes the next job from the queue as soon as it is free. Nobody hands the jobs out, so a slow worker delays nobody else, and a new worker helps from its first second. Here are the jobs of the two runs of above; which worker did which? A worker has one name: the same in `lab.parts()`, in the pane *Ingest* and in `run.log()`.

# %%
import pandas as pd

pd.concat([run.jobs, answer.jobs], ignore_index=True)

# %% [markdown]
# The workers only download, plan and commit. The heavy work of all of them goes to the same Dask cluster, whose processes are shared fairly.
#
# ## What is urgent goes first
#
# A worker may serve several queues. It looks at the first one first, and takes a job from the next one only if the first is empty. That is all there is to priorities.
#
# Nobody serves the queues `urgent` and `night` yet, so these requests wait:

# %%
folder = Path(tempfile.mkdtemp(prefix="night-"))
paths = alarm_files(folder, files=4, rows=100, start="2018-02-01").files

night = [lab.submit(str(path), queue="night") for path in paths[:3]]
urgent = lab.submit(str(paths[3]), queue="urgent")  # announced last
[one.progress().state for one in [*night, urgent]]

# %% [markdown]
# Now a worker of our own comes, and serves both. In a terminal this is `ingestlab worker urgent night`.

# %%
mine = start_worker("urgent", "night", name="mine")
for one in [*night, urgent]:
    one.watch()
mine.stop()

# %% [markdown]
# ### Exercise 02.2
#
# In which order were the four runs published? Your answer is a list of runs. Do not guess: a table knows its commits, oldest first, in `lab.table("bts_alarms").manifests`, and each names its `run`.

# %% tags=["exercise"]
# solution: Go through the manifests, and look up each manifest's run among the four by its id.
four = {one.id: one for one in [*night, urgent]}
manifests = lab.table("bts_alarms").manifests
answer = [four[manifest.run] for manifest in manifests if manifest.run in four]
# end
check("02.2", answer)

# %% [markdown]
# ## A failed job and its cure
#
# A producer announces two files, but somebody has only begun to write the second one. One bad file is never a reason to lose its neighbours:

# %%
folder = Path(tempfile.mkdtemp(prefix="late-"))
first, second = alarm_files(folder, files=2, rows=50, start="2018-03-01").files
hidden = second.rename(folder / "hidden")
second.touch()  # it is there, and empty

failed = lab.submit([str(first), str(second)]).watch()
failed.files[["file", "status", "published", "rejected"]]

# %% [markdown]
# The error says what was expected, what came, and what to do. In a terminal, `ingestlab failed` lists all runs with failures, and `ingestlab show RUN` tells why.

# %%
print(failed.files["error"].dropna().iloc[0])

# %% [markdown]
# Some errors pass by themselves: a server that is away, a lost connection. Such jobs are tried again after 2, 10, 60 and 300 seconds without being asked. An empty file is not such an error: somebody has to act.
#
# ### Exercise 02.3
#
# Act. Finish the file (copy `hidden` to `second`), and queue what failed once more with `failed.retry()`; then wait. Your answer is the run.

# %% tags=["exercise"]
# solution: shutil.copy(hidden, second), then failed.retry(), then failed.watch().
import shutil

shutil.copy(hidden, second)
failed.retry()
answer = failed.watch()
# end
check("02.3", answer)

# %% [markdown]
# ## What a production system does differently
#
# Workers run on several machines, and their number follows the length of the queue: on Kubernetes, KEDA can do that. Someone is called when the oldest job has waited for too long, or when there are failed jobs. Jobs that fail again and again are kept apart (a *dead letter queue*; RQ calls it the failed job registry) until somebody has looked at them.
#
# ## Further reading
#
# - [RQ: workers](https://python-rq.org/docs/workers/) and [exceptions and retries](https://python-rq.org/docs/exceptions/)
# - [KEDA: scaling on the length of a Redis list](https://keda.sh/docs/latest/scalers/redis-lists/)
# - Marc Brooker, [Timeouts, retries and backoff with jitter](https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/)
#
# Next: [clean and check with Dask](03_clean_and_check.ipynb).
