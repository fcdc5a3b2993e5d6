"""Errors, settings, messages, URIs and access policy: what all rooms share."""
