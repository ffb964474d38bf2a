"""The trainers on kohya-ss sd-scripts.  Nothing outside this room imports sd-scripts."""
