"""Helpers of the tests: servers, workers, lakes and files."""
