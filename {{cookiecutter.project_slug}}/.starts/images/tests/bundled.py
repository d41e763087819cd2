"""What the tests train on: options of every command, of each run that is trained once, and of files in configs/."""

OPTIONS = {"data.dataset": "digits", "model.compile": "false"}  # configs/gpu.yaml compiles, which takes a minute
RUNS = {"trained": ("--trainer.max_epochs", "8")}
# neither timm nor a download
SMALL = {"name": "torchvision/resnet18", "weights": "null", "image_size": "32"}
OF_CONFIGS = {"finetune": [w for k, value in SMALL.items() for w in (f"--model.network.init_args.{k}", value)]}
