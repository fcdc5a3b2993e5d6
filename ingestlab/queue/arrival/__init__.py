"""How files announce themselves: by a listing, by events, by a call."""
