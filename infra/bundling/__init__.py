"""Bundling: the code of a job's functions, the same every time, without Docker."""

from infra.bundling.bundler import Bundle as Bundle, Bundler as Bundler
from infra.bundling.contents import (
    BundleTooLarge as BundleTooLarge,
    check_size as check_size,
    job_module as job_module,
)
from infra.bundling.dependencies import PLATFORM as PLATFORM, PYTHON as PYTHON
