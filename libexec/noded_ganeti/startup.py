"""From a started process to a fork server that listens."""
import ctypes
import os
import signal
import sys

from . import functions, world
from .names import Names, Taken
from .server import Server

_READY = 3
_PR_SET_CHILD_SUBREAPER = 36


def _fail(what, error):
    sys.stderr.write('noded-ganeti: %s: %s\n' % (what, error))
    sys.exit(71)


def _advice(error):
    """Ganeti needs modules that Python has no more from 3.12 on: 3.1 the first, 3.0 both. Debian has packages of them."""
    package = {'asyncore': 'python3-pyasyncore', 'asynchat': 'python3-standard-asynchat'}.get(getattr(error, 'name', None))
    return '' if package is None else '; Python has it no more from 3.12 on, and Ganeti needs it: install %s' % package


def _close_inherited(says_ready):
    for name in os.listdir('/proc/self/fd'):
        if int(name) > _READY or (int(name) == _READY and not says_ready):
            try:
                os.close(int(name))
            except OSError:
                pass  # the directory's own


def _is_open(fd):
    try:
        os.set_inheritable(fd, False)
        return True
    except OSError:
        return False


def _set_up_signals():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in world.IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1:
        _fail('subreaper', os.strerror(ctypes.get_errno()))
    world.name_process(b'noded-ganeti')


def _prepare(path):
    """The run directory's descriptor, the names in it, what signals wake, and the functions."""
    _become_subreaper()
    run_dir = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    os.chdir('/')
    os.umask(0o077)  # as Ganeti's functions have it; every file of this process is made with its mode
    wake = _set_up_signals()
    names = Names(run_dir, path)
    try:
        names.take_locks()
    except Taken:
        _fail('forker.lock', 'another fork server has this run directory')
    try:
        loaded = functions.load(run_dir)
    except Exception as error:  # pylint: disable=broad-except
        _fail('cannot load the functions of Ganeti', '%s: %s%s' % (type(error).__name__, error, _advice(error)))
    names.listen()
    return run_dir, names, wake, loaded


def main(argv):
    if len(argv) != 2:
        sys.stderr.write('usage: noded-ganeti RUN_DIR\n')
        sys.exit(64)
    try:
        says_ready = _is_open(_READY)
        _close_inherited(says_ready)
        null = os.open('/dev/null', os.O_RDWR)
        while null <= 2:  # else a pipe or a file of a call would get such a number
            null = os.open('/dev/null', os.O_RDWR)
        run_dir, names, *parts = _prepare(argv[1])
        server = Server(run_dir, names, *parts)
        os.dup2(null, 0)
        os.dup2(null, 1)
        if says_ready:
            os.write(_READY, b'r')
            os.close(_READY)
        os.dup2(null, 2)  # nobody reads it any more
        os.close(null)
    except OSError as error:
        _fail(error.filename or 'start', error.strerror)
    server.run()
    names.remove()
