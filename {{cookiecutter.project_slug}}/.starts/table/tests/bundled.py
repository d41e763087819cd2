"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS = {"data.dataset": "penguins"}
RUNS = {
    "penguins": ("--trainer.max_epochs", "12"),
    "penguin_mass": ("--trainer.max_epochs", "12", "--data.dataset", "penguin_mass"),
}
OF_CONFIGS: dict[str, list[str] | None] = {}
