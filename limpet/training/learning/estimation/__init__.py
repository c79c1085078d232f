"""Will it fit: peak memory and seconds of a training, from a few steps on the first layers of its base."""
