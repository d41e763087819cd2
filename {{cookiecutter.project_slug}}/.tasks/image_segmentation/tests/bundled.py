"""What the tests train on: options of every command, and those of each run that is trained once."""

OPTIONS = {"data.dataset": "digit_scenes", "model.compile": "false"}  # configs/gpu.yaml compiles, which takes a minute
RUNS = {"trained": ("--trainer.max_epochs", "3")}
