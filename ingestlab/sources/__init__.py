"""Downloads: one file a family of URI schemes."""
