"""Csv: comma-separated values. `format` declares it, `rows` finds its rows, `table` makes records."""

from coordinator.formats.csv.format import BATCH_BYTES as BATCH_BYTES, Csv as Csv
