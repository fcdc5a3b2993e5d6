"""Sample data: alarms, web logs and web pages made to measure, and the real flights of New York in 2013."""

from ingestlab.datasets.alarms import AlarmSet, alarm_files
from ingestlab.datasets.flights import FlightSet, flight_months
from ingestlab.datasets.pages import PageSet, page_files
from ingestlab.datasets.samples import ensure_samples
from ingestlab.datasets.weblogs import WebLogSet, weblog_files

__all__ = [
    "AlarmSet",
    "FlightSet",
    "PageSet",
    "WebLogSet",
    "alarm_files",
    "ensure_samples",
    "flight_months",
    "page_files",
    "weblog_files",
]
