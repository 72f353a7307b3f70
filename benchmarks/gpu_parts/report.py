"""The results of benchmarks/gpu.py: rows as they come, results.json and table.md, each written whole or not at all."""

import json
import os
import time
from pathlib import Path

SCHEMA = 1
GOALS = {  # the rows of the table of goals, in its order: key -> (what, then, to reach)
    "mls-2048": ("MLS forward + backward, N=2048 D=512", "111.8 ms, 0.4 GB", "<= 6 ms, < 0.5 GB"),
    "mls-512": ("MLS, N=512 D=512", "24.6 ms", "<= 0.8 ms"),
    "csd-2048": ("CSD matching loss f+b, N=2048 D=512", "6.8 ms, 0.14 GB", "<= 2 ms"),
    "csd-512": ("CSD, N=512", "3.4 ms", "<= 0.6 ms"),
    "csd-32768": ("CSD, N=32,768", "876 ms, 1.2 GB", "<= 150 ms"),
    "info_nce-32768": ("info_nce f+b, N=32,768 D=512, float32", "154.9 ms, 1.4 GB", "<= 107 ms, < 1.5 GB"),
    "info_nce-32768-tf32": ("info_nce f+b, N=32,768 D=512, tf32", "", "<= 40 ms, < 1.5 GB"),
    "region-word": ("region-word scores f+b, B=64, 49 regions, 64 words, D=256", "3.3 ms, 20 times", "keep 20 times"),
    "tiny-256": ("training, tiny encoders, 64 px, batch 256", "3,062 pairs/s", ">= 15,000 pairs/s"),
    "tiny-1024": ("the same, batch 1,024", "", ">= 40,000 pairs/s"),
    "medprobclip-256": ("MedProbCLIP, tiny, batch 256", "1,266 pairs/s", ">= 8,000 pairs/s"),
    "vit-fed": ("ViT-B/16, 224 px, bf16, batch 256: fed against held", "", ">= 0.95"),
    "vit-fetching": ("the same: share of fetching", "", "<= 0.03"),
    "fit-beside": ("fit beside its steps, 8,000 studies, 2 epochs", "23 s", "<= 2 s"),
    "drawing-15": ("drawing the phantom at 128 px, 15 processes", "133/s", ">= 500/s"),
    "embed": ("embedding films, ViT-B/16, 224 px", "on the CPU", "on the GPU"),
    "search": ("exact search of 100,000 in 100,000, D=512, k=10", "on the CPU", "on the GPU"),
}


def size_of(count):
    "Bytes as people say them."
    if count is None:
        return ""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def number(value):
    "A value as it stands in a table."
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_whole(text, path):
    "Write a file so that it is the old one or the new one, never half of it."
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def judged(row):
    "Whether a row reaches its target; None where it has none. `better` says which way."
    value, target = row.get("value"), row.get("target")
    if target is None or not isinstance(value, (int, float)) or value != value:
        return None if target is None else False
    return bool(value >= target) if row.get("better") == "higher" else bool(value <= target)


class Report:
    """Rows by part and task. A row is a map with

    part, task, what, value, unit; and where they apply: naive (the value of the usual form, or why there is none),
    ratio (naive / value), floor and target (in the same unit), better ("higher"; else lower), met, then (before this
    was made fast), peak_bytes and naive_bytes (of device memory, beyond what was held before), settings, note, goal (a
    key of `GOALS`), and failed (why there is no value).
    """

    def __init__(self, folder: Path, commit: str, quick: bool, go_on: bool):
        self.folder = folder
        self.commit = commit
        self.quick = quick
        self.machine = {}
        self.rows = []
        self.tasks = {}  # "part: task" -> seconds, or why it failed
        self.times = {}
        self.begun = time.time()
        self.finished = False
        self.current = ("", "")
        self.row_begun = time.time()
        folder.mkdir(parents=True, exist_ok=True)
        if go_on and self.file.exists():
            old = json.loads(self.file.read_text(encoding="utf-8"))
            self.rows = old["rows"]
            self.tasks = old["tasks"]
            self.times = old["seconds"]
            self.begun = old["begun"]

    @property
    def file(self):
        return self.folder / "results.json"

    def has(self, part, task):
        return f"{part}: {task}" in self.tasks

    def begin(self, part, task):
        self.current = (part, task)
        self.row_begun = time.time()

    def add(self, row):
        "Note a row of the current task."
        part, task = self.current
        if row.get("ratio") is None and isinstance(row.get("naive"), (int, float)) and row.get("value"):
            better = row["value"] / row["naive"] if row.get("better") == "higher" else row["naive"] / row["value"]
            row["ratio"] = better
        if judged(row) is not None and not self.quick:
            row["met"] = judged(row)
        self.rows.append({"part": part, "task": task, **row})

    def done(self, now):
        self.tasks[": ".join(self.current)] = round(now - self.row_begun, 2)

    def fail(self, why):
        "Note that the current task ended without what it should have given."
        part, task = self.current
        self.tasks[": ".join(self.current)] = why
        self.rows.append({"part": part, "task": task, "what": task, "value": None, "unit": "", "failed": why})

    def write(self):
        "results.json and table.md, each whole."
        record = {
            "schema": SCHEMA,
            "quick": self.quick,
            "finished": self.finished,
            "begun": self.begun,
            "machine": self.machine,
            "commit": self.commit,
            "seconds": {name: round(value, 1) for name, value in self.times.items()},
            "tasks": self.tasks,
            "rows": self.rows,
        }
        write_whole(json.dumps(record, indent=1, default=str) + "\n", self.file)
        write_whole(self.table(), self.folder / "table.md")

    def told(self, row):
        "A row as one line."
        parts = [f"{row['what']}: {number(row.get('value'))} {row.get('unit', '')}"]
        if row.get("naive") is not None:
            parts.append(f"naive {number(row['naive'])}")
        for name in ("ratio", "target", "floor"):
            if row.get(name) is not None:
                parts.append(f"{name} {number(row[name])}")
        if row.get("peak_bytes") is not None:
            parts.append(size_of(row["peak_bytes"]))
        return ", ".join(parts) + (f" ({row['note']})" if row.get("note") else "")

    def goals(self):
        "The table of goals: then, now, to reach."
        lines = ["| what | then | now | to reach | met |", "|---|---|---|---|---|"]
        for key, (what, then, reach) in GOALS.items():
            found = [row for row in self.rows if row.get("goal") == key and row.get("value") is not None]
            now, met = "not measured", ""
            if found:
                higher = found[0].get("better") == "higher"
                row = (max if higher else min)(found, key=lambda row: row["value"])
                now = f"{number(row['value'])} {row['unit']}"
                now += f", {size_of(row['peak_bytes'])}" if row.get("peak_bytes") is not None else ""
                now += f", {number(row['ratio'])} times the naive form" if row.get("ratio") else ""
                met = {True: "yes", False: "no"}.get(row.get("met"), "")
            lines.append(f"| {what} | {then} | {now} | {reach} | {met} |")
        return lines

    def table(self):
        "All of it as Markdown."
        about = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        lines = ["# Measured by benchmarks/gpu.py", "", f"{about}; commit {self.commit or 'unknown'}"]
        lines += ["", "In miniature: these numbers say that it works, not how fast it is."] if self.quick else []
        lines += ["", "## Goals", "", *self.goals()]
        for part in dict.fromkeys(row["part"] for row in self.rows):
            lines += ["", f"## {part.capitalize()} ({self.times.get(part, 0):.0f} s)", ""]
            lines += ["| what | value | naive | ratio | floor | target | peak | naive peak | note |"]
            lines += ["|---|---|---|---|---|---|---|---|---|"]
            lines += [self.line(row) for row in self.rows if row["part"] == part]
        return "\n".join(lines) + "\n"

    def line(self, row):
        "A row of a part's table."
        if row.get("failed"):
            return f"| {row['what']} | - | | | | | | | {row['failed']} |".replace("\n", " ")
        met = {True: " (met)", False: " (not met)"}.get(row.get("met"), "")
        cells = [
            row["what"],
            f"{number(row.get('value'))} {row.get('unit', '')}".strip(),
            number(row.get("naive")),
            number(row.get("ratio")),
            number(row.get("floor")),
            number(row.get("target")) + met,
            size_of(row.get("peak_bytes")),
            size_of(row.get("naive_bytes")),
            str(row.get("note", "")),
        ]
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
