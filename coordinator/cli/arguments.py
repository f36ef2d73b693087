"""What a person types, understood: a run's folder or `s3://` address, an output, a size."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from coordinator.errors import InputInvalid
from coordinator.keys import JOB_NAME, PUBLISHED, RUN_ID, RUNS, RunKeys
from coordinator.store.file.store import FileStore
from coordinator.store.ports import Store

S3 = "s3://"
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*$", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def locate(run_dir: str, *, published: bool = False) -> tuple[Store, RunKeys]:
    """The store and the keys of a run.

    Args:
        published: the folder of what proves the run, below `published/`, will do as well.

    Raises:
        InputInvalid: the folder or address is not a run's.
    """
    steps = (
        run_dir.rstrip("/").split("/")
        if run_dir.startswith(S3)
        else list(Path(run_dir).absolute().parts)
    )
    refusal = InputInvalid(
        f"{run_dir} is no run: give OUTPUT/JOB/runs/RUN_ID, the folder that holds run.json"
        f"{', or OUTPUT/JOB/published/RUN_ID' if published else ''}."
    )
    if len(steps) < 4 or steps[-2] not in ((RUNS, PUBLISHED) if published else (RUNS,)):
        raise refusal
    if not JOB_NAME.match(steps[-3]) or not RUN_ID.match(steps[-1]):
        raise refusal
    keys = RunKeys(steps[-3], steps[-1])
    if run_dir.startswith(S3):
        store = open_store("/".join(steps[:-3]))
    else:
        store = open_store(str(Path(*steps[:-3])))
    if not (store.exists(keys.run) or (published and store.exists(keys.manifest))):
        raise refusal
    return store, keys


def open_store(output: str) -> Store:
    """The store in a folder, or in a bucket.

    Raises:
        InputInvalid: the address names no bucket, or the packages for AWS are not installed.
    """
    if not output.startswith(S3):
        return FileStore(Path(output))
    bucket, _, prefix = output.removeprefix(S3).partition("/")
    if not bucket:
        raise InputInvalid(f"{output} names no bucket.")
    try:
        from coordinator.store.s3.store import S3Store, make_client
    except ImportError as error:
        raise InputInvalid("Reading S3 needs boto3: pip install 'fanfold[aws]'.") from error
    return S3Store(bucket, make_client(), prefix)


def parse_size(text: str) -> int:
    """Bytes of a size such as `64MiB` (powers of 1024), `500k` or `1.5GB` (powers of 1000).

    Raises:
        InputInvalid: it is no size, or less than a byte.
    """
    found = _SIZE.match(text)
    size = 0
    if found:
        number, prefix, binary = found.groups()
        size = int(Fraction(number) * (1024 if binary else 1000) ** _POWERS[prefix.lower()])
    if size < 1:
        raise InputInvalid(
            f"{text!r} is no size: write a number of bytes, or one like 64MiB, 500k, 1.5GB."
        )
    return size
