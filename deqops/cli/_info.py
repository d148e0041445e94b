"""`deqops info`: versions, devices, optional tools."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata

import click

from ._exit import DONE
from ._output import emit, json_option

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "python-flint",
    "torch-geometric",
    "scikit-learn",
    "torchdeq",
)
TOOLS = ("coqc",)


@click.command("info")
@json_option
def info_command(as_json: bool) -> int:
    """Show versions, devices and the optional tools found."""
    import torch

    import deqops

    versions: dict[str, str | None] = {"deqops": deqops.__version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in PACKAGES}
    devices = ["cpu", *(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))]
    tools = {name: shutil.which(name) for name in TOOLS}
    lines = [f"{name:16} {version or 'not installed'}" for name, version in versions.items()]
    lines.append(f"{'devices':16} {', '.join(devices)} ({torch.get_num_threads()} threads)")
    lines += [f"{name:16} {path or 'not found (optional: compiles the proofs)'}" for name, path in tools.items()]
    emit(as_json, {"versions": versions, "devices": devices, "tools": tools}, lines)
    return DONE


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
