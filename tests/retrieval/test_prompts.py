"""Language models that may only quote: prompts, checked answers, a model on this machine, endpoints that misbehave."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medret_nb.data.files import DataError
from medret_nb.retrieval.drafts import SourceReport, misquotes
from medret_nb.retrieval.prompts import (
    check_may_leave,
    checked_answer,
    cited_sentences,
    completions_address,
    endpoint_writer,
    pipeline_writer,
    prompt_for,
    write_draft,
)

SOURCES = [
    SourceReport("study-a", "Small right pleural effusion.\nNo pneumothorax is seen.", 0.9, 0.6),
    SourceReport("study-b", "No effusion. Heart size is  normal.", 0.8, 0.4),
]


def completion(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


GOOD = completion("Small right pleural effusion. [1]\nHeart size is normal. [2]")


class Server(ThreadingHTTPServer):
    "A server that answers each POST by `manner(handler)`; it keeps what it was sent."

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.manner = lambda handler: handler.plain(GOOD)
        self.got = []
        self.stop = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        with contextlib.suppress(OSError):  # the other side has gone
            self.server.manner(self)

    def plain(self, body, status=200, kind="application/json", length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length != "":
            self.send_header("Content-Length", str(len(body)) if length is None else str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.stop.set()
    made.shutdown()
    made.server_close()


def writer_of(server, **more):
    return endpoint_writer(server.endpoint, "m", restricted=False, **({"timeout": 5} | more))


def test_the_prompt_holds_numbered_reports_and_no_study():
    system, user = prompt_for(SOURCES)
    assert system["role"] == "system" and user["role"] == "user" and "letter for letter" in system["content"]
    assert "[1] (weight 0.60)\nSmall right pleural effusion. No pneumothorax is seen." in user["content"]
    assert "study-a" not in json.dumps([system, user])


@pytest.mark.parametrize(
    "answer, verdict",
    [
        ("Heart size is normal. [2]", "quoted"),
        ("“Heart size is normal.” (2)", "quoted"),
        ("2) Heart size is normal. [1, 2]", "quoted"),
        ("Heart size is normal.", "quoted, no source named"),
        ("Heart size is normal. [1]", "quoted, but from another source"),
        ("Heart size is normal. [3]", "cites an unknown source"),
        ("Heart size is normal. [2][0]", "cites an unknown source"),
        ("Heart size is Normal. [2]", "not in any source"),
        ("heart size is normal [2]", "not in any source"),
        ("Effusion. [2]", "not in any source"),
        ("effusion. [2]", "not in any source"),
        ("pneumothorax is seen. [1]", "not in any source"),
        ("There is a mass. [1]", "not in any source"),
    ],
)
def test_a_sentence_is_quoted_whole_letter_for_letter_and_from_what_it_cites(answer, verdict):
    (found,) = checked_answer(answer, SOURCES)
    assert found.verdict == verdict
    if found.quote is not None:
        text = {source.study_id: source.text for source in SOURCES}[found.quote.study_id]
        assert text[found.quote.start : found.quote.end] == found.quote.text


def test_an_answer_is_shown_beside_its_prompt_and_flagged_sentence_by_sentence():
    written = write_draft(SOURCES, lambda m: "Heart size is normal. [2]\nA mass\x1b[2J. [1]", "a model")
    assert [s.verdict for s in written.flagged] == ["not in any source"] and not misquotes(written.draft())
    lines = written.lines()
    assert lines[0] == "asked: a model" and any("pleural effusion" in line for line in lines)
    assert lines[-1] == "1 of 2 sentences are flagged" and "\x1b" not in "".join(lines)
    assert written.draft().text == "Heart size is  normal."  # byte for byte, with the two spaces of the report
    assert json.loads(json.dumps(written.record()))["draft"]["notes"][0].startswith("not in any source")


def test_nobody_is_asked_without_a_source_and_silence_is_told():
    def never(messages):
        raise AssertionError

    assert write_draft([], never, "m").draft().notes == ["no case was found: nothing was asked"]
    silent = write_draft(SOURCES, lambda m: "  \n...\n[1]", "m")
    assert silent.draft().quotes == [] and "no sentence" in silent.draft().notes[0]
    assert cited_sentences("") == [] and len(cited_sentences("x. " * 3000)) == 3000


# endpoints


def test_a_good_endpoint_gets_the_prompt_and_gives_the_draft(server):
    written = write_draft(SOURCES, writer_of(server, key="secret"), "m")
    assert written.flagged == [] and written.draft().text == "Small right pleural effusion. Heart size is  normal."
    ((path, headers, asked),) = server.got
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert asked["messages"] == prompt_for(SOURCES) and asked["temperature"] == 0 and asked["model"] == "m"
    assert "secret" not in json.dumps(written.record())


def redirecting(where):
    def answer(handler):
        handler.plain(b"", 302, Location=where)

    return answer


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.stop.is_set():
        handler.wfile.write(b"x" * 65536)


MISBEHAVED = {
    "html": (lambda h: h.plain(b"<html>please log in</html>", kind="text/html"), "the answer"),
    "an error": (lambda h: h.plain(b"oops", 500), "answers 500"),
    "not found": (lambda h: h.plain(b"{}", 404), "answers 404"),
    "empty": (lambda h: h.plain(b""), "the answer"),
    "cut off": (lambda h: h.plain(GOOD, length=len(GOOD) + 100), "broke off after"),
    "longer than it says": (lambda h: h.plain(GOOD, length=30), "the answer"),
    "announces much": (lambda h: h.plain(b"{}", length=10**12), "announces 1,000,000,000,000 bytes"),
    "a negative length": (lambda h: h.plain(b"x", length=-5), "the answer"),
    "sends much": (lambda h: h.plain(b" " * 1_000_100 + GOOD, length=""), "more than the 1,000,000 bytes"),
    "never ends": (endless, "more than the 1,000,000 bytes"),
    "another json": (lambda h: h.plain(b'{"answer": "Normal."}'), "lacks choices"),
    "no choice": (lambda h: h.plain(b'{"choices": []}'), "at least 1"),
    "no text": (lambda h: h.plain(completion(None)), "holds no text"),
    "a number": (lambda h: h.plain(completion(7)), "content"),
    "not a number": (lambda h: h.plain(b'{"choices": NaN}'), "the answer"),
    "deep": (lambda h: h.plain(b"[" * 100_000), "the answer"),
    "not utf-8": (lambda h: h.plain(b"\xff\xfe{}"), "UTF-8"),
    "packed": (lambda h: h.plain(GOOD, Content_Encoding="gzip"), "packed"),
    "elsewhere": (redirecting("https://elsewhere.example/v1"), "leads on to elsewhere.example"),
    "to a file": (redirecting("file:///etc/passwd"), "not followed"),
}


@pytest.mark.parametrize("manner, words", MISBEHAVED.values(), ids=MISBEHAVED)
def test_a_server_that_misbehaves_is_one_line(server, manner, words):
    server.manner = manner
    with pytest.raises(DataError) as caught:
        write_draft(SOURCES, writer_of(server), "m")
    said = str(caught.value)
    assert words in said and server.endpoint in said and "\n" not in said and len(said) < 400, said
    assert len(server.got) == 1


def test_a_redirection_takes_nothing_to_the_other_host(server):
    other = Server()
    threading.Thread(target=other.serve_forever, daemon=True).start()
    for status in (301, 302, 303, 307, 308):
        server.manner = lambda h, status=status: h.plain(b"", status, Location=f"{other.endpoint}/chat/completions")
        with pytest.raises(DataError, match="not followed"):
            write_draft(SOURCES, writer_of(server), "m")
    other.shutdown()
    other.server_close()
    assert other.got == [] and len(server.got) == 5


def silent(handler):
    handler.server.stop.wait(20)


def dripping(handler):
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.stop.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


@pytest.mark.parametrize("manner", [silent, dripping], ids=lambda manner: manner.__name__)
def test_a_server_that_hangs_costs_no_more_than_was_said(server, manner):
    "Also one that sends a byte now and then, so that none of them is late."
    server.manner = manner
    start = time.monotonic()
    with pytest.raises(DataError, match="within 0.5 seconds|timed out"):
        write_draft(SOURCES, writer_of(server, timeout=0.5), "m")
    assert time.monotonic() - start < 5


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match=r"127\.0\.0\.1.*refused"):
        endpoint_writer(f"http://127.0.0.1:{port}", "m", restricted=False, timeout=5)(prompt_for(SOURCES))


def test_no_proxy_is_asked(server, monkeypatch):
    "An address in the environment is none that the user named here."
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert writer_of(server)(prompt_for(SOURCES)) and len(server.got) == 1


def test_restricted_studies_need_an_affirmation(server):
    with pytest.raises(DataError, match="--affirm-agreement"):
        endpoint_writer(server.endpoint, "m", restricted=True)
    with pytest.raises(TypeError):
        endpoint_writer(server.endpoint, "m")  # it must be said
    assert server.got == []
    assert endpoint_writer(server.endpoint, "m", restricted=True, affirmed=True)(prompt_for(SOURCES))
    check_may_leave(False, False)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "host/v1",
        "ftp://host/v1",
        "file:///etc/passwd",
        "http://far.example/v1",
        "https://user:hush@host/v1",
        "https://host/v1?key=1",
        "https://host:x/v1",
        "https://host/v1\r\nX: y",
        "https:// host/v1",
        "http://localhost.far.example/v1",
        "http://[::1/v1",
    ],
)
def test_bad_addresses_are_refused_before_anything_is_sent(endpoint):
    with pytest.raises(DataError, match="endpoint") as caught:
        endpoint_writer(endpoint, "m", restricted=False)
    assert "\n" not in str(caught.value) and "hush" not in str(caught.value)


def test_addresses():
    assert completions_address("https://host/v1/chat/completions") == "https://host/v1/chat/completions"
    assert completions_address("http://[::1]:80/v1") == "http://[::1]:80/v1/chat/completions"
    with pytest.raises(DataError, match="timeout"):
        endpoint_writer("https://host", "m", restricted=False, timeout=0)


# a model on this machine


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory):
    "A folder with a GPT-2 that has learned nothing, and its tokenizer."
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    words = sorted({word for message in prompt_for(SOURCES) for word in message["content"].split()})
    known = {word: i for i, word in enumerate(["[UNK]", "<end>", *words])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="<end>", pad_token="<end>")
    fast.save_pretrained(folder)
    size = dict(n_embd=16, n_layer=1, n_head=2, n_positions=256)
    config = GPT2Config(vocab_size=len(known), eos_token_id=1, bos_token_id=1, pad_token_id=1, **size)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_model_that_knows_nothing_writes_nonsense_and_all_of_it_is_flagged(tiny_gpt2):
    write = pipeline_writer(str(tiny_gpt2), most_new=20)
    written = write_draft(SOURCES, write, "gpt2")
    assert written.answer and written.draft().quotes == [] and len(written.flagged) == len(written.sentences)
    assert write(prompt_for(SOURCES)) == written.answer, "the likeliest word each time"


def test_a_prompt_that_is_too_long_is_one_line(tiny_gpt2):
    with pytest.raises(DataError, match="use fewer sources"):
        pipeline_writer(str(tiny_gpt2), most_new=200)(prompt_for(SOURCES))


def test_no_model_is_fetched(tmp_path, monkeypatch):
    "A name that is not in the cache, an empty folder, a folder with weights as pickle: one line, and no network."

    def refuse(*given, **more):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "empty").mkdir()
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"model_type": "gpt2"}')
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for name in ("someone/some-model", str(tmp_path / "empty"), str(pickled), str(tmp_path / "nowhere")):
        with pytest.raises(DataError, match="model .*on this machine") as caught:
            pipeline_writer(name)
        assert "\n" not in str(caught.value)
