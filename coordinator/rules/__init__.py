"""Pure decisions: facts in, one answer out; no I/O, no clock."""
