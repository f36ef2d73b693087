"""Csv: comma-separated values. `format` declares it, `rows` finds its rows, `table` makes records."""

from coordinator.formats.csv.format import BATCH_BYTES as BATCH_BYTES
from coordinator.formats.csv.format import Csv as Csv
