"""A voice when something goes wrong: rules over the record, evaluated by a reader; no backend is needed."""
