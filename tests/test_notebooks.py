"""Does the notebook of each start run from its folder, and is it stored without outputs?"""

import json
import os

import pytest
from project import ROOT, STARTS, clean_environment

TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
LIBRARY = TEMPLATE / "vendor" / "lightning-runs" / "src"


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_the_notebook_runs_from_its_folder(start, bake_project):
    project = bake_project({"start": start, "logger": "csv"})
    file = project / "notebooks" / "start.ipynb"
    nbclient = pytest.importorskip("nbclient")  # of the group test-all
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    environment = clean_environment(project)
    environment["PYTHONPATH"] = os.pathsep.join([str(project / "src"), str(LIBRARY)])
    folder = {"metadata": {"path": str(file.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=folder).execute(env=environment)

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any((run / "run.json").is_file() for run in (project / "runs").iterdir())
    assert not (file.parent / "runs").exists()


@pytest.mark.parametrize("start", STARTS)
def test_a_notebook_is_stored_without_outputs(start):
    file = TEMPLATE / ".starts" / start / "notebooks" / "start.ipynb"
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
