"""What a training has beside the network: callbacks, loggers, hardware, schedules."""
