"""How a base is held in memory: in the dtype of its files, in another, or in few bits."""
