"""One training a directory: a lock that a dead process does not hold."""

import errno
import os
import pathlib
import threading
import warnings

# By path: the process and the thread that hold it, and the open file.
_HELD = {}
# Windows locks bytes against reading too, so not those of the text.
_LOCKED_BYTE = 1 << 20


def acquire(directory):
    """Takes a directory for this thread, or raises if another has it.

    The operating system drops the lock with the process, however it dies. A
    thread may take what it holds already: an earlier training in it is over.

    Args:
        directory: path of a folder that exists.

    Raises:
        RuntimeError: if another process or thread holds it.
    """
    path = pathlib.Path(directory).resolve() / "lock"
    pid, thread, file = _HELD.get(path, (None, None, None))
    if pid == os.getpid():
        alive = {other.ident for other in threading.enumerate()}
        if thread != threading.get_ident() and thread in alive:
            raise RuntimeError(_message(directory, "a thread of this process"))
        _HELD[path] = (pid, threading.get_ident(), file)
        return
    # Closing any handle of a file would drop the locks of all: it stays open.
    file = open(path, "a+", encoding="utf-8")
    try:
        _lock(file)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            warnings.warn(
                f"'{path}' cannot be locked ({error.strerror}): a second run "
                "in this directory would not be noticed.",
                stacklevel=2,
            )
        else:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise RuntimeError(_message(directory, owner)) from None
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    _HELD[path] = (os.getpid(), threading.get_ident(), file)


def release(directory):
    """Gives a directory back, if this process has it."""
    path = pathlib.Path(directory).resolve() / "lock"
    pid, _, file = _HELD.pop(path, (None, None, None))
    if pid == os.getpid():
        file.close()


def _message(directory, owner):
    return (
        "`directory` must belong to one run at a time. Received: "
        f"directory={str(directory)!r}, which {owner} has as long as it lives"
    )


def _lock(file):
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        # Not `flock`, which workers of a data set would inherit and hold on.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
