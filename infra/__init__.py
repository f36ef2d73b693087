"""Deploys jobs to AWS: a CDK app with one stack per job.

Read in this order: `options` and `checks` (what may be asked), `names`, then `job_stack` and the
modules it is composed of, and `app`, which is what CDK runs.
"""
