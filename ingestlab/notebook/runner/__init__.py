"""Runs notebooks with parameters, here or as jobs on a queue, and keeps each with all outputs beside its run.

The convention is that of papermill: one cell with the tag ``parameters`` holds the defaults, and a cell after it,
tagged ``injected-parameters``, what was given. So papermill runs the same notebooks.
"""

from ingestlab.notebook.runner.local import Executed, execute
from ingestlab.notebook.runner.producer import submit_notebook
from ingestlab.notebook.runner.source import with_parameters

__all__ = ["Executed", "execute", "submit_notebook", "with_parameters"]
