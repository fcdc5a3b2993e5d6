"""Places for finished rows: one file or package a kind, behind the Protocol `Sink`."""
