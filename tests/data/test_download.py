import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medret_nb.data.download import KNOWN_SHA256, OPENI_URL, checksum, download_openi, fetch
from medret_nb.data.files import DataError

DATA = hashlib.shake_256(b"a file").digest(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    "A local server whose manners a test sets: ranges, versions, lengths, where it hangs up, what it refuses."

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.version, self.ranges, self.length, self.if_range = DATA, '"v1"', True, True, True
        self.cut, self.cuts, self.statuses, self.slow, self.location, self.shift = None, 10**9, [], 0.0, None, 0
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/films.tgz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        wanted = self.headers.get("Range")
        s.asked.append(wanted)
        if s.statuses:
            return self.send_error(s.statuses.pop(0))
        if s.location and self.path == "/films.tgz":
            self.send_response(302)
            self.send_header("Location", s.location)
            self.end_headers()
            return
        same = not s.if_range or self.headers.get("If-Range") in (None, s.version)
        first = int(wanted[6:-1]) if wanted and s.ranges and same else 0
        if first >= len(s.data) > 0:
            return self.send_error(416)
        self.send_response(206 if first else 200)
        if s.version:
            self.send_header("ETag", s.version)
        if first:
            self.send_header("Content-Range", f"bytes {first + s.shift}-{len(s.data) - 1}/{len(s.data)}")
        if s.length:
            self.send_header("Content-Length", str(len(s.data) - first))
        self.end_headers()
        body = s.data[first:]
        if s.cut and s.cuts > 0:
            body, s.cuts = body[: s.cut], s.cuts - 1
        try:
            for k in range(0, len(body), 10_000):
                self.wfile.write(body[k : k + 10_000])
                if s.slow:
                    self.wfile.flush()
                    time.sleep(s.slow)
        except OSError:
            pass

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, folder, **options):
    return fetch(
        server.url, folder / "films.tgz", **{"pause": 0.001, "tries": 3, "timeout": 5.0, "quiet": True, **options}
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sums", [{}, {"sha256": SHA}, {"sha256": SHA.upper()}, {"md5": hashlib.md5(DATA).hexdigest()}])
def test_a_good_line(server, tmp_path, sums):
    path = get(server, tmp_path / "new" / "folder", **sums)
    assert path.read_bytes() == DATA and names(path.parent) == ["films.tgz"] and server.asked == [None]
    assert checksum(path) == SHA


def test_a_line_that_breaks_goes_on_where_it_was(server, tmp_path):
    server.cut = 70_000
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA
    assert server.asked == [None, "bytes=70000-", "bytes=140000-", "bytes=210000-", "bytes=280000-"] and names(
        tmp_path
    ) == ["films.tgz"]


def test_without_ranges_it_starts_again_and_never_appends(server, tmp_path):
    server.cut, server.cuts, server.ranges = 70_000, 2, False
    assert get(server, tmp_path).read_bytes() == DATA and len(server.asked) == 3


def test_without_a_version_the_parts_are_not_joined(server, tmp_path):
    server.cut, server.cuts, server.version = 70_000, 1, ""
    assert get(server, tmp_path).read_bytes() == DATA and server.asked == [None, None]


def test_a_weak_version_is_none(server, tmp_path):
    server.cut, server.cuts, server.version = 70_000, 1, 'W/"v1"'
    assert get(server, tmp_path).read_bytes() == DATA and server.asked == [None, None]


def test_a_server_that_always_cuts_at_the_same_place_ends_the_call_and_keeps_the_part(server, tmp_path):
    server.cut, server.ranges = 70_000, False
    with pytest.raises(DataError, match="70000 of 300000 bytes arrived; given up after 3 attempts") as caught:
        get(server, tmp_path)
    assert "\n" not in str(caught.value) and names(tmp_path) == ["films.tgz.part", "films.tgz.part.json"]
    server.ranges = True
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA and "bytes=70000-" in server.asked


def test_a_file_that_changes_meanwhile_is_fetched_again(server, tmp_path):
    server.cut, server.cuts = 70_000, 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=0)
    server.data, server.version = DATA[::-1], '"v2"'
    assert get(server, tmp_path).read_bytes() == DATA[::-1] and server.asked[-1] == "bytes=70000-"


def test_another_address_does_not_continue_this_part(server, tmp_path):
    server.cut, server.cuts = 70_000, 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=0)
    fetch(server.url + "?other", tmp_path / "films.tgz", pause=0.001, quiet=True)
    assert server.asked[-1] is None and (tmp_path / "films.tgz").read_bytes() == DATA


@pytest.mark.parametrize("damage", ["one bit", "too long", "no note", "broken note"])
def test_a_damaged_part_never_becomes_the_file(server, tmp_path, damage):
    server.cut, server.cuts = 70_000, 1
    with pytest.raises(DataError):
        get(server, tmp_path, tries=0)
    part, note = tmp_path / "films.tgz.part", tmp_path / "films.tgz.part.json"
    if damage == "one bit":
        part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:])
    if damage == "too long":
        part.write_bytes(bytes(400_000))
    if damage == "no note":
        note.unlink()
    if damage == "broken note":
        note.write_text('{"url": "')
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA and names(tmp_path) == ["films.tgz"]


def test_a_server_that_ignores_the_version_is_caught_by_the_checksum(server, tmp_path):
    server.cut, server.cuts, server.if_range = 70_000, 1, False
    with pytest.raises(DataError):
        get(server, tmp_path, tries=0)
    server.data = DATA[::-1]
    assert get(server, tmp_path, sha256=hashlib.sha256(DATA[::-1]).hexdigest()).read_bytes() == DATA[::-1]


def test_a_wrong_range_is_not_appended(server, tmp_path):
    server.cut, server.cuts, server.shift = 70_000, 1, 5
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match=f"its sha256 is {SHA}, not {'0' * 64}; it was removed"):
        get(server, tmp_path, sha256="0" * 64)
    assert "films.tgz" not in names(tmp_path) and "films.tgz.part" not in names(tmp_path)


def test_busy_servers_are_asked_again_and_refusals_are_not(server, tmp_path):
    server.statuses = [503, 429]
    assert get(server, tmp_path).read_bytes() == DATA and len(server.asked) == 3
    server.statuses = [404]
    with pytest.raises(DataError, match="404"):
        get(server, tmp_path / "other")
    assert len(server.asked) == 4


def test_an_unknown_length_needs_a_checksum(server, tmp_path):
    server.length = False
    with pytest.raises(DataError, match="give a checksum"):
        get(server, tmp_path)
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA


def test_redirections_stay_on_the_web(server, tmp_path):
    server.location = "/moved.tgz"
    assert get(server, tmp_path).read_bytes() == DATA
    for place in ("file:///etc/hostname", "ftp://127.0.0.1/x"):
        server.location = place
        with pytest.raises(DataError):
            get(server, tmp_path / "other")
        assert not (tmp_path / "other" / "films.tgz").exists()


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "films.tgz", "http://", "data:text/plain,hello"]
)
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(DataError, match="http"):
        fetch(url, tmp_path / "a", quiet=True)


def test_a_dead_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match="given up after 2 attempts"):
        fetch("http://127.0.0.1:9/a.tgz", tmp_path / "a", tries=2, pause=0.001, quiet=True)


def test_what_is_there_is_checked_and_kept(server, tmp_path):
    (tmp_path / "films.tgz").write_bytes(DATA)
    assert get(server, tmp_path, sha256=SHA).read_bytes() == DATA and server.asked == []
    with pytest.raises(DataError, match="is there already, but its sha256"):
        get(server, tmp_path, sha256="0" * 64)
    assert (tmp_path / "films.tgz").read_bytes() == DATA


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        get(server, tmp_path / "file")


def test_a_killed_download_goes_on(server, tmp_path):
    server.slow = 0.05
    code = (
        f"from medret_nb.data.download import fetch; fetch({server.url!r}, {str(tmp_path / 'films.tgz')!r}, quiet=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "no_proxy": "127.0.0.1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    part, until = tmp_path / "films.tgz.part", time.monotonic() + 60
    while time.monotonic() < until and not (part.exists() and part.stat().st_size > 60_000):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert "films.tgz" not in names(tmp_path) and 0 < part.stat().st_size < len(DATA)
    server.slow = 0
    assert (
        get(server, tmp_path, sha256=SHA).read_bytes() == DATA
        and server.asked[-1].startswith("bytes=")
        and names(tmp_path) == ["films.tgz"]
    )


def test_download_openi_names_the_file_and_checks_what_is_known(server, tmp_path, capsys):
    path = download_openi(tmp_path, url=server.url, pause=0.001)
    assert path == tmp_path / "films.tgz" and "no checksum known, length right" in capsys.readouterr().out
    with pytest.raises(DataError, match=f"not {KNOWN_SHA256['NLMCXR_reports.tgz']}"):
        download_openi(tmp_path, url=server.url.replace("films", "NLMCXR_reports"), pause=0.001, quiet=True)
    with pytest.raises(DataError, match="names no file"):
        download_openi(tmp_path, url="http://127.0.0.1/")
    assert OPENI_URL.startswith("https://openi.nlm.nih.gov/")


def test_the_known_checksum_is_that_of_the_archive_we_count(shared_data):
    path = shared_data / "openi" / "NLMCXR_reports.tgz"
    assert checksum(path) == KNOWN_SHA256[path.name]


def test_the_command_fetches_and_goes_on(server, medret, tmp_path):
    server.cut, server.cuts = 70_000, 1
    done = medret("data", "download", tmp_path / "new", "--url", server.url, "--sha256", SHA, no_proxy="127.0.0.1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "films.tgz").read_bytes() == DATA and server.asked == [None, "bytes=70000-"]
    assert "checksum right" in done.stdout and "CC BY-NC-ND" in done.stdout
    wrong = medret(
        "data", "download", tmp_path / "other", "--url", server.url, "--sha256", "0" * 64, no_proxy="127.0.0.1"
    )
    assert (
        wrong.returncode == 2
        and wrong.stderr.strip().splitlines()[-1].startswith("medret: ")
        and "Traceback" not in wrong.stderr
    )
    assert names(tmp_path / "other") == []
