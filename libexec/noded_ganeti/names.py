"""The names of a fork server in its run directory: the socket, and the lock for whoever looks for it."""
import fcntl
import os
import socket

_SOCKET_PATH = 107  # bytes of unix(7)


class Taken(Exception):
    """Another fork server has the run directory."""


def _lock(fd):
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Taken() from error


class Names:
    """
    The lock that counts is on the directory of the calls: a cleaner or an administrator may remove files and leaves
    that, and tmpfiles.d(5) spares what is locked and all that is in it; so the log is locked, too. An earlier version has
    a lock on the file only.
    """

    def __init__(self, run_dir, path):
        self._run_dir = run_dir
        self._path = os.fsencode(path)
        self._lock_file, self._lock_name, self._socket_name = -1, None, None
        self._directories = {}  # those that are locked: descriptor, and what it was
        self.listener = None
        self.due = None

    def take_locks(self):
        """Raises Taken."""
        self._lock_directory('calls')
        self._take_lock_file()

    def _lock_directory(self, name):
        """If it is not locked already, under the name that it has."""
        held, made = self._directories.get(name, (-1, None))
        if made is not None and self._is_there(name, made):
            return
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._run_dir)
        _lock(fd)
        if held != -1:
            os.close(held)
        self._directories[name] = fd, os.fstat(fd)

    def _take_lock_file(self):
        fd = os.open('forker.lock', os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=self._run_dir)
        _lock(fd)
        os.ftruncate(fd, 0)
        os.write(fd, b'%d\n' % os.getpid())
        if self._lock_file != -1:
            os.close(self._lock_file)
        self._lock_file, self._lock_name = fd, os.fstat(fd)

    def listen(self):
        """
        By the whole path: cleaners leave a socket alone that /proc/net/unix has by the path that they see. One that is too
        long for that still has a name.
        """
        path = os.path.join(self._path, b'forker.sock')
        seen = os.path.isabs(path) and len(path) <= _SOCKET_PATH
        self.remove()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path if seen else '/proc/self/fd/%d/forker.sock' % self._run_dir)
            listener.listen(8)
            listener.setblocking(False)
            self._socket_name = self._stat('forker.sock')
        except OSError:
            listener.close()
            raise
        if self.listener is not None:
            self.listener.close()
        self.listener = listener

    def remove(self):
        try:
            os.unlink('forker.sock', dir_fd=self._run_dir)
        except OSError:
            pass  # it is not there

    def _stat(self, name):
        return os.stat(name, dir_fd=self._run_dir, follow_symlinks=False)

    def _is_there(self, name, made):
        try:
            return os.path.samestat(self._stat(name), made)
        except OSError:
            return False

    def follow_run_dir(self):
        """All of it was removed, and noded has made another: in this one nothing can be put on file any more."""
        if os.fstat(self._run_dir).st_nlink > 0:
            return
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        os.dup2(fd, self._run_dir, inheritable=False)
        os.close(fd)

    def see_to(self):
        """Without them the next daemon would not find its calls, and take them for lost. Errors must pass: it looks again."""
        try:
            self.follow_run_dir()
            self._lock_directory('calls')
            if not self._is_there('forker.lock', self._lock_name):
                self._take_lock_file()
            if not self._is_there('forker.sock', self._socket_name):
                self.listen()
            self._lock_directory('log')
        except (OSError, Taken):
            pass
