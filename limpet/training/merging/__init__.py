"""An update merged into the base's weights, in memory and as a model of its own."""
