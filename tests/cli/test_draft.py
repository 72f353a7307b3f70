"""`medret draft`: by vote, by a language model, restricted studies, and what is refused."""

import json
import re
import threading

import pandas as pd
import pytest
from PIL import Image

from medret_nb.cli.draft import DraftReport
from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.retrieval.drafts import LEAST

QUOTED = re.compile(r"^(.+)  \[(\S+) (\d+)-(\d+); vote", re.M)


def texts_of(folder, policy="both"):
    studies = StudySet.load(folder)
    return dict(zip(studies.studies["study_id"], section_text(studies, policy)))


def test_a_draft_as_a_user_types_it(way, medret):
    "Each printed sentence stands, word for word, at the place that is printed; the film's own patient is left out."
    home = way[0]
    study = StudySet.load(home / "studies").studies["study_id"].iloc[0]
    done = medret("draft", home / "run", "--study", study, "--least", 0.2)
    assert done.returncode == 0, done.stderr
    texts = texts_of(home / "studies")
    quotes = QUOTED.findall(done.stdout)
    assert quotes and "of the film's own patient are left out" in done.stdout
    for sentence, source, start, end in quotes:
        assert texts[source][int(start) : int(end)] == sentence and source.rsplit("-", 1)[0] != study.rsplit("-", 1)[0]
    assert "10 of" in done.stdout.splitlines()[0] and "for a radiologist to judge" in done.stdout


def test_a_film_of_the_data_is_its_study(way, capsys):
    "By its file or by its study: the same draft; a film from elsewhere has no patient to leave out."
    home = way[0]
    studies = StudySet.load(home / "studies")
    row = studies.images[studies.images["view"] == "PA"].iloc[0]
    path = studies.image_paths(studies.images.loc[[row.name]])[0]
    said = []
    for more in ({"study": row["study_id"]}, {"image": path}):
        DraftReport(home / "run", k=5, json=True, **more).run()
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["draft"]["sources"] == said[1]["draft"]["sources"] and len(said[0]["search"]) == 2
    Image.open(path).save(home / "elsewhere.png")
    DraftReport(home / "run", k=5, json=True, image=home / "elsewhere.png").run()
    assert len(json.loads(capsys.readouterr().out)["search"]) == 1


def test_json_is_one_document(way, capsys):
    home = way[0]
    study = StudySet.load(home / "studies").studies["study_id"].iloc[3]
    DraftReport(home / "run", study=study, k=3, least=0.1, json=True).run()
    record = json.loads(capsys.readouterr().out)
    assert record["written"] is None and record["restricted"] is False and len(record["draft"]["sources"]) == 3
    texts = texts_of(home / "studies")
    for quote in record["draft"]["quotes"]:
        assert texts[quote["study_id"]][quote["start"] : quote["end"]] == quote["text"]
    assert sum(source["weight"] for source in record["draft"]["sources"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "more, words",
    [
        ({}, "--image FILE or --study ID"),
        ({"study": "nobody"}, "'nobody' is no study"),
        ({"study": "x", "image": "y.png"}, "one of the two"),
        ({"study": "x", "k": 0}, "-k: 0"),
        ({"study": "x", "endpoint": "https://host/v1"}, "needs --model"),
        ({"study": "x", "endpoint": "http://far.example/v1", "model": "m"}, "unencrypted"),
        ({"study": "x", "model": "nowhere/at-all"}, "on this machine"),
    ],
)
def test_what_is_refused_is_one_line(way, more, words):
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        DraftReport(way[0] / "run", **more).run()
    assert "\n" not in str(caught.value)


def test_a_method_without_regions_says_so(way):
    study = StudySet.load(way[0] / "studies").studies["study_id"].iloc[0]
    with pytest.raises(DataError, match="no vectors for regions"):
        DraftReport(way[0] / "run", study=study, region=("left lung",)).run()


@pytest.fixture
def endpoint():
    "A server on this machine that quotes the first source and adds a sentence of its own."
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append(asked)
            first = asked["messages"][1]["content"].split("[1] (weight ")[1].split("\n")[1]
            answer = f"{first.split('. ')[0].rstrip('.')}. [1]\nThe moon is full. [2]"
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", got
    server.shutdown()
    server.server_close()


def test_an_endpoint_drafts_beside_the_vote_and_its_inventions_are_flagged(way, endpoint, capsys):
    home = way[0]
    url, got = endpoint
    study = StudySet.load(home / "studies").studies["study_id"].iloc[0]
    DraftReport(home / "run", study=study, k=3, endpoint=url, model="m").run()
    said = capsys.readouterr().out
    assert "! The moon is full.  (not in any source)" in said and f"asked: m at {url}" in said
    assert len(got) == 1 and study not in json.dumps(got) and "user> [1] (weight" in said


def test_restricted_studies_leave_the_machine_only_with_the_affirmation(way, endpoint, tmp_path, capsys):
    home = way[0]
    url, got = endpoint
    studies = StudySet.load(home / "studies")
    studies.info["restricted"] = True
    folder = tmp_path / "restricted"
    studies.save(folder)
    asked = {"data": folder, "study": studies.studies["study_id"].iloc[0], "k": 3}
    with pytest.raises(DataError, match="--affirm-agreement"):
        DraftReport(home / "run", endpoint=url, model="m", **asked).run()
    assert got == []
    DraftReport(home / "run", **asked).run()
    assert "do not pass the texts on" in capsys.readouterr().out
    DraftReport(home / "run", endpoint=url, model="m", affirm_agreement=True, json=True, **asked).run()
    said = capsys.readouterr()
    assert len(got) == 1 and json.loads(said.out)["restricted"] and "do not pass the texts on" in said.err


def test_hostile_reports_cannot_steer_the_terminal(hostile_run, capsys):
    DraftReport(hostile_run / "run", study="s0", k=5, least=0.0).run()
    said = capsys.readouterr().out
    assert "\u202e" not in said and "Philomena" in said
    assert all(character.isprintable() or character == "\n" for character in said)


def test_the_default_share_is_that_of_the_drafts():
    assert DraftReport(pd.NA).least == LEAST
