"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS = {"data.dataset": "digits", "model.compile": "false"}  # configs/gpu.yaml compiles, which takes a minute
RUNS = {"trained": ("--trainer.max_epochs", "8")}
# neither timm nor a download
SMALL = {"name": "torchvision/resnet18", "weights": "null", "image_size": "32"}
NETWORK = "--model.network.init_args"
OF_CONFIGS: dict[str, list[str] | None] = {"finetune": [w for k, v in SMALL.items() for w in (f"{NETWORK}.{k}", v)]}
