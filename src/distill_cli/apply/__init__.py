"""What distilled sets are good for: privacy, membership defence, explanation, continual learning.

Each application is a module with its formulas as pure functions; its settings are in config.py, its
task in tasks/apply_<name>.py, its defaults in configs/apply/<name>.yaml.
"""
