"""What a person looks at: the document as a page."""
