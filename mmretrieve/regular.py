"""Opening files that strangers named: regular ones only, without waiting and without leaving a folder."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path, inside: Path | None = None) -> BufferedReader:
    """A regular file, for reading. A pipe, device or socket under that name is refused and never
    waited for; so is a link that leads out of the folder ``inside``.

    Raises:
        OSError: as above, or it cannot be opened; ``strerror`` says why.
    """
    if inside is None:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        # Resolved here and opened without following, so that nothing can be swapped in between.
        real = path.resolve(strict=True)
        if not real.is_relative_to(inside.resolve()):
            raise OSError(errno.EXDEV, "a link out of the folder", str(path))
        handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
