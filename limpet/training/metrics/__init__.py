"""Pure metrics of predictions against targets, and the units they are in."""
