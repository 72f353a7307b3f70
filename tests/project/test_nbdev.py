"""Every notebook runs from its first cell to its last, and its assertions hold."""

import subprocess
import sys
from pathlib import Path

from support import child_environment


def test_all_notebooks_run(root):
    """nbdev_test over all notebooks with two workers of one thread each: faster on two cores than the default."""
    script = Path(sys.executable).parent / "nbdev_test"
    done = subprocess.run(
        [script, "--path", "nbs", "--n_workers", "2", "--timing"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=1500,
        stdin=subprocess.DEVNULL,
        env=child_environment(OMP_NUM_THREADS="1"),
    )
    print(done.stdout)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "Success" in done.stdout + done.stderr
