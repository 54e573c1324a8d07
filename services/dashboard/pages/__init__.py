"""The pages, a module each, which has its views in the blueprint `pages`."""
