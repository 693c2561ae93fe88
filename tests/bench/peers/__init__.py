"""Those that hopd is compared with, a file each. They run in an environment of their own (`.venv-bench`) and know of the bench only
its order and its tally."""
