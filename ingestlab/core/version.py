"""The version of ingestlab."""

VERSION = "0.2.0"
