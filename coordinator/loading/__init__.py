"""Loading: from a module's name or path to its job, and to the program that the job's code is."""

from coordinator.loading.modules import LoadedJob as LoadedJob
from coordinator.loading.modules import find_job as find_job
from coordinator.loading.modules import job_names as job_names
from coordinator.loading.modules import load_job as load_job
