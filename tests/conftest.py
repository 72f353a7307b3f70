"""Fixtures that several test files share: data, a small phantom, the command line, a browser, JupyterLab."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from filelock import FileLock
from support import ROOT, child_environment

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share the cores
if not list(Path("/dev").glob("nvidia[0-9]*")):  # without a card Triton's kernels run in its interpreter, asked for
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it, and children inherit that

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SYSTEM_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """The torch device "cpu", and "cuda" where there is a card; `pytest -k cuda` runs the tests on the card alone."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device(request.param, 0) if request.param == "cuda" else torch.device(request.param)


@pytest.fixture
def triton_device(device):
    """As `device`, for tests of Triton's kernels: on a CPU they run in its interpreter, without Triton not at all."""
    pytest.importorskip("triton", reason="needs Triton, which runs on Linux")
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton was imported as a compiler, because this machine has a GPU")
    return device


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data of ../shared/data, which is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory):
    """A phantom StudySet of 48 studies at 64 pixels, drawn once; tests must not change it."""
    from medret_nb.phantom.phantom import make_phantom

    return make_phantom(48, seed=5, size=64, out=tmp_path_factory.mktemp("phantom") / "small")


@pytest.fixture(scope="session")
def medret(tmp_path_factory):
    """Run `medret ARGUMENTS` as a user types it: medret("data", "phantom", out) -> result; `typed` is its input."""
    script = Path(sys.executable).parent / "medret"
    start = (
        [str(script)]
        if script.exists()
        else [sys.executable, "-c", "import sys; from medret_nb.cli.main import main; sys.exit(main())"]
    )
    home = tmp_path_factory.mktemp("medret-cwd")

    def run(*arguments, cwd=home, timeout=240, typed="", **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            start + [str(a) for a in arguments],
            cwd=cwd,
            timeout=timeout,
            text=True,
            capture_output=True,
            input=typed,
            env=child_environment(**{"OMP_NUM_THREADS": "2", **environment}),
        )

    return run


def find_chromium() -> str | None:
    """The path of a Chromium that is on the system or was installed by playwright, or None."""
    for name in SYSTEM_CHROMIUMS:
        if found := shutil.which(name):
            return found
    code = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    path = asked.stdout.strip()
    return path if asked.returncode == 0 and path and Path(path).exists() else None


def install_chromium() -> list[str]:
    """Install a Chromium, playwright's first, then Debian's when we may; returns what was tried and how it ended."""
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        attempts += [["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]]
    tried = []
    for command in attempts:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=600,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
            tried.append(f"{' '.join(command[-3:])}: exit {done.returncode}")
        except subprocess.TimeoutExpired:
            tried.append(f"{' '.join(command[-3:])}: no end in 10 minutes")
        if find_chromium():
            break
    return tried


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium driven by playwright; found on the system, or installed."""
    from playwright.sync_api import sync_playwright

    with FileLock(Path(tempfile.gettempdir()) / "medret_nb-chromium.lock"):  # several test processes, one installation
        path, tried = find_chromium(), []
        if path is None:
            tried = install_chromium()
            path = find_chromium()
    if path is None:
        pytest.fail("no Chromium found, and none could be installed: " + "; ".join(tried))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


def is_local(url: str) -> bool:
    """Whether a request stays on this machine."""
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:", "about:"))


@pytest.fixture
def page(browser):
    """A page without a network: `page.outside` lists the addresses it asked for, `page.errors` its console's errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    sheet = context.new_page()
    sheet.outside, sheet.errors = [], []

    def guard(route):
        if is_local(route.request.url):
            return route.continue_()
        sheet.outside.append(route.request.url)
        return route.abort()

    context.route("**/*", guard)
    sheet.on("console", lambda message: sheet.errors.append(message.text) if message.type == "error" else None)
    sheet.on("pageerror", lambda error: sheet.errors.append(str(error)))
    yield sheet
    context.close()


def free_port() -> int:
    """A TCP port on this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: int = 90) -> None:
    """Wait until `url` answers, or fail with the end of the server's log."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")


class Lab:
    """A running JupyterLab: its address, its token and the folder that it shows (a copy of nbs/)."""

    def __init__(self, address: str, token: str, folder: Path):
        self.address, self.token, self.folder = address, token, folder

    def url(self, notebook: str) -> str:
        """The address that opens `notebook` (relative to nbs/) alone."""
        return f"{self.address}/doc/tree/{quote(notebook)}?token={self.token}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab on 127.0.0.1 whose root is a copy of nbs/, so that the checkout stays clean."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "nbs"
    shutil.copytree(ROOT / "nbs", folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    settings = home / "settings"
    for plugin, values in {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        file = settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    token, port, log = secrets.token_hex(16), free_port(), home / "server.log"
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.user_settings_dir={settings}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
        "--LabApp.news_url=",
    ]
    environment = child_environment(
        OMP_NUM_THREADS="1",
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        IPYTHONDIR=str(home / "ipython"),
        MPLBACKEND="",
    )
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, cwd=home)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/api?token={token}", server, log)
        yield Lab(address, token, folder)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def start_run_all(page) -> None:
    """Wait for the notebook and its kernel, then choose Run All Cells in the menu."""
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.wait_for_function(
        """() => /ipykernel/.test(document.querySelector('.jp-Toolbar-kernelName')?.innerText)
              && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'""",
        timeout=90_000,
    )
    page.wait_for_timeout(2500)  # the kernel connects once more after the first "idle"
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()


FAILED = ", ".join(
    f'.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr")
)
TRACEBACK = (
    "Traceback (most recent call last)"  # JupyterLab 4.6 shows errors as stderr, where warnings and bars stand too
)


def wait_until_run(page, notebook: str, seconds: int) -> None:
    """Wait until every code cell has its number or one has failed; fails when `seconds` have passed.

    A folded cell shows no number. Cells run in their order, so it has ended when a later one has its number.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        page.wait_for_timeout(500)
        left = page.evaluate(
            """([failed, words]) =>
                [...document.querySelectorAll(failed)].some(e => e.textContent.includes(words)) ? 0 :
                [...document.querySelectorAll('.jp-CodeCell')].filter(cell =>
                    !cell.querySelector('.jp-Placeholder') &&
                    !/\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').innerText)).length""",
            [FAILED, TRACEBACK],
        )
        if not left:
            return page.wait_for_timeout(1000)
    pytest.fail(f"{notebook}: {left} code cells had not ended after {seconds} s")


def screenshots(page, stem: Path, selector: str) -> list[Path]:
    """Pictures of a scrolling element from its top to its bottom, stem-1.png, stem-2.png, ..."""
    height, view = page.eval_on_selector(selector, "e => [e.scrollHeight, e.clientHeight]")
    files = []
    for number, top in enumerate(range(0, height, max(view - 40, 1)), 1):
        page.eval_on_selector(selector, "(e, top) => e.scrollTo(0, top)", top)
        page.wait_for_timeout(150)
        files.append(stem.with_name(f"{stem.name}-{number}.png"))
        page.screenshot(path=files[-1])
    return files


@pytest.fixture
def run_notebook(lab, page, tmp_path):
    """run_notebook("data/060_studies.ipynb") -> (screenshots, console errors): Run All Cells in JupyterLab.

    Fails when a cell raises, when a cell writes a traceback, or when the notebook has not ended in time.
    """
    shots = Path(os.environ["MEDRET_SHOTS"]) if os.environ.get("MEDRET_SHOTS") else tmp_path

    def run(notebook: str, seconds: int = 180) -> tuple[list[Path], list[str]]:
        shots.mkdir(parents=True, exist_ok=True)
        page.goto(lab.url(notebook))
        start_run_all(page)
        wait_until_run(page, notebook, seconds)
        stem = shots / notebook.replace("/", "_").removesuffix(".ipynb")
        files = screenshots(page, stem, ".jp-NotebookPanel-notebook .jp-WindowedPanel-outer")
        broken = page.locator(FAILED).filter(has_text=TRACEBACK)
        if broken.count():
            pytest.fail(f"{notebook}: a cell failed\n{broken.first.inner_text()[-1500:]}")
        return files, list(page.errors)

    return run
