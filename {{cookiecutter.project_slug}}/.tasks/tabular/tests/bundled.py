"""What the tests train on: options of every command, and those of each run that is trained once."""

OPTIONS = {"data.dataset": "penguins"}
RUNS = {
    "penguins": ("--trainer.max_epochs", "12"),
    "penguin_mass": ("--trainer.max_epochs", "12", "--data.dataset", "penguin_mass"),
}
