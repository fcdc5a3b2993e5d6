"""Loops over bytes that are compiled once on a machine, and what they are told and answer."""
