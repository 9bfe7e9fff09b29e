"""Child processes that never outlive their parent, however the parent ends, and what a process has used."""

import os
import sys
from collections.abc import Sequence

import psutil

# Runs a command that the kernel kills when its parent ends, even by SIGKILL. `preexec_fn` could do it without another
# program, but is unsafe, and warned about, in a process with threads.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has ended already")
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Give a command that runs another one, and is killed with the thread that starts it.

    Args:
        command: its first word is the path of a program.
    """
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def cpu_s(pid: int) -> float:
    """Give the CPU seconds that a process has used; 0 when it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
