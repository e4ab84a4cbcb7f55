"""The stages of scripts/gpu_check.py, one module each, run as `python -m gpu_stages.<module>`."""
