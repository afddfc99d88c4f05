"""What clouds make of the public documents and of tokens; and the resources in a cloud that trust them."""
