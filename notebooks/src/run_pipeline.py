# %% [markdown]
# # Run a pipeline
#
# The driver for schedulers: one run, from files to a table, and a page that says what came of it. Run it by hand, or with parameters:
#
# ```console
# $ ingestlab notebook notebooks/run_pipeline.ipynb -p uri "data/alarm-*.csv" -p pipeline bts_alarms
# ```
#
# With `--enqueue` a worker runs it, and you may close the terminal; from another notebook that is `lab.notebook("run_pipeline.ipynb", uri=..., pipeline="bts_alarms")`. The job waits on the queue `notebooks`, whose worker takes notebooks alone: this one waits for its files, and the worker that ingests them must not be the one that waits.
#
# It ends with an error if a file fails, so that whoever started it notices. The executed notebook and its HTML page are kept in the lake. `papermill` takes this notebook as well.

# %% tags=["parameters"]
uri = ""  # a file, a pattern, or a list of them; nothing takes the samples of alarms
pipeline = None  # its name; None finds the one that matches each file's name
queue = None  # None is the queue of the settings
table = None  # for files that no pipeline matches
force = False  # whether what is unchanged is ingested again

# %%
from ingestlab import Lab

lab = Lab()
lab

# %%
files = uri or lab.samples("bts")
run = lab.submit(files, pipeline=pipeline, queue=queue, table=table, force=force)
mark = {"application/vnd.ingestlab.run+json": {"run": run.id}}
display(mark | {"text/plain": f"run {run.id}"}, raw=True)

# %%
run.watch()

# %%
run.files

# %% [markdown]
# ## Why rows were rejected

# %%
import pandas as pd

result = run.result()
rules = pd.Series(result.rules, name="rows", dtype="int64")
rules.sort_values(ascending=False).to_frame()

# %% [markdown]
# ## What the tables look like now

# %%
for name in result.tables:
    display(lab.table(name), lab.profile(name))

# %%
if result.failed:
    count = f"{len(result.failed)} of {len(result.outcomes)} files failed"
    raise RuntimeError(f"{count}, first: {result.failed[0].exception()}")
