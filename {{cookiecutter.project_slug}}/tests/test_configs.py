from pathlib import Path

import pytest
from bundled import OF_CONFIGS

from {{ cookiecutter.__package }}.train import main

# those of searches are no options of fit
CONFIGS = sorted(file for file in (Path(__file__).parents[1] / "configs").glob("*.yaml") if "sweep" not in file.stem)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_shipped_configuration_trains(config, run, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="0"):  # as it stands, whatever hardware it asks for
        main(["fit", "-c", str(config), "--print_config"])
    assert "default_root_dir: runs" in capsys.readouterr().out
    if (options := OF_CONFIGS.get(config.stem, ())) is not None:
        assert run("fit", "--trainer.fast_dev_run", "true", *options, config=config) == 0
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == []  # such a run leaves nothing
