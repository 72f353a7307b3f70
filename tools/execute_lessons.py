"""Runs lessons from top to bottom and keeps what they show: python -P tools/execute_lessons.py NOTEBOOK.ipynb ...

Every notebook is run in a kernel of its own, in its folder, without a network for models. Kept are printed text, tables
and pictures; dropped are the state of widgets, progress bars, warnings and addresses in memory. The notebook's metadata
then hold the hash of its code, by which a test finds outputs that are older than the code. A cell that fails leaves the
file as it was.

A cell that begins with `#| hide_input` only draws: JupyterLab shows its picture and folds its code, and so does a site.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

KEPT = ("image/png", "text/html", "text/plain")
FOLDED = "#| hide_input"  # first line of a cell whose code draws and teaches nothing
LARGEST = 110_000  # bytes of a picture
LONGEST = 20_000  # characters of a table; beyond it the plain text is kept alone
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}


def code_hash(content: dict) -> str:
    """SHA-256 of a notebook's code cells, in their order; prose does not count."""
    code = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\f\n".join(code).encode()).hexdigest()


def cell_metadata(source: str) -> dict:
    """What a cell's metadata must say: nothing, or that its code is folded in JupyterLab and on a site."""
    if not source.startswith(FOLDED):
        return {}
    return {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}


def with_palette(picture: np.ndarray, step: int) -> Image.Image:
    """A picture (H, W, 3) with at most 256 colours: greys in steps of `step`, and the colours for themselves.

    Films are grey and large, lines are coloured and thin: in one palette the films would take the lines' colours away.
    """
    grey = np.ptp(picture, axis=2) <= 8
    levels = np.minimum(np.arange(0, 256 + step, step), 255)
    numbers = (picture.mean(2) / step).round().astype(np.uint8)
    palette = np.repeat(levels[:, None], 3, 1)
    coloured = picture[~grey]
    if len(coloured):
        few = Image.fromarray(coloured[None]).quantize(256 - len(levels), dither=Image.Dither.NONE)
        numbers[~grey] = np.asarray(few)[0] + len(levels)
        palette = np.concatenate([palette, np.reshape(few.getpalette(), (-1, 3))])
    made = Image.fromarray(numbers, "P")
    made.putpalette(palette[:256].astype(np.uint8).tobytes())
    return made


def small_picture(encoded: str) -> str:
    """A picture (base64 of PNG) in a palette, with fewer greys and at last fewer pixels, of at most `LARGEST` bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    steps = [2, 4, 8]
    while True:
        file = io.BytesIO()
        with_palette(np.asarray(picture), steps[0]).save(file, "PNG", optimize=True)
        if len(file.getvalue()) <= LARGEST:
            return base64.b64encode(file.getvalue()).decode()
        if len(steps) > 1:
            steps = steps[1:]
            continue
        width, height = picture.size
        picture = picture.resize((width * 9 // 10, height * 9 // 10), Image.Resampling.LANCZOS)


def kept_data(data: dict) -> dict:
    """Of one output's forms the picture, or else the table and the text."""
    if "image/png" in data:
        return {"image/png": small_picture(data["image/png"]), "text/plain": "picture"}
    found = {form: data[form] for form in KEPT if form in data}
    if len(found.get("text/html", "")) > LONGEST:
        del found["text/html"]
    if "text/plain" in found:
        found["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", found["text/plain"])
    return found


def kept_output(output: dict) -> dict | None:
    """An output as it is committed, None for one that is not."""
    kind = output["output_type"]
    if kind == "stream":
        if output["name"] != "stdout":
            return None
        return {"name": "stdout", "output_type": "stream", "text": output["text"].splitlines(keepends=True)}
    if kind not in ("display_data", "execute_result") or any("widget" in form for form in output["data"]):
        return None
    data = kept_data(output["data"])
    if not data:
        return None
    parts = {form: text if form == "image/png" else text.splitlines(keepends=True) for form, text in data.items()}
    kept = {"data": parts, "metadata": {}, "output_type": kind}
    return kept | ({"execution_count": None} if kind == "execute_result" else {})


def executed(path: Path, limit: int) -> dict:
    """The notebook with what its cells showed. `CellExecutionError` for a cell that failed or took `limit` seconds."""
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    notebook = nbformat.reads(text, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=limit, kernel_name="python3", resources=where).execute()
    for cell, ran in zip(content["cells"], notebook.cells, strict=True):
        cell["metadata"] = cell_metadata("".join(cell["source"]))
        if cell["cell_type"] == "code":
            shown = [kept_output(output) for output in ran.outputs]
            cell["outputs"] = [output for output in shown if output is not None]
    content["metadata"]["medret"] = {"executed": code_hash(content)}
    return content


def main() -> int:
    """Run all that are named; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=300, help="seconds for one cell")
    asked = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    failed = 0
    for path in asked.notebooks:
        begun = time.perf_counter()
        try:
            content = executed(path, asked.limit)
        except CellExecutionError as error:
            failed += 1
            print(f"{path}: {str(error)[-1500:]}", file=sys.stderr)
            continue
        text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {time.perf_counter() - begun:.0f} s, {len(text) / 1024:.0f} kB", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
