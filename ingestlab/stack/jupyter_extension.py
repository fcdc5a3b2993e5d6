"""An extension of the Jupyter server: a notebook that is only looked at is not marked as changed.

JupyterLab writes the kernel's name and language into a notebook that it opens, with Python's version, and calls it
changed. Here a notebook for this Python is read with both in it, so that nothing differs.
"""

from __future__ import annotations

from typing import Any

KERNEL = "python3"


def _load_jupyter_server_extension(app: Any) -> None:
    """Jupyter calls this when its server starts."""
    from ipykernel.ipkernel import IPythonKernel  # noqa: PLC0415 - the extra `lab` has it
    from jupyter_core.utils import ensure_async  # noqa: PLC0415 - likewise

    read, specs = app.contents_manager.get, app.kernel_spec_manager

    async def get(*args: Any, **options: Any) -> Any:
        model = await ensure_async(read(*args, **options))
        content = model.get("content")
        if model.get("type") == "notebook" and content:
            metadata = content["metadata"]
            if metadata.get("kernelspec", {}).get("name") == KERNEL:
                spec = await ensure_async(specs.get_kernel_spec(KERNEL))
                metadata["kernelspec"] = {"name": KERNEL, "display_name": spec.display_name, "language": spec.language}
                metadata["language_info"] = dict(IPythonKernel.language_info)
        return model

    app.contents_manager.get = get
