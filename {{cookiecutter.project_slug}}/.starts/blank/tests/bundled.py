"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS: dict[str, str] = {}
RUNS = {"trained": ("--trainer.max_epochs", "8")}
OF_CONFIGS: dict[str, list[str] | None] = {}
