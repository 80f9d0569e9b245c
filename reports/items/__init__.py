"""All items that the two compared strategies both answered: read by columns, bounded, compressed, listed by the page's script."""
