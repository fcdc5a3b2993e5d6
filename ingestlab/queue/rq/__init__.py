"""The broker RQ: the only home of its client and keys."""
