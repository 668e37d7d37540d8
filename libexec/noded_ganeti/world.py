"""What a forked child makes of itself before it is a function process (DESIGN.md section 6). Runs in the child only."""
import ctypes
import os
import resource
import signal

from . import frames

SOFT_NOFILE = 1024  # what select(2) can take

# Signals that the fork server ignores, or that Python does; exec would pass that on.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXFSZ)
# Python turns what these would say into exceptions of the write; functions written in it count on that.
_PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)


_PR_SET_NAME = 15
libc = ctypes.CDLL(None, use_errno=True)


def name_process(name):
    """As ps(1) and the like show it; the kernel takes 15 bytes of it."""
    libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


class Origin:
    """What the fork server has of its starter and functions must not have, or must start from."""

    def __init__(self):
        self.pid = os.getpid()
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)
        self.lowers_nofile = _is_over(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        with open('/proc/self/oom_score_adj', encoding='ascii') as file:
            self.resets_oom = int(file.read()) != 0


def _is_over(limit):
    return limit == resource.RLIM_INFINITY or limit > SOFT_NOFILE


def reset_signals(runs_python):
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in IGNORED:
        if not (runs_python and number in _PYTHONS):
            signal.signal(number, signal.SIG_DFL)


def set_limits(start, origin):
    # What a function leaves running would have the limit for life: a daemon's log, a virtual machine's disk.
    if not start.has(frames.LEAVE_RUNNING):
        resource.setrlimit(resource.RLIMIT_FSIZE, (start.fsize, start.fsize))
    if origin.lowers_nofile:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_NOFILE, hard))


def reset_oom_score(origin):
    if not origin.resets_oom:
        return
    try:
        fd = os.open('/proc/self/oom_score_adj', os.O_WRONLY)
    except OSError:
        return  # not fatal: the function is only more likely to be spared
    try:
        os.write(fd, b'0')
    except OSError:
        pass
    os.close(fd)


def become_user(start, origin):
    if start.has(frames.NICE):
        os.setpriority(os.PRIO_PROCESS, 0, origin.nice + start.nice)
    if start.has(frames.USER):
        os.setgroups([])
        os.setresgid(start.gid, start.gid, start.gid)
        os.setresuid(start.uid, start.uid, start.uid)


def leave_if_orphaned(origin):
    """The fork server died before it could note the start: nobody will ever know of this process."""
    if os.getppid() != origin.pid:
        os._exit(70)
