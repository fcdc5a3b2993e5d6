# %% [markdown]
# # Files that announce themselves
#
# **You will learn** how files come to the queue when nobody calls `submit`: a folder is *listened to*, a *listing* finds what no event has told, a *clock* repeats it, and a program *announces* by HTTP. And what happens to the rows when a file goes away.

# %%
from ingestlab import Lab
from ingestlab.teaching import alarm_files, check, needs, unsolved
from ingestlab.teaching import start_listener, start_webhook

lab = Lab()
lab

# %%
needs("listen")  # notices files by the events of the operating system

# %% [markdown]
# ## Who says that there is a file?
#
# So far, you did. In real life files come at any hour, and whoever writes them has never heard of a queue. There are two ways to notice them. An **event** comes within seconds, but it can be missed. A **listing** misses nothing, but somebody has to look, and a million files take a while. A good system does both.
#
# ![A folder sends events to a listener, a program calls a webhook, and by the clock a listing is compared with the tables; all three put requests on the queue](images/09_arrival.svg)
#
# We need an inbox, and a pipeline for it. It *replaces* the rows of a file that has changed.

# %%
import tempfile
from pathlib import Path

PIPELINE = '''"""Alarms from an inbox."""

from ingestlab import Csv, Pipeline

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
    write_disposition="replace",
)
'''
(Path(lab.settings.pipelines[0]) / "inbox_alarms.py").write_text(PIPELINE)

# a new folder each time: you may run this notebook twice
inbox = Path(tempfile.mkdtemp(prefix="inbox-")).resolve()

# %% [markdown]
# Two helpers: what the table has of the inbox by now, and a way to wait for something without looking at the clock.

# %%
import time


def arrived():
    """The files of the inbox that are in the table, with their rows."""
    if "inbox_alarms" not in set(lab.tables()["table"]):
        return {}
    sources = lab.table("inbox_alarms").pandas(["_source"])["_source"].astype("string")
    rows = sources[sources.str.startswith(inbox.as_uri())].value_counts().sort_index()
    return {uri.rpartition("/")[2]: int(count) for uri, count in rows.items()}


def wait_until(true, seconds=60):
    """Look again and again until something is true; then show the table."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.3)
    return arrived()


# %% [markdown]
# ## Listen
#
# A listener is a process of its own. In a terminal it is `ingestlab listen FOLDER`; the cell prints the whole command. This one is ours, so that we may kill it later. (The stack itself listens to what the setting `INGESTLAB_LISTEN` names, and starts its listeners again if they die.) The card shows all listeners:

# %%
listener = start_listener(inbox, pipeline="inbox_alarms")
lab

# %% [markdown]
# Now somebody drops four files, and says nothing to anybody:

# %%
files = alarm_files(inbox, files=4, rows=200, start="2018-06-01").files
wait_until(lambda: len(arrived()) == 4)

# %%
lab.runs(3)

# %% [markdown]
# The listener waits until a file was last written two seconds ago: a file that is being written is not read by halves. What is *moved* into the folder is whole already, and taken at once.
#
# ## A file changes, a file goes
#
# The publisher adds lines to the first file. Its rows are replaced, as in [notebook 05](05_exactly_once.ipynb):

# %%
before = arrived()[files[0].name]
last_line = files[0].read_text().splitlines()[-1] + "\n"
with files[0].open("a") as file:
    file.write(last_line * 5)

wait_until(lambda: arrived().get(files[0].name, 0) != before)

# %% [markdown]
# And takes the second one back. Its rows leave the table, and whatever was made of them: rejects, aggregates, vectors. It is a commit like any other, all of it or nothing.

# %%
files[1].unlink()
wait_until(lambda: files[1].name not in arrived())

# %% [markdown]
# ## Nobody listens
#
# Machines are restarted, and networks lose what they carry. Kill the listener. Then a file comes, and another one goes:

# %%
import shutil

listener.kill()
elsewhere = Path(tempfile.mkdtemp(prefix="elsewhere-"))
missed = alarm_files(elsewhere, files=1, rows=100, start="2018-06-02").files[0]
shutil.move(missed, inbox / "alarm-missed.csv")
files[2].unlink()

print("in the folder:", sorted(path.name for path in inbox.iterdir()))
print("in the table: ", sorted(arrived()))

# %% [markdown]
# A new listener would not be told of these two: an event that nobody has heard is gone. What is true can be seen in the folder, though. `lab.sync(folder)` lists it, and compares each file's size and time with what the tables know. It submits what is new or changed, and takes out what has vanished. It opens no file that is as it was.
#
# ### Exercise 09.1
#
# Make the table agree with the inbox, by one sync with the pipeline `inbox_alarms`, and wait for the runs that it starts. Your answer is the report that `lab.sync` gives.

# %% tags=["exercise"]
# solution: lab.sync(inbox, pipeline="inbox_alarms") gives a report; report.runs has ids, and lab.run(id).watch() waits.
answer = lab.sync(inbox, pipeline="inbox_alarms")
for run in answer.runs:
    lab.run(run).watch()
# end
check("09.1", answer)

# %%
print(answer)
arrived()

# %% [markdown]
# That is why a listener lists its folder when it begins, and every hour: events make it fast, the listing makes it right.
#
# ## A listing can lie
#
# A disk that is not mounted looks like an empty folder. Shall all rows go? No: if nothing is there, or less than half of what was known, a sync changes nothing, and says so.

# %%
away = inbox.rename(f"{inbox}-away")
inbox.mkdir()
try:
    lab.sync(inbox, pipeline="inbox_alarms")
except Exception as refusal:
    print(refusal)
finally:
    inbox.rmdir()
    away.rename(inbox)

# %% [markdown]
# ## By the clock
#
# Where there are no events, a clock will do. Schedules are kept in Redis. Each is run by one worker, whichever comes first, and what was missed while no worker was there is made up for once. They are made in a terminal; this function does what you would type there.

# %%
import json
import subprocess
import sys


def command(*words):
    """What a terminal shows of `ingestlab WORDS`."""
    program = [sys.executable, "-m", "ingestlab", *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True)
    return done.stdout or done.stderr


hourly = ["0 * * * *", "sync", inbox, "--pipeline", "inbox_alarms"]
print(command("schedule", "add", *hourly))
print(command("schedule", "list"))

# %% [markdown]
# `0 * * * *` is cron's way to say *at minute 0 of every hour*. Take it away again, since the inbox will be gone:

# %%
for scheduled in json.loads(command("schedule", "list", "--json")):
    if scheduled["schedule"]["folder"] == str(inbox):
        print(command("schedule", "remove", scheduled["id"]))

# %% [markdown]
# ## A program announces
#
# A program on another machine cannot reach Redis, and should not. It calls a small web service, `ingestlab webhook`, and shows a *token*, which says whose files these are.

# %%
door = start_webhook()
door

# %% [markdown]
# With `curl` an announcement looks like this:
#
# ```console
# $ curl -X POST http://127.0.0.1:8070/announce \
#     -H 'Authorization: Bearer TOKEN' -d '{"uri": "s3://bucket/a.csv"}'
# ```
#
# Here is one in Python, by somebody who has guessed the token:

# %%
import requests

logs = lab.samples("weblogs")
guess = {"Authorization": "Bearer let me in"}
reply = requests.post(f"{door.url}/announce", json={"uri": logs[4]}, headers=guess)
reply.status_code, reply.json()

# %% [markdown]
# ### Exercise 09.2
#
# Announce `logs[4]` with the right token, `door.token`. The reply is JSON with the run's id and a `url`. Ask that `url` by `requests.get`, with the same token, until the `state` is `"finished"`. Your answer is what it says then, a dict.

# %% tags=["exercise"]
# solution: headers={"Authorization": f"Bearer {door.token}"}; requests.get(reply.json()["url"], headers=headers).json() in a loop.
headers = {"Authorization": f"Bearer {door.token}"}
body = {"uri": logs[4]}
reply = requests.post(f"{door.url}/announce", json=body, headers=headers)
url = reply.json()["url"]
answer = requests.get(url, headers=headers).json()
while answer["state"] not in ("finished", "failed"):
    time.sleep(0.3)
    answer = requests.get(url, headers=headers).json()
# end
check("09.2", answer)

# %%
door.stop()

# %% [markdown]
# Announce it twice, or let a listener and a program announce the same file: it is ingested once. The content decides, not the announcement. So whoever is not sure whether an announcement got through just makes it again.
#
# ## What a production system does differently
#
# The folder is a bucket, and its events go through a message queue that keeps them until they are handled: S3 to SQS, Google Storage to Pub/Sub. `ingestlab listen sqs://QUEUE` reads these. A message comes *at least once*, often out of order, and sometimes about an object that is gone by then; what cannot be handled goes to a *dead letter queue*, which somebody looks at. The nightly listing stays: Databricks' Auto Loader, which works in this way, has one for the same reason.
#
# ## Further reading
#
# - [Amazon S3: event notifications](https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html)
# - [Databricks: Auto Loader's file detection modes](https://docs.databricks.com/aws/en/ingestion/cloud-object-storage/auto-loader/file-detection-modes)
# - [crontab.guru](https://crontab.guru/) explains the five fields of a schedule
# - The guide [Let files announce themselves](../docs/how-to/arrival.md)
#
# Next: [complex analysis with Spark](10_complex_analysis_with_spark.ipynb).
