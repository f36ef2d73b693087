"""The job `orders` by hand: a loop over the lines of a file, with the same model and function.

python -m benchmarks.baselines.plain_loop FILE RESULT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.jobs.orders import Order, worth_it


def main() -> None:
    """Validate, map and write, line by line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("result", type=Path)
    asked = parser.parse_args()
    with asked.file.open("rb") as lines, asked.result.open("w") as result:
        for line in lines:
            for order in worth_it(Order.model_validate_json(line)):
                result.write(order.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
