"""Checks what the workspace depends on against deny.toml: sources, licences, second versions, versions with known holes.
What a crate may depend on and which compiler all must be content with is checked, too.

`cargo deny` does the same and more, where it is installed. This needs cargo and Python, and no network.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: Crates that others take for their small trees: only these may be below them.
BARE = {"runstate": set(), "notifiers": set(), "lifecycle": {"runstate", "notifiers"}}
#: Crates that others take alone: below them only these of the workspace.
SIBLINGS = {"vcpu": set(), "devices": set(), "monitor": {"runstate", "lifecycle"}}


def packages(rules):
    """All packages of the workspace's graph."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    for target in rules["graph"]["targets"]:
        command += ["--filter-platform", target]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    metadata = json.loads(done.stdout)
    reached = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in reached]


def number(version):
    """A version to compare, without what follows `-` or `+`."""
    return tuple(int(part) for part in re.split(r"[-+]", version)[0].split("."))


def named(entry, package):
    """Whether an entry like `name`, `name@1`, `name@<1.2.3` means this package."""
    name, _, wanted = entry["crate"].partition("@")
    if name != package["name"]:
        return False
    version = number(package["version"])
    if wanted.startswith("<"):
        return version < number(wanted[1:])
    return not wanted or version[: len(number(wanted))] == number(wanted)


def licensed(expression, allowed):
    """Whether an SPDX expression can be met by licences that are allowed."""
    expression = re.sub(r"\b(\S+) WITH \S+", r"\1-exception", expression).replace("/", " OR ")
    words = re.findall(r"[()]|[^\s()]+", expression)
    terms = [w if w in "()" else w.lower() if w in ("AND", "OR") else str(w in allowed) for w in words]
    return eval(" ".join(terms), {"__builtins__": {}})  # pylint: disable=eval-used


def of_a_member(package, members):
    """What is wrong with what a crate of the workspace itself asks for."""
    label = f"{package['name']} {package['version']}"
    bare, siblings = BARE.get(package["name"]), SIBLINGS.get(package["name"])
    for dependency in package["dependencies"]:
        name = dependency["name"]
        if dependency["req"] == "*" and not dependency.get("path"):
            yield f"{label} takes any version of {name}"
        if dependency["kind"] is not None or dependency["target"] == "cfg(loom)":
            continue
        if bare is not None and name not in bare:
            yield f"{label} depends on {name}, and is to depend on {sorted(bare) or 'nothing'}"
        if siblings is not None and name in members and name not in siblings:
            yield f"{label} depends on {name}, and of the workspace is to depend on {sorted(siblings) or 'nothing'}"


def complaints(rules):
    """What is wrong, a line each."""
    found = packages(rules)
    versions = {}
    members = {package["name"] for package in found if package["source"] is None}
    promised = min((package["rust_version"] for package in found if package["source"] is None), key=number)
    for package in found:
        label = f"{package['name']} {package['version']}"
        if package["source"] is not None:
            source = package["source"].removeprefix("registry+")
            if source not in rules["sources"]["allow-registry"]:
                yield f"{label} comes from {source}"
        if not licensed(package["license"] or "none", rules["licenses"]["allow"]):
            yield f"{label}: no licence of {package['license']} is allowed"
        if any(named(entry, package) for entry in rules["bans"]["deny"]):
            yield f"{label} is banned"
        if not any(named(entry, package) for entry in rules["bans"]["skip"]):
            versions.setdefault(package["name"], []).append(package["version"])
        if package["rust_version"] and number(package["rust_version"]) > number(promised):
            yield f"{label} wants Rust {package['rust_version']}, and {promised} is promised"
        if package["source"] is None:
            yield from of_a_member(package, members)
    for name, several in versions.items():
        if len(several) > 1:
            yield f"{name} is there in several versions: {', '.join(sorted(several))}"
    for entry in rules["bans"]["skip"]:
        if not any(named(entry, package) for package in found):
            yield f"deny.toml skips {entry['crate']}, which is not there"


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    wrong = list(complaints(rules))
    print("\n".join(wrong) or "all dependencies are as deny.toml wants them")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
