"""Media (images, videos, ...): shapes of examples, how to show them, and how to file them."""
