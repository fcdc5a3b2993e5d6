"""What people use in JupyterLab: a Lab to work with, and runs and tables that show themselves."""

from ingestlab.notebook.lab import Lab
from ingestlab.notebook.run import LabRun, _file_row
from ingestlab.notebook.tables import LabTable

__all__ = ["Lab", "LabRun", "LabTable", "_file_row"]
