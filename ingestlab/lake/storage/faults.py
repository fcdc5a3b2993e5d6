"""What an operating system's refusal means for a job."""

from __future__ import annotations

import errno

from ingestlab.core.errors import IngestError, StorageError, TransientError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}
_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def storage_error(error: OSError, what: str) -> IngestError:
    """Translate an error of the operating system. A full or closed disk stays so until someone acts."""
    if error.errno in _FULL:
        return StorageError(
            f"There is no room to write {what}: a full disk", fix="Free space, or set INGESTLAB_LAKE elsewhere."
        )
    if error.errno in _DENIED | _IN_THE_WAY or isinstance(error, PermissionError):
        way = ", and that no file is where a folder should be" if error.errno in _IN_THE_WAY else ""
        return StorageError.wrap(error, f"Cannot write {what}", f"Check the owner and mode of the lake{way}.")
    return TransientError.wrap(
        error, f"Cannot reach {what}", "Check that the storage is up, and `ingestlab retry`.", code="lake_unavailable"
    )
