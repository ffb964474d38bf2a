"""What nodes do to a MODEL: put heads and LoRAs on it, hold frames while it samples, and check it before."""
