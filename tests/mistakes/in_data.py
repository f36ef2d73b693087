"""Mistakes in coordinator/formats, coordinator/shuffle and what is read ahead for them."""

from __future__ import annotations

from tests.mistakes.making import Mistake

RANGES = "coordinator/formats/ranges.py"
LINES = "coordinator/formats/lines.py"
LINEWISE = "coordinator/formats/linewise.py"
COMPRESSION = "coordinator/formats/compression.py"
ROWS = "coordinator/formats/csv/rows.py"
SCATTER = "coordinator/shuffle/scatter.py"
TABLE = "coordinator/shuffle/table.py"
GATHER = "coordinator/shuffle/gather.py"
PREFETCH = "coordinator/store/prefetch.py"

MISTAKES = (
    Mistake(
        "a record that begins where a range does is passed over",
        RANGES,
        "return max(start - 1, 0)",
        "return start",
        (
            "tests/formats/test_ranges.py::test_any_cut_of_any_bytes_gives_the_records_of_the_whole_each_once_and_in_order",
        ),
        shared=True,
    ),
    Mistake(
        "a record is owned by the range in which it ends",
        RANGES,
        'end := fresh.find(b"\\n", owned - 1) + 1',
        'end := fresh.find(b"\\n", owned) + 1',
        ("tests/formats/test_ranges.py",),
    ),
    Mistake(
        "a record that is too long is held",
        RANGES,
        "if length > record_bytes:",
        "if length > record_bytes * 1000:",
        ("tests/formats/test_ranges.py",),
    ),
    Mistake(
        "a byte order mark is part of the first record",
        LINEWISE,
        "text = (data[len(BOM) :] if first and data.startswith(BOM) else data).decode(encoding)",
        "text = data.decode(encoding)",
        ("tests/formats/test_reading.py::test_lines_are_the_same_for_any_cut_as_read_in_one_go",),
    ),
    Mistake(
        "a line that can't be decoded takes its block with it",
        LINES,
        "batch.refused.append((unit, undecodable(error)))",
        "batch.refused.append((unit, undecodable(error)))\n                return",
        ("tests/formats/test_reading.py",),
    ),
    Mistake(
        "an archive that breaks off is read as far as it goes",
        COMPRESSION,
        '                raise NotDecompressible("it breaks off")\n',
        '                return b""\n',
        ("tests/formats/test_compression.py",),
    ),
    Mistake(
        "what follows the first stream of an archive is left out",
        COMPRESSION,
        "                if self._held:\n                    self._member = self._begin()\n",
        "                if self._held:\n                    return None\n",
        ("tests/formats/test_compression.py",),
    ),
    Mistake(
        "a stray quote takes all that follows it for one record",
        ROWS,
        "                yield from self._lines_to_the_end(row)\n                return\n",
        "                yield self._row_start, self._position, str(row)\n                return\n",
        ("tests/formats/test_rows.py",),
    ),
    Mistake(
        "a shard holds all of its pairs",
        SCATTER,
        "        if self._table.outweighs(self.buffer_bytes):\n            self._empty_table()\n",
        "",
        ("tests/shuffle/test_bounds.py::test_what_a_shard_holds_is_spilled_when_it_is_too_much",),
    ),
    Mistake(
        "what waits is counted and not weighed",
        SCATTER,
        "if self._checked > WAITING_PAIRS or weight > WAITING_BYTES:",
        "if self._checked > WAITING_PAIRS:",
        (
            "tests/shuffle/test_bounds.py::test_what_256_records_yield_is_not_held_at_once_when_it_is_wide",
        ),
    ),
    Mistake(
        "values that wait weigh nothing",
        SCATTER,
        "self._weight += total + PLACE_BYTES * len(checked)",
        "self._weight += PLACE_BYTES * len(checked)",
        (
            "tests/shuffle/test_bounds.py::test_what_256_records_yield_is_not_held_at_once_when_it_is_wide",
        ),
    ),
    Mistake(
        "keys that wait weigh nothing",
        SCATTER,
        "weight = self._weight + self._key_weight",
        "weight = self._weight",
        (
            "tests/shuffle/test_bounds.py::test_what_256_records_yield_is_not_held_at_once_when_it_is_wide",
        ),
    ),
    Mistake(
        "what was spilled comes after what was not",
        SCATTER,
        "        for edges in self._spilled:\n"
        "            yield from self._spill.pieces((edges[partition], edges[partition + 1]))\n"
        "        yield from self._lines(items)\n",
        "        yield from self._lines(items)\n"
        "        for edges in self._spilled:\n"
        "            yield from self._spill.pieces((edges[partition], edges[partition + 1]))\n",
        ("tests/shuffle/test_order.py::test_what_was_spilled_comes_before_what_was_not",),
    ),
    Mistake(
        "a partition holds all that it gathers",
        GATHER,
        "            if table.outweighs(self.buffer_bytes):\n                self._spill()\n",
        "",
        (
            "tests/shuffle/test_order.py::test_older_runs_come_before_newer_ones_though_they_were_merged",
        ),
    ),
    Mistake(
        "values come newest run first",
        GATHER,
        "for level in reversed(levels)",
        "for level in levels",
        (
            "tests/shuffle/test_order.py::test_older_runs_come_before_newer_ones_though_they_were_merged",
        ),
    ),
    Mistake(
        "any number of runs is merged at once",
        GATHER,
        "return max(2, min(FAN_IN, room // max(self._heaviest, LINE_BYTES)))",
        "return FAN_IN * 1000",
        (
            "tests/shuffle/test_bounds.py::test_large_values_are_merged_a_few_at_a_time",
            "tests/shuffle/test_bounds.py::test_a_hot_key_takes_no_more_memory_or_descriptors_however_many_values_it_has",
        ),
    ),
    Mistake(
        "values of a table weigh nothing",
        TABLE,
        "        self.weight += sum(weights)\n        self.heaviest = max(self.heaviest, max(weights, default=0))\n",
        "        self.heaviest = max(self.heaviest, max(weights, default=0))\n",
        (
            "tests/shuffle/test_bounds.py::test_a_hot_key_takes_no_more_memory_or_descriptors_however_many_values_it_has",
            "tests/shuffle/test_bounds.py::test_integers_that_grow_by_folding_are_weighed",
        ),
    ),
    Mistake(
        "keys of a table weigh nothing",
        TABLE,
        "            self.weight += self._place * fresh + weight\n",
        "            self.weight += 0\n",
        (
            "tests/shuffle/test_order.py::test_keys_weigh_what_they_are_though_their_values_weigh_nothing",
        ),
    ),
    Mistake(
        "a fold takes its values the wrong way round",
        TABLE,
        "value = combine(before, value)",
        "value = combine(value, before)",
        ("tests/shuffle/test_shuffle.py::test_values_are_folded_in_the_order_they_were_yielded",),
    ),
    Mistake(
        "a long integer that is summed up is written in decimal",
        TABLE,
        "                self.values.tagged = True  # who",
        "                pass  # who",
        ("tests/shuffle/test_table.py::test_what_map_yields_and_plain_json_cannot_tell_is_told",),
    ),
    Mistake(
        "of what a record yields the last pair alone is looked at when it is taken",
        SCATTER,
        "is_light(waiting[start:] if start else waiting)",
        "is_light(waiting[-1:] if start != len(waiting) else [])",
        (
            "tests/shuffle/test_scatter.py::test_nothing_that_the_job_does_later_to_what_it_yielded_shows",
            "tests/shuffle/test_scatter.py::test_what_is_large_is_weighed_wherever_it_stands_in_its_record",
        ),
    ),
    Mistake(
        "what is read ahead is bounded in number alone",
        PREFETCH,
        " and held < ahead_bytes:",
        ":",
        (
            "tests/contracts/test_prefetch.py::test_what_is_read_ahead_is_bounded_in_number_and_in_bytes",
        ),
    ),
    Mistake(
        "what was taken of what is read ahead still counts",
        PREFETCH,
        "            held -= ahead[0].weight\n",
        "",
        (
            "tests/contracts/test_prefetch.py::test_what_is_read_ahead_is_bounded_in_number_and_in_bytes",
        ),
    ),
    Mistake(
        "a list that breaks off is taken for one that ends",
        PREFETCH,
        "        raise broken\n",
        "        return\n",
        ("tests/contracts/test_prefetch.py::test_what_breaks_off_is_given_as_far_as_it_goes",),
    ),
    Mistake(
        "a body of any size is read ahead whole",
        PREFETCH,
        "small = ahead_bytes // 2 if lanes > 1 else -1",
        "small = 2**63 if lanes > 1 else -1",
        (
            "tests/contracts/test_prefetch.py::test_a_large_body_comes_piece_by_piece_in_its_turn_and_in_the_callers_thread",
        ),
    ),
    Mistake(
        "segments are gathered one after another",
        "coordinator/state/files.py",
        "        lanes,\n        parts,\n        lambda part: segment_lines(",
        "        1,\n        parts,\n        lambda part: segment_lines(",
        ("tests/steps/test_latency.py::test_475_segments_are_gathered_in_a_second_or_two",),
    ),
    Mistake(
        "a file that has grown is read to its end before it is looked at",
        "coordinator/state/files.py",
        "while size <= file.size and (piece := stream.read(COPY_BYTES)):",
        "while piece := stream.read(COPY_BYTES):",
        ("tests/state/test_files_ahead.py::test_a_part_that_has_grown_is_not_held_whole",),
    ),
)
