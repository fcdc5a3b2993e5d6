# %% [markdown]
# # An API as a source
#
# **You will learn** to ingest what is in no file: records that a web API gives page by page, to a program that shows a token. And to ask it, each time, only for what is new, with no row lost and none twice.

# %%
from ingestlab import Lab
from ingestlab.teaching import check, start_worker, unsolved

lab = Lab()
lab

# %% [markdown]
# ## The API
#
# The stack serves one: the weather at New York's three airports, hour by hour. It plays the year 2013. The parameter `today` says up to which day there are observations, so that you may let time pass.

# %%
import requests

api = f"{lab.settings.samples}/api/weather"
requests.get(api).json()

# %% [markdown]
# It wants a *token*: a secret that says who asks. (This one is no secret, as it stands here. A real one is never written into a notebook.)

# %%
headers = {"Authorization": "Bearer sunshine"}
january = {"origin": "JFK", "today": "2013-01-31"}

reply = requests.get(api, headers=headers, params={**january, "size": 2}).json()
reply

# %% [markdown]
# Two records, and the word that there are more: an API gives its answer in *pages*. `page` and `size` ask for one of them, `since` leaves out what is older, `origin` is the airport.
#
# ![The API gives pages; each becomes a raw file; one commit writes the rows and how far they go, and the next pull begins there](images/11_api.svg)
#
# ### Exercise 11.1
#
# By hand first. How cold was the coldest hour of January 2013 at JFK, in degrees Fahrenheit (`temp`)? There are more records than one page may have (`size` goes up to 500). Your answer is the number.

# %% tags=["exercise"]
# solution: Ask with size=500 for page 1, 2, … up to reply["pages"], and take the smallest record["temp"] of all reply["data"].
temperatures, page, pages = [], 1, 1
while page <= pages:
    params = {**january, "size": 500, "page": page}
    reply = requests.get(api, headers=headers, params=params).json()
    temperatures += [record["temp"] for record in reply["data"]]
    page, pages = page + 1, reply["pages"]
answer = min(temperatures)
# end
check("11.1", answer)

# %% [markdown]
# This loop is in thousands of programs, and most of them have the same holes. The network fails on page 7: who begins again there? The last page is empty, or comes twice. A record is inserted while the pages are read. Tomorrow it asks for everything again. And the token is in the code.
#
# ## A pipeline with a source
#
# A pipeline may declare where its records come from. `Rest` says how the API is asked, in its own words: who asks (`auth`), how pages are asked for (`paginator`), where the records are in an answer (`data_selector`), and which field grows (`cursor`).
#
# The pipeline names the *environment variable* of the token, and not the token. So the worker must have it. The stack's workers do not, for they were started before; so here is one of your own, on a queue of its own:

# %%
import os

os.environ["WEATHER_TOKEN"] = "sunshine"
mine = start_worker("api", name="api")

# %% [markdown]
# The pipeline, as a function of the day until which the API has observations:

# %%
from pathlib import Path

PIPELINE = '''"""Hourly weather at JFK, from an API."""

from pyarrow import timestamp

from ingestlab import JsonLines, Pipeline, Rest
from ingestlab.sources.rest import Bearer, Incremental, PageNumber

PIPELINE = Pipeline(
    source=Rest(
        base_url="BASE",
        endpoint="weather",
        auth=Bearer(env="WEATHER_TOKEN"),
        params={"origin": "JFK", "today": "TODAY"},
        paginator=PageNumber(param="page", size=100, size_param="size", total="total"),
        data_selector="data",
        cursor=Incremental(field="at", param="since"),
    ),
    reader=JsonLines(
        columns={
            "origin": "string",
            "at": timestamp("s", "UTC"),
            "temp": "float64",
            "humid": "float64",
            "wind_speed": "float64",
            "precip": "float64",
            "visib": "float64",
        },
    ),
)
'''
file = Path(lab.settings.pipelines[0]) / "my_observations.py"


def write_pipeline(today):
    base = api.removesuffix("/weather")
    file.write_text(PIPELINE.replace("BASE", base).replace("TODAY", today))


write_pipeline("2013-01-31")

# %% [markdown]
# Such a source is submitted under the name of its pipeline: `rest://my_observations`. There is no address and no token in it.
#
# ### Exercise 11.2
#
# Ingest January. Submit `rest://my_observations` on your queue, `queue="api"`, and wait. Your answer is the run.

# %% tags=["exercise"]
# solution: lab.submit("rest://my_observations", queue="api").watch()
answer = lab.submit("rest://my_observations", queue="api").watch()
# end
check("11.2", answer)

# %%
lab.table("my_observations").pandas()[["at", "temp", "wind_speed", "_source"]].tail(3)

# %% [markdown]
# Each page has become a file of the raw zone before anything was made of it. So a worker that dies on page 7 goes on at page 7; and if the contract was wrong, the rows are made again without asking the API again.
#
# ## Only what is new
#
# Time passes: the API has February now, too.
#
# With the rows, the *same commit* has written how far they go: the last value of `at`, the *cursor*. The next pull asks `since` then. If the commit fails, neither rows nor cursor are there; there is no moment in which one is there without the other. The observation of that very hour comes again, since `since` takes it in, and is recognised.
#
# ### Exercise 11.3
#
# Call `write_pipeline` with the last day of February, and submit `rest://my_observations` again on the same queue. Your answer is the run.

# %% tags=["exercise"]
# solution: write_pipeline("2013-02-28"), then the same lab.submit(…).watch() as before: the pipeline is read anew each time.
write_pipeline("2013-02-28")
answer = lab.submit("rest://my_observations", queue="api").watch()
# end
check("11.3", answer)

# %% [markdown]
# And once more, with no day passed. Nothing is new, so nothing is written:

# %%
again = lab.submit("rest://my_observations", queue="api").watch()
again.files[["file", "status", "rows"]]

# %%
rows = lab.table("my_observations").pandas()
len(rows), rows["at"].nunique(), rows["at"].min(), rows["at"].max()

# %%
mine.stop()

# %% [markdown]
# ## What a production system does differently
#
# Its token comes from a vault into the environment of the workers, and is changed each quarter. It asks slowly: an API has a limit of requests (`rate=5`), for all workers together, and an answer `429` says how long to wait. Records that are *changed* come again under their key, so the pipeline merges (`write_disposition="merge"`, `key=…`); records that come late are caught by a `lag`. The history of years is pulled once, in windows (`rest://orders?from=…&to=…`), many at a time. And somebody watches that the last value of the cursor grows.
#
# ## Further reading
#
# - [RFC 6750: bearer tokens](https://www.rfc-editor.org/rfc/rfc6750), and [RFC 6585](https://www.rfc-editor.org/rfc/rfc6585#section-4), where `429` is from
# - Slack Engineering, [Evolving API pagination at Slack](https://slack.engineering/evolving-api-pagination-at-slack/): why offsets lose records
# - The guide [Ingest a REST API](../docs/how-to/rest.md)
#
# That was the course. Take a file of your own now, and drop it somewhere.
