# %% [markdown]
# # Complex analysis with Spark
#
# **You will learn** to open published tables in Apache Spark, to join two of them, to ask what a *window* of rows says about each row, and to publish the answer as a table with the same guarantees as a file.

# %%
from ingestlab import Lab
from ingestlab.teaching import check, needs, unsolved

lab = Lab()
lab

# %% [markdown]
# Spark is large, and runs on Java. What of it is missing is said here, with the command that installs it:

# %%
needs("spark")

# %% [markdown]
# ## Two tables
#
# The flights of [notebook 04](04_aggregate.ipynb), January to March 2013, and 3,322 aeroplanes: who built them, and when. The number on its tail, `tailnum`, is in both.
#
# ![The log of each table names the files that Spark reads; it joins, looks at windows of rows, and its answer goes over the queue into a table](images/10_spark.svg)

# %%
from pathlib import Path

PIPELINE = '''"""Aeroplanes, by the number on their tail."""

from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(
    reader=Csv(
        columns={
            "tailnum": "string",
            "year": "int16",
            "type": "string",
            "manufacturer": "string",
            "model": "string",
            "engines": "int8",
            "seats": "int16",
            "speed": "int16",
            "engine": "string",
        },
        null_values=("", "NA"),
    ),
)
'''
(Path(lab.settings.pipelines[0]) / "my_planes.py").write_text(PIPELINE)

planes_csv = next(uri for uri in lab.samples("references") if "planes" in uri)
lab.submit(planes_csv, pipeline="my_planes").watch()

# %%
lab.submit(lab.samples("flights")[:3]).watch()

# %% [markdown]
# `lab.spark(table)` opens a table as a Spark frame. Its files and types are those that the table's log names: no file of another program, no half of a commit, and `007` in a folder's name stays a text. The first call starts Spark, which takes some seconds and prints a few lines that are no errors.

# %%
columns = ["carrier", "tailnum", "month", "day", "dep_time", "dep_delay"]
flights = lab.spark("flights", columns=columns)
planes = lab.spark("my_planes", columns=["tailnum", "manufacturer", "seats"])
planes

# %% [markdown]
# No row has been read yet. A Spark frame is a *plan*: each method makes a new plan of it, and only an *action* such as `count`, `toPandas` or `toArrow` has it computed. So Spark can look at the whole question first, and read no column that it does not ask for.

# %%
flights.count(), planes.count()

# %% [markdown]
# ## Join
#
# For each flight, its plane. An *inner* join keeps the flights for which there is one:

# %%
from pyspark.sql import functions as F

known = flights.join(planes, "tailnum")
by_maker = known.groupBy("manufacturer").agg(
    F.count("*").alias("flights"),
    F.round(F.avg("dep_delay"), 1).alias("mean_delay"),
)
by_maker.orderBy(F.desc("flights")).limit(5).toPandas()

# %% [markdown]
# A join can lose rows, and it can make more of them: if a plane were listed twice, each of its flights would be there twice, too. So count, before and after. This one has lost some:

# %%
known.count()

# %% [markdown]
# Where are they? A *left anti* join keeps the rows that have no partner: `left.join(right, "column", "left_anti")`.
#
# ### Exercise 10.1
#
# How many *different* planes (`tailnum`) have flown that `planes` does not know? Your answer is the number.

# %% tags=["exercise"]
# solution: flights.join(planes, "tailnum", "left_anti") has their flights; select("tailnum").distinct().count() counts planes.
unknown = flights.join(planes, "tailnum", "left_anti")
answer = unknown.select("tailnum").distinct().count()
# end
check("10.1", answer)

# %% [markdown]
# ## Windows
#
# `groupBy` makes one row of many. A *window function* leaves all rows, and tells each one something about its neighbours: its rank among them, their sum so far, the row before it. A window says which rows are neighbours (`partitionBy`) and in which order (`orderBy`).
#
# The worst day of each carrier: a mean for each day, then the rank of the day among the carrier's days.

# %%
from pyspark.sql import Window

days = flights.groupBy("carrier", "month", "day").agg(
    F.count("*").alias("flights"),
    F.round(F.avg("dep_delay"), 1).alias("mean_delay"),
)
worst_first = Window.partitionBy("carrier").orderBy(F.desc("mean_delay"))
ranked = days.where("flights >= 20").withColumn("rank", F.rank().over(worst_first))
ranked.where("rank = 1").orderBy(F.desc("mean_delay")).limit(5).toPandas()

# %% [markdown]
# To compute it, the rows of each carrier must come to one place: a *shuffle*, the expensive part of such a question. The plan shows each as an `Exchange`. There are two here, one for `groupBy` and one for the window:

# %%
ranked.explain()

# %% [markdown]
# ### Exercise 10.2
#
# Does a late plane stay late? For that each flight must know how the plane's flight before it left. Make a frame of all `flights` with one more column, `previous`: the `dep_delay` of the same plane's previous flight, in the order of `month`, `day`, `dep_time`. A plane's first flight has none, so it is null there. Your answer is the frame.

# %% tags=["exercise"]
# solution: F.lag("dep_delay").over(window) is the value of the row before; the window is partitioned by "tailnum".
by_plane = Window.partitionBy("tailnum").orderBy("month", "day", "dep_time")
answer = flights.withColumn("previous", F.lag("dep_delay").over(by_plane))
# end
check("10.2", answer)

# %%
turns = answer
late = F.when(F.col("previous") > 15, "late").otherwise("on time")
turns = turns.where("previous IS NOT NULL").withColumn("after", late)
turns.groupBy("after").agg(F.count("*"), F.avg("dep_delay")).toPandas()

# %% [markdown]
# After a flight that left more than a quarter of an hour late, the next one of the same plane is twice as late as others, though it may be hours later.
#
# ## Publish the answer
#
# An answer on a screen is forgotten; an answer that others build on belongs in a table. `lab.publish(frame, table)` takes a frame of Spark (or pandas, Polars, Arrow, DuckDB, Dask). Spark computes it and writes it to files. From these it becomes one file in the lake, with a URI such as `frame://default/lateness/3f….parquet`, and a request on the queue: from there on it is a file like any other. It is ingested exactly once, it has a run, and it can be deleted by its URI or undone by its run.
#
# ### Exercise 10.3
#
# Is it the same for all makers? Join `turns` with `planes`. Make a frame with the columns `manufacturer`, `after` (`"late"` or `"on time"`), `flights` (how many) and `mean_delay` (the mean of `dep_delay`, not rounded). Publish it as the table `lateness`, and wait. Your answer is the run.

# %% tags=["exercise"]
# solution: turns.join(planes, "tailnum").groupBy("manufacturer", "after").agg(…), then lab.publish(frame, "lateness").watch().
lateness = (
    turns.join(planes, "tailnum")
    .groupBy("manufacturer", "after")
    .agg(F.count("*").alias("flights"), F.avg("dep_delay").alias("mean_delay"))
    .orderBy("manufacturer", "after")
)
answer = lab.publish(lateness, "lateness").watch()
# end
check("10.3", answer)

# %% [markdown]
# Now it is a table, and needs no Spark to be read:

# %%
lab.table("lateness")

# %%
rows = lab.table("lateness").pandas()
rows = rows[rows["_source"] == answer.result().outcomes[0].uri]
largest = rows.sort_values("flights", ascending=False).head(8)
largest.pivot(index="manufacturer", columns="after", values="mean_delay").round(1)

# %% [markdown]
# Publish the same rows again, and the run is *unchanged*: the content of a frame is its name. That is also why the solution sorts the rows. Spark gives them in whatever order its tasks end, and another order would be another file. Another content would *add* its rows; an answer that is to *replace* the one of yesterday has a name, and a pipeline that says so: `lab.publish(df, "daily", name="today", pipeline="daily")`.
#
# ## Was Spark needed?
#
# For 80,000 rows, no. pandas or DuckDB answer both questions in less time than Spark needs to start. Spark is worth its weight when the rows do not fit into one machine, or when a cluster is there anyway and people know its functions. The frame is the same then: with `SPARK_REMOTE=sc://HOST` in the environment, `lab.spark` opens the table on that server, which must reach the lake under the same address, such as `s3://…`. Measure, as in [notebook 07](07_how_fast_how_far.ipynb).
#
# ## What a production system does differently
#
# Nobody publishes from a notebook by hand each morning. The notebook is run as a job (`ingestlab notebook`, or by a schedule), its frame has a name and a pipeline with a contract, so that a wrong join fails the run in place of the report. Big tables are partitioned by what is joined or filtered most. And someone looks at the plan of the slowest question, and counts its `Exchange`s.
#
# ## Further reading
#
# - [Spark SQL: window functions](https://spark.apache.org/docs/latest/sql-ref-syntax-qry-select-window.html) and [joins](https://spark.apache.org/docs/latest/sql-ref-syntax-qry-select-join.html)
# - Michael Armbrust et al., *Spark SQL: Relational Data Processing in Spark*, SIGMOD 2015
# - The guide [Work in a notebook](../docs/how-to/notebook.md)
#
# Next: [an API as a source](11_an_api_as_a_source.ipynb).
