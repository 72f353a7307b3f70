"""The script that completes in a shell, asked in a real bash."""

import shutil
import subprocess

import pytest

from medret_nb.cli.main import COMMANDS, main, options_of

ASK = """source "$0"
COMP_WORDS=({words}); COMP_CWORD=$(({count} - 1)); _medret; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    "The script, in a file."
    file = tmp_path_factory.mktemp("completion") / "script.sh"
    done = subprocess.run(["medret", "completion"], capture_output=True, text=True, check=True)
    file.write_text(done.stdout)
    return file


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("medret sea", {"search"}),
        ("medret data d", {"dicom", "download"}),
        ("medret search run --im", {"--image"}),
        ("medret train clip --epo", {"--epochs"}),
        ("medret data openi --im", {"--images"}),
    ],
)
def test_bash_completes_commands_and_options(script, typed, wanted):
    "What the shell offers for the words typed so far."
    words = typed.split()
    asked = ASK.format(words=" ".join(f"'{word}'" for word in words), count=len(words))
    done = subprocess.run(["bash", "-c", asked, str(script)], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == wanted, done.stderr


def test_every_command_is_in_the_script_with_its_options(capsys):
    "Options are those that the help shows."
    assert "--policy" in options_of("search") and "--studies" in options_of("data phantom")
    assert main(["completion"]) == 0
    said = capsys.readouterr().out
    assert all(f'"{name} "*)' in said for name in COMMANDS)
