"""The frozen model: found, loaded, checked, its precision and its language-model head."""
