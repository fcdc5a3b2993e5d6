# %% [markdown]
# # Your own pipeline
#
# **You will learn** to take a file that nobody has described, and make a published table of it that you would sign: read, look, doubt, write the contract, publish, summarise.
#
# ![From a raw file to a proposal, to a contract that you believe in, to a published table, to an aggregate](images/08_steps.svg)

# %%
from ingestlab import Lab
from ingestlab.teaching import check, unsolved

lab = Lab()
lab

# %% [markdown]
# ## 1. The file
#
# The weather at New York's three airports, hour by hour, for the year 2013. It is real, as the weather service published it.

# %%
import pandas as pd

uri = next(uri for uri in lab.samples("references") if uri.endswith("weather.csv"))
raw = pd.read_csv(uri)
raw.head()

# %%
raw.describe().T.round(1)

# %% [markdown]
# Read this table slowly. The largest value of each column: is it possible? What does it mean that `wind_gust` has only 5,337 values, and `pressure` 23,386?
#
# ## 2. A proposal
#
# ingestlab can look at a file and propose a pipeline. In a terminal: `ingestlab new my_weather --from URI`.

# %%
file = lab.new("my_weather", uri, force=True)
print(file, file.read_text(), sep="\n\n")

# %%
lab.check("my_weather", uri).tally

# %% [markdown]
# It takes every row. That was its promise: the contract is made from this very file, so it believes whatever the file says. Now it is your turn to know better. It is careful, too: `pressure` is proposed as text, since one of its values is written `1e3`, and a code such as `12e5` would be ruined as a number. Here it is a number.
#
# ## 3. Doubt
#
# ### Exercise 08.1
#
# The fastest wind was 1,048 miles an hour, faster than sound. (It really is in the data, and nobody knows why.) Open the pipeline's file in the editor, and correct the contract: wind is below 150 miles an hour, humidity is 0 to 100 per cent, the hour is 0 to 23. Make `pressure` a `float64` in `columns`, and nullable in the contract. Save it, and try it. Your answer is what `lab.check` gives.

# %% tags=["exercise"]
# solution: Change the three in_range(...) and pressure in pipelines/my_weather.py, then answer = lab.check("my_weather", uri).
import re

text = file.read_text()
limits = {"wind_speed": "0, 150", "humid": "0, 100", "hour": "0, 23"}
for column, limit in limits.items():
    text = re.sub(rf'("{column}": .*in_range\()[^)]*', rf"\g<1>{limit}", text)
text = text.replace('"pressure": "string"', '"pressure": "float64"')
nullable = '"pressure": pa.Column(nullable=True)'
text = text.replace('"pressure": pa.Column()', nullable)
file.write_text(text)
answer = lab.check("my_weather", uri)
# end
check("08.1", answer)

# %%
answer.rejects[["row", "rule", "column", "value", "raw"]]

# %% [markdown]
# ## 4. Publish
#
# The proposal makes a folder for each day, which would be more than 360 folders with a tiny file each. Every tool that reads the table would open them all. As a rule of thumb a Parquet file should have 100 MB and more; so a table as small as this one needs no folders at all, or few.
#
# ### Exercise 08.2
#
# Partition the table by `month` instead: change `partition_by`. Then submit the file with `pipeline="my_weather"` and `force=True` (it may have been published by an earlier version of your pipeline), and wait. Your answer is the run.

# %% tags=["exercise"]
# solution: partition_by="month" in the file, then lab.submit(uri, pipeline="my_weather", force=True).watch().
text = file.read_text()
file.write_text(text.replace('partition_by="day_of_data"', 'partition_by="month"'))
answer = lab.submit(uri, pipeline="my_weather", force=True).watch()
# end
check("08.2", answer)

# %%
table = lab.table("my_weather")
print(table)
lab.rejects("my_weather")[["row", "column", "rule", "value"]]

# %% [markdown]
# ## 5. Summarise
#
# ### Exercise 08.3
#
# Declare an aggregate with the name `by_month`: for each `origin` and `month` the number of `hours`, the mean temperature `mean_temp` and the largest `wind_speed` as `worst_wind`. [`pipelines/flights.py`](../pipelines/flights.py) shows how one is written. You need not submit again: rows from before are counted, too. Your answer is `lab.aggregate("my_weather", "by_month")`.

# %% tags=["exercise"]
# solution: Import Aggregate from ingestlab, add aggregates={"by_month": Aggregate(by=[…], measures={…})} to Pipeline(…).
text = file.read_text().replace("import Csv,", "import Aggregate, Csv,")
last = 'partition_by="month",\n'
measures = [
    '"hours": "count"',
    '"mean_temp": ("temp", "mean")',
    '"worst_wind": ("wind_speed", "max")',
]
by_month = 'Aggregate(by=["origin", "month"], measures={%s})' % ", ".join(measures)
more = f'    aggregates={{"by_month": {by_month}}},\n)'
file.write_text(text.replace(f"{last})", last + more))
answer = lab.aggregate("my_weather", "by_month")
# end
check("08.3", answer)

# %%
means = answer.pivot(index="month", columns="origin", values="mean_temp")
means.astype(float).round(1)

# %% [markdown]
# ## 6. Use it
#
# The table is plain Parquet, so everybody can use it with what they like. SQL by DuckDB, for one (if it is missing: `pip install 'ingestlab[duckdb]'` in a terminal):

# %%
weather = table.duckdb()
worst = "SELECT origin, month, max(wind_speed) AS wind FROM weather GROUP BY ALL"
weather.query("weather", f"{worst} ORDER BY wind DESC LIMIT 3").df()

# %% [markdown]
# You have made a table that you would sign: you know what is in it, what is not, and why.
#
# ## What a production system does differently
#
# The pipeline is in version control, and somebody else reads it before it runs. It has tests: a small file with one row for each rule. It has an owner, whose name is written down. The first week, somebody looks at the rejects each day; later a limit does (`max_reject_ratio`). And when the publisher adds a column, `schema_drift` has decided beforehand what becomes of it.
#
# ## Further reading
#
# - [`pipelines/`](../pipelines/flights_weather.py): the complete ones, this one with tables to look things up in
# - Hadley Wickham, [*Tidy Data*](https://www.jstatsoft.org/article/view/v059i10), Journal of Statistical Software 2014
# - Nithya Sambasivan et al., *"Everyone wants to do the model work, not the data work"*, CHI 2021
# - [DuckDB: reading Parquet](https://duckdb.org/docs/stable/data/parquet/overview)
#
# Next: [files that announce themselves](09_files_that_announce_themselves.ipynb).
