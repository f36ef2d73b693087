"""Loading: from a module's name or path to its job, and to the program that the job's code is."""

from coordinator.loading.modules import (
    LoadedJob as LoadedJob,
    find_job as find_job,
    job_names as job_names,
    load_job as load_job,
)
