"""Tests in a real ComfyUI; they run with its interpreter (see tests/test_hosts.py)."""
