"""Sample data: alarms, web logs and web pages made to measure; flights, digits and documents that are real."""

from ingestlab.datasets.alarms import AlarmSet, alarm_files
from ingestlab.datasets.digits import DigitSet, digit_files
from ingestlab.datasets.documents import QUESTIONS, DocumentSet, document_files
from ingestlab.datasets.flights import FlightSet, flight_months
from ingestlab.datasets.pages import PageSet, page_files
from ingestlab.datasets.samples import ensure_samples
from ingestlab.datasets.weblogs import WebLogSet, weblog_files

__all__ = [
    "QUESTIONS",
    "AlarmSet",
    "DigitSet",
    "DocumentSet",
    "FlightSet",
    "PageSet",
    "WebLogSet",
    "alarm_files",
    "digit_files",
    "document_files",
    "ensure_samples",
    "flight_months",
    "page_files",
    "weblog_files",
]
