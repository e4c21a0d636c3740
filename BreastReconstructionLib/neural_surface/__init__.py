"""A surface learned from pictures: signed distance and colour as networks, rendered along the pictures' rays."""
