"""What has a value everywhere in space: the signed distance of a shape."""
