"""Sample data: alarms of base stations made to measure, and the real flights of New York in 2013."""

from ingestlab.datasets.alarms import AlarmSet, alarm_files
from ingestlab.datasets.flights import FlightSet, flight_months
from ingestlab.datasets.samples import ensure_samples

__all__ = ["AlarmSet", "FlightSet", "alarm_files", "ensure_samples", "flight_months"]
