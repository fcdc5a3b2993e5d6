# %% [markdown]
# # Aggregate
#
# **You will learn** why some measures can be computed in pieces and others cannot, how an aggregate stays up to date while rows come in, and how to check it with `dask.dataframe`.

# %%
from ingestlab import Lab
from ingestlab.teaching import check, unsolved

lab = Lab()
lab

# %% [markdown]
# ## The data
#
# All flights that left New York in January, February and March 2013, one file a month: 80,789 of them, real ones.

# %%
run = lab.submit(lab.samples("flights")[:3]).watch()
run.files[["file", "status", "rows", "published", "rejected"]]

# %% [markdown]
# The rejected flights never took off: they were cancelled, and the contract of [`pipelines/flights.py`](../pipelines/flights.py) wants a departure time.
#
# The same file declares an *aggregate*, `by_carrier`: a few measures for each carrier, airport and month. It is there without any further work:

# %%
by_carrier = lab.aggregate("flights", "by_carrier")
by_carrier.head()

# %% [markdown]
# ## The mean of means is wrong
#
# The rows lie in several parts, and we want to read none of them twice, let alone all of them at the same place. Can we take the mean delay of each part, and then the mean of these?

# %%
delays = lab.table("flights").dask()["dep_delay"].astype("float64")
parts = [delays.get_partition(i) for i in range(delays.npartitions)]
means = [part.mean().compute() for part in parts]

print("mean of the means of the parts", round(sum(means) / len(means), 3))
print("mean of the rows              ", round(delays.mean().compute(), 3))

# %% [markdown]
# The parts have different numbers of rows, so it is wrong. What does work is a *partial state*: for a mean, the number of rows and their sum. States of two parts add up to the state of both, and only at the end is one divided by the other.
#
# ![Each task makes a small state of its rows; states are merged in any order; the measure is finished when it is read](images/04_states.svg)

# %%
def state(part):
    """What is kept of a partition: rows and sum for each carrier."""
    delays = part.astype({"dep_delay": "float64"}).groupby("carrier")["dep_delay"]
    return delays.agg(["count", "sum"])


rows = lab.table("flights").dask()[["carrier", "dep_delay"]]
states = rows.map_partitions(state).compute()
merged = states.groupby(level=0).sum()
by_hand = merged["sum"] / merged["count"]
by_hand.round(2)

# %% [markdown]
# `states` is all that ever travels between the machines, and it is small, however many rows there are. This is what ingestlab keeps beside each part; `lab.aggregate` merges it.
#
# ## The same answer
#
# Trust is good. Dask reads all rows and computes the same from scratch:

# %%
delays = rows.astype({"dep_delay": "float64"}).groupby("carrier")["dep_delay"]
from_rows = delays.mean().compute()

minutes = by_carrier["mean_delay"] * by_carrier["flights"]
weighted = minutes.groupby(by_carrier["carrier"]).sum()
from_aggregate = weighted / by_carrier.groupby("carrier")["flights"].sum()

for carrier in by_hand.index:
    assert abs(from_rows[carrier] - by_hand[carrier]) < 1e-9
    assert abs(from_rows[carrier] - from_aggregate[carrier]) < 1e-9
len(by_hand)

# %% [markdown]
# ### Exercise 04.1
#
# Which carrier flew the most flights, and how many? Use the aggregate, not the rows. Your answer is a pair such as `("AA", 1234)`.

# %% tags=["exercise"]
# solution: Group by_carrier by "carrier", sum its "flights"; idxmax() gives the name of the largest, max() the number.
flights = by_carrier.groupby("carrier")["flights"].sum()
answer = (flights.idxmax(), int(flights.max()))
# end
check("04.1", answer)

# %% [markdown]
# ### Exercise 04.2
#
# The standard deviation can be done in pieces as well. Write two functions: `state(values)` makes a small state of a numpy array (not the array itself!), and `finish(states)` takes a list of states and gives the standard deviation of all values together, as `numpy.std(all_values)` would. Your answer is the pair `(state, finish)`.

# %% tags=["exercise"]
# solution: Keep the count, the sum and the sum of squares; the variance is the mean of squares less the square of the mean.
def my_state(values):
    return len(values), values.sum(), (values**2).sum()


def my_finish(states):
    count, total, squares = (sum(column) for column in zip(*states))
    return (squares / count - (total / count) ** 2) ** 0.5


answer = (my_state, my_finish)
# end
check("04.2", answer)

# %% [markdown]
# For numbers with a large mean and a small spread this loses digits: both terms are large and nearly the same. Welford's method keeps the mean and the sum of squared *differences* instead, and that is what ingestlab does.
#
# ### Exercise 04.3
#
# A median cannot be done so. Show it: find two lists of numbers for which the median of both together is not the mean of the two medians, *although the lists have the same length*. Your answer is the pair of lists.

# %% tags=["exercise"]
# solution: Three numbers each are enough; let one list be far from symmetric.
answer = ([1, 2, 3], [1, 10, 11])
# end
check("04.3", answer)

# %% [markdown]
# That is why exact medians of big data are expensive. The aggregate `delay_of_9_in_10` is a *quantile sketch*: a small state that can be merged, and gives the answer with a known small error. `planes`, the number of different aeroplanes, is a sketch as well.
#
# ## What a production system does differently
#
# It is the same idea everywhere: partial aggregates in Spark and SQL engines, "materialized views" in databases, "rollups" in systems such as Apache Druid. Somebody decides which groups are kept, since each further key multiplies their number. `ingestlab materialize` writes an aggregate as one Parquet file, for a tool that draws charts.
#
# ## Further reading
#
# - [Dask: groupby](https://docs.dask.org/en/stable/dataframe-groupby.html)
# - [Apache DataSketches](https://datasketches.apache.org/), the library of the sketches
# - Jim Gray et al., *Data Cube: A Relational Aggregation Operator*, 1997: which measures can be merged, and which cannot
#
# Next: [exactly once](05_exactly_once.ipynb).
