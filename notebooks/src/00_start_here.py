# %% [markdown]
# # Start here
#
# **You will learn** what the parts of a data ingestion system are, how to start all of them on your own machine, and where to look while they work.
#
# This course is twelve notebooks, one day. Each has a small real example, a picture of what happens underneath, and exercises whose answers are checked. Run the cells from top to bottom with Shift+Enter.
#
# | | |
# |---|---|
# | 00 | the whole picture: you are here |
# | [01](01_first_ingestion.ipynb) | one file: producer, queue, worker, result |
# | [02](02_many_files.ipynb) | many files, many workers; a failed job and its cure |
# | [03](03_clean_and_check.ipynb) | clean and check with Dask; rejects and replay |
# | [04](04_aggregate.ipynb) | aggregates that are always up to date |
# | [05](05_exactly_once.ipynb) | exactly once, also when a worker is killed |
# | [06](06_embeddings_and_milvus.ipynb) | search by meaning, with Milvus |
# | [07](07_how_fast_how_far.ipynb) | how fast, how far: partitions, workers, memory |
# | [08](08_your_own_pipeline.ipynb) | your own pipeline, from a raw file to a table |
# | [09](09_files_that_announce_themselves.ipynb) | files that announce themselves: a folder that is listened to |
# | [10](10_complex_analysis_with_spark.ipynb) | complex analysis with Spark: joins and windows over tables |
# | [11](11_an_api_as_a_source.ipynb) | an API as a source: pages, a token, and only what is new |

# %% [markdown]
# ## The problem
#
# Somewhere, files appear: measurements, logs, pictures, thousands a day. Somebody wants to ask questions about them, in tables. In between, *ingestion* has to bring every row from the files into a table: checked, and exactly once, though networks fail and machines die.
#
# ![Producers put requests on a queue; workers take them, download files, and let a Dask cluster process them; rows land in a table, rejects beside it](images/00_picture.svg)
#
# - A **producer** says that there is a file. It does not wait.
# - The **queue** (Redis) keeps what was said until someone has time.
# - A **worker** (RQ) takes one request, downloads its files and plans the work.
# - The **cluster** (Dask) reads, cleans and checks the rows, many pieces at the same time.
# - The **lake** is a folder. Good rows become Parquet files of a table; bad rows are kept beside it, each with the reason.

# %% [markdown]
# ## The stack
#
# `Lab()` connects to the servers that your environment names. If it names none, it starts real ones on this machine. That takes a few seconds the first time.

# %%
from ingestlab import Lab
from ingestlab.teaching import check, unsolved

lab = Lab()
lab

# %% [markdown]
# At the right of this notebook, `make lab` has opened three live panes: *Ingest* shows queues, workers and rows, *Task Stream* and *Progress* what Dask does, second by second. You will see them move in a moment. If you came another way (say, in VS Code), the card's links open the same pages.
#
# Each part is a process of its own, as it would be a machine of its own in a data centre:

# %%
parts = lab.parts()
parts

# %% [markdown]
# ### How exercises work
#
# Each exercise is a question, a cell for your answer, and beneath it a folded cell with one solution.
#
# - Put your answer in place of `...`, and run the cell. `check` says that it is right (✔), or what is missing (✘).
# - To see the solution, click the line *Solution of …* below your cell. Some other editors show it open.
# - The solution runs only where your answer is not right yet. So you may skip an exercise: the cells below find what they need, and *Run All Cells* comes to the end.
#
# ### Exercise 00.1
#
# How many RQ workers are there?

# %% tags=["exercise"]
# solution: Count the names in the column "part" that begin with "worker".
answer = sum(name.startswith("worker") for name in parts["part"])
# end
check("00.1", answer)

# %% [markdown]
# ## The smallest example
#
# A web server writes one line for each request into its *access log*, one file a day. The stack serves a week of such files over HTTP. Two lines do all the work: one announces a file, the other waits and shows what happens.

# %%
logs = lab.samples("weblogs")
run = lab.submit(logs[0])
run.watch()

# %%
lab.table("weblogs").pandas().head()

# %% [markdown]
# Each row says where it came from: `_source` is the file, and `_row` the number of the record in it. If you run these cells twice, the file is `unchanged` the second time, and nothing is done again.
#
# ### Exercise 00.2
#
# Do the same with the second file. Your answer is the run.

# %% tags=["exercise"]
# solution: Submit logs[1], and wait for the end with watch(), which gives the run back.
answer = lab.submit(logs[1]).watch()
# end
check("00.2", answer)

# %% [markdown]
# ### Exercise 00.3
#
# How many rows does the table `weblogs` have now?

# %% tags=["exercise"]
# solution: A table has the property rows; open it again, since it shows the moment at which it was opened.
answer = lab.table("weblogs").rows
# end
check("00.3", answer)

# %% [markdown]
# ## What a production system does differently
#
# The parts run on different machines and are looked after by different people: a Redis server that is backed up, workers and a Dask cluster on Kubernetes, a lake on S3. Your code stays the same; environment variables (`REDIS_URL`, `DASK_SCHEDULER_ADDRESS`, `INGESTLAB_LAKE`) say where the parts are.
#
# ## If something is wrong
#
# | what you see | what to do |
# |---|---|
# | `NameError: name … is not defined` | a cell above has not been run in this kernel: menu *Run*, *Run All Above Selected Cell* |
# | ✘ and a sentence | an exercise is not solved yet; change your answer, and run the cell again |
# | a run stays *queued* | nobody works on its queue: `lab` shows who does, and `lab.scale(workers=2)` starts two workers |
# | *does not answer*, *Connection refused* | the stack was stopped: run the cell with `Lab()` again; tables and queued requests are kept |
# | a cell takes too long | interrupt it with ■; a run goes on, and `lab.run().watch()` shows it again, also after a restart of the kernel |
# | you have run a cell twice | that does no harm: what is there already is *unchanged* |
#
# `ingestlab doctor` in a terminal looks at all parts and says in plain words what is wrong. `lab.stop()` stops the stack.
#
# ## Further reading
#
# - [RQ: Simple job queues for Python](https://python-rq.org/)
# - [Dask: documentation](https://docs.dask.org/), and its [dashboard](https://docs.dask.org/en/stable/dashboard.html)
# - [Apache Parquet](https://parquet.apache.org/docs/)
# - Martin Kleppmann, *Designing Data-Intensive Applications*, the chapters on batch and on stream processing
