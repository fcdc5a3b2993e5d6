"""Airbyte's connectors as sources of records, by the Airbyte protocol itself."""
