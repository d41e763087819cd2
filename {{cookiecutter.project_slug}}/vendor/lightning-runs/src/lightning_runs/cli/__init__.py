"""The command line: LightningCLI with run folders, short help and short messages."""
