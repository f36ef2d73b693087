"""What a job imports is in its bundle, or said to be missing while it is synthesised."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import JobInvalid
from infra.bundling.imports import check_imports
from tests.infra.conftest import written

BUNDLE = {
    name: Path(name) for name in ("coordinator/job.py", "PIL/Image.py", "six.py", "_c.abi3.so")
}
BESIDE = {
    "rates.py": "import six\n",
    "geo/__init__.py": "",
    "geo/towns.py": "from . import codes\nfrom .codes import CODE\n",
    "geo/codes.py": "import json.decoder\n",
    "geo/unused.py": "import nowhere\n",
    "geo/deep/lake.py": "from ..codes import CODE\n",
    "names/of/places.py": "",
    "other.py": "import nowhere\n",
}


def check(folder: Path, files: dict[str, str]) -> None:
    check_imports(written(folder, {**BESIDE, **files}) / "words.py", BUNDLE)


@pytest.mark.parametrize(
    "source",
    [
        "import rates, geo.codes, PIL.Image, json, os.path, _c",
        "from coordinator import Job\nfrom names.of import places\nimport names.of.places",
        "from geo import towns, NAME\nimport geo.deep.lake",
        "def words(line):\n    import rates",
    ],
)
def test_what_lies_beside_the_job_or_is_required_is_found(tmp_path: Path, source: str) -> None:
    check(tmp_path, {"words.py": source})


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import ujson\nexcept ImportError:\n    import json as ujson",
        "try:\n    import tomllib\nexcept ModuleNotFoundError:\n    import tomli as tomllib",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import ujson",
        "import typing\nif typing.TYPE_CHECKING:\n    from mypy_boto3_s3 import S3Client",
        "import sys\nif sys.version_info < (3, 12):\n    import tomli",
        "if __name__ == '__main__':\n    import pytest",
    ],
)
def test_an_import_that_may_fail_is_left_to_the_job(tmp_path: Path, source: str) -> None:
    check(tmp_path, {"words.py": source})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"words.py": "import os\nimport numpy"}, "words.py, line 2: numpy is imported"),
        ({"words.py": "def words(line):\n    from infra import app"}, "words.py, line 2: infra is"),
        ({"words.py": "import jobs.rates"}, "words.py, line 1: jobs.rates is imported"),
        ({"words.py": "import geo.seas"}, "words.py, line 1: geo.seas is imported"),
        ({"words.py": "import rates.more"}, "words.py, line 1: rates.more is imported"),
        ({"words.py": "import rates", "rates.py": "import pandas.io"}, "rates.py, line 1: pandas.io"),
        ({"words.py": "from geo import a", "geo/a.py": "from .b import c"}, "geo/a.py, line 1: geo.b"),
        ({"words.py": "from geo import unused"}, "geo/unused.py, line 1: nowhere is imported"),
        ({"words.py": "def f():\n    from .rates import x"}, "words.py, line 2: .rates is imported"),
        ({"words.py": "import cgi"}, "would not be in the bundle: the functions' Python has it no more"),
        (
            {"words.py": "try:\n    import ujson\nexcept ImportError:\n    import simplejson"},
            "words.py, line 4: simplejson is imported",
        ),
        (
            {"words.py": "try:\n    f()\nexcept ValueError:\n    import numpy"},
            "words.py, line 4: numpy is imported",
        ),
        (
            {"words.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import a"},
            "words.py, line 5: a is imported",
        ),
    ],
)  # fmt: skip
def test_what_the_bundle_would_lack_is_named(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(JobInvalid) as caught:
        check(tmp_path, files)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_module_that_the_bundle_would_hide_is_refused(tmp_path: Path) -> None:
    """On this machine, where its namesake need not be installed, the job takes its own."""
    with pytest.raises(JobInvalid, match=r"words\.py, line 1: six lies beside the job and is also"):
        check(tmp_path, {"words.py": "import six", "six.py": ""})
    check(tmp_path, {"words.py": "import queue", "queue.py": "import nowhere"})


@pytest.mark.parametrize("name", ["fast.abi3.so", "geo/fast.so", "fast.pyc"])
def test_what_is_compiled_for_this_machine_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobInvalid, match="is compiled for this machine's Python"):
        check(tmp_path, {"words.py": "import fast, geo", name: ""})
