"""The version of ingestlab."""

VERSION = "0.1.0"
