"""The recipe of a job: download, plan, process, commit."""
