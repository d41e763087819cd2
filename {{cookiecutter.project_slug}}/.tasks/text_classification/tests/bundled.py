"""What the tests train on: options of every command, and those of each run that is trained once."""

OPTIONS = {"data.dataset": "glosses"}
RUNS = {"trained": ("--trainer.max_epochs", "5")}
