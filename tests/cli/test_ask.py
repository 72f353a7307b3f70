"""Many questions after one start: lines that ask, lines that settle, lines that are wrong."""

import io
import re

import pytest

from medret_nb.cli import ask
from medret_nb.cli.ask import Ask, AskSettings
from medret_nb.data.files import DataError
from medret_nb.methods import table


def asked(monkeypatch, capsys, run, lines):
    "What `medret ask` prints for the lines of a file, and what it says on stderr."
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    Ask(run, k=2).run()
    return capsys.readouterr()


def test_sentences_films_and_settings_on_lines(way, monkeypatch, capsys):
    "A sentence finds films, a path finds reports; settings hold for the lines after them, in the form of `search`."
    film = next((way[0] / "studies" / "images").iterdir())
    lines = ["left effusion", str(film), ":k 1", ":find films", str(film), "", ":quit", "never asked"]
    said = asked(monkeypatch, capsys, way[0] / "run", lines)
    heads = [line.split(";")[0] for line in said.out.splitlines() if " searched" in line]
    assert heads == ["48 films searched", "48 reports (both) searched", "48 films searched"]
    assert len(re.findall(r"^ +\d+  [+-]\d", said.out, re.M)) == 2 + 2 + 1
    assert said.err == ""


def test_a_film_that_waits_is_asked_with_the_next_sentence():
    "`:film` keeps a film; a sentence after it is one question of both."
    settings = AskSettings(film=None)
    settings.change("film", __file__)
    question = settings.question("larger than before")
    assert question.image is not None and question.text == "larger than before" and not question.films


def test_a_mistake_costs_one_line_and_the_session_goes_on(way, monkeypatch, capsys):
    "Wrong settings, a file that is no film, a text without a word: one line each, then the next question is answered."
    wrong = [":k none", ":k 0", ":find x-rays", ":colour red", ":film nowhere.png", __file__, "?!", "x" * 5000]
    said = asked(monkeypatch, capsys, way[0] / "run", [*wrong, "left effusion"])
    assert len(said.err.splitlines()) == 7 and all(line.startswith("medret: ") for line in said.err.splitlines())
    assert said.out.count(" searched") == 2  # the long line is a sentence, too long for a path


def test_the_model_and_the_galleries_are_made_once(way, monkeypatch, capsys):
    "Ten questions load the model once and embed each side once."
    made = {"models": 0, "galleries": 0}
    load = table.load_method
    gallery = ask.Searched.gallery

    def counted_load(*given, **more):
        made["models"] += 1
        return load(*given, **more)

    def counted_gallery(self, films):
        made["galleries"] += films not in self.sides
        return gallery(self, films)

    monkeypatch.setattr(table, "load_method", counted_load)
    monkeypatch.setattr(ask.Searched, "gallery", counted_gallery)
    asked(monkeypatch, capsys, way[0] / "run", ["left effusion", "no effusion"] * 5)
    assert made == {"models": 1, "galleries": 1}


def test_an_impossible_number_of_answers_is_refused_at_the_start(way):
    "`-k 0` is refused before anything is loaded."
    with pytest.raises(DataError, match="k 0"):
        Ask(way[0] / "run", k=0).run()


def test_ask_as_a_user_types_it(way, medret):
    "The command itself, its questions from a file."
    done = medret("ask", way[0] / "run", "-k", 1, typed="left effusion\n:help\n")
    assert done.returncode == 0, done.stderr
    assert "48 films searched" in done.stdout and ":quit" in done.stdout
