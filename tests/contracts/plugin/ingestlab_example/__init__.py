"""Plug-ins for ingestlab, one file each."""
