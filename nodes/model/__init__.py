"""What nodes do to a MODEL: heads and LoRAs on it, frames held in its sampling, and the checks before."""
