"""The command that embeds, as typed, and the numbers made from its points."""

import json


def test_embed_then_evaluate(way, medret):
    home = way[0]
    done = medret("embed", home / "run", "--split", "test")
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "embeddings" / "test-image.parquet").is_file() and "16 dimensions" in done.stdout
    done = medret("evaluate", home / "run", "--protocol", "exact", "labels", "fits-open", "--k", 1, 5)
    assert done.returncode == 0, done.stderr
    for protocol in ("exact", "labels", "fits-open"):
        report = json.loads((home / "run" / "evaluation" / "test" / protocol / "metrics.json").read_text())
        assert report["protocol"] == protocol and report["directions"]["image-to-text"]["queries"] > 0
    for word in ("R@5", "95 % interval", "chance", "ties", "identical other", "oracle that sees the scene"):
        assert word in done.stdout, word
