"""From a started process to a fork server that listens."""
import ctypes
import fcntl
import os
import signal
import socket
import sys

from . import functions, world
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


def _take_lock(run_dir):
    fd = os.open('forker.lock', os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=run_dir)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _fail('forker.lock', 'another fork server has this run directory')
    os.ftruncate(fd, 0)
    os.write(fd, b'%d\n' % os.getpid())  # for whoever looks for it


def _listen(run_dir):
    try:
        os.unlink('forker.sock', dir_fd=run_dir)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind('/proc/self/fd/%d/forker.sock' % run_dir)  # however long the path is
    listener.listen(8)
    listener.setblocking(False)
    return listener


def _become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1:
        _fail('subreaper', os.strerror(ctypes.get_errno()))
    world.name_process(b'noded-ganeti')


def _prepare(path):
    """The run directory's descriptor, the listener, what signals wake, and the functions."""
    _become_subreaper()
    run_dir = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    os.chdir('/')
    os.umask(0o077)  # as Ganeti's functions have it; every file of this process is made with its mode
    wake = _set_up_signals()
    _take_lock(run_dir)
    try:
        loaded = functions.load(run_dir)
    except Exception as error:  # pylint: disable=broad-except
        _fail('cannot load the functions of Ganeti', '%s: %s%s' % (type(error).__name__, error, _advice(error)))
    return run_dir, _listen(run_dir), wake, loaded


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
        run_dir, *parts = _prepare(argv[1])
        server = Server(run_dir, *parts)
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
    try:
        os.unlink('forker.sock', dir_fd=run_dir)
    except OSError:
        pass
