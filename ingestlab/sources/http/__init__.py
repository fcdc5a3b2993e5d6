"""Sources behind http and https."""
