"""The two training stages as Lightning modules, and the data module that feeds both."""
