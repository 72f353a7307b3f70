"""ruff and pyright find nothing, as configured; the hooks for commits ask the same."""

import subprocess
import sys
from pathlib import Path

from support import ROOT, child_environment


def asked(*command: str, seconds: int = 300) -> subprocess.CompletedProcess:
    """Run one of the tools that requirements-dev.txt brings, in the root of the checkout."""
    tool = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [tool, *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        env=child_environment(),
    )


def test_ruff_has_nothing_to_say():
    done = asked("ruff", "check", "--no-cache")
    assert done.returncode == 0, done.stdout[-4000:]


def test_everything_is_formatted():
    done = asked("ruff", "format", "--check", "--no-cache")
    assert done.returncode == 0, done.stdout[-2000:]


def test_types_hold():
    """pyright's basic mode over the library; basedpyright brings its own node, so that nothing is downloaded."""
    done = asked("basedpyright", "--level", "error", seconds=600)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_hooks_ask_the_same():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for command in ("ruff check", "ruff format", "basedpyright", "nbdev_export", "biome check"):
        assert command in hooks, command
