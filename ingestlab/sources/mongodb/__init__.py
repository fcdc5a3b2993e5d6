"""Documents of MongoDB as records: what is asked, in which order, and how they are written."""
