"""Prepares servers for their first job: the lake's bucket, and sample files if they are wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ingestlab.core.errors import StorageError, TerminalError
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.sources.filesystems import connect, translate_error
from ingestlab.stack.samples import ensure_samples


def make_place(url: str, settings: Settings) -> None:
    """Make the bucket or the folder that a URL begins with. One that is there is left as it is.

    Args:
        url: Of the lake, or a folder's path.
        settings: Have the storage options.

    Raises:
        IngestError: It cannot be made.
    """
    if "://" not in url:
        try:
            Path(url).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.wrap(
                error, f"Cannot make the folder {url}", "Choose another: INGESTLAB_LAKE."
            ) from error
        return
    fs = connect(url.partition("://")[0], settings)
    bucket = str(fs._strip_protocol(url)).partition("/")[0]  # noqa: SLF001 - it has no public name
    try:
        if not fs.exists(bucket):
            fs.mkdir(bucket)
    except FileExistsError:
        return  # another was faster
    except Exception as error:
        raise translate_error(error, url) from error


def put_samples(settings: Settings) -> list[str]:
    """Copy missing sample sets to the object store that ``samples`` names. List them.

    A set's marker is written last, so that a set of which a part was copied is copied again.

    Raises:
        TerminalError: ``samples`` names no object store.
    """
    base = (settings.samples or "").rstrip("/")
    scheme = base.partition("://")[0]
    if not scheme or traits(scheme).host:
        problem, fix = "INGESTLAB_SAMPLES names no object store", "Set INGESTLAB_SAMPLES, e.g. to s3://samples."
        raise TerminalError(problem, got=repr(settings.samples), fix=fix, code="setting_invalid")
    make_place(base, settings)
    fs = connect(scheme, settings)
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = [path for path in sorted(ensure_samples(folder).iterdir()) if path.is_dir()]
            missing = [path for path in made if not fs.exists(f"{base}/.copied/{path.name}")]
            for path in missing:
                fs.put(f"{path}/", f"{base}/{path.name}/", recursive=True)
                fs.pipe(f"{base}/.copied/{path.name}", b"")
        except OSError as error:
            raise translate_error(error, base) from error
    return [path.name for path in missing]
