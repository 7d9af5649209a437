"""What stands around the code: workflows, forms, citation, the guide."""

import pathlib
import re
import tomllib

import pytest

import keras_vit

ROOT = pathlib.Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FILES = sorted(GITHUB.rglob("*.yml"))
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
GUIDE = ROOT / "CONTRIBUTING.md"

yaml = pytest.importorskip("yaml")
if not GITHUB.exists():
    pytest.skip(
        "installed without the repository around it", allow_module_level=True
    )


def read(file):
    return yaml.safe_load(file.read_text("utf-8"))


def steps(workflow):
    return [s for job in read(workflow)["jobs"].values() for s in job["steps"]]


def targets():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_parse(file):
    assert isinstance(read(file), dict)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_call_targets_that_exist(workflow):
    runs = "\n".join(step.get("run", "") for step in steps(workflow))
    called = set(re.findall(r"\bmake ([a-z-]+)", runs))
    assert called and called <= targets()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_major_version(workflow):
    for step in steps(workflow):
        if "uses" in step:
            _, _, version = step["uses"].partition("@")
            assert re.fullmatch(r"(release/)?v\d+", version), step["uses"]


def test_every_python_that_is_promised_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    promised = re.findall(
        r"Python :: (3\.\d+)", "\n".join(project["project"]["classifiers"])
    )
    jobs = read(GITHUB / "workflows" / "test.yml")["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == promised
    assert {job["runs-on"].split("-")[0] for job in jobs.values()} == {
        "ubuntu",
        "macos",
        "windows",
    }


def test_bug_report_asks_for_what_tells_backends_apart():
    form = read(GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml")
    fields = {field["id"]: field for field in form["body"] if "id" in field}
    for name in ("script", "backend", "versions", "python", "system"):
        assert fields[name]["validations"]["required"], name
    options = fields["backend"]["attributes"]["options"]
    assert set(options) == {"jax", "tensorflow", "torch"}


def test_citation_has_this_version():
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == keras_vit.__version__
    assert citation["license"] == "Apache-2.0"
    assert "2010.11929" in citation["references"][0]["url"]


def test_the_guide_names_what_exists():
    text = GUIDE.read_text("utf-8")
    # `tests/...`, `keras_vit/...`, `docs/...`, with or without a last slash.
    for path in re.findall(r"`((?:tests|keras_vit|docs)/[\w./]+)`", text):
        assert "NAME" in path or (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
    assert set(re.findall(r"\bmake ([a-z-]+)`", text)) <= targets()
    folders = {
        page.parent.name for page in ROOT.glob("keras_vit/*/__init__.py")
    }
    assert folders <= set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def test_promises_of_security_name_files_that_exist():
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    files = re.findall(r"`(keras_vit/[\w./]+)`", text)
    assert len(files) > 5
    for file in files:
        assert (ROOT / file).is_file(), file


def test_windows_has_one_set_up():
    """The commands of the guide are those that the workflow runs."""
    install = r'-m pip install -e ".[jax,data,viz,notebooks,dev]" tensorflow'
    for file in (
        GUIDE,
        ROOT / "README.md",
        GITHUB / "workflows" / "test.yml",
    ):
        assert rf".venv\Scripts\python {install}" in file.read_text("utf-8")
