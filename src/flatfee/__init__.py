"""flatfee: one flat fee, and a receipt for every model request."""
