"""What is written is written whole."""
import errno
import os


def write_all(fd, content):
    view = memoryview(content)
    while view:
        wrote = os.write(fd, view)
        if wrote == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[wrote:]
