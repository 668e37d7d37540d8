"""What a forked child makes of itself before it is a function process (DESIGN.md section 6). Runs in the child only."""
import os
import resource
import signal
from _signal import SIG_BLOCK, SIG_UNBLOCK, pthread_sigmask, set_wakeup_fd, signal as set_handler  # without the enumerations of `signal`, which touch more memory than all of this

from . import frames

SOFT_NOFILE = 1024  # what select(2) can take

# Signals that the fork server ignores, or that Python does; exec would pass that on.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXFSZ)
_RESET_FOR_PROGRAMS = [int(number) for number in (signal.SIGCHLD, *IGNORED)]
# Python makes exceptions of the writes of what these two would say; functions written in it count on that.
_RESET_FOR_PYTHON = [number for number in _RESET_FOR_PROGRAMS if number not in (signal.SIGPIPE, signal.SIGXFSZ)]
_DEFAULT = int(signal.SIG_DFL)


class Origin:
    """What the fork server has of its starter and functions must not have, or must start from."""

    def __init__(self):
        self.pid = os.getpid()
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)
        soft, self.hard_nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.lowers_nofile = soft == resource.RLIM_INFINITY or soft > SOFT_NOFILE
        with open('/proc/self/oom_score_adj', encoding='ascii') as file:
            self.resets_oom = int(file.read()) != 0


def hold_signals():
    """Around a fork: what the fork server ignores must not get lost on a child that does not heed it yet. Signals that are blocked wait, ignored or not."""
    pthread_sigmask(SIG_BLOCK, _RESET_FOR_PYTHON)


def release_signals():
    pthread_sigmask(SIG_UNBLOCK, _RESET_FOR_PYTHON)


def reset_signals(runs_python):
    set_wakeup_fd(-1)
    for number in _RESET_FOR_PYTHON if runs_python else _RESET_FOR_PROGRAMS:
        set_handler(number, _DEFAULT)


def name_process(name):
    """As ps(1) and the like show it; the kernel takes 15 bytes of it."""
    try:
        fd = os.open('/proc/self/comm', os.O_WRONLY)
    except OSError:
        return  # a name changes nothing
    try:
        os.write(fd, name)
    except OSError:
        pass
    os.close(fd)


def set_limits(start, origin):
    # What a function leaves running would have the limit for life: a daemon's log, a virtual machine's disk.
    if not start.has(frames.LEAVE_RUNNING):
        resource.setrlimit(resource.RLIMIT_FSIZE, (start.fsize, start.fsize))
    if origin.lowers_nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_NOFILE, origin.hard_nofile))


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


def set_environment(variables):
    """These and no others, as pairs of bytes. What is there already is left alone: each change touches memory that was shared."""
    for name in [name for name in os.environb if name not in variables]:
        del os.environb[name]
    for name, value in variables.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


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
