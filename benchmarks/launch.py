"""Runs a command and reports what it took, as JSON on stdout: `python -I -S launch.py COMMAND...`.

It is a program of its own because a process begins with the peak memory of the one that started
it: this one is small.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run the command to its end; ends with its exit code."""
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    taken = {
        "wall_seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "largest_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    sys.stdout.write(json.dumps(taken))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
