"""A deterministic world in which the real handlers run whole jobs, and in which anything may fail.

Virtual time, one thing at a time, every effect numbered: a schedule of faults can be repeated.
"""
