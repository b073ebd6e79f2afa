"""What this process has used of the machine."""

import os
import resource
import sys
import time

# Linux counts kilobytes, macOS bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def memory_high_water() -> int:
    """Bytes of memory that this process has held at most, files it maps among them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def workers_high_water() -> int:
    """Bytes that the largest of the processes it started, and that have ended, held at most."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _UNIT


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_seconds() -> float:
    """Seconds of one core that this process has computed, over all its threads."""
    return time.process_time()


def time_left(seconds: float) -> str:
    """A stretch of time in words: `40 s`, `12 min`, `3 h 20 min`, `2 d 5 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min"
    days, hours = divmod(hours, 24)
    return f"{hours} h {minutes} min" if days == 0 else f"{days} d {hours} h"
