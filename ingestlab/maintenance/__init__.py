"""Changes to published tables: compact, delete, replay, embed again, reconcile."""
