"""A comparison as a picture: one SVG that needs nothing beside it. Pure: numbers in, text out."""
