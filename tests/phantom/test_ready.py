"Warming up: a process that has imported the module draws as any other, and needs no PyTorch for it."

import subprocess
import sys
from pathlib import Path

from support import child_environment

from medret_nb.phantom.ready import warm_up

SEEN = """
import sys
import medret_nb.phantom.ready

print("torch" in sys.modules, "transformers" in sys.modules)
"""


def test_a_process_that_draws_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, env=child_environment())
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    warm_up(1)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    warm_up(1)
    assert not (Path(tmp_path) / "not there").exists()
