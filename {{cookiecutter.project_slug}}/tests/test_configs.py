from pathlib import Path

import pytest
from bundled import OF_CONFIGS
from conftest import OWN

from {{ cookiecutter.__package }}.train import main

# the file of a search is no file of options
CONFIGS = sorted(file for file in (Path(__file__).parents[1] / "configs").glob("*.yaml") if "sweep" not in file.stem)
# None in bundled.py is for a file that asks for a download
TRAINED = [file for file in CONFIGS if OF_CONFIGS.get(file.stem, ()) is not None]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_a_configuration_is_complete(config, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):  # as it stands, whatever hardware it asks for
        main(["fit", "-c", str(config), "--print_config"])
    assert "default_root_dir: runs" in capsys.readouterr().out


@pytest.mark.parametrize("config", TRAINED, ids=lambda file: file.stem)
def test_a_configuration_trains_and_leaves_nothing(config, run, tmp_path) -> None:
    options = [] if OWN else OF_CONFIGS.get(config.stem) or []
    assert run("fit", "--trainer.fast_dev_run", "true", *options, config=config) == 0
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
