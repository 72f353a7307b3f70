"""The phantom at full length: other processors, speed, and what the contact sheets leave behind. Run with -m slow."""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support import child_environment

from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.rendering import render

pytestmark = pytest.mark.slow

MAKE = """
import sys
from medret_nb.phantom.phantom import make_phantom
if __name__ == "__main__":
    make_phantom(60, 7, 64, sys.argv[1], progress=False)
"""
WIDE = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
PROCESSORS = {
    "this one": {},
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": WIDE, "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "haswell"},
    "without AVX": {
        "NPY_DISABLE_CPU_FEATURES": f"AVX2 FMA3 {WIDE}",
        "OPENBLAS_CORETYPE": "Prescott",
        "NUMBA_CPU_NAME": "generic",
    },
}


def test_processors_make_the_same_tables(tmp_path):
    """Other vector units and matrix libraries round otherwise; tables must not notice, pixels by one grey at most."""
    tables, films = {}, {}
    for n, (name, settings) in enumerate(PROCESSORS.items()):
        out = tmp_path / str(n)
        machine = settings | {"NUMBA_CACHE_DIR": str(tmp_path / f"numba-{n}")} if settings else {}
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", MAKE, str(out)],
            check=True,
            env=child_environment(**machine),
            timeout=280,
        )
        tables[name] = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.parquet")}
        films[name] = np.stack([np.asarray(Image.open(p)) for p in sorted((out / "images").glob("*.png"))]).astype(int)
    for name in PROCESSORS:
        assert tables[name] == tables["this one"], name
        assert np.abs(films[name] - films["this one"]).max() <= 1


def test_a_hundred_films_a_second():
    """128 px, one core, balanced clinic, in processor time; the best of five rounds, for machines are shared."""
    pairs = [(s, a) for s in sample_scenes(40, 3) for a in s.acquisitions]
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        for scene, a in pairs:
            render(scene, a, 128)
        seconds.append(time.process_time() - begun)
    assert len(pairs) / min(seconds) >= 100


def test_the_lesson_keeps_its_contact_sheets(tmp_path, root):
    """With MEDRET_ARTEFACTS the notebook leaves six sheets of sixty films of 224 px, no film empty."""
    folder = os.environ.get("MEDRET_ARTEFACTS") or str(tmp_path / "artefacts")
    script = os.path.join(os.path.dirname(sys.executable), "nbdev_test")
    done = subprocess.run(
        [script, "--path", "nbs/phantom/265_phantom.ipynb"],
        cwd=root,
        env=child_environment(MEDRET_ARTEFACTS=folder),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for view in ("PA", "AP", "LATERAL"):
        for kind in ("healthy", "ill"):
            sheet = np.asarray(Image.open(os.path.join(folder, f"phantom-{view}-{kind}.png")))
            assert sheet.shape == (6 * 224, 10 * 224)
            assert sheet.reshape(6, 224, 10, 224).std((1, 3)).min() > 30
