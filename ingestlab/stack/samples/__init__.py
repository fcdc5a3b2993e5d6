"""Sample data: alarms, web logs and web pages made to measure; flights, digits and documents that are real."""

from ingestlab.stack.samples.alarms import AlarmSet, alarm_files
from ingestlab.stack.samples.digits import DigitSet, digit_files
from ingestlab.stack.samples.documents import QUESTIONS, DocumentSet, document_files
from ingestlab.stack.samples.flights import FlightSet, flight_months
from ingestlab.stack.samples.pages import PageSet, page_files
from ingestlab.stack.samples.samples import ensure_samples
from ingestlab.stack.samples.weblogs import WebLogSet, weblog_files

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
