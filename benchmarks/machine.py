"""Names the machine and the versions that figures belong to. Reads files; measures nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.children import ROOT

_PACKAGES = ("uvicorn", "uvloop", "httptools", "aiohttp", "httpx", "pydantic", "openai")


def describe() -> dict[str, str]:
    """Return label → value, in the order to print."""
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "machine": f"{_cpu()}, {_cores()} cores usable, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {_build()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "load before the run": load,
    }


def commit() -> str:
    """Return the commit that is checked out, and whether files differ from it."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def now() -> str:
    """Return date and time as they stand beside figures."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _build() -> str:
    """Return how the interpreter was built, since that alone changes figures.

    It tells the options of its configuration, and no more: some distributions profile and link in ways of their own.
    """
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    found = [name for name in ("--enable-optimizations", "--with-lto") if name in options]
    configured = f"with {' '.join(found)}" if found else "without --enable-optimizations or --with-lto"
    return f"{platform.python_compiler()}, built {platform.python_build()[1]}, configured {configured}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
