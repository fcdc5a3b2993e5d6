"""The Ingest page of the Dask dashboard: what waits, what runs, how fast, and what went wrong.

A preload module of the scheduler: the embedded stack loads it, and a scheduler of your own does with
``dask scheduler --preload ingestlab.stack.dashboard``. It reads Redis, whose address it takes from the settings
(``REDIS_URL``), and only while somebody looks at the page.
"""

from ingestlab.stack.dashboard.preload import dask_setup, dask_teardown, register

__all__ = ["dask_setup", "dask_teardown"]

register()  # Dask reads its list of pages after it has imported the preloads, and before it calls them
