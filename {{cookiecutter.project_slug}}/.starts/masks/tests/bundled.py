"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS = {"data.dataset": "digit_scenes", "model.compile": "false"}  # configs/gpu.yaml compiles, which takes a minute
RUNS = {"trained": ("--trainer.max_epochs", "3")}
OF_CONFIGS: dict[str, list[str] | None] = {}
