"""Workflows, the container, surroundings, the release check."""

import json
import re
import shutil
import tomllib

import pytest
import yaml

from tests.folders import readme_commands
from tools import release
from tools.surroundings import neutral


def workflows(root):
    return sorted((root / ".github" / "workflows").glob("*.yml"))


def test_actions_are_pinned_and_renewed(root):
    for path in workflows(root):
        text = path.read_text(encoding="utf-8")
        used = re.findall(r"uses: (.+)", text)
        assert used and not [
            each
            for each in used
            if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)
        ]
    renewed = yaml.safe_load((root / ".github" / "dependabot.yml").read_text())
    assert renewed["updates"][0]["package-ecosystem"] == "github-actions"


def test_ci_begins_with_a_quick_job_and_runs_every_supported_python(root):
    ci = yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text())
    assert "workflow_dispatch" in ci[True] and ci["concurrency"]
    assert ci["jobs"]["locked"]["needs"] == "quick"
    pythons = ci["jobs"]["locked"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    kinds = [line.rpartition(" ")[2] for line in project["classifiers"]]
    assert pythons == [each for each in kinds if re.fullmatch(r"3\.\d+", each)]
    last = int(pythons[-1].split(".")[1])
    assert project["requires-python"] == f">={pythons[0]},<3.{last + 1}"


def test_the_container_installs_what_the_readme_says(root):
    """It is parsed; where there is no Docker, as here, it is not built."""
    text = (root / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    container = json.loads(text)
    assert container["postCreateCommand"] in readme_commands(root)
    assert container["containerEnv"]["GOING_MODULAR_DEVICE"] == "cpu"
    assert (root / container["customizations"]["codespaces"]["openFiles"][0]).exists()


def test_surroundings_are_neutral():
    odd = {"MPLBACKEND": "agg", "PYTHONPATH": "/x", "https_proxy": "http://p", "A": "1"}
    odd |= {"HTTP_PROXY": "http://p", "MATPLOTLIBRC": "/mine", "COURSE_PROGRESS": "/y"}
    found = neutral(odd)
    assert found.keys() == {"A", "MATPLOTLIBRC"} and found["A"] == "1"
    assert found["MATPLOTLIBRC"].endswith("matplotlibrc")


@pytest.fixture
def course(root, tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(root / name, tmp_path)
    return tmp_path


def test_a_release_refuses_a_placeholder_and_files_that_disagree(course, monkeypatch):
    monkeypatch.setattr(release.results, "update", lambda *_, **__: [])
    monkeypatch.setattr(release.export, "main", lambda *_: 0)
    found = "\n".join(release.faults(course))
    assert "your_account" in found and "CHANGELOG.md" in found
    project = course / "pyproject.toml"
    project.write_text(project.read_text().replace("your_account", "somebody"))
    log = course / "CHANGELOG.md"
    log.write_text(log.read_text().replace("## 2.0 (unreleased)", "## 2.0"))
    assert release.faults(course) == []
    project.write_text(project.read_text().replace('"2.0.0"', '"2.1.0"'))
    found = "\n".join(release.faults(course))
    assert "CHANGELOG.md" in found and "CITATION.cff" in found
