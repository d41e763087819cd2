"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS = {"data.dataset": "glosses"}
RUNS = {"trained": ("--trainer.max_epochs", "5")}
OF_CONFIGS: dict[str, list[str] | None] = {"finetune": None}  # it needs a pretrained model, which is downloaded
