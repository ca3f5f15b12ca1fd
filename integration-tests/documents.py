"""Checks that what the documents name is there: tests and other names in code, files, and links between documents."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: A name in code that is of several words, as a test's.
NAME = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:\(\))?`")
LINK = re.compile(r"\]\(([^)#:\s]+)\)")
PATH = re.compile(r"`((?:tests|src|examples|benches|fuzz|scenarios|whole_vm|guests|rig|harness)/[\w./-]*)`")


def tracked(*patterns):
    """The files of the repository that match."""
    done = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).exists()]


def complaints():
    """What is not there, a line each."""
    code = "\n".join(path.read_text() for path in tracked("*.rs", "*.py", "*.sh", "*.toml", "*.S", "*.s"))
    folders = [path.parent for path in tracked("*/Cargo.toml")]
    for document in tracked("*.md"):
        text = document.read_text()
        where = document.relative_to(ROOT)
        for name in NAME.findall(text):
            if name not in code:
                yield f"{where}: nothing is called {name}"
        for link in LINK.findall(text):
            if not (document.parent / link).exists():
                yield f"{where}: the link {link} leads nowhere"
        for path in PATH.findall(text):
            if not any((folder / path).exists() for folder in [document.parent, *folders]):
                yield f"{where}: there is no {path}"


def main():
    wrong = list(complaints())
    print("\n".join(wrong) or "all that the documents name is there")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
